"""Machine labels of the pool, beside those of people: copies, and what both make together.

`prelabels/<key>.png` of a run holds raw ids as label files do, 255 = no label. It is copied once,
when the run starts, and never written again; `summary.json`, which is written last, says that it is
complete. What people have answered stays in the label store, alone.

A training sees both: `TrainingLabels` is a label store in which each pixel has its answer or, where
there is none, the machine's label, but for pixels that are left out (`store.sieved`) and those
with a pseudo label (`store.pseudo_labels`). It is made from the others and may be deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import DataError, WorkDirError
from ..types import I64, JSON, U8, UNLABELED, Bool, LabelSpace
from .images import read_ids, replacing, write_png
from .keys import check_key
from .label_maps import CLASSES, write_sets
from .labels import LabelStore
from .listing import LABEL, ROUNDS
from .outside import check_file
from .pseudo_labels import PseudoLabels, sets_without
from .reading import Reader, integer, read_json
from .sieved import SievedPixels

MACHINE = 255
"""In the sidecar of `TrainingLabels`: the label of this pixel is a machine's."""
SUMMARY = "summary.json"
_MADE_FROM = "made_from.json"


class Prelabels:
    """The copies of machine labels in a run. Cheap to construct.

    Args:
        root: Their folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     prelabels = Prelabels(Path(folder) / "prelabels")
        ...     prelabels.write("a", np.array([[0, 0, 255]], np.uint8))
        ...     _ = prelabels.finish(missing=2)
        ...     prelabels.read("b"), prelabels.counts()[:3].tolist(), prelabels.complete
        (None, [2, 0, 0], True)
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._counts: I64 = np.zeros(256, np.int64)
        self._images = 0

    def path(self, key: str) -> Path:
        """The file of an image, which need not exist."""
        check_key(key)
        return self.root / f"{key}.png"

    def read(self, key: str) -> U8 | None:
        """Raw ids uint8 [H, W], 255 = no label; None: the machine has not labelled the image."""
        path = self.path(key)
        check_file(path, self.root)
        return read_ids(path) if path.exists() else None

    def classes(self, key: str, space: LabelSpace) -> U8 | None:
        """Train ids uint8 [H, W], 255 = no class; None: the machine has not labelled the image."""
        found = self.read(key)
        return None if found is None else np.asarray(_train_ids(space)[found])

    def class_counts(self, space: LabelSpace) -> I64:
        """int64 [C]: pixels of each class in all images. Raises what `counts` does."""
        raw = self.counts()
        found = np.zeros(256, np.int64)
        np.add.at(found, _train_ids(space), raw)
        return found[: space.num_classes]

    def write(self, key: str, labels: U8) -> None:
        """Copy the labels of an image, raw ids uint8 [H, W]."""
        write_png(self.path(key), labels)
        self._counts += np.bincount(labels.ravel(), minlength=256)
        self._images += 1

    def finish(self, missing: int) -> JSON:
        """Say that all have been written; missing: images of the pool without machine labels.
        Returns what the summary says."""
        counts = {str(raw): int(self._counts[raw]) for raw in np.flatnonzero(self._counts)}
        summary = {"images": self._images, "missing": missing, "pixels": counts}
        path = self.root / SUMMARY
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(summary, indent=1) + "\n")
        return summary

    @property
    def complete(self) -> bool:
        """Whether all copies have been written."""
        return (self.root / SUMMARY).is_file()

    def counts(self) -> I64:
        """int64 [256]: pixels of each raw id in all images, those without a label at 255.

        Raises:
            WorkDirError: The summary is gone.
            DataError: It is damaged.
        """
        path = self.root / SUMMARY
        if not path.is_file():
            raise WorkDirError(f"{path} is gone: restore it from a backup, or start a new run")
        found = Reader(read_json(path), str(path))("pixels", _pixels)
        counts = np.zeros(256, np.int64)
        for raw, many in found.items():
            counts[raw] = many
        return counts


def _train_ids(space: LabelSpace) -> U8:
    """uint8 [256]: raw id -> class, 255 where it has none."""
    table: U8 = np.where(space.trainable, space.raw_to_train, UNLABELED).astype(np.uint8)
    return table


def _pixels(value: object) -> dict[int, int]:
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    found = {int(raw): integer(many) for raw, many in value.items()}
    if any(not 0 <= raw <= 255 or many < 0 for raw, many in found.items()):
        raise ValueError("must name ids of 0..255 and numbers of pixels")
    return found


def current_labels(
    labels: U8 | None, sidecar: U8 | None, machine: U8 | None
) -> tuple[U8 | None, U8 | None]:
    """A pixel's label: the answer where there is one (void, too), else the machine's.

    Args:
        labels: uint8 [H, W] raw ids of the label store; None: none.
        sidecar: uint8 [H, W], above 0 where a pixel has been answered; None: nowhere.
        machine: uint8 [H, W] raw ids, 255 = no label; None: none.

    Returns:
        Raw ids uint8 [H, W] and a sidecar uint8 [H, W], 0 = no label, `MACHINE` = a machine's, else
        as given; both None where there is neither.

    Example:
        >>> labels, sidecar = np.array([[7, 255, 255]], np.uint8), np.array([[1, 1, 0]], np.uint8)
        >>> [x.tolist() for x in current_labels(labels, sidecar, np.array([[3, 3, 3]], np.uint8))]
        [[[7, 255, 3]], [[1, 1, 255]]]
    """
    if sidecar is None or labels is None:
        if machine is None:
            return None, None
        return machine, np.where(machine == UNLABELED, 0, MACHINE).astype(np.uint8)
    known = sidecar > 0
    if machine is None:
        return np.where(known, labels, np.uint8(UNLABELED)), sidecar
    said = np.where(machine == UNLABELED, 0, MACHINE)
    return (
        np.where(known, labels, machine).astype(np.uint8),
        np.where(known, sidecar, said).astype(np.uint8),
    )


def without(labels: U8, sidecar: U8, left_out: Bool) -> tuple[U8, U8]:
    """`current_labels` without some pixels, all of [H, W].

    Example:
        >>> labels, sidecar = np.array([[7, 3]], np.uint8), np.array([[1, 1]], np.uint8)
        >>> [x.tolist() for x in without(labels, sidecar, np.array([[False, True]]))]
        [[[7, 255]], [[1, 0]]]
    """
    kept = np.where(left_out, np.uint8(UNLABELED), labels).astype(np.uint8)
    return kept, np.where(left_out, np.uint8(0), sidecar).astype(np.uint8)


def with_pseudo(labels: U8, sidecar: U8, pseudo: U8) -> tuple[U8, U8]:
    """`current_labels` with pseudo labels, all uint8 [H, W]; 255 in `pseudo` = none.

    Example:
        >>> labels, sidecar = np.array([[255, 3]], np.uint8), np.array([[1, 1]], np.uint8)
        >>> [x.tolist() for x in with_pseudo(labels, sidecar, np.array([[7, 255]], np.uint8))]
        [[[7, 3]], [[255, 1]]]
    """
    there = pseudo != UNLABELED
    return (
        np.where(there, pseudo, labels).astype(np.uint8),
        np.where(there, np.uint8(MACHINE), sidecar).astype(np.uint8),
    )


class TrainingLabels(LabelStore):
    """The current label of every pixel as a label store, for trainings. Rank 0 refreshes it.

    Args:
        root: Its folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.types import ImageAnswer
        >>> labels = np.array([[7, 255]], np.uint8)
        >>> with TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     store, prelabels = LabelStore(folder / "labels"), Prelabels(folder / "prelabels")
        ...     _ = store.write(ImageAnswer("a", labels, np.array([[True, False]])), 0)
        ...     prelabels.write("a", np.array([[3, 3]], np.uint8))
        ...     both = TrainingLabels(folder / "training")
        ...     both.refresh(store, prelabels, ["a", "b"])
        ...     both.read("a").tolist(), both.annotated("a").tolist()
        ([[7, 3]], [[1, 255]])
    """

    def refresh(
        self,
        store: LabelStore,
        prelabels: Prelabels,
        keys: Iterable[str],
        sieved: SievedPixels | None = None,
        pseudo: PseudoLabels | None = None,
    ) -> None:
        """Make the files of images whose answers are not those that they were made from, or that
        are not as they were made. Safe to repeat after a kill.

        Args:
            store: What people have answered.
            prelabels: What a machine says.
            keys: Of the images.
            sieved: Which answered pixels are left out: they have no label, not a machine's either,
                and count as not answered; None: none are.
            pseudo: Pseudo labels, which count as a machine's; their regions have no set of classes
                any more; None: there are none.
        """
        record = self._record()
        for key in {*store.class_set_keys(), *self.class_set_keys()}:
            given = None if pseudo is None else pseudo.read(key)
            write_sets(self._map_path(CLASSES, key), sets_without(store.class_sets(key), given))
        for key in keys:
            given = None if pseudo is None else pseudo.read(key)
            left_out = None if sieved is None else sieved.read(key)
            origin = _pixels_of(store, key)
            if left_out is not None and left_out.any():
                packed = np.packbits(left_out).tobytes()
                origin += f" {hashlib.blake2b(packed, digest_size=16).hexdigest()}"
            if given is not None and (given != UNLABELED).any():
                origin += f" pseudo {hashlib.blake2b(given.tobytes(), digest_size=16).hexdigest()}"
            if record.get(key) == [origin, _pixels_of(self, key)]:
                continue
            labels, sidecar = current_labels(
                store.read(key), store.annotated(key), prelabels.read(key)
            )
            if left_out is not None and labels is not None and sidecar is not None:
                labels, sidecar = without(labels, sidecar, left_out)
            if given is not None and labels is not None and sidecar is not None:
                labels, sidecar = with_pseudo(labels, sidecar, given)
            self._put(LABEL, key, None, labels, 0)
            self._put(ROUNDS, key, None, sidecar, 0)
            record[key] = [origin, _pixels_of(self, key)]
        path = self.root / _MADE_FROM
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(record))
        self.save_index()

    def _record(self) -> dict[str, list[str]]:
        """Key -> `_pixels_of` what the files were made from, and of themselves."""
        path = self.root / _MADE_FROM
        try:
            found = read_json(path) if path.is_file() else {}
        except DataError:  # it may be made anew
            found = {}
        return dict(found) if isinstance(found, dict) else {}


def _pixels_of(store: LabelStore, key: str) -> str:
    """Hashes of the pixels of an image's files, from the index where it knows them."""
    found = [store.entry(kind, key) for kind in (LABEL, ROUNDS)]
    return " ".join("-" if one is None else one.digest.hex() for one in found)
