"""Checkpoints that `torch.load(weights_only=True)` reads: nothing but tensors and plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

_DROP = object()


def strip(value: Any) -> Any:
    """`value` without anything but tensors, numbers, text, None and containers of these."""
    found = _plain(value)
    return None if found is _DROP else found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        if type(value) in (bool, int, float, str, type(None)) or isinstance(value, torch.Tensor):
            return value
        return _base_number(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        pairs = {key: _plain(item) for key, item in value.items()}
        return {key: item for key, item in pairs.items() if item is not _DROP}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        items = [item for item in map(_plain, value) if item is not _DROP]
        return tuple(items) if isinstance(value, tuple) else items
    return _DROP


def _base_number(value: Any) -> Any:
    """Subclasses of int, float and str (numpy's float64 is one) as the plain thing."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return _DROP
