"""Ranks of loop_worker.py as processes of their own, forked from one that has imported torch.

Importing takes longer than the runs of most tests. Python's fork server imports once for each
process of pytest; a rank is a fork of it, of one thread, with nothing of the test's own state.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_IMPORTED = [
    "torch.distributed",
    "regional_al.annotators",
    "regional_al.engines.torch",
    "regional_al.loop.runner",
    "regional_al.testing.toy",
    "matplotlib.pyplot",
    "skimage.segmentation",
    "numba",
]
"""What is not installed is passed over."""


class Rank:
    """One process, with what the tests use of `subprocess.Popen`."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)  # type: ignore[attr-defined]
        handle, name = tempfile.mkstemp(prefix="rank-", suffix=".err")
        os.close(handle)
        self._said = Path(name)
        self._process = context.Process(target=_run, args=(arguments, dict(environment), name))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(["loop_worker.py"], timeout)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[None, str]:
        """Wait for its end. Returns None and what it wrote to stderr."""
        self.wait(timeout)
        said = self._said.read_text(errors="replace")
        self._said.unlink()
        return None, said


def start_rank(
    data: Path, work_dir: Path, acquisition: Any, *options: str, **environment: str
) -> Rank:
    """loop_worker.py with these arguments; `environment` beside that of the test."""
    words = [str(data), str(work_dir), json.dumps(acquisition), *options]
    return Rank(words, {**os.environ, "OMP_NUM_THREADS": "1", **environment})


def start_ranks(
    processes: int, data: Path, work_dir: Path, acquisition: Any, *options: str
) -> list[Rank]:
    """The ranks of one run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start_rank(data, work_dir, acquisition, *options, RANK=str(rank), **group)
        for rank in range(processes)
    ]


def launch(
    processes: int,
    data: Path,
    work_dir: Path,
    acquisition: dict[str, Any] | list[dict[str, Any]],
    *options: str,
    ends: int = 0,
) -> None:
    """Run loop_worker.py on several ranks; ends: the exit code expected of each."""
    ranks = start_ranks(processes, data, work_dir, acquisition, *options)
    said = [rank.communicate(timeout=240)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [ends] * processes, said


def _run(arguments: list[str], environment: dict[str, str], said: str) -> None:
    import loop_worker

    os.environ.clear()
    os.environ.update(environment)
    for path, descriptor in ((os.devnull, 1), (said, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["loop_worker.py", *arguments]
    loop_worker.main()
