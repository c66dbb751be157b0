"""Checks of label files from outside, shared by the annotators."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..store.images import read_ids
from ..types import U8, UNLABELED, Bool, LabelSpace


def allowed_ids(label_space: LabelSpace) -> Bool:
    """bool [256]: raw ids that may occur in an annotation file; 255 always may."""
    allowed = label_space.raw_to_train >= 0
    allowed[UNLABELED] = True
    return allowed


def checked_ids(path: Path, shape: tuple[int, int], allowed: Bool) -> U8:
    """A label file as uint8 [H, W].

    Args:
        path: The file.
        shape: (H, W) that it must have.
        allowed: bool [256], the ids that may occur.

    Raises:
        DataError: It cannot be read, has another size or an id that is not allowed.
    """
    ids = read_ids(path)
    if ids.shape != shape:
        raise DataError(
            f"{path} is {_size(ids.shape)} (height x width), its image is {_size(shape)}:"
            " save it at the size of the image"
        )
    found = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
    wrong = found[~allowed[found]]
    if wrong.size:
        row, col = np.argwhere(ids == wrong[0])[0]
        raise DataError(
            f"{path} contains id {wrong[0]} (row {row}, column {col}); allowed: {_ranges(allowed)}"
        )
    return ids


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape)


def _ranges(allowed: Bool) -> str:
    """`0-18, 255` for the ids that are set."""
    ids = np.flatnonzero(allowed)
    runs = np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1)
    return ", ".join(str(run[0]) if run.size == 1 else f"{run[0]}-{run[-1]}" for run in runs)
