"""tools/dist_train.sh: ranks, ports, threads, and endings in one line.

The ranks run a stand-in for training (`sitecustomize` puts it there), so that what is tested is
the launcher alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

from regional_al.cli import launch
from regional_al.errors import ConfigError

STAND_IN = """
import sys, types

def run_training(config, work_dir, resume, cfg_options, amp, **more):
    import os, time
    from regional_al.errors import DataError
    how, rank = cfg_options.get("how"), int(os.environ["RANK"])
    if how == "all":
        raise DataError("img.png is\\nmissing")
    import torch, torch.distributed as td
    td.init_process_group("gloo")
    if rank == td.get_world_size() - 1:
        if how == "one":
            raise DataError("img.png is 3x3")
        if how == "bug":
            raise ValueError("a bug")
        if how == "kill" or (how == "kill once" and not os.path.exists("killed")):
            print("killed", file=open("killed", "a"), flush=True)
            os.kill(os.getpid(), 9)
        if how == "stop":
            from regional_al.errors import TrainingStopped
            raise TrainingStopped("stopped, saved")
    if how == "sleep":
        print("pid", os.getpid(), file=open(work_dir / f"pid{rank}", "w"), flush=True)
        time.sleep(120)
    total = torch.ones(1)
    td.all_reduce(total)
    if rank == 0:
        print("ranks", int(total), "threads", os.environ["OMP_NUM_THREADS"], resume, cfg_options)
    td.destroy_process_group()
    return 0

module = types.ModuleType("regional_al.loop.runner")
module.run_training = run_training
sys.modules["regional_al.loop.runner"] = module
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(STAND_IN)
    (tmp_path / "config.py").write_text("")
    return tmp_path


def environment(place: Path, **more: str) -> dict[str, str]:
    drop = {"PORT", "NNODES", "NODE_RANK", "MASTER_ADDR", "OMP_NUM_THREADS", "LOGLEVEL"}
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    added = {"PYTHON": sys.executable, "PYTHONPATH": str(place / "site"), "TMPDIR": str(place)}
    return {**kept, **added, "CUDA_VISIBLE_DEVICES": "", **more}


