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
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..types import I64, U8, UNLABELED, Bool, ClassSets, ImageAnswer, Source
from .files import GONE, FileStamp, stamp
from .images import read_ids, write_png
from .indexed import IndexedFolder
from .label_index import Entry, hash_pixels
from .label_maps import (
    CLASSES,
    SETS,
    SOURCES,
    map_keys,
    merge_sets,
    merge_source,
    read_set_classes,
    read_sets,
    read_source,
    write_sets,
    write_source,
)
from .listing import LABEL, ROUNDS, scan
from .outside import check_file

MAX_ROUND = 253


class LabelStore(IndexedFolder):
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

    def source(self, key: str) -> U8 | None:
        """uint8 [H, W]: who has answered, see `label_maps`; None: not known of any pixel."""
        return read_source(self._map_path(SOURCES, key))

    def class_sets(self, key: str) -> ClassSets | None:
        """The regions of which only the classes are known; None: there are none."""
        return read_sets(self._map_path(CLASSES, key))

    def class_set_keys(self) -> list[str]:
        """Sorted keys of the images with regions of which only the classes are known."""
        return map_keys(self.root / CLASSES)

    def class_set_classes(self, key: str) -> tuple[tuple[int, ...], ...]:
        """`class_sets(key).classes`, without reading the regions; empty where there are none."""
        return read_set_classes(self._map_path(CLASSES, key))

    def _map_path(self, folder: str, key: str) -> Path:
        self.path(key)
        path = self.root / folder / f"{key}.png"
        check_file(path, self.root)
        return path

    def write(
        self, answer: ImageAnswer, round: int, numbers: Mapping[Source, int] | None = None
    ) -> int:
        """Store an answer.

        A pixel answered in another round keeps its label; within a round the latest answer wins,
        so that people can correct it.

        Args:
            answer: About one image.
            round: In which it was asked for, 0..253.
            numbers: Of the sources of the answer, as the ledger has them; None: who has answered
                is not kept.

        Returns:
            Number of pixels of this image that the round has answered so far. It is a total:
            writing the same answer again, after a kill, returns the same number and leaves the
            same bytes.

        Raises:
            DataError: A wrong shape or round.
        """
        check_round(round)
        label, sidecar = self._before(answer)
        if sidecar is None and label is None and not answer.answered.any():
            return 0
        new_label, new_sidecar = merge_answer(label, sidecar, answer, round)
        pixels = answer.answered & (new_sidecar == round + 1)
        self._write_maps(answer, pixels, new_sidecar, numbers)
        # Labels first: after a kill in between, the pixels are not answered and are written again.
        # The other way round they would count as annotated void.
        self._put(LABEL, answer.key, label, new_label, round)
        self._put(ROUNDS, answer.key, sidecar, new_sidecar, round)
        return int(np.count_nonzero(new_sidecar == round + 1))

    def corrected(self, answer: ImageAnswer, round: int) -> tuple[U8, U8]:
        """What `correct` makes of the labels of an image: they as they are, and as they will be.

        Args:
            answer: A correction of what has been answered in `round`; other pixels stay.
            round: In which it was asked for.

        Returns:
            Both uint8 [H, W].

        Raises:
            DataError: The image has no answers, or another size.
        """
        label, sidecar = self._before(answer)
        if label is None or sidecar is None:
            raise DataError(f"{self.path(answer.key)} is missing: nothing can be corrected in it")
        return label, merge_answer(label, sidecar, answer, round)[0]

    def correct(
        self, answer: ImageAnswer, round: int, numbers: Mapping[Source, int] | None = None
    ) -> None:
        """Change labels that have been answered in an earlier round; see `corrected`. Repeating it
        leaves the same bytes."""
        label, corrected = self.corrected(answer, round)
        sidecar = self.annotated(answer.key)
        assert sidecar is not None
        self._write_maps(answer, answer.answered & (sidecar == round + 1), sidecar, numbers)
        row = self.recorded(LABEL, answer.key)
        self._put(LABEL, answer.key, label, corrected, 0 if row is None else row.round)
        now = self.recorded(LABEL, answer.key)
        if row is not None and now is not None:
            before = None if row.before is None else hash_pixels(settled(corrected, sidecar, row))
            self._set(LABEL, answer.key, now._replace(round=row.round, before=before))

    def _write_maps(
        self,
        answer: ImageAnswer,
        pixels: Bool,
        sidecar: U8,
        numbers: Mapping[Source, int] | None,
    ) -> None:
        """Write who has answered these pixels, and the class sets among them."""
        key, kept = answer.key, sidecar > 0
        before = self.source(key)
        if before is not None or (numbers and answer.sources):
            table = np.array([(numbers or {}).get(s, 0) for s in answer.sources] or [0], np.uint8)
            which = 0 if answer.source is None else np.maximum(answer.source, 0)
            number = np.broadcast_to(table[which], pixels.shape)
            source = merge_source(before, pixels, np.asarray(number), kept)
            write_source(self._map_path(SOURCES, key), source)
        sets = self.class_sets(key)
        if sets is not None or answer.sets is not None:
            sets = merge_sets(sets, pixels, answer.sets, kept)
            write_sets(self._map_path(CLASSES, key), sets)
            self._new_sets.add(key)

    def unsaved_sets(self) -> dict[tuple[str, str], FileStamp]:
        """Stamps of the files with class sets that have been written since the last `saved`, as a
        ledger records them."""
        return {
            (key, SETS): stamp(self._map_path(CLASSES, key)) or GONE
            for key in sorted(self._new_sets)
        }

    def _before(self, answer: ImageAnswer) -> tuple[U8 | None, U8 | None]:
        """Labels and sidecar of an image, of the size of an answer; see `write` for errors."""
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
        return label, sidecar

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

    def training_digest(self, trainable: Bool, sets: bool = False) -> tuple[int, str]:
        """How many images are trained on, and a hash of what they are trained on.

        Args:
            trainable: bool [256], raw ids that count as a label.
            sets: Regions of which only the classes are known are trained on, too.

        Returns:
            The number of images of `trainable_keys`, with `sets` those of `class_set_keys` among
            them; a hash of these keys and of the pixels of their label files, and of the files of
            class sets. The next `trainable_keys` of this store returns the same images, without
            looking at the files again.
        """
        digest, keys = hashlib.blake2b(digest_size=16), []
        for key, entry in self._trained(trainable):
            digest.update(key.encode() + b"\0" + entry.digest)
            keys.append(key)
        self._listed = trainable.tobytes(), keys
        others = self.class_set_keys() if sets else []
        for key in others:
            digest.update(key.encode() + b"\0" + self._map_path(CLASSES, key).read_bytes())
        return len({*keys, *others}), digest.hexdigest()

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
            none = np.zeros(label.shape, np.bool_)
            self._write_maps(ImageAnswer(key, label, none), none, kept, None)
            self._put(ROUNDS, key, before, kept if kept.any() else None, last)
            self._put(LABEL, key, label, cleared if kept.any() else None, last)
        self.save_index()
        return dropped


