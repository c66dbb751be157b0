"""The process group of a run, from torchrun's environment. Needs torch alone."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as td

from ...errors import EnvironmentProblem

TIMEOUT_SECONDS = 7200
"""Rank 0 may check or annotate for long while the others wait."""


def init_distributed(backend: str | None = None, timeout: float | None = None) -> bool:
    """Join torchrun's process group; before any Runner is built, because mmengine's own start
    needs CUDA. Without torchrun (no RANK, WORLD_SIZE) nothing happens.

    backend: None = 'nccl' with CUDA, else 'gloo'; 'nccl' without CUDA becomes 'gloo' (every base
    config says nccl). timeout: seconds. Returns True when a group is there.
    Raises EnvironmentProblem: fewer CUDA devices than processes on this machine.
    """
    if td.is_available() and td.is_initialized():
        return True
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return False
    cuda = torch.cuda.is_available()
    if not cuda:
        backend = "gloo"
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    os.environ.setdefault("LOCAL_RANK", "0")
    if cuda:
        if local_rank >= torch.cuda.device_count():
            raise EnvironmentProblem(
                f"process {local_rank} has no CUDA device ({torch.cuda.device_count()} found): "
                "start fewer processes, or set CUDA_VISIBLE_DEVICES= to run on the CPU"
            )
        torch.cuda.set_device(local_rank)
    td.init_process_group(
        backend or "nccl", timeout=timedelta(seconds=max(timeout or 0, TIMEOUT_SECONDS))
    )
    return True