def start(
    place: Path, ranks: str, *arguments: str, config: str = "config.py", **more: str
) -> subprocess.Popen[str]:
    command = ["bash", str(ROOT / "tools" / "dist_train.sh"), config, ranks, *arguments]
    return subprocess.Popen(
        command,
        cwd=place,
        env=environment(place, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_two_ranks_meet_from_any_directory(place: Path) -> None:
    more = ["--resume", "--cfg-options", "how=ok", "a.b=1,2"]
    code, out, err = finish(start(place, "2", *more))
    assert (code, err) == (0, "")
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert out == f"ranks 2 threads {threads} True {{'how': 'ok', 'a.b': [1, 2]}}\n"
    assert not list(place.glob("regional-al-*")), "the launcher's folder of error files stays"


@pytest.mark.slow
def test_threads_given_are_kept_and_a_given_port_is_used(place: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code, out, _ = finish(start(place, "1", PORT=str(port), OMP_NUM_THREADS="3"))
    assert code == 0
    assert out.startswith("ranks 1 threads 3 ")


@pytest.mark.parametrize("how", ["all", pytest.param("one", marks=pytest.mark.slow)])
def test_a_mistake_is_one_line_whoever_meets_it(place: Path, how: str) -> None:
    code, out, err = finish(start(place, "2", "--cfg-options", f"how={how}"))
    assert err == f"error: img.png is {'missing' if how == 'all' else '3x3'}\n"
    assert (code, out) == (2, "")


@pytest.mark.slow
def test_a_bug_shows_the_traceback_of_its_rank_alone(place: Path) -> None:
    code, _, err = finish(start(place, "2", "--cfg-options", "how=bug"))
    assert code == 1
    assert "ValueError: a bug" in err
    assert "[rank0]" not in err
    assert "ChildFailedError" not in err
    assert err.endswith("error: rank 1 failed with exit code 1; see its output above\n")


@pytest.mark.slow
def test_a_killed_rank_is_named(place: Path) -> None:
    code, _, err = finish(start(place, "2", "--cfg-options", "how=kill"))
    assert code == 128 + signal.SIGKILL
    assert err == (
        "error: rank 1 was ended by SIGKILL (out of memory?); "
        "run the same command with --resume to continue\n"
    )


@pytest.mark.slow
def test_a_killed_rank_is_started_again_and_resumes(place: Path) -> None:
    more = ["--max-restarts", "1", "--cfg-options", "how=kill once"]
    code, out, err = finish(start(place, "2", *more))
    assert (code, err) == (0, "")
    assert out.startswith("ranks 2 ")
    assert " True {'how': 'kill once'}" in out  # --resume, which was not given


@pytest.mark.slow
def test_restarts_end(place: Path) -> None:
    code, out, err = finish(start(place, "2", "--max-restarts=2", "--cfg-options", "how=kill"))
    said = [line for line in err.splitlines() if "gloo" not in line]  # torch's C++ part
    assert (code, out, len(said)) == (128 + signal.SIGKILL, "", 1)
    assert said[0].startswith("error: rank 1 was ended by SIGKILL")
    assert (place / "killed").read_text() == "killed\n" * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code", "said"),
    [("all", 2, "error: img.png is missing\n"), ("stop", 75, "stopped, saved\n")],
)
def test_nothing_is_tried_again_after_a_mistake_or_a_stop(
    place: Path, how: str, code: int, said: str
) -> None:
    more = ["--max-restarts", "3", "--cfg-options", f"how={how}"]
    assert finish(start(place, "2", *more)) == (code, "", said)


def test_a_number_of_restarts_is_a_number(place: Path) -> None:
    line = "error: --max-restarts='x' must be a whole number of at least 0\n"
    assert finish(start(place, "2", "--max-restarts", "x")) == (2, "", line)
    assert launch.split_restarts(["--max-restarts=2", "--amp"]) == (2, ["--amp"])


def test_a_port_in_use_is_named(place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = finish(start(place, "1", PORT=str(port)))
    assert code == 2
    said = [line for line in err.splitlines() if "socket.cpp" not in line]  # torch 2.1's C++ part
    assert said == [
        f"error: port {port} is in use: unset PORT to use a free one, or choose another"
    ]


@pytest.mark.parametrize(
    ("ranks", "config", "line"),
    [
        ("2", "none.py", "none.py does not exist: give a config file"),
        ("0", "config.py", "GPUS='0' must be a whole number of at least 1"),
        ("two", "config.py", "GPUS='two' must be a whole number of at least 1"),
    ],
)
def test_bad_arguments(place: Path, ranks: str, config: str, line: str) -> None:
    assert finish(start(place, ranks, config=config)) == (2, "", f"error: {line}\n")


def alive(pid: int) -> bool:
    """Running, not a zombie that nobody has waited for."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def pids(place: Path, count: int) -> Iterator[int]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        texts = [file.read_text() for file in place.glob("pid*")]
        if sum(text.endswith("\n") for text in texts) == count:
            return (int(text.split()[1]) for text in texts)
        time.sleep(0.1)
    raise AssertionError("the ranks did not start")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_rank_outlives_the_launcher(place: Path, number: signal.Signals) -> None:
    process = start(place, "2", "--work-dir", str(place), "--cfg-options", "how=sleep")
    ranks = list(pids(place, 2))
    process.send_signal(number)
    code, out, err = finish(process)
    for _ in range(100):
        if not any(alive(pid) for pid in ranks):
            break
        time.sleep(0.1)
    assert not any(alive(pid) for pid in ranks)
    assert out == ""
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 128 + number
        assert err == "error: interrupted; resume with the same command and --resume\n"


@pytest.mark.slow
def test_a_warning_ends_with_the_code_that_asks_for_a_resume(place: Path) -> None:
    """In whatever stage; trainings that save their state have a test of their own."""
    process = start(place, "2", "--work-dir", str(place), "--cfg-options", "how=sleep")
    ranks = list(pids(place, 2))
    process.send_signal(signal.SIGUSR1)
    code, out, err = finish(process)
    assert (code, out) == (75, "")
    assert err == "stopped by SIGUSR1; run the same command with --resume\n"
    assert not any(alive(pid) for pid in ranks)


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({}, "--nproc-per-node 2 --nnodes 1 --standalone"),
        (
            {"PORT": "29501"},
            "--nproc-per-node 2 --nnodes 1 --node-rank 0 --master-addr 127.0.0.1 "
            "--master-port 29501",
        ),
        (
            {"NNODES": "3", "NODE_RANK": "2", "MASTER_ADDR": "host"},
            "--nproc-per-node 2 --nnodes 3 --node-rank 2 --master-addr host --master-port 29500",
        ),
    ],
)
def test_arguments_of_torchrun(given: dict[str, str], arguments: str) -> None:
    assert " ".join(launch.torchrun_arguments(2, given)) == arguments


def test_machines_that_start_again_meet_again() -> None:
    given = {"NNODES": "3", "NODE_RANK": "2", "MASTER_ADDR": "host", "PORT": "7"}
    assert " ".join(launch.torchrun_arguments(2, given, elastic=True)) == (
        "--nproc-per-node 2 --nnodes 3 --rdzv-backend c10d --rdzv-endpoint host:7 "
        "--rdzv-id regional_al --rdzv-conf is_host=0"
    )
    assert launch.torchrun_arguments(2, {}, elastic=True)[-1] == "--standalone"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"NNODES": "x"}, "NNODES='x'"),
        ({"PORT": "-1"}, "PORT='-1'"),
        ({"PORT": "99999"}, "PORT=99999"),
        ({"NNODES": "2"}, "needs MASTER_ADDR"),
        ({"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "h"}, "NODE_RANK='2'"),
    ],
)
def test_senseless_environments(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        launch.torchrun_arguments(2, given)
