"""Checks before any training that do not depend on a framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError, DataError
from ...types import U8, LabelSpace
from ..specs import heads


def check_classes(model: Any, space: LabelSpace) -> None:
    """Every head of a model's config predicts as many classes as the data set has."""
    for name, head in heads(model):
        if head.get("num_classes") not in (None, space.num_classes):
            raise ConfigError(
                f"{name}.num_classes={head['num_classes']}, but the data set has "
                f"{space.num_classes} classes: set it to {space.num_classes}"
            )


def check_ids(path: Path | str, mask: U8, space: LabelSpace) -> None:
    """Raise DataError, naming the file, when a mask holds an id that is no class and not void."""
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    unknown = [int(value) for value in present if space.raw_to_train[value] < 0]
    if unknown:
        raise DataError(
            f"{path} holds id {unknown[0]}, which is no class (there are {space.num_classes}) and "
            "not void (255)"
        )
