"""A run that is killed at any moment agrees with its ledger, and goes on to the same end.

A forked child counts what it does to files and kills itself before one of these acts.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_run import play, small_data

from regional_al.store import results as records
from regional_al.store.check import check_run
from regional_al.store.findings import Finding
from regional_al.store.ledger import Ledger
from regional_al.store.repair import repair

PIXELS = {"level": "pixel", "heuristic": "Margin", "budget": "2%", "seed": 5}


def start(data: Path, work_dir: Path, **more: Any) -> str:
    return play(data, work_dir, {**PIXELS, "rounds": 2, **more}).status


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=5)


def blocking(work_dir: Path, thorough: bool) -> list[Finding]:
    return [f for f in check_run(work_dir, thorough=thorough) if f.blocks]


def killed_run(data: Path, work_dir: Path, at: int, seconds: float | None = None) -> bool:
    """Start or resume a run in a child that dies at its `at`-th act (or after some seconds).
    Returns whether it ended well before."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            if seconds is None:
                die_at(work_dir, at)
            else:
                signal.setitimer(signal.ITIMER_REAL, 1e9)
            code = 0 if start(data, work_dir, rounds=3) == "finished" else 3
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == 0


def die_at(work_dir: Path, at: int) -> None:
    """Die before the `at`-th change of a file or of the ledger."""
    inside, count = str(work_dir), 0

    def act() -> None:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir")
        if event == "open":
            mode, flags = arguments[1], arguments[2] or 0
            changes = bool(flags & (os.O_WRONLY | os.O_RDWR)) or (mode or "r")[0] in "wax"
        if changes and inside in str(arguments[0]):
            act()

    sys.addaudithook(hook)
    execute, execute_many = Ledger._execute, Ledger._execute_many

    def dying(self: Ledger, sql: str, values: Any = ()) -> Any:
        if not sql.startswith(("SELECT", "PRAGMA")):
            act()
        return execute(self, sql, values)

    def dying_many(self: Ledger, sql: str, rows: Any) -> None:
        act()
        execute_many(self, sql, rows)

    Ledger._execute = dying  # type: ignore[method-assign]
    Ledger._execute_many = dying_many  # type: ignore[method-assign]


def picks(work_dir: Path) -> dict[str, bytes]:
    folders = sorted(work_dir.glob("rounds/*/query"))
    files = [f for folder in folders for f in sorted(folder.rglob("*")) if f.is_file()]
    return {str(f.relative_to(work_dir)): f.read_bytes() for f in files}


def kill_until_finished(
    data: Path, work_dir: Path, rng: random.Random, most: int, longest: float | None
) -> int:
    """Kill and resume; after each kill nothing may keep the run from being resumed. longest: in
    seconds, until a kill; None: kills come at acts."""
    kills = 0
    while kills < most:
        wait = None if longest is None else rng.uniform(0.0, longest)
        if killed_run(data, work_dir, rng.randrange(1, 60), wait):
            break
        kills += 1
        if work_dir.exists():
            for thorough in (False, True):
                assert blocking(work_dir, thorough) == []
    if kills == most:
        assert start(data, work_dir, rounds=3) == "finished"
    assert check_run(work_dir, thorough=True) == []
    return kills


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("by_time", [False, True])
def test_kills_at_any_moment_are_no_differences(
    seed: int, by_time: bool, data: Path, tmp_path: Path
) -> None:
    start(data, tmp_path / "whole", rounds=3)
    begun = time.monotonic()
    assert killed_run(data, tmp_path / "timed", at=10**9)
    longest = 0.3 * (time.monotonic() - begun) if by_time else None
    kills = kill_until_finished(data, tmp_path / "broken", random.Random(seed), 40, longest)
    assert kills >= (1 if by_time else 3)
    assert picks(tmp_path / "broken") == picks(tmp_path / "whole")
    one, other = records.load(tmp_path / "broken"), records.load(tmp_path / "whole")
    assert [(r.costs, r.miou) for r in one.records] == [(r.costs, r.miou) for r in other.records]


@pytest.mark.slow
def test_a_kill_before_any_act_is_no_difference(data: Path, tmp_path: Path) -> None:
    """A new run killed at its 1st, 8th, 15th ... act, then checked, repaired and resumed."""
    start(data, tmp_path / "warm")  # what is compiled or loaded once, the children inherit
    for at in range(1, 1000, 7):
        work_dir = tmp_path / str(at)
        if killed_run(data, work_dir, at):
            assert at > 100
            break
        if not work_dir.exists():
            continue
        found = check_run(work_dir, thorough=True)
        assert not any(f.blocks for f in found), (at, found)
        if at % 2:
            repair(work_dir, found)
            assert check_run(work_dir, thorough=True) == []
        assert killed_run(data, work_dir, 10**9)
        assert check_run(work_dir, thorough=True) == []
        shutil.rmtree(work_dir)
