"""Data sets that are joined from others, by whatever ConcatDataset. No framework."""

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
