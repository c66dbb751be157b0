"""The label store: a folder of uint8 PNGs, itself the annotation folder of the training set.

`root/<key>.png` contains raw ids, 255 = no class. `root/_annotated/<key>.png` (the sidecar) is 0
where nothing has been answered and r + 1 where round r has, which distinguishes *annotated void*
(sidecar > 0, no class) from *unlabeled* (sidecar 0).

One process writes (rank 0), any number read. A kill between the two writes of an answer leaves
labels without a sidecar entry. They never count as answered, and the next write of the image
(the resumed round applies its answers again) clears them.

What each file contains is known without reading it from an index, see `label_index`: below the
work dir of a run a table of its ledger, which rank 0 alone writes, else `_annotated/index.sqlite`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..types import I64, JSON, U8, UNLABELED, Bool, ImageAnswer
from .images import encode_png, read_ids, replacing, write_png
from .label_index import (
    FOLDERS,
    LABEL,
    ROUNDS,
    SIDECAR,
    SUFFIX,
    Entry,
    Name,
    Stamp,
    entry_of,
    hash_bytes,
    hash_pixels,
    load,
    save,
    scan,
    stamp_of,
    unpack,
)
from .outside import check_file
from .work_dir import WorkDir

MAX_ROUND = 253
MAX_NAME = 255
"""Bytes of a file name on all common file systems."""
_INDEX = "index.sqlite"


class LabelStore:
    """The labels of a run. Picklable and cheap to construct.

    Args:
        root: Its folder; created by the first write.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from regional_al.types import ImageAnswer
        >>> labels = np.array([[0, 7], [255, 255]], np.uint8)
        >>> answered = np.array([[True, True], [True, False]])
        >>> with TemporaryDirectory() as folder:
        ...     store = LabelStore(folder)
        ...     pixels = store.write(ImageAnswer("town/01", labels, answered), round=0)
        ...     pixels, store.keys(), store.is_complete("town/01")
        ...     store.read("town/01").tolist()
        ...     store.annotated("town/01").tolist()  # (1, 0) is void, (1, 1) unlabeled
        (3, ['town/01'], False)
        [[0, 7], [255, 255]]
        [[1, 1], [1, 0]]
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._rows: dict[str, dict[str, Entry]] = {}  # the index, by kind
        self._read: dict[str, tuple[object, ...]] = {}  # stamp of the file that it was read from
        self._changed: dict[Name, Entry | None] = {}  # rows that are to be saved: what was written,
        self._found: dict[Name, Entry] = {}  # and what was found to be as recorded, or counted
        self._seen: dict[Name, Entry] = {}  # files that are not as the index says
        self._wrong: set[Name] = set()
        self._listed: tuple[bytes, list[str]] | None = None  # what `training_digest` has found
        self._trusted = True

    def __getstate__(self) -> JSON:
        return {"root": self.root}

    def __setstate__(self, state: JSON) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    def path(self, key: str) -> Path:
        """The label file of an image, which need not exist. Raises DataError for a key that cannot
        be a file name, or leads out of the store or into its sidecar folder."""
        check_key(key)
        return self.root / f"{key}.png"

    def sidecar_path(self, key: str) -> Path:
        """The file with the round in which each pixel was answered."""
        self.path(key)
        return self.root / SIDECAR / f"{key}.png"

    def read(self, key: str) -> U8 | None:
        """Raw ids uint8 [H, W], 255 = no class; None when the image has no labels yet."""
        path = self.path(key)
        check_file(path, self.root)
        return read_ids(path) if path.exists() else None

    def annotated(self, key: str) -> U8 | None:
        """uint8 [H, W]: 0 = not answered, r + 1 = answered in round r; None: no answer yet."""
        path = self.sidecar_path(key)
        check_file(path, self.root)
        return read_ids(path) if path.exists() else None

    def write(self, answer: ImageAnswer, round: int) -> int:
        """Store an answer.

        A pixel answered in another round keeps its label; within a round the latest answer wins,
        so that people can correct it.

        Args:
            answer: About one image.
            round: In which it was asked for, 0..253.

        Returns:
            Number of pixels of this image that the round has answered so far. It is a total:
            writing the same answer again, after a kill, returns the same number and leaves the
            same bytes.

        Raises:
            DataError: A wrong shape or round.
        """
        check_round(round)
        labels, answered = answer.labels, answer.answered
        if labels.dtype != np.uint8 or answered.dtype != np.bool_:
            raise TypeError(
                f"labels must be uint8 and answered bool, not {labels.dtype} and {answered.dtype}"
            )
        if labels.shape != answered.shape or labels.ndim != 2:
            raise DataError(
                f"{answer.key}: labels {labels.shape} and answered {answered.shape} must have the "
                "same shape [H, W]"
            )
        sidecar = self.annotated(answer.key)
        label = self.read(answer.key)
        for there in (label, sidecar):
            if there is not None and there.shape != labels.shape:
                raise DataError(
                    f"{self.path(answer.key)} is {_size(there)}, the answer is {_size(labels)}:"
                    " annotate at the size of the image"
                )
        if sidecar is None and label is None and not answered.any():
            return 0
        new_label, new_sidecar = merge_answer(label, sidecar, answer, round)
        # Labels first: after a kill in between, the pixels are not answered and are written again.
        # The other way round they would count as annotated void.
        self._put(LABEL, answer.key, label, new_label, round)
        self._put(ROUNDS, answer.key, sidecar, new_sidecar, round)
        return int(np.count_nonzero(new_sidecar == round + 1))

    def keys(self) -> list[str]:
        """Sorted keys of the images with a label file."""
        return sorted(scan(self.root, LABEL))

    def annotated_keys(self) -> list[str]:
        """Sorted keys of the images with a sidecar file."""
        return sorted(scan(self.root, ROUNDS))

    def trainable_keys(self, trainable: Bool) -> list[str]:
        """Sorted keys of the images with a pixel whose raw id is `trainable` (bool [256])."""
        listed, self._listed = self._listed, None
        if listed is not None and listed[0] == trainable.tobytes():
            return listed[1]
        keys = [key for key, _ in self._trained(trainable)]
        self.save_index()
        return keys

    def training_digest(self, trainable: Bool) -> tuple[int, str]:
        """How many images `trainable_keys` has, and a hash of these keys and of the pixels of their
        label files. The next `trainable_keys` of this store returns the same images, without
        looking at the files again."""
        digest, keys = hashlib.blake2b(digest_size=16), []
        for key, entry in self._trained(trainable):
            digest.update(key.encode() + b"\0" + entry.digest)
            keys.append(key)
        self._listed = trainable.tobytes(), keys
        return len(keys), digest.hexdigest()

    def labelled_pixels(self, key: str, trainable: Bool) -> int:
        """Pixels of one image whose raw id is `trainable` (bool [256]; 255 never counts)."""
        return int(self._counts(LABEL, key)[:UNLABELED][trainable[:UNLABELED]].sum())

    def rounds_of(self, key: str) -> list[int]:
        """Rounds that have answered pixels of one image, ascending."""
        return [int(r) for r in np.flatnonzero(self._counts(ROUNDS, key)[1:])]

    def is_complete(self, key: str) -> bool:
        """True when every pixel of the image has been answered."""
        counts = self._counts(ROUNDS, key)
        return bool(counts[1:].any() and counts[0] == 0)

    def counts(self, key: str) -> tuple[I64, I64]:
        """Pixels of one image by raw id, and by round + 1 in which they were answered (0: not);
        both int64 [256], all 0 where the file is missing. Raises DataError for a damaged file."""
        return self._counts(LABEL, key), self._counts(ROUNDS, key)

    def clear_unanswered(self, key: str) -> int:
        """Clear labels of pixels that are not answered, as a kill leaves them; without any answer
        the file is removed. Returns the number of labels cleared."""
        label, sidecar = self.read(key), self.annotated(key)
        if label is None:
            return 0
        if sidecar is None:
            self.path(key).unlink(missing_ok=True)
            return int(np.count_nonzero(label != UNLABELED))
        kept = np.where(sidecar > 0, label, np.uint8(UNLABELED))
        if not np.array_equal(label, kept):
            write_png(self.path(key), kept)  # what the index says of it stays as it was recorded
        return int(np.count_nonzero(kept != label))

    def drop_rounds_from(self, round: int) -> int:
        """Delete all answers of rounds >= `round`. Returns the number of pixels deleted.

        Also clears labels that a kill left without a sidecar entry. Safe to repeat after a kill.
        """
        check_round(round)
        dropped = 0
        for key in self.keys():
            label, before = self.read(key), self.annotated(key)
            if label is None:
                continue
            sidecar = np.zeros_like(label) if before is None else before
            kept = np.where(sidecar > round, np.uint8(0), sidecar)
            dropped += int(np.count_nonzero(sidecar > round))
            cleared = np.where(kept > 0, label, np.uint8(UNLABELED))
            last = max(0, round - 1)
            self._put(ROUNDS, key, before, kept if kept.any() else None, last)
            self._put(LABEL, key, label, cleared if kept.any() else None, last)
        self.save_index()
        return dropped

    def save_index(self) -> None:
        """Write what has changed in the index of a store without a ledger. Failing to write it is
        no error. In a run, `recording` does it, together with the answers."""
        rows = self.unsaved()
        if rows and not self.in_run and save(self._database, rows):
            self.saved()

    def unsaved(self) -> dict[Name, Entry | None]:
        """Rows of the index that are not in its file yet; None: the label file is gone."""
        return {**self._found, **self._changed}

    def saved(self) -> None:
        """The rows of `unsaved` are in the file of the index now."""
        self._changed, self._found = {}, {}

    def forget_index(self) -> None:
        """Read every file once more, whatever the index says."""
        self._trusted, self._seen = False, {}

    def adopt(self, key: str, round: int) -> None:
        """Take the files of an image that the index does not know as they are, last written in
        `round`; in `unsaved` from then on."""
        for kind in FOLDERS:
            entry = self.entry(kind, key)
            if entry is not None and key not in self._rows_of(kind):
                self._rows_of(kind)[key] = entry = entry._replace(round=round)
                self._found[kind, key] = entry

    def index_is_wrong(self) -> bool:
        """Whether the index had other counts of a file that it describes; the rows that are right
        are `unsaved`."""
        return bool(self._wrong)

    def rows(self, kind: str) -> Mapping[str, Entry]:
        """All rows of the index of a kind, by key: what it says, whatever the files contain now."""
        return self._rows_of(kind)

    def outdated(self, kind: str, now: Mapping[str, Stamp]) -> list[str]:
        """Images with a row of the index whose file has another stamp now."""
        rows = self._rows_of(kind)
        return [key for key, row in rows.items() if row[:3] != now.get(key, row[:3])]

    def recorded(self, kind: str, key: str) -> Entry | None:
        """What the index says about a file of an image, whatever the file contains now."""
        return self._rows_of(kind).get(key)

    def entry(self, kind: str, key: str, stamp: Stamp | None = None) -> Entry | None:
        """What a file of an image contains now, read only if the index does not know it; None:
        there is no file.

        Args:
            kind: 'label' or 'rounds' (the sidecar).
            key: Of the image.
            stamp: Of the file, when the caller has looked already.

        Raises:
            DataError: The file is damaged.
        """
        if stamp is None:
            try:
                stamp = stamp_of(self.file(kind, key))
            except (FileNotFoundError, NotADirectoryError):
                return None
        if self._trusted:
            row = self._rows_of(kind).get(key)
            if row is not None and row[:3] == stamp:
                return row
        seen = self._seen.get((kind, key))
        if seen is not None and seen[:3] == stamp:
            return seen
        return self._look_into(kind, key, stamp)

    def file(self, kind: str, key: str) -> Path:
        """The file of an image of some kind: `path` or `sidecar_path`."""
        return self.path(key) if kind == LABEL else self.sidecar_path(key)

    @property
    def in_run(self) -> bool:
        """Whether the index is a table of the ledger of a run, and so a record of what it wrote."""
        run = WorkDir(self.root.parent)
        return run.labels == self.root and run.ledger.is_file()

    @property
    def _database(self) -> Path:
        """The SQLite file of the index."""
        return WorkDir(self.root.parent).ledger if self.in_run else self.root / SIDECAR / _INDEX

    def _trained(self, trainable: Bool) -> Iterator[tuple[str, Entry]]:
        """The images with a pixel whose raw id is trainable, sorted by key."""
        other = bytes(v for v in range(256) if v == UNLABELED or not trainable[v])
        for key, entry in self._all(LABEL):
            counts = entry.counts
            if counts[: len(counts) // 5].translate(None, other):
                yield key, entry

    def _all(self, kind: str) -> Iterator[tuple[str, Entry]]:
        """All files of a kind, sorted by key. Only those that have changed are read."""
        stamps = scan(self.root, kind)
        changed = self._changed_files(kind, stamps)
        if changed:
            self._rows_of(kind, newest=True)
            changed = self._changed_files(kind, stamps)
        rows = self._rows_of(kind)
        for key in sorted(stamps):
            entry = self.entry(kind, key, stamps[key]) if key in changed else rows[key]
            if entry is not None:
                yield key, entry

    def _changed_files(self, kind: str, stamps: Mapping[str, Stamp]) -> set[str]:
        """Images of which the index does not know the file."""
        if not self._trusted:
            return set(stamps)
        rows = self._rows_of(kind)
        return {k for k, stamp in stamps.items() if k not in rows or rows[k][:3] != stamp}

    def _look_into(self, kind: str, key: str, stamp: Stamp) -> Entry | None:
        """Read a file. What the index says of it is corrected, but for what is on record."""
        path, row = self.file(kind, key), self._rows_of(kind).get(key)
        check_file(path, self.root)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        if self._trusted and row is not None and row.file == hash_bytes(data):
            entry = row._replace(size=stamp[0], mtime=stamp[1], inode=stamp[2])
        else:
            entry = entry_of(read_ids(path, data), data, stamp)
        same = row is not None and (row.digest == entry.digest or row.file == entry.file)
        if same and row is not None:
            entry = entry._replace(round=row.round, before=row.before)
            if row.counts != entry.counts or (row.file == entry.file and row[4] != entry[4]):
                self._wrong.add((kind, key))
        if (same or not self.in_run) and (self._trusted or (kind, key) in self._wrong):
            self._rows_of(kind)[key] = self._found[kind, key] = entry
        self._seen[kind, key] = entry
        return entry

    def _counts(self, kind: str, key: str) -> I64:
        """int64 [256]: pixels of each value in a file; all 0 where it is missing."""
        self.path(key)
        entry = self.entry(kind, key)
        return np.zeros(256, dtype=np.int64) if entry is None else unpack(entry.counts)

    def _put(self, kind: str, key: str, before: U8 | None, after: U8 | None, round: int) -> None:
        """Make a file contain `after` (None: no file), and record it; write only changes."""
        path, row = self.file(kind, key), self._rows_of(kind).get(key)
        if after is None:
            path.unlink(missing_ok=True)
            if row is not None:
                self._set(kind, key, None)
            return
        if before is None or not np.array_equal(before, after):
            data = encode_png(after)
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        elif row is not None and row.digest == hash_pixels(after):
            return
        else:  # as a process that was killed has left it
            data = path.read_bytes()
        entry = entry_of(after, data, stamp_of(path))
        earlier = None
        if row is not None:
            earlier = row.digest if row.round < round else row.before
            round = max(round, row.round)
        self._set(kind, key, entry._replace(round=round, before=earlier))

    def _set(self, kind: str, key: str, entry: Entry | None) -> None:
        """Change a row of the index, here and at the next save."""
        rows, self._listed = self._rows_of(kind), None
        if entry is None:
            rows.pop(key, None)
        else:
            rows[key] = entry
        self._seen.pop((kind, key), None)
        self._found.pop((kind, key), None)
        self._changed[kind, key] = entry

    def _rows_of(self, kind: str, newest: bool = False) -> dict[str, Entry]:
        """The index of a kind, read once; if `newest`, again when another process has written
        to it since."""
        rows = self._rows.get(kind)
        if rows is not None and not newest:
            return rows
        path = self._database
        try:
            stamp = (path, *stamp_of(path))
        except OSError:
            stamp = (path, 0, 0, 0)
        if rows is None or (stamp != self._read.get(kind) and not self._changed):
            rows = load(path, kind) or {}
            self._found = {name: one for name, one in self._found.items() if name[0] != kind}
            self._rows[kind], self._read[kind] = rows, stamp
        return rows


def merge_answer(
    label: U8 | None, sidecar: U8 | None, answer: ImageAnswer, round: int
) -> tuple[U8, U8]:
    """The new label and sidecar, both uint8 [H, W], after an answer in `round`.

    Labels without a sidecar entry (left by a kill) are cleared first.
    """
    if sidecar is None:
        sidecar = np.zeros(answer.labels.shape, dtype=np.uint8)
    if label is None:
        label = np.full(answer.labels.shape, UNLABELED, dtype=np.uint8)
    new_label = np.where(sidecar > 0, label, np.uint8(UNLABELED))
    new_sidecar = sidecar.copy()
    free = answer.answered & ((sidecar == 0) | (sidecar == round + 1))
    new_label[free] = answer.labels[free]
    new_sidecar[free] = round + 1
    return new_label, new_sidecar


def check_key(key: str) -> None:
    """Raise DataError for the key of an image that cannot be a file name, or that leads out of a
    store or into its sidecar folder."""
    if _is_plain(key):
        return
    parts = key.split("/")
    if parts[0] == SIDECAR or "" in parts or "." in parts or ".." in parts:
        raise DataError(f"{key!r} cannot be the key of an image: rename the image file")
    try:
        length = max([len(part.encode()) for part in parts]) + len(SUFFIX)
    except UnicodeEncodeError:
        raise DataError(f"{key!a}: its name is not valid UTF-8: rename the image") from None
    if length > MAX_NAME or "\0" in key:
        raise DataError(
            f"{key!r}: with '.png' its name has {length} bytes, more than {MAX_NAME}, or there "
            "is a null character in it: rename the image file"
        )


def _is_plain(key: str) -> bool:
    """Whether a key is certainly a file name, as nearly all are."""
    return (
        key.isascii()
        and 0 < len(key) <= MAX_NAME - len(SUFFIX)
        and key[0] not in "/_"
        and key[-1] not in "/."
        and "//" not in key
        and "./" not in key
        and "\0" not in key
    )


def check_round(round: int) -> None:
    """Raise DataError unless 0 <= round <= 253, what fits a uint8 sidecar."""
    if not 0 <= round <= MAX_ROUND:
        raise DataError(f"round {round} is not in 0..{MAX_ROUND}: use fewer rounds")


def _size(pixels: U8) -> str:
    return "x".join(str(length) for length in pixels.shape)