def merge_answer(
    label: U8 | None, sidecar: U8 | None, answer: ImageAnswer, round: int
) -> tuple[U8, U8]:
    """The new label and sidecar, both uint8 [H, W], after an answer in `round`. One that `replaces`
    changes only what that round has had answered.

    Labels without a sidecar entry (left by a kill) are cleared first.
    """
    if sidecar is None:
        sidecar = np.zeros(answer.labels.shape, dtype=np.uint8)
    if label is None:
        label = np.full(answer.labels.shape, UNLABELED, dtype=np.uint8)
    new_label = np.where(sidecar > 0, label, np.uint8(UNLABELED))
    new_sidecar = sidecar.copy()
    free = answer.answered & (sidecar == round + 1)
    if not answer.replaces:
        free |= answer.answered & (sidecar == 0)
    new_label[free] = answer.labels[free]
    new_sidecar[free] = round + 1
    return new_label, new_sidecar


def settled(label: U8, sidecar: U8, row: Entry) -> U8:
    """Labels as they were before the round in which a file was last written."""
    return np.where((sidecar > 0) & (sidecar <= row.round), label, np.uint8(UNLABELED))


def check_round(round: int) -> None:
    """Raise DataError unless 0 <= round <= 253, what fits a uint8 sidecar."""
    if not 0 <= round <= MAX_ROUND:
        raise DataError(f"round {round} is not in 0..{MAX_ROUND}: use fewer rounds")


def _size(pixels: U8) -> str:
    return "x".join(str(length) for length in pixels.shape)
