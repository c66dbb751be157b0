"""A rank that is gone ends the others within seconds.

Who waits for a rank that was killed may wait for hours: a collective of NCCL until its timeout, and
a signal of the launcher is only noted while a training can save its state. So each rank looks at
the processes of the others on its machine, on a thread.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from os import kill
from pathlib import Path

import numpy as np

from ..errors import TrainingStopped
from . import distributed as dist

LOOK_EVERY = 0.5
GRACE = 3.0
"""Seconds that a process has to end by itself after another one is gone."""


@dataclass(frozen=True)
class Peer:
    """A process of a run.

    Args:
        rank: In the process group.
        pid: Its id.
        started: When it was started, in clock ticks: ids are used again.
        machine: Where its id is valid: the boot and the process namespace.
    """

    rank: int
    pid: int
    started: int
    machine: str


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None when it has ended, whether its
    parent has taken note (a zombie) or not.

    Example:
        >>> start_time(os.getpid()) == start_time(os.getpid())
        True
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may contain anything
    return None if fields[0] in ("Z", "X") else int(fields[19])


def machine() -> str | None:
    """Which machine and process namespace this is; None where there is no /proc (macOS)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def gone(peers: Sequence[Peer]) -> Peer | None:
    """The first of some processes of this machine that has ended."""
    return next((peer for peer in peers if start_time(peer.pid) != peer.started), None)


def find() -> list[Peer]:
    """The other ranks on this machine. A collective: all ranks call it."""
    pid, where = os.getpid(), machine()
    own = Peer(dist.rank(), pid, start_time(pid) or 0, where or "")
    text = json.dumps(asdict(own)).encode()
    parts = dist.gather_arrays(np.frombuffer(text, dtype=np.uint8))
    said = json.dumps([json.loads(part.tobytes()) for part in parts]).encode()
    ranks = [Peer(**one) for one in json.loads(dist.broadcast_bytes(said))]
    return [peer for peer in ranks if where and peer.machine == where and peer.rank != own.rank]


@contextmanager
def watched() -> Iterator[None]:
    """Inside, the end of another rank on this machine ends this process: by itself within `GRACE`
    seconds, or by SIGKILL. All ranks enter and leave together; one process: nothing happens.

    Raises:
        TrainingStopped: As raised inside, on all ranks, when all of them have got there.
    """
    if not dist.active():
        yield
        return
    others, left = find(), threading.Event()
    if others:
        threading.Thread(target=_watch, args=(others, left), name="peers", daemon=True).start()
    try:
        yield
    except TrainingStopped:
        with suppress(RuntimeError):  # of a collective that has lost its peer
            dist.barrier()  # one that closes its files slowly is not to be killed for that
        raise
    finally:
        left.set()


def _watch(others: Sequence[Peer], left: threading.Event) -> None:
    """Look at other ranks until this one has `left`."""
    while not left.wait(LOOK_EVERY):
        peer = gone(others)
        if peer is not None:
            if left.wait(GRACE):
                return
            print(
                f"rank {peer.rank} (process {peer.pid}) has ended: rank {dist.rank()} ends, too",
                file=sys.stderr,
                flush=True,
            )
            kill(os.getpid(), signal.SIGKILL)
            return
