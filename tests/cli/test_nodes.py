"""Several machines, rehearsed on one: torchrun's way (NNODES, NODE_RANK) and Slurm's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from paths import HELPERS, ROOT
from small_run import play, small_data

from regional_al.cli import slurm
from regional_al.cli.train import settle_launcher
from regional_al.errors import ConfigError

ACQUISITION = {
    "level": "region",
    "heuristic": "RIPU",
    "region": {"type": "grid", "cell": 8},
    "budget": "5%",
    "warm_start": "5%",
    "rounds": 2,
}
# `regional-al train` with the toy engine in place of a config's.
TOY = f"""
import importlib, os, pathlib, sys, types

def run_training(config, work_dir, resume, cfg_options, amp, **more):
    del sys.modules["regional_al.loop.runner"]
    runner = importlib.import_module("regional_al.loop.runner")
    from regional_al.runtime import distributed as dist
    from regional_al.testing.toy import toy_engine
    dist.join_process_group("gloo")
    engine = toy_engine(pathlib.Path(cfg_options["data"]), iterations=2)
    mark, fit = pathlib.Path(cfg_options.get("mark", "/")), engine.fit

    def killed_once(request):
        dies = int(cfg_options.get("dies", 1))
        if dist.rank() == dies and request.round == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), 9)
        return fit(request)

    engine.fit = killed_once
    runner.run(engine, {{"previews": 0, **{ACQUISITION}}}, work_dir, report=False)
    if dist.is_main():
        print("ranks", dist.world_size())
    return 0

module = types.ModuleType("regional_al.loop.runner")
module.run_training = run_training
sys.modules["regional_al.loop.runner"] = module
"""
TASK = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1"}
OF_SLURM = ("SLURM_", "RANK", "LOCAL_", "WORLD_SIZE", "MASTER_", "PORT", "NNODES", "NODE_RANK")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(TOY)
    (folder / "config.py").touch()
    small_data(folder, train=7, val=1)
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nexec {sys.executable} {HELPERS / "fake_srun.py"} "$@"\n')
    srun.chmod(0o755)
    return folder


def start(place: Path, script: str, arguments: list[str], **more: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OF_SLURM)}
    added = {"PYTHON": sys.executable, "PYTHONPATH": str(place / "site"), "OMP_NUM_THREADS": "1"}
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", str(ROOT / "tools" / script), *arguments],
        cwd=place,
        env={**kept, **added, "PATH": path, "CUDA_VISIBLE_DEVICES": "", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> str:
    """What they print; they end well."""
    said = [process.communicate(timeout=240) for process in processes]
    assert [p.returncode for p in processes] == [0] * len(processes), said
    return "".join(out for out, _ in said)


def picks(work_dir: Path) -> dict[str, bytes]:
    files = [f for f in sorted(work_dir.glob("rounds/*/query/**/*")) if f.is_file()]
    return {str(f.relative_to(work_dir)): f.read_bytes() for f in files}


@pytest.mark.slow
def test_two_nodes_pick_what_one_process_picks(place: Path) -> None:
    data = ["--cfg-options", f"data={place / 'streets'}"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    play(place / "streets", place / "alone", ACQUISITION, iterations=2)
    both = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "PORT": port}
    command = ["config.py", "1", "--work-dir", "nodes", *data]
    nodes = [start(place, "dist_train.sh", command, NODE_RANK=rank, **both) for rank in "01"]
    assert "ranks 2" in finish(*nodes)
    step = ["part", "job", "config.py", "--work-dir", "slurm", *data]
    more = {"GPUS": "2", "GPUS_PER_NODE": "1", "FAKE_SRUN_LOG": str(place / "srun.json")}
    assert "ranks 2" in finish(start(place, "slurm_train.sh", step, **more))
    expected = picks(place / "alone")
    assert len({name.split("/")[1] for name in expected}) == 3  # the warm start and two rounds
    assert picks(place / "nodes") == expected
    assert picks(place / "slurm") == expected


@pytest.mark.slow
def test_one_node_resumes_what_two_have_begun(place: Path) -> None:
    """A process of the second node is killed in a training; both nodes end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    play(place / "streets", place / "undisturbed", ACQUISITION, iterations=2)
    data = ["--cfg-options", f"data={place / 'streets'}", f"mark={place / 'killed'}"]
    command = ["config.py", "1", "--work-dir", "broken", *data]
    both = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "PORT": port}
    nodes = [start(place, "dist_train.sh", command, NODE_RANK=rank, **both) for rank in "01"]
    said = [node.communicate(timeout=240) for node in nodes]
    assert all(node.returncode not in (0, None) for node in nodes), said
    assert (place / "killed").exists()
    finish(start(place, "dist_train.sh", [*command, "--resume"]))
    assert picks(place / "broken") == picks(place / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0])
