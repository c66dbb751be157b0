"""One process at a time owns a folder; a killed one leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from warm_ranks import start_rank

from regional_al.errors import WorkDirError
from regional_al.loop import runner
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.store import lock as locks
from regional_al.store import results as records
from regional_al.store.ledger import Ledger
from regional_al.store.lock import HELD, NAME, FolderLock
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine

HOST = socket.gethostname()
IMAGES = {"level": "image", "heuristic": "Random", "budget": {"amount": 1, "unit": "image"}}


def held_by_a_child(folder: Path, children: int = 0) -> list[int]:
    """A process that holds the folder, and forked children of its own: their pids."""
    read, write = os.pipe()
    holder = os.fork()
    if holder == 0:
        lock = FolderLock(folder)
        lock.acquire()
        for _ in range(children):
            if os.fork() == 0:
                break
        os.write(write, os.getpid().to_bytes(4, "big"))
        time.sleep(60)
        os._exit(int(lock.held))
    pids = [int.from_bytes(os.read(read, 4), "big") for _ in range(children + 1)]
    os.close(read)
    os.close(write)
    return sorted(pids, key=lambda pid: pid != holder)


def kill(pid: int) -> None:
    """End a child of this process as `kill -9` does."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_another_process_is_refused_by_name_until_the_holder_is_killed(tmp_path: Path) -> None:
    (pid,) = held_by_a_child(tmp_path)
    try:
        with pytest.raises(WorkDirError) as caught:
            FolderLock(tmp_path).acquire()
    finally:
        kill(pid)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{tmp_path} is in use by another run (process {pid} on {HOST}): wait")
    assert (tmp_path / NAME).read_text() == f"{pid} on {HOST}\n"  # it had no time to clean up
    with FolderLock(tmp_path).holding():
        assert (tmp_path / NAME).read_text() == f"{os.getpid()} on {HOST}\n"
    assert (tmp_path / NAME).read_text() == ""


def test_who_holds_a_folder_is_seen_without_touching_it(tmp_path: Path) -> None:
    assert locks.holder(tmp_path) == ""
    (pid,) = held_by_a_child(tmp_path)
    try:
        assert locks.holder(tmp_path) == f"{pid} on {HOST}"
        with pytest.raises(WorkDirError):  # looking has not released it
            FolderLock(tmp_path).acquire()
    finally:
        kill(pid)
    assert (tmp_path / NAME).read_text() == f"{pid} on {HOST}\n"
    assert locks.holder(tmp_path) == ""


def test_the_holder_is_seen_by_its_own_process_and_goes_on_holding(tmp_path: Path) -> None:
    with FolderLock(tmp_path).holding():
        assert locks.holder(tmp_path) == f"{os.getpid()} on {HOST}"
        child = os.fork()
        if child == 0:
            os._exit(locks.holder(tmp_path) != f"{os.getppid()} on {HOST}")
        assert os.waitpid(child, 0)[1] == 0
    assert locks.holder(tmp_path) == ""


def test_the_holder_without_locks_is_the_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / HELD).write_text(f"{os.getppid()} on {HOST}\n")
    assert locks.holder(tmp_path) == f"{os.getppid()} on {HOST}"
    (tmp_path / HELD).write_text(f"99999999 on {HOST}\n")
    assert locks.holder(tmp_path) == ""
    (tmp_path / HELD).write_text("12 on elsewhere\n")
    assert locks.holder(tmp_path) == "12 on elsewhere"


def test_children_of_a_killed_holder_do_not_hold(tmp_path: Path) -> None:
    """Data workers live on for seconds after their run was killed."""
    holder, child = held_by_a_child(tmp_path, children=1)
    kill(holder)
    try:
        os.kill(child, 0)
        with FolderLock(tmp_path).holding():
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_it_is_taken_again_by_its_object_alone(tmp_path: Path) -> None:
    lock, other = FolderLock(tmp_path / "new"), FolderLock(tmp_path / "x" / ".." / "new")
    with lock.holding(), lock.holding():
        assert lock.held
    assert not lock.held
    lock.release()  # too often is no harm
    with lock.holding():
        with pytest.raises(WorkDirError, match=f"process {os.getpid()} on"):
            other.acquire()
        assert not other.held
    with other.holding():
        pass


def test_a_lock_that_is_forgotten_is_released(tmp_path: Path) -> None:
    FolderLock(tmp_path).acquire()
    with FolderLock(tmp_path).holding():
        pass


