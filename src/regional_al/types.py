"""Plain data shared by all packages: pool, picks, costs, answers. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

UNLABELED = 255
"""Value of a pixel without a class in a label file: not labelled yet, or annotated void."""
VOID_ANSWER = 254
"""Id for "answered, but no class" in a file of answers, unless the config gives another."""

Level = Literal["image", "region", "pixel"]
RoundInit = Literal["scratch", "continue", "pretrained"]
Answer = Literal["full", "dominant", "multiclass", "correction"]
LEVELS: tuple[Level, ...] = ("image", "region", "pixel")
ROUND_INITS: tuple[RoundInit, ...] = ("scratch", "continue", "pretrained")
ANSWERS: tuple[Answer, ...] = ("full", "dominant", "multiclass", "correction")
USUAL_ANSWERS: tuple[Answer, ...] = ("full", "dominant", "multiclass")
"""What annotators are asked for that do not say which answers they give."""

U8 = npt.NDArray[np.uint8]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Picks = npt.NDArray[np.void]

PICK_DTYPE = np.dtype(
    [
        ("image", "<i4"),  # index into the pool (data-set order)
        ("row", "<i4"),  # centre of a window / the pixel; -1 for a unit of a partition
        ("col", "<i4"),
        ("unit", "<i4"),  # id in the image's partition; -1 for a window or pixel
        ("score", "<f8"),  # higher = picked earlier
        ("pixels", "<i8"),  # not yet annotated pixels that an answer would cover, >= 1
    ]
)
"""One pick. Arrays are ordered best first; ties are broken by image, then by row-major position."""


@dataclass(frozen=True)
class LabelSpace:
    """What the raw ids in label files mean, and which of them a data set's masks hold.

    The ids in label files are those of the data set's own masks, with one exception: 255 marks a
    pixel without a class in a label file, so that a class whose id in the masks is 255 has another
    one there (see `of_masks`).

    Args:
        class_names: Of the C classes.
        palette: RGB of each class.
        raw_to_train: int16 [256], of the ids in label files: a train id 0..C-1; 255 for void ids,
            which training ignores (255 itself, 0 with reduce_zero_label, classes removed by a label
            map or by `ignore_index`); -1 for ids that must not occur.
        mask_to_raw: int16 [256]: the id in label files of each id in masks, -1 for ids that must
            not occur in masks; None: the same id.

    Example:
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (0, 0, 142)))
        >>> space.num_classes, space.raw_to_train[[0, 1, 2, 255]].tolist()
        (2, [0, 1, -1, 255])
    """

    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    raw_to_train: I16
    mask_to_raw: I16 | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def trainable(self) -> Bool:
        """bool [256]: raw ids that reach the loss."""
        return np.asarray((self.raw_to_train >= 0) & (self.raw_to_train != UNLABELED))

    @property
    def offered(self) -> Bool:
        """bool [C]: classes that have a raw id. Nobody is asked for the others, such as the class
        of an `ignore_index`."""
        return np.isin(np.arange(self.num_classes), self.raw_to_train)

    @property
    def lowest_raw(self) -> U8:
        """uint8 [C]: the lowest raw id of each class; 255 for a class without one."""
        found = np.full(self.num_classes, UNLABELED, dtype=np.uint8)
        for raw in np.flatnonzero(self.trainable)[::-1]:
            found[int(self.raw_to_train[raw])] = raw
        return found

    @property
    def mask_to_train(self) -> I16:
        """int16 [256]: as `raw_to_train`, of the ids in masks."""
        if self.mask_to_raw is None:
            return self.raw_to_train
        known = self.mask_to_raw >= 0
        return np.where(known, self.raw_to_train[self.mask_to_raw], -1).astype(np.int16)

    def raw_of_mask(self, mask: U8) -> U8:
        """The ids of a mask as a label file has them.

        Args:
            mask: uint8 [H, W], ids that may occur in masks.

        Returns:
            uint8 [H, W], raw ids.
        """
        return mask if self.mask_to_raw is None else self.mask_to_raw[mask].astype(np.uint8)

    @staticmethod
    def plain(
        class_names: tuple[str, ...], palette: tuple[tuple[int, int, int], ...]
    ) -> LabelSpace:
        """Raw ids 0..C-1 are the classes, 255 is void, nothing else is allowed."""
        table = np.full(256, -1, dtype=np.int16)
        table[: len(class_names)] = np.arange(len(class_names), dtype=np.int16)
        table[UNLABELED] = UNLABELED
        return LabelSpace(class_names, palette, table)

    @staticmethod
    def of_masks(
        class_names: tuple[str, ...],
        palette: tuple[tuple[int, int, int], ...],
        table: I16,
    ) -> LabelSpace:
        """The label space of a data set.

        Where the masks have a class at 255, label files write the lowest other id of that class in
        its place, or the lowest id that masks do not use.

        Args:
            class_names: Of the C classes.
            palette: RGB of each class.
            table: int16 [256], of the ids in masks: train id, 255 = void, -1 = must not occur.

        Raises:
            ValueError: A class is at 255, and no id is left for it.

        Example:
            >>> table = np.full(256, -1, np.int16)
            >>> table[[0, 255]] = 0, 1
            >>> space = LabelSpace.of_masks(("ground", "house"), ((0, 0, 0), (9, 9, 9)), table)
            >>> space.raw_of_mask(np.array([0, 255], np.uint8)).tolist()
            [0, 1]
            >>> space.raw_to_train[[0, 1, 255]].tolist(), space.mask_to_train[[0, 1, 255]].tolist()
            ([0, 1, 255], [0, -1, 1])
        """
        train_id = int(table[UNLABELED])
        if train_id == UNLABELED:
            return LabelSpace(class_names, palette, table)
        raw = table.copy()
        raw[UNLABELED] = UNLABELED
        free = [*np.flatnonzero(raw == train_id), *np.flatnonzero(raw[:VOID_ANSWER] == -1)]
        if not free:
            raise ValueError("no id below 254 is left")
        raw[free[0]] = train_id
        ids = np.where(table >= 0, np.arange(256), -1).astype(np.int16)
        ids[UNLABELED] = free[0]
        return LabelSpace(class_names, palette, raw, ids)


@dataclass(frozen=True)
class PoolItem:
    """One image of the pool.

    Args:
        key: Path below the data set's image folder, with '/' and without the image suffix, such
            as `aachen/aachen_000000_000019`; its label file is `labels/<key>.png`.
        image: The image file.
        annotation: The ground truth, which only the oracle reads; or None.
        shape: (H, W) of the image and its annotation.
    """

    key: str
    image: Path
    annotation: Path | None
    shape: tuple[int, int]


@dataclass(frozen=True)
class Tiles:
    """How large images are cut.

    Args:
        size: Largest height and width of a tile, in pixels.
        context: Pixels of the image around a tile that a network sees when it predicts it.

    Example:
        >>> Tiles(1024, 128).size
        1024
    """

    size: int
    context: int


class Costs(NamedTuple):
    """The costs of annotation.

    Args:
        images: Images with an answer.
        regions: Annotation visits: answered items of the queries.
        pixels: Answered pixels, void included.
        clicks: One per pixel, one per region for a dominant class, one per class for the classes of
            a region, one to confirm the label of a machine and two to correct it, one per connected
            class segment in the queried region for a full answer; None: not known, as with answers
            from files.
        annotation_seconds: Time that people have spent, corrections included; None: not known.
    """

    images: int = 0
    regions: int = 0
    pixels: int = 0
    clicks: int | None = 0
    annotation_seconds: float | None = None


class Source(NamedTuple):
    """Who has given an answer.

    Args:
        kind: 'person', or 'machine' for labels that no person has looked at.
        name: Of the person or the model.

    Example:
        >>> Source("person", "ada").name
        'ada'
    """

    kind: str
    name: str


@dataclass(frozen=True)
class ClassSets:
    """Regions of an image of which only the classes are known that occur in them.

    Args:
        regions: int32 [H, W], 0 = none, i = a region with the classes `classes[i - 1]`.
        classes: Raw ids of each region, ascending, at least one.

    Example:
        >>> sets = ClassSets(np.array([[1, 1, 0]], np.int32), ((0, 7),))
        >>> sets.classes[sets.regions[0, 1] - 1]
        (0, 7)
    """

    regions: I32
    classes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ImageAnswer:
    """The answer about one image of a query, or about a part of it.

    Args:
        key: Of the image.
        labels: uint8 [H, W] raw ids, read only where `answered`; 255 or a void id means no class.
        answered: bool [H, W], within what was asked.
        clicks: None when not known.
        seconds: Time spent on it; None when not known.
        sources: Who has given it; one has given all, unless `source` says more.
        source: int32 [H, W], index into `sources` where `answered`; None: the first.
        sets: Regions with more than one class, whose `labels` are 255; None: there are none.
        replaces: It corrects what the same round has had answered, and adds nothing to it.
    """

    key: str
    labels: U8
    answered: Bool
    clicks: int | None = None
    seconds: float | None = None
    sources: tuple[Source, ...] = ()
    source: I32 | None = None
    sets: ClassSets | None = None
    replaces: bool = False


@dataclass(frozen=True)
class Revision:
    """A correction of an answer of an earlier round.

    Args:
        round: In which it was asked for.
        answer: The corrected pixels (`replaces` is set).
        people: Who has made it.
        time: When, ISO 8601.
        event: Its number in the log of answers; ascending.
    """

    round: int
    answer: ImageAnswer
    people: tuple[str, ...]
    time: str
    event: int


@dataclass(frozen=True)
class PredictRequest:
    """What a heuristic needs besides logits: passes > 1 repeats with dropout layers switched on
    (MC dropout); flip adds the horizontally flipped view; ensemble adds what each of these
    checkpoints of the same model says (no dropout, not flipped); features adds a dense feature
    map of the first view."""

    passes: int = 1
    flip: bool = False
    features: bool = False
    ensemble: tuple[Path, ...] = ()

    @property
    def views(self) -> int:
        """How many predictions of an image are asked for."""
        return self.passes * (2 if self.flip else 1) + len(self.ensemble)


@dataclass(frozen=True)
class FeatureMap:
    """Features of one image, and which of them lies under each pixel.

    A network may see an image padded, flipped or resized, so the cells of its feature map need not
    cover the image evenly.

    Args:
        values: float [D, h, w].
        rows: int64 [H], the row of `values` under each row of the image, 0..h-1.
        cols: int64 [W], the column of `values` under each column of the image, 0..w-1.
    """

    values: torch.Tensor
    rows: torch.Tensor
    cols: torch.Tensor

    @staticmethod
    def of(features: torch.Tensor | FeatureMap, shape: tuple[int, int]) -> FeatureMap:
        """What `Prediction.features` says: itself, or cells [D, h, w] that cover an image of the
        `shape` (H, W) evenly.

        Example:
            >>> import torch
            >>> FeatureMap.of(torch.zeros(1, 1, 2), (1, 4)).cells.tolist()
            [[0, 0, 1, 1]]
        """
        if isinstance(features, FeatureMap):
            return features
        import torch

        rows, cols = (
            torch.arange(pixels, device=features.device) * cells // pixels
            for pixels, cells in zip(shape, features.shape[1:], strict=True)
        )
        return FeatureMap(features, rows, cols)

    @property
    def cells(self) -> torch.Tensor:
        """int64 [H, W]: the cell under each pixel, row * w + column."""
        return self.rows[:, None] * self.values.shape[2] + self.cols[None, :]


JSON = dict[str, Any]
