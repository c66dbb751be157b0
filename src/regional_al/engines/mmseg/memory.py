"""Whether batches fit: one into memory, and what data workers load ahead into shared memory. No
framework."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from ...errors import ConfigError, EnvironmentProblem
from ...runtime import shared_memory
from ...runtime.shared_memory import Load


def check_shared_memory(groups: Iterable[Sequence[Load]]) -> None:
    """Raise EnvironmentProblem, in one line, when the workers' batches do not fit. groups: of
    loaders that have batches at the same time."""
    text = shared_memory.shortage(shared_memory.free(), groups, shared_memory.processes())
    if text is not None:
        raise EnvironmentProblem(text)


def check_batch(key: str, size: int, samples: Iterable[Any], memory: int | None = None) -> None:
    """Raise ConfigError when a batch is larger than the memory of the machine: loading it would
    take hours, or be killed without a line.

    Args:
        key: Of the config, that says how many images a batch has.
        size: So many.
        samples: Of the training, any number.
        memory: Of the machine in bytes; None: that of this one.

    Example:
        >>> check_batch("train_dataloader.batch_size", 4, [torch.zeros(3, 8, 8)])
    """
    if memory is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = batch_bytes(samples, size)
    if needed > memory:
        raise ConfigError(
            f"{key}={size}: a batch takes {needed / 2**30:.1f} GiB, the machine has "
            f"{memory / 2**30:.1f} GiB of memory: use smaller batches"
        )


def tensor_bytes(sample: Any) -> int:
    """Bytes of the tensors of a sample, in mappings, sequences, mmengine's data elements and mmcv's
    DataContainers. Arrays do not count: workers send them through a pipe.

    Example:
        >>> tensor_bytes({"img": torch.zeros(3, 4, 5), "meta": {"size": (4, 5)}})
        240
    """
    if isinstance(sample, torch.Tensor):
        return sample.numel() * sample.element_size()
    if isinstance(sample, (list, tuple)):
        return sum(map(tensor_bytes, sample))
    if isinstance(sample, Mapping):
        return sum(map(tensor_bytes, sample.values()))
    if hasattr(sample, "all_items"):  # mmengine.structures.BaseDataElement
        return sum(tensor_bytes(value) for _, value in sample.all_items())
    if type(sample).__name__ == "DataContainer":  # mmcv.parallel
        return tensor_bytes(sample.data)
    return 0


def batch_bytes(samples: Iterable[Any], batch_size: int) -> int:
    """Bytes of a batch as large as the largest of these samples makes it."""
    return batch_size * max(map(tensor_bytes, samples), default=0)
