"""The end of one rank is the end of the others, within seconds, unless all end as they should."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from warm_ranks import start_ranks

from regional_al.errors import TrainingStopped
from regional_al.loop import runner
from regional_al.runtime import peers
from regional_al.runtime.peers import Peer
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine

pytestmark = pytest.mark.skipif(peers.machine() is None, reason="there is no /proc")
ACQUISITION = {"level": "image", "heuristic": "Entropy", "rounds": 2, "previews": 0}
ACQUISITION["budget"] = {"amount": 1, "unit": "image"}


def peer_of(process: subprocess.Popen[bytes]) -> Peer:
    started = peers.start_time(process.pid)
    assert started is not None
    return Peer(1, process.pid, started, "here")


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"])


def test_a_process_is_gone_when_it_has_ended_or_its_id_is_another_ones() -> None:
    process = sleeper()
    peer = peer_of(process)
    assert peers.gone([peer]) is None
    assert peers.gone([replace(peer, started=peer.started - 1)]) is not None, "used again"
    process.kill()
    until = time.monotonic() + 10
    while peers.gone([peer]) is None and time.monotonic() < until:
        time.sleep(0.01)
    assert peers.gone([peer]) == peer, "a zombie"
    process.wait()
    assert peers.gone([peer]) == peer


def test_a_name_with_brackets_and_blanks(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(odd), "600"])
    try:
        time.sleep(0.2)
        assert peers.gone([peer_of(process)]) is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("leaves", [True, False])
def test_what_leaves_in_time_is_not_killed(monkeypatch: pytest.MonkeyPatch, leaves: bool) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(peers, "kill", lambda *given: killed.append(given))
    monkeypatch.setattr(peers, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(peers, "GRACE", 0.5)
    process, left = sleeper(), threading.Event()
    thread = threading.Thread(target=peers._watch, args=([peer_of(process)], left), daemon=True)
    thread.start()
    time.sleep(0.1)
    assert killed == []
    process.terminate()
    process.wait()
    time.sleep(0.1)
    if leaves:
        left.set()
    time.sleep(0.7)
    assert killed[:1] == ([] if leaves else [(os.getpid(), signal.SIGKILL)])
    left.set()
    thread.join()


def test_one_process_watches_nobody() -> None:
    before = threading.active_count()
    with peers.watched():
        assert threading.active_count() == before
    with pytest.raises(TrainingStopped), peers.watched():
        raise TrainingStopped("stopped")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    return streets.generate(root / "streets", train=5, val=1, size=(32, 32))


def start(command: list[str], **more: str) -> list[subprocess.Popen[str]]:
    """A command on two ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    given = {**os.environ, "OMP_NUM_THREADS": "1", **group, **more}
    return [
        subprocess.Popen(command, env={**given, "RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]


def picks(work_dir: Path) -> dict[str, bytes]:
    files = [f for f in sorted(work_dir.glob("rounds/*/query/**/*")) if f.is_file()]
    assert files
    return {str(f.relative_to(work_dir)): f.read_bytes() for f in files}


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_one_that_would_wait_for_hours(
    data: Path, tmp_path: Path, victim: int
) -> None:
    runner.run(toy_engine(data), ACQUISITION, tmp_path / "whole", report=False)
    ranks = start_ranks(
        2, data, tmp_path / "run", ACQUISITION, "--kill-at-fit", "2", "--kill-rank", str(victim)
    )
    assert ranks[victim].wait(timeout=240) == -signal.SIGKILL
    begun = time.monotonic()
    other = ranks[1 - victim]
    other.send_signal(signal.SIGTERM)  # as the launcher does; it is only noted
    said = str(other.communicate(timeout=10)[1])
    assert time.monotonic() - begun < 10
    assert other.returncode == -signal.SIGKILL
    line = f"rank {victim} (process {ranks[victim].pid}) has ended: rank {1 - victim} ends, too"
    assert said.splitlines()[-1] == line
    assert not list((tmp_path / "run").glob("rounds/001/fit/checkpoint.pth"))
    for rank in start_ranks(2, data, tmp_path / "run", ACQUISITION):
        assert "has ended" not in str(rank.communicate(timeout=240)[1])
        assert rank.returncode == 0
    assert picks(tmp_path / "run") == picks(tmp_path / "whole")


SLOW_TO_LEAVE = """
import os, time
import torch.distributed as td
from regional_al.errors import TrainingStopped
from regional_al.runtime import distributed as dist, peers
peers.LOOK_EVERY, peers.GRACE = 0.05, 0.2
td.init_process_group("gloo")
try:
    with peers.watched():
        try:
            if os.environ["HOW"] == "stopped":
                raise TrainingStopped("by SIGTERM")
            dist.barrier()
        finally:
            if dist.rank() == 0 and os.environ["HOW"] == "stopped":
                time.sleep(2)  # closes its files
    if dist.rank() == 0:
        time.sleep(2)  # draws its report
except TrainingStopped:
    dist.end_process(75)
dist.end_process(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("finished", 0), ("stopped", 75)])
def test_ranks_that_end_as_they_should_may_take_their_time(how: str, code: int) -> None:
    ranks = start([sys.executable, "-c", SLOW_TO_LEAVE], HOW=how)
    ends = [(rank.communicate(timeout=240)[1], rank.returncode) for rank in ranks]
    assert ends == [("", code)] * 2
