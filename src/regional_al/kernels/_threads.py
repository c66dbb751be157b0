"""Row bands on plain Python threads: the work inside releases the GIL.

As many threads as `torch.get_num_threads()` allows (so OMP_NUM_THREADS, which launchers set per
rank, limits this too); none that outlives the call, so a later fork finds nothing broken.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
SMALL = 1 << 17  # values below which a second thread costs more than it brings


def run_bands(work: Callable[[int, int], T], height: int, rows: int, size: int) -> list[T]:
    """[work(r0, r1)] over bands of `rows` rows; size: values read in all."""
    bands = [(r, min(height, r + rows)) for r in range(0, height, rows)]
    threads = min(torch.get_num_threads(), len(bands))
    if threads <= 1 or size < SMALL:
        return [work(r0, r1) for r0, r1 in bands]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda band: work(*band), bands))
