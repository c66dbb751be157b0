"""The global random generators of Python, NumPy and torch, from which training code draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..types import JSON


def state() -> JSON:
    """The state of all generators, as tensors and plain values."""
    version, words, gauss = random.getstate()
    drawn: Any = np.random.get_state()  # noqa: NPY002
    name, keys, place, has_gauss, cached = drawn
    found: JSON = {
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [name, torch.tensor(keys.astype(np.int64)), place, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def restore(saved: JSON) -> None:
    """Set all generators to a `state`."""
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, place, has_gauss, cached = saved["numpy"]
    words = keys.numpy().astype(np.uint32)
    np.random.set_state((name, words, place, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(saved["torch"])
    if "cuda" in saved and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"])


def seed(*numbers: int) -> None:
    """Seed all generators of this process from some whole numbers >= 0."""
    sequence = np.random.SeedSequence(numbers)
    np.random.seed(sequence.generate_state(4))  # noqa: NPY002
    first, second = (int(word) for word in sequence.generate_state(6)[4:])
    random.seed(first)
    torch.manual_seed(second)


@contextmanager
def kept() -> Iterator[None]:
    """Put all generators back at the end."""
    before = state()
    try:
        yield
    finally:
        restore(before)
