"""Shared memory, through which the worker processes of data loaders hand over their batches.

A container has 64 MiB of it by default. Where a batch does not fit, the worker dies of a bus error,
or the training waits for it forever.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/dev/shm")
PREFETCH = 2
"""Batches that a worker of torch's DataLoader loads ahead, unless the loader says otherwise."""


@dataclass(frozen=True)
class Load:
    """What the workers of one loader keep in shared memory, in one process.

    Args:
        key: Config key of the number of workers.
        batch: Bytes of the tensors of a batch.
        workers: Worker processes; 0: batches are not shared.
        prefetch: Batches that each worker loads ahead.

    Example:
        >>> Load("train_dataloader.num_workers", batch=10 << 20, workers=4).needed >> 20
        80
    """

    key: str
    batch: int
    workers: int
    prefetch: int = PREFETCH

    @property
    def needed(self) -> int:
        """Bytes of all batches that are loaded ahead."""
        return self.batch * self.workers * self.prefetch


def free(folder: Path = FOLDER) -> int | None:
    """Free bytes of shared memory; None where it is not a folder (macOS)."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def processes() -> int:
    """Training processes on this machine, which share its memory."""
    given = os.environ.get("LOCAL_WORLD_SIZE") or "1"
    return max(1, int(given)) if given.isdigit() else 1


def shortage(found: int | None, groups: Iterable[Sequence[Load]], processes: int = 1) -> str | None:
    """One line on the loaders that need most, where that does not fit; None where all fit.

    Args:
        found: Free bytes; None: unknown, and nothing is said.
        groups: Of the loaders of one process, those that have batches at the same time: what they
            need is added up.
        processes: That load the same at the same time.

    Example:
        >>> shortage(64 << 20, [[Load("data.workers_per_gpu", 10 << 20, 4)]])
        'data.workers_per_gpu=4: /dev/shm has 64 MiB free, but the batches that the workers load \
ahead need about 80 MiB, without which loading hangs: set data.workers_per_gpu=0, or start the \
container with docker run --shm-size=1g'
    """
    groups = [[load for load in group if load.needed] for group in groups]
    loads = max(groups, key=lambda group: sum(load.needed for load in group), default=[])
    needed = sum(load.needed for load in loads) * processes
    if found is None or needed <= found:
        return None
    settings = {load.key: load.workers for load in loads}
    several = f" in {processes} processes" if processes > 1 else ""
    if len(loads) > 1:
        several += " for training, and for the validation within it,"
    return (
        f"{' and '.join(f'{key}={workers}' for key, workers in settings.items())}: {FOLDER} has "
        f"{mib(found)} MiB free, but the batches that the workers load ahead{several} need about "
        f"{mib(needed, up=True)} MiB, without which loading hangs: set "
        f"{' and '.join(f'{key}=0' for key in settings)}, or start the container with docker run "
        f"--shm-size={gigabytes(needed)}g"
    )


def mib(count: int, up: bool = False) -> int:
    """Bytes in whole MiB, rounded down; up: rounded up."""
    return (count + (1 << 20) - 1 if up else count) >> 20


def gigabytes(needed: int) -> int:
    """A size for `--shm-size` with room for other users of the memory, in whole GiB."""
    return (needed * 3 // 2 >> 30) + 1