def test_a_forked_child_leaves_the_lock_alone(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with lock.holding():
        pid = os.fork()
        if pid == 0:
            lock.release()
            os._exit(0)
        os.waitpid(pid, 0)
        assert (tmp_path / NAME).read_text() == f"{os.getpid()} on {HOST}\n"


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkDirError, match=r"file.* is not a folder"):
        FolderLock(tmp_path / "file" / inside).acquire()


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any, *_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(WorkDirError, match=r"\.lock cannot be written: Permission denied"):
        FolderLock(tmp_path).acquire()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, such as NFS without a lock daemon."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_holder_is_a_file(tmp_path: Path) -> None:
    (pid,) = held_by_a_child(tmp_path)
    held = tmp_path / HELD
    assert held.read_text() == f"{pid} on {HOST}\n"
    try:
        with pytest.raises(WorkDirError, match=rf"process {pid} on .*; if it has ended, delete"):
            FolderLock(tmp_path).acquire()
    finally:
        kill(pid)
    with FolderLock(tmp_path).holding():  # its process does not run any more
        assert held.read_text() == f"{os.getpid()} on {HOST}\n"
    assert not held.exists()
    held.write_text("1 on another-host\n")
    with pytest.raises(WorkDirError, match="process 1 on another-host; if it has ended, delete"):
        FolderLock(tmp_path).acquire()
    held.write_text(f"{os.getpid()} on {HOST}\n")  # of an earlier process with our number
    with FolderLock(tmp_path).holding():
        pass
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_processes_take_turns(tmp_path: Path) -> None:
    """Six processes, each in and out as often as it can: never two at once."""
    pids = []
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            code, until = 0, time.monotonic() + 0.4
            while time.monotonic() < until:
                try:
                    with FolderLock(tmp_path).holding():
                        (tmp_path / "inside").mkdir()  # FileExistsError: two at once
                        (tmp_path / "inside").rmdir()
                except WorkDirError:
                    pass
                except OSError:
                    code = 1
            os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6


def test_two_ledgers_created_at_once_are_not_mixed(tmp_path: Path) -> None:
    """One process creates the ledger while another one is about to."""
    facts = {"config": "c", "pool": "p", "acquisition": {}}
    started = []

    real = os.link

    def late(source: Any, target: Any) -> None:
        if not started:
            started.append(True)
            with Ledger.create(tmp_path, **facts) as ledger:
                ledger.mark(0, "query", {}, 0.0)
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", late)
        with pytest.raises(WorkDirError, match="already contains a run"):
            Ledger.create(tmp_path, **facts)
    with Ledger.open(tmp_path) as ledger:
        assert ledger.position() == (0, "answers")
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "streets"
    streets.generate(root, train=4, val=1, size=(32, 32), seed=3)
    return root


def test_a_run_and_a_loop_hold_their_work_dir(data: Path, tmp_path: Path) -> None:
    from regional_al.annotators import OracleAnnotator

    engine = toy_engine(data, iterations=1)
    oracle = OracleAnnotator(engine.pool, engine.label_space)
    acquisition = {**IMAGES, "rounds": 1}
    loop = ActiveLearningLoop(engine, acquisition, oracle, tmp_path)
    assert loop.step()  # the loop goes on
    for start in (
        lambda: runner.run(engine, acquisition, tmp_path, report=False),
        ActiveLearningLoop(engine, acquisition, oracle, tmp_path).run,
    ):
        with pytest.raises(WorkDirError, match=f"in use by another run .process {os.getpid()} on"):
            start()
    assert not loop.step()
    loop.records.close()
    assert runner.run(engine, acquisition, tmp_path, report=False).status == "finished"
    with FolderLock(tmp_path).holding():  # it has let go
        pass


def test_a_run_that_fails_lets_go(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = toy_engine(data, iterations=1)

    def fails(*_: Any) -> None:
        assert (tmp_path / NAME).read_text()  # preflight runs under the lock
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(runner, "preflight", fails)
        with pytest.raises(ZeroDivisionError) as kept:
            runner.run(engine, IMAGES, tmp_path, report=False)
    with FolderLock(tmp_path).holding():
        assert kept.value is not None  # also while the traceback keeps all objects alive


@pytest.mark.slow
def test_of_two_processes_started_at_once_one_runs(data: Path, tmp_path: Path) -> None:
    acquisition = {**IMAGES, "rounds": 3, "iterations": 60}
    for pair in range(2):
        work_dir = tmp_path / str(pair)
        other = ["--alone"] if pair % 2 else []
        both = [start_rank(data, work_dir, acquisition, *more) for more in ([], other)]
        said = [process.communicate(timeout=240)[1] for process in both]
        codes = [process.returncode for process in both]
        assert sorted(codes) == [0, 2], said
        winner = both[codes.index(0)]
        line = said[codes.index(2)].strip().splitlines()[-1]
        assert f"{work_dir} is in use by another run (process {winner.pid} on {HOST})" in line
        with Ledger.open(work_dir, readonly=True) as ledger:
            assert ledger.position()[1] == "query"
        assert [record.round for record in records.load(work_dir).records] == [0, 1, 2, 3]
