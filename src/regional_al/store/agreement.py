"""Whether counts of label files agree with the answers of the ledger: of all images at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..types import I64, UNLABELED, Bool
from .ledger import AnswerTuple


class Tally(NamedTuple):
    """Counts of many files: one entry for each value that occurs in a file.

    Args:
        files: int64 [n], the file.
        values: int64 [n].
        pixels: int64 [n], how many have the value.
    """

    files: I64
    values: I64
    pixels: I64

    def sums(self, many: int, only: Bool | None = None) -> I64:
        """int64 [many]: pixels of each file, or of its entries `only` (bool [n])."""
        files, pixels = self.files, self.pixels
        if only is not None:
            files, pixels = files[only], pixels[only]
        found: I64 = np.bincount(files, pixels, many).astype(np.int64)  # exact below 2**53
        return found


def tally(packed: Sequence[bytes]) -> Tally:
    """The counts of many files, see `label_index.pack`.

    Example:
        >>> from regional_al.store.label_index import pack
        >>> files = [pack(np.bincount(p, minlength=256)) for p in ([7, 255, 255], [3])]
        >>> [column.tolist() for column in tally(files)]
        [[0, 0, 1], [7, 255, 3], [1, 2, 1]]
    """
    lengths = np.fromiter(map(len, packed), np.int64, len(packed))
    starts = np.cumsum(lengths) - lengths
    data = np.frombuffer(b"".join(packed), np.uint8)
    files, values, pixels = [], [], []
    for length in np.unique(lengths):
        these, many = np.flatnonzero(lengths == length), int(length) // 5
        rows = data[starts[these][:, None] + np.arange(length)]
        files.append(np.repeat(these, many))
        values.append(rows[:, :many].ravel().astype(np.int64))
        counts = np.ascontiguousarray(rows[:, many : 5 * many]).view("<u4")
        pixels.append(counts.ravel().astype(np.int64))
    if not files:
        return Tally(*(np.zeros(0, np.int64) for _ in range(3)))
    found = Tally(np.concatenate(files), np.concatenate(values), np.concatenate(pixels))
    order = np.argsort(found.files, kind="stable")
    return Tally(*(column[order] for column in found))


def disagreeing(
    keys: Sequence[str],
    labels: Sequence[bytes],
    sidecars: Sequence[bytes],
    answers: Sequence[AnswerTuple],
    areas: Iterable[int] | None,
    foreign: bytes,
) -> list[int]:
    """Which images are not as the ledger says.

    Args:
        keys: Of n images, each once.
        labels: Counts of their label files, see `label_index.pack`.
        sidecars: Of the files with the rounds.
        answers: All answers of the ledger, also of other images.
        areas: Pixels of each image; None: not known.
        foreign: Values that no label may have.

    Returns:
        Positions in `keys`, ascending.
    """
    many = len(keys)
    label, side = tally(labels), tally(sidecars)
    pixels, answered = label.sums(many), side.sums(many, side.values > 0)
    bad: Bool = pixels != side.sums(many)
    if areas is not None:
        bad |= pixels != np.fromiter(areas, np.int64, many)
    bad |= label.sums(many, label.values != UNLABELED) > answered
    forbidden = np.zeros(256, dtype=bool)
    forbidden[list(foreign)] = True
    bad[label.files[forbidden[label.values]]] = True

    position = {key: i for i, key in enumerate(keys)}
    columns = [(position.get(key, -1), r, p) for r, key, p, _, _ in answers if p]
    said = np.array(columns, dtype=np.int64).reshape(-1, 3)
    said = said[said[:, 0] >= 0]
    odd = (said[:, 1] < 0) | (said[:, 1] > 254) | (said[:, 2] < 0) | (said[:, 2] >= 2**32)
    bad[said[odd, 0]] = True
    said = said[~odd]
    theirs = _codes(said[:, 0], said[:, 1] + 1, said[:, 2])
    given = side.values > 0
    ours = _codes(side.files[given], side.values[given], side.pixels[given])
    bad[np.setxor1d(ours, theirs) >> 40] = True
    return [int(i) for i in np.flatnonzero(bad)]


def _codes(files: I64, values: I64, pixels: I64) -> I64:
    """(file, value, pixels) as one number; fewer than 2**23 files."""
    return (files << 40) | (values << 32) | pixels