def test_two_nodes_start_their_processes_again(place: Path, dies: int) -> None:
    """`--max-restarts`: of two nodes, one of whose processes is killed in a training."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    data = ["--cfg-options", f"data={place / 'streets'}", f"mark={place / f'again{dies}'}"]
    run = f"restarted{dies}"
    command = ["config.py", "1", "--max-restarts", "1", "--work-dir", run, *data, f"dies={dies}"]
    both = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "PORT": port}
    nodes = [start(place, "dist_train.sh", command, NODE_RANK=rank, **both) for rank in "01"]
    assert "ranks 2" in finish(*nodes)
    assert (place / f"again{dies}").exists()
    play(place / "streets", place / f"whole{dies}", ACQUISITION, iterations=2)
    assert picks(place / run) == picks(place / f"whole{dies}")


def called(place: Path, *arguments: str, **more: str) -> tuple[dict[str, str], list[str]]:
    """Options and command that srun is called with; the command is not run."""
    (place / "only").mkdir(exist_ok=True)
    srun = place / "only" / "srun"
    srun.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{DUMP}" "$@"\n')
    srun.chmod(0o755)
    path = f"{place / 'only'}:{os.environ['PATH']}"
    words = json.loads(finish(start(place, "slurm_train.sh", [*arguments], PATH=path, **more)))
    options = [word for word in words if word.startswith("--")]
    split = words.index(sys.executable)
    return dict(o.partition("=")[::2] for o in words[:split] if o in options), words[split:]


DUMP = "import json, sys; print(json.dumps(sys.argv[1:]))"


def test_the_arguments_of_srun(place: Path) -> None:
    options, command = called(place, "part", "my job", "c.py", "--resume")
    assert options == {
        "--partition": "part",
        "--job-name": "my job",
        "--gres": "gpu:4",
        "--ntasks": "4",
        "--ntasks-per-node": "4",
        "--cpus-per-task": "5",
        "--kill-on-bad-exit": "1",
    }
    assert command[1:] == [
        *("-u", "-m", "regional_al", "train", "c.py", "--launcher", "slurm", "--resume")
    ]
    own = {"GPUS": "2", "CPUS_PER_TASK": "3", "GRES": "", "SRUN_ARGS": "--time=5 --exclude=n7"}
    options, _ = called(place, "part", "job", "c.py", **own)
    assert (options["--ntasks"], options["--ntasks-per-node"]) == ("2", "2")
    assert (options["--time"], options["--exclude"]) == ("5", "n7")
    assert "--gres" not in options


def test_too_few_arguments_are_one_line(place: Path) -> None:
    process = start(place, "slurm_train.sh", ["part", "job"])
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "error: give PARTITION, JOB_NAME and CONFIG\n"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node[3-5,9],other", "node3"),
        ("node[003,005]", "node003"),
        ("a-b.c,d", "a-b.c"),
        ("r[1-2]n[7-9]-ib[0]", "r1n7-ib0"),
        ("", ""),
    ],
)
def test_the_first_of_a_list_of_nodes(nodes: str, first: str) -> None:
    assert slurm.first_node(nodes) == first


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ("1", "2", "n1")),
        ({"CUDA_VISIBLE_DEVICES": "3"}, ("0", "2", "n1")),  # --gpus-per-task=1
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ("1", "2", "n1")),
        ({"SLURM_TASKS_PER_NODE": "8(x2)", "SLURM_NODEID": "1"}, ("1", "8", "n1")),
        ({"SLURM_STEP_TASKS_PER_NODE": "3,2", "SLURM_NODEID": "0"}, ("1", "3", "n1")),
        ({"MASTER_ADDR": "head"}, ("1", "2", "head")),
    ],
)
def test_device_tasks_and_address(more: dict[str, str], expected: tuple[str, ...]) -> None:
    found = slurm.ranks({**TASK, "SLURM_JOB_NODELIST": "n[1-2]", **more})
    assert (found["RANK"], found["WORLD_SIZE"]) == ("1", "2")
    assert (found["LOCAL_RANK"], found["LOCAL_WORLD_SIZE"], found["MASTER_ADDR"]) == expected


def test_ports_of_jobs_and_steps_differ() -> None:
    base = {**TASK, "SLURM_JOB_NODELIST": "n1"}
    jobs = [{}, {"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "1"}]
    jobs += [{"SLURM_JOB_ID": "7000000"}, {"PORT": "1234"}, {"PORT": "1", "MASTER_PORT": "2"}]
    ports = [slurm.ranks({**base, **job})["MASTER_PORT"] for job in jobs]
    assert ports == ["15000", "15007", "15008", "25000", "1234", "2"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"SLURM_PROCID": None}, r"needs srun's SLURM_PROCID.*tools/slurm_train\.sh"),
        ({"SLURM_NTASKS": "two"}, "SLURM_NTASKS='two'"),
        ({"SLURM_PROCID": "2"}, "SLURM_PROCID=2 must be below SLURM_NTASKS=2"),
        ({"SLURM_JOB_NODELIST": None}, "needs SLURM_JOB_NODELIST, or MASTER_ADDR"),
        ({"PORT": "70000"}, "PORT=70000 must be a port from 1 to 65535"),
        ({"MASTER_PORT": "x"}, "MASTER_PORT='x'"),
    ],
)
def test_variables_that_make_no_sense(change: dict[str, str | None], match: str) -> None:
    given = {**TASK, "SLURM_JOB_NODELIST": "n1", **change}
    with pytest.raises(ConfigError, match=match):
        slurm.ranks({name: value for name, value in given.items() if value is not None})


def test_the_launcher_sets_what_torch_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    for name in ("MASTER_PORT", "PORT", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in {**TASK, "SLURM_JOB_NODELIST": "n1", "SLURM_CPUS_PER_TASK": "6"}.items():
        monkeypatch.setenv(name, value)
    settle_launcher("slurm")
    assert (os.environ["RANK"], os.environ["OMP_NUM_THREADS"]) == ("1", "6")
