"""The process group of a run, and the few collective operations that the loop needs.

With NCCL, arrays are exchanged over a gloo group beside it, so that host data stays off the GPU.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as td

from .. import errors
from ..errors import EnvironmentProblem, RegionalALError
from ..types import JSON

TIMEOUT_SECONDS = 7200
"""Rank 0 may check or annotate for a long time while the others wait."""
_control: td.ProcessGroup | None = None


def join_process_group(backend: str | None = None, timeout: float | None = None) -> bool:
    """Join torchrun's process group, before a framework starts one (that of mmengine needs CUDA).
    Without torchrun's environment variables RANK and WORLD_SIZE nothing happens.

    Args:
        backend: None: 'nccl' with CUDA, else 'gloo'. 'nccl' without CUDA becomes 'gloo', because
            every base config says nccl.
        timeout: Seconds; at least `TIMEOUT_SECONDS`.

    Returns:
        True when there is a process group.

    Raises:
        EnvironmentProblem: There are fewer CUDA devices than processes on this machine.
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


def active() -> bool:
    """True with a process group of more than one rank."""
    return td.is_available() and td.is_initialized() and td.get_world_size() > 1


def rank() -> int:
    return td.get_rank() if active() else 0


def world_size() -> int:
    return td.get_world_size() if active() else 1


def is_main() -> bool:
    return rank() == 0


def _group() -> td.ProcessGroup | None:
    """A gloo group (created once, by all ranks together); None = the default group is gloo."""
    global _control
    if td.get_backend() == "gloo":
        return None
    if _control is None:
        _control = td.new_group(backend="gloo")
    return _control


def barrier() -> None:
    """Wait for all ranks. No-op on one process."""
    if active():
        td.all_reduce(torch.zeros(1), group=_group())


def end_process(code: int) -> None:
    """End a rank immediately, without destroying the process group; returns without a group.

    torch's gloo group joins its threads while holding the interpreter lock, which these threads
    may need: `destroy_process_group`, or a normal exit, occasionally hangs or aborts.
    """
    if not (td.is_available() and td.is_initialized()):
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def broadcast_bytes(data: bytes | None) -> bytes:
    """Rank 0's bytes on every rank."""
    if not active():
        return data or b""
    size = torch.tensor([len(data or b"")])
    td.broadcast(size, 0, group=_group())
    content = data if is_main() and data is not None else bytes(int(size))
    buffer = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)
    td.broadcast(buffer, 0, group=_group())
    return bytes(buffer.numpy().tobytes()[: int(size)])


def gather_arrays(array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The 1-D arrays (same dtype) of all ranks in rank order on rank 0; an empty list elsewhere."""
    if not active():
        return [array]
    raw = np.frombuffer(array.tobytes(), dtype=np.uint8)
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size())]
    td.all_gather(sizes, torch.tensor([raw.size]), group=_group())
    longest = max(1, max(int(s) for s in sizes))
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: raw.size] = torch.from_numpy(raw.copy())
    parts = [torch.empty(longest, dtype=torch.uint8) for _ in sizes]
    td.all_gather(parts, padded, group=_group())
    if not is_main():
        return []
    return [
        np.frombuffer(part.numpy()[: int(size)].tobytes(), dtype=array.dtype)
        for part, size in zip(parts, sizes, strict=True)
    ]


def sum_array(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Element-wise sum over ranks, on every rank."""
    if not active():
        return array
    tensor = torch.from_numpy(array.copy())
    td.all_reduce(tensor, group=_group())
    return np.asarray(tensor.numpy(), dtype=np.int64)


def max_number(number: int) -> int:
    """The largest number of all ranks, on every rank."""
    if not active():
        return number
    tensor = torch.tensor([number])
    td.all_reduce(tensor, op=td.ReduceOp.MAX, group=_group())
    return int(tensor)


def broadcast_tensors(tensors: Sequence[torch.Tensor]) -> None:
    """Rank 0's values of some floating-point tensors on every rank, in place, on their device."""
    if not active() or not tensors:
        return
    flat = torch.cat([one.detach().flatten().float() for one in tensors])
    td.broadcast(flat, 0)
    parts = torch.split(flat, [one.numel() for one in tensors])
    with torch.no_grad():
        for one, part in zip(tensors, parts, strict=True):
            one.copy_(part.view_as(one))


def raise_together(error: RegionalALError | None) -> None:
    """Raise the error of the first rank that has one on every rank, so that no rank waits for one
    that has stopped, and rank 0 alone prints the line."""
    if not active():
        if error is not None:
            raise error
        return
    text = "" if error is None else f"{type(error).__name__}\n{error}"
    records = np.frombuffer(text.encode(), dtype=np.uint8)
    parts = gather_arrays(records)
    first = next((p.tobytes() for p in parts if p.size), b"")
    found = broadcast_bytes(first).decode()
    if found:
        name, message = found.split("\n", 1)
        raise getattr(errors, name, RegionalALError)(message)


def on_main(work: Callable[[], JSON]) -> JSON:
    """Run `work` on rank 0 and return its JSON-able result, or raise its error, on every rank."""
    if not active():
        return work()
    result: JSON | None = None
    error: RegionalALError | None = None
    if is_main():
        try:
            result = work()
        except RegionalALError as caught:
            error = caught
    raise_together(error)
    answer: JSON = json.loads(broadcast_bytes(json.dumps(result).encode()))
    return answer
