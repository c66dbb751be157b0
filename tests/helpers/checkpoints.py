"""What a checkpoint contains, value by value, so that two of them can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every value in nested dicts, lists and tuples; tensors bit by bit."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(item, f"{name}.{index}")
    else:
        yield name, value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()
