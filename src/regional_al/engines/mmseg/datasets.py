"""Joined data sets; class names and palettes of data sets that MMSegmentation does not provide.

Any other folder of images and masks needs no class: `metainfo=dict(classes=..., palette=...)` of
BaseSegDataset (1.x), or `classes` and `palette` of CustomDataset (0.x), in the config is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError


def leaves(dataset: Any) -> list[Any]:
    """The data sets that a ConcatDataset joins, or the data set itself."""
    inner = getattr(dataset, "datasets", None)
    return [dataset] if inner is None else [leaf for part in inner for leaf in leaves(part)]


def locate(dataset: Any, index: int) -> tuple[Any, int]:
    """(leaf data set, index in it) of an index into a possibly joined data set."""
    inner = getattr(dataset, "datasets", None)
    if inner is None:
        return dataset, index
    for part in inner:
        if index < len(part):
            return locate(part, index)
        index -= len(part)
    raise IndexError(index)


def refuse_duplicates(keys: Sequence[tuple[str, Path]], where: str) -> None:
    """Raise DataError when two images would share one label file; where: config keys to change."""
    seen: dict[str, Path] = {}
    for key, path in keys:
        if key in seen:
            raise DataError(
                f"{seen[key]} and {path} would share the label file {key}.png; list each image "
                f"once ({where}) or rename one"
            )
        seen[key] = path


CAMVID_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
"""CamVid in the 11-class split of the SegNet tutorial: uint8 ids 0-10, 255 void.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video: a high-definition ground truth
database", Pattern Recognition Letters 2009.
"""
CAMVID_PALETTE = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)

STREETS_CLASSES = (
    "road",
    "sidewalk",
    "building",
    "fence",
    "pole",
    "traffic sign",
    "vegetation",
    "sky",
    "person",
    "car",
    "bicycle",
)
"""Street scenes that `regional_al.testing.streets` generates."""
STREETS_PALETTE = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (190, 153, 153),
    (153, 153, 153),
    (220, 220, 0),
    (107, 142, 35),
    (70, 130, 180),
    (220, 20, 60),
    (0, 0, 142),
    (119, 11, 32),
)
