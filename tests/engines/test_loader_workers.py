"""Workers of a training's loader end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regional_al.engines.mmseg.resumable import EndsWithParent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl")
CODE = """
import os, signal, sys, time
from torch.utils.data import DataLoader, Dataset
from regional_al.engines.mmseg.resumable import over

class Slow(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        open(sys.argv[1] + ".tmp", "w").write(str(os.getpid()))
        os.replace(sys.argv[1] + ".tmp", sys.argv[1])
        time.sleep(60)

loader = DataLoader(Slow(), num_workers=1)
iterator = iter(over(loader, [[0], [1]], None))
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_dies_with_its_parent(tmp_path: Path) -> None:
    """At once, and not when it next looks, here after a minute."""
    found = tmp_path / "pid"
    assert subprocess.run([sys.executable, "-c", CODE, str(found)]).returncode == -9
    worker = int(found.read_text())
    end = time.monotonic() + 10
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(worker)


def worker_of_another(own: EndsWithParent) -> None:
    own(0)
    os._exit(0)


def test_a_worker_whose_parent_has_gone_does_not_begin() -> None:
    own = EndsWithParent(None)
    for parent, code in ((own.parent, 0), (own.parent + 1_000_000, 1)):
        own.parent = parent
        process = multiprocessing.get_context("fork").Process(target=worker_of_another, args=(own,))
        process.start()
        process.join(20)
        assert process.exitcode == code
