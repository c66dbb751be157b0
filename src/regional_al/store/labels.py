"""The label store: a folder of uint8 PNGs, itself the annotation folder of the training set.

`root/<key>.png` contains raw ids, 255 = no class. `root/_annotated/<key>.png` (the sidecar) is 0
where nothing has been answered and r + 1 where round r has, which distinguishes *annotated void*
(sidecar > 0, no class) from *unlabeled* (sidecar 0).

One process writes (rank 0), any number read. A kill between the two writes of an answer leaves
labels without a sidecar entry. They never count as answered, and the next write of the image
(the resumed round applies its answers again) clears them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..errors import DataError, WorkDirError
from ..types import I64, JSON, U8, UNLABELED, Bool, ImageAnswer
from .images import read_ids, replacing, write_png

SIDECAR = "_annotated"
MAX_ROUND = 253
MAX_NAME = 255
"""Bytes of a file name on all common file systems."""
_INDEX = "index.json"
_INDEX_VERSION = 1


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
        self._index: dict[str, JSON] | None = None
        self._index_changed = False

    def __getstate__(self) -> JSON:
        return {"root": self.root}

    def __setstate__(self, state: JSON) -> None:
        self.root = state["root"]
        self._index = None
        self._index_changed = False

    def path(self, key: str) -> Path:
        """The label file of an image, which need not exist. Raises DataError for a key that cannot
        be a file name, or leads out of the store or into its sidecar folder."""
        parts = key.split("/")
        if not key or parts[0] == SIDECAR or any(part in ("", ".", "..") for part in parts):
            raise DataError(f"{key!r} cannot be the key of an image: rename the image file")
        try:
            length = max(len(part.encode()) for part in parts) + len(".png")
        except UnicodeEncodeError:
            raise DataError(f"{key!a}: its name is not valid UTF-8: rename the image") from None
        if length > MAX_NAME or "\0" in key:
            raise DataError(
                f"{key!r}: with '.png' its name has {length} bytes, more than {MAX_NAME}, or there "
                "is a null character in it: rename the image file"
            )
        return self.root / f"{key}.png"

    def sidecar_path(self, key: str) -> Path:
        """The file with the round in which each pixel was answered."""
        self.path(key)
        return self.root / SIDECAR / f"{key}.png"

    def read(self, key: str) -> U8 | None:
        """Raw ids uint8 [H, W], 255 = no class; None when the image has no labels yet."""
        path = self.path(key)
        return read_ids(path) if path.exists() else None

    def annotated(self, key: str) -> U8 | None:
        """uint8 [H, W]: 0 = not answered, r + 1 = answered in round r; None: no answer yet."""
        path = self.sidecar_path(key)
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
        if label is None or not np.array_equal(label, new_label):
            self._write(self.path(answer.key), new_label)
        if sidecar is None or not np.array_equal(sidecar, new_sidecar):
            self._write(self.sidecar_path(answer.key), new_sidecar)
        return int(np.count_nonzero(new_sidecar == round + 1))

    def keys(self) -> list[str]:
        """Sorted keys of the images with a label file."""
        found = (path.relative_to(self.root) for path in self.root.rglob("*.png"))
        return sorted(
            path.as_posix()[: -len(".png")]
            for path in found
            if path.parts[0] != SIDECAR and not path.name.startswith(".")
        )

    def annotated_keys(self) -> list[str]:
        """Sorted keys of the images with a sidecar file."""
        folder = self.root / SIDECAR
        found = (path.relative_to(folder) for path in folder.rglob("*.png"))
        names = (path.as_posix() for path in found if not path.name.startswith("."))
        return sorted(name[: -len(".png")] for name in names)

    def trainable_keys(self, trainable: Bool) -> list[str]:
        """Sorted keys of the images with a pixel whose raw id is `trainable` (bool [256])."""
        keys = [key for key in self.keys() if self.labelled_pixels(key, trainable) > 0]
        self.save_index()
        return keys

    def labelled_pixels(self, key: str, trainable: Bool) -> int:
        """Pixels of one image whose raw id is `trainable` (bool [256]; 255 never counts)."""
        return int(self._counts(self.path(key))[:UNLABELED][trainable[:UNLABELED]].sum())

    def rounds_of(self, key: str) -> list[int]:
        """Rounds that have answered pixels of one image, ascending."""
        return [int(r) for r in np.flatnonzero(self._counts(self.sidecar_path(key))[1:])]

    def is_complete(self, key: str) -> bool:
        """True when every pixel of the image has been answered."""
        counts = self._counts(self.sidecar_path(key))
        return bool(counts[1:].any() and counts[0] == 0)

    def counts(self, key: str) -> tuple[I64, I64]:
        """Pixels of one image by raw id, and by round + 1 in which they were answered (0: not);
        both int64 [256], all 0 where the file is missing. Raises DataError for a damaged file."""
        return self._counts(self.path(key)), self._counts(self.sidecar_path(key))

    def forget_index(self) -> None:
        """Count the pixels of every file anew, whatever the saved index says."""
        self._index, self._index_changed = {}, True

    def index_is_wrong(self) -> bool:
        """Whether the saved index cannot be read, or says something else about a file than this
        object has counted."""
        path = self.root / SIDECAR / _INDEX
        saved = _load_index(path)
        if not saved and path.exists():
            return not _is_empty_index(path)
        known = self._entries()
        return any(
            known[name] != entry
            for name, entry in saved.items()
            if name in known and known[name]["stamp"] == entry["stamp"]
        )

    def clear_unanswered(self, key: str) -> int:
        """Clear labels of pixels that are not answered, as a kill leaves them; without any answer
        the file is removed. Returns the number of labels cleared."""
        label, sidecar = self.read(key), self.annotated(key)
        if label is None:
            return 0
        if sidecar is None:
            self._put(self.path(key), label, None)
            return int(np.count_nonzero(label != UNLABELED))
        kept = np.where(sidecar > 0, label, np.uint8(UNLABELED))
        self._put(self.path(key), label, kept)
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
            self._put(self.sidecar_path(key), before, kept if kept.any() else None)
            self._put(self.path(key), label, cleared if kept.any() else None)
        self.save_index()
        return dropped

    def save_index(self) -> None:
        """Write the cache of pixel counts if it has changed. Failing to write it is no error."""
        if not self._index_changed or self._index is None:
            return
        content = {"version": _INDEX_VERSION, "files": self._index}
        try:
            with replacing(self.root / SIDECAR / _INDEX) as temporary:
                temporary.write_text(json.dumps(content, sort_keys=True))
        except WorkDirError:
            return
        self._index_changed = False

    def _write(self, path: Path, pixels: U8) -> None:
        write_png(path, pixels)
        self._remember(path, np.bincount(pixels.ravel(), minlength=256))

    def _put(self, path: Path, before: U8 | None, after: U8 | None) -> None:
        """Make the file contain `after` (None: no file); write only what has changed."""
        if after is None:
            path.unlink(missing_ok=True)
        elif before is None or not np.array_equal(before, after):
            self._write(path, after)

    def _counts(self, path: Path) -> I64:
        """int64 [256]: pixels of each value in a file; from the index unless the file changed."""
        counts: I64 = np.zeros(256, dtype=np.int64)
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            return counts
        entry = self._entries().get(path.relative_to(self.root).as_posix())
        if entry is None or entry["stamp"] != stamp:
            counts = np.bincount(read_ids(path).ravel(), minlength=256)
            self._remember(path, counts)
            return counts
        for value, count in entry["counts"]:
            counts[value] = count
        return counts

    def _remember(self, path: Path, counts: I64) -> None:
        pairs = [[int(value), int(counts[value])] for value in np.flatnonzero(counts)]
        name = path.relative_to(self.root).as_posix()
        self._entries()[name] = {"stamp": _stamp(path), "counts": pairs}
        self._index_changed = True

    def _entries(self) -> dict[str, JSON]:
        if self._index is None:
            self._index = _load_index(self.root / SIDECAR / _INDEX)
        return self._index


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


def check_round(round: int) -> None:
    """Raise DataError unless 0 <= round <= 253, what fits a uint8 sidecar."""
    if not 0 <= round <= MAX_ROUND:
        raise DataError(f"round {round} is not in 0..{MAX_ROUND}: use fewer rounds")


def _size(pixels: U8) -> str:
    return "x".join(str(length) for length in pixels.shape)


def _stamp(path: Path) -> list[int]:
    """What changes when a file is replaced: time, size and inode."""
    status = path.stat()
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def _is_empty_index(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text()) == {"version": _INDEX_VERSION, "files": {}})
    except (OSError, ValueError, RecursionError):
        return False


def _load_index(path: Path) -> dict[str, JSON]:
    """The saved index, or an empty one when it is missing, damaged or of another version."""
    try:
        content = json.loads(path.read_text())
        if content["version"] != _INDEX_VERSION:
            return {}
        return {
            str(name): {"stamp": list(entry["stamp"]), "counts": list(entry["counts"])}
            for name, entry in content["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
