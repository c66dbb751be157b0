"""Maps of whole numbers beside the labels of a training sample. No framework.

What is known of a pixel besides its class (which region it belongs to, who has labelled it) goes
through a training pipeline as its label does, and arrives at the loss aligned with it. In a
pipeline a map is one or more label maps of its own, named in `seg_fields`, in which 255 is
"nothing": so padding means nothing, and transforms treat it as they treat labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import DataError, UnsupportedError
from ...types import I32, I64, U8, UNLABELED, Bool

PREFIX = "gt_side_"
"""Of the names of the maps: in a pipeline, where their number follows, and in a finished sample."""
STATE = "side_maps"
"""Key of a sample in a pipeline: its `Carried`."""
BASE = 254
"""Values of a label map that mean something: not 0 and 255, with either of which transforms pad."""
WHOLE = 0.9
"""Share of the pixels of a region, at the scale of the sample, from which it counts as whole."""


@dataclass(frozen=True)
class SideMap:
    """A map that training samples have beside their labels.

    Args:
        name: A word; the loss finds the map under it.
        read: Index of an image in the pool -> int32 [H, W], 0 = nothing, at the size of its labels;
            None: nothing anywhere. Called by loader workers.
        digits: Label maps that it takes: values may be up to 254 ** digits.
        parts: Its values are regions: those of which a transform has left less than `WHOLE` are
            negative in a finished sample.
        trained: Its pixels are trained on though they have no label: random crops count them as
            labelled.
        as_labels: It must stay as the labels, plus one; see `check_follows`.

    Example:
        >>> SideMap("source", lambda index: None).digits
        1
    """

    name: str
    read: Callable[[int], I32 | None]
    digits: int = 1
    parts: bool = False
    trained: bool = False
    as_labels: bool = False

    @property
    def keys(self) -> list[str]:
        """Of its label maps in a pipeline."""
        return [f"{PREFIX}{self.name}_{i}" for i in range(self.digits)]


def encoded(values: I32, digits: int) -> list[U8]:
    """A map as label maps.

    Args:
        values: int32 [H, W], 0 = nothing, at most 254 ** digits.
        digits: Number of label maps.

    Returns:
        uint8 [H, W] each: 255 where there is nothing, else from 1 to 254.

    Raises:
        DataError: A value is out of range.

    Example:
        >>> [one.tolist() for one in encoded(np.array([[0, 1, 255]], np.int32), 2)]
        [[[255, 1, 1]], [[255, 1, 2]]]
    """
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= BASE**digits:
        raise DataError(f"values of a side map must be from 0 to {BASE**digits}")
    there, found = values > 0, []
    rest = values[there] - 1  # mostly few
    for _ in range(digits):
        found.append(np.full(values.shape, UNLABELED, np.uint8))
        found[-1][there] = rest % BASE + 1
        rest //= BASE
    return found


def decoded(maps: Sequence[U8]) -> I32:
    """What `encoded` was given, int32 [H, W].

    Example:
        >>> decoded(encoded(np.array([[0, 1, 255, 60000]], np.int32), 2)).tolist()
        [[0, 1, 255, 60000]]
    """
    values, there = np.zeros(maps[0].shape, np.int32), np.ones(maps[0].shape, np.bool_)
    for i, digit in enumerate(maps):
        there &= (digit != 0) & (digit != UNLABELED)
        values += (digit.astype(np.int32) - 1) * BASE**i
    return np.where(there, values + 1, 0).astype(np.int32)


def numbered(values: I32) -> tuple[int, I64]:
    """The lowest region of a map above 0, and the pixels of it and of each one after it, int64 [R];
    (1, none) without a region."""
    there = values[values > 0]
    low = int(there.min()) if there.size else 1
    return low, np.bincount(there - low).astype(np.int64)


def cut_negative(values: I32, low: int, counts: I64, scale: float) -> I32:
    """A map of regions in which those that are not whole are negative.

    Args:
        values: int32 [H, W], 0 = none.
        low: The lowest region of the image.
        counts: int64 [R], pixels in the image of it and of each one after it.
        scale: Pixels of the sample for each of the image.

    Example:
        >>> cut_negative(np.array([[4, 4, 5]], np.int32), 4, np.array([2, 9]), 1.0)
        array([[ 4,  4, -5]], dtype=int32)
    """
    there = values > 0
    places = values[there] - low
    whole = np.bincount(places, minlength=len(counts)) >= WHOLE * scale * counts
    found = values.copy()
    found[there] = np.where(whole[places], values[there], -values[there])
    return found


@dataclass
class Carried:
    """The side maps of one sample on their way through a pipeline.

    Args:
        maps: The side maps.
        mask: Key of the sample's label map.
        attach: Puts the finished maps, by name, into a finished sample.
        regions: Name of a map with `parts` -> `numbered` of it, in the image.
        scale: See `cut_negative`.
        mixed: The sample has been put together from several: no region counts as whole.
    """

    maps: tuple[SideMap, ...]
    mask: str
    attach: Callable[[Any, Mapping[str, I32]], None]
    regions: dict[str, tuple[int, I64]] = field(default_factory=dict)
    scale: float = 1.0
    mixed: bool = False

    def begin(self, data: MutableMapping[str, Any], index: int) -> None:
        """Put the maps of an image of the pool into a sample whose labels have just been loaded.

        Raises:
            DataError: A map has another size than the labels.
        """
        shape = data[self.mask].shape[:2]
        for one in self.maps:
            values = one.read(index)
            values = np.zeros(shape, np.int32) if values is None else values
            if values.shape != shape:
                raise DataError(f"{one.name}: a map of {values.shape} beside labels of {shape}")
            if one.parts:
                self.regions[one.name] = numbered(values)
            data.update(zip(one.keys, encoded(values, one.digits), strict=True))
        keys = [key for one in self.maps for key in one.keys]
        data["seg_fields"] = [*data.get("seg_fields", ()), *keys]
        data[STATE] = self

    def follow(self, transform: Any, data: MutableMapping[str, Any], scale: Any) -> None:
        """Note what a transform has done; scale: `scale_factor` before it.

        Raises:
            UnsupportedError: It has changed the labels and not the maps.
        """
        if data.get("scale_factor") is not scale:
            self.scale *= area_of(data["scale_factor"])
        labels, name = data.get(self.mask), type(transform).__name__
        if not isinstance(labels, np.ndarray):
            return
        for key in (key for one in self.maps for key in one.keys):
            if data[key].shape[:2] != labels.shape[:2] and name == "Pad":
                data[key] = padded(data[key], labels.shape[:2])  # mmcv 2 pads labels alone
            if data[key].shape[:2] != labels.shape[:2]:
                raise apart(name, self.mask)
        for one in self.maps:
            values = decoded([data[key] for key in one.keys]) if one.as_labels else None
            if values is not None and (labels[values > 0] != values[values > 0] - 1).any():
                raise apart(name, self.mask)

    def values(self, data: Mapping[str, Any]) -> dict[str, I32]:
        """The maps of a sample, by name."""
        found = {}
        for one in self.maps:
            values = decoded([data[key] for key in one.keys])
            if one.parts and values.any():
                regions, counts = self.regions[one.name]
                values = (
                    -values if self.mixed else cut_negative(values, regions, counts, self.scale)
                )
            found[one.name] = values
        return found


def apart(transform: str, mask: str) -> UnsupportedError:
    """The error about a transform that changes labels and not the maps beside them."""
    return UnsupportedError(
        f"{transform} in the training pipeline changes {mask} and not the other maps named in "
        "seg_fields, which this training has: use a transform that does, or leave it out"
    )


def apply(transform: Callable[[Any], Any], data: Any) -> Any:
    """`transform(data)`; side maps of `data`, if it has any, follow. Raises UnsupportedError."""
    state = data.get(STATE) if isinstance(data, MutableMapping) else None
    if state is None:
        return transform(data)
    scale, several = data.get("scale_factor"), "mix_results" in data
    found = transform(data)
    if not isinstance(found, MutableMapping):
        return found
    state.mixed |= several
    if STATE in found:
        state.follow(transform, found, scale)
    else:  # it has packed the sample
        state.attach(found, state.values(data))
    return found


def area_of(scale: Any) -> float:
    """How many times as many pixels an image has that was resized by a `scale_factor`: (w, h), or
    [w, h, w, h], or one number for both.

    Example:
        >>> area_of((0.5, 0.25)), area_of(2.0)
        (0.125, 4.0)
    """
    sides = np.ravel(np.asarray(scale, dtype=np.float64))
    return float(sides[0] * sides[min(1, len(sides) - 1)])


def padded(values: U8, shape: tuple[int, ...]) -> U8:
    """A label map with nothing below and to the right of it, up to a shape."""
    more = [(0, max(0, target - own)) for own, target in zip(values.shape, shape, strict=True)]
    return np.pad(values, more, constant_values=UNLABELED)


def trained(data: Mapping[str, Any]) -> Bool | None:
    """bool [H, W]: pixels of a sample in a pipeline that are trained on by a side map; None: no
    side map is trained on."""
    state = data.get(STATE)
    if state is None:
        return None
    maps = [data[one.keys[0]] for one in state.maps if one.trained]
    there = [(one != 0) & (one != UNLABELED) for one in maps]
    return np.logical_or.reduce(there) if there else None


def check_follows(read: Callable[[SideMap], Any], labels: U8) -> None:
    """Raise UnsupportedError for a training pipeline that moves labels and not maps beside them.

    Args:
        read: Reads a sample of an image with these labels and a side map.
        labels: uint8 [H, W], ids as a pipeline has them; the side map is the same.
    """
    values = np.where(labels == UNLABELED, 0, labels.astype(np.int32) + 1).astype(np.int32)
    for _ in range(8):  # flips and the like are drawn
        read(SideMap("check", lambda index: values, as_labels=True))
