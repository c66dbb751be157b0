"""A grid through the command line with a stub in place of training: order, failures, jobs,
interruption, kill and resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import compare_runs
import compare_stub
import pytest

from regional_al import cli
from regional_al.compare import html, plan, runner

STUB = Path(compare_stub.__file__)
ARMS = ("--heuristics", "Random", "RIPU")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config and what the stub leaves: three rounds."""
    rounds = [
        compare_runs.record(r, 1000 * (r + 1), 0.3 + 0.1 * r, 10 * r + 9, r + 1) for r in range(3)
    ]
    compare_runs.write_run(tmp_path / "made", compare_runs.arm("RIPU", None, rounds=2), 0, rounds)
    (tmp_path / "made/runs/RIPU/seed0/results.json").rename(tmp_path / "results.json")
    (tmp_path / "config.py").write_text("")
    monkeypatch.setattr(plan, "load_recipe", plan.load_recipe)  # undone after the stub's change
    monkeypatch.setattr(runner, "train_command", runner.train_command)
    monkeypatch.setattr(runner, "POLL", 0.02)
    monkeypatch.setattr(html, "write", lambda out, *_: out / html.FILE)  # has tests of its own
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    behave(tmp_path)
    return tmp_path


def behave(place: Path, **runs: str) -> None:
    """What the stub does: RIPU_0='fail'."""
    how = {f"{name[:-2]}/seed{name[-1]}": value for name, value in runs.items()}
    (place / "behave.json").write_text(json.dumps(how))


def compare(place: Path, *arguments: str) -> int:
    return compare_stub.compare(place, [*ARMS, *arguments])


def started(place: Path) -> list[str]:
    """Runs in the order in which their process began; forgets them."""
    file = place / "started"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return [line.split()[0] for line in lines]


def archive(place: Path) -> dict[str, Any]:
    return json.loads((place / "out/compare.json").read_text())


def test_every_run_once_seed_by_seed_and_none_twice(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(place, "--seeds", "0", "1", "--full") == 0
    assert started(place) == [
        f"{a}/seed{s}" for s in (0, 1) for a in ("_start", "_full", "Random", "RIPU")
    ]
    out = capsys.readouterr().out
    assert "[8/8] RIPU seed 1: done after" in out
    assert f"comparison: {place}/out/compare.html" in out
    assert compare(place, "--seeds", "0", "1", "--full") == 0
    assert started(place) == []
    assert "RIPU seed 1: already done" in capsys.readouterr().out
    assert compare(place, "--seeds", "0", "1", "2") == 0
    assert started(place) == ["_start/seed2", "Random/seed2", "RIPU/seed2"]
    assert len(archive(place)["runs"]) == 8  # full supervision of before is still there


def test_a_failing_run_is_named_and_stops_no_other(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behave(place, Random_0="fail", RIPU_0="crash", RIPU_1="kill")
    assert compare(place, "--seeds", "0", "1") == 2
    assert len(started(place)) == 6
    captured = capsys.readouterr()
    assert "failed: Random seed 0: no space left on device\n" in captured.out
    assert "failed: RIPU seed 0: ValueError: a bug\n" in captured.out
    assert "failed: RIPU seed 1: a line of progress\n" in captured.out
    assert captured.err.startswith("error: 3 of 6 runs failed, see above and ")
    assert captured.err.count("\n") == 1
    found = archive(place)
    assert [(r["arm"], r["seed"]) for r in found["runs"]] == [("Random", 1)]
    assert found["missing"][0] == "Random seed 0 (no space left on device)"
    behave(place)
    assert compare(place, "--seeds", "0", "1") == 0
    assert started(place) == ["Random/seed0", "RIPU/seed0", "RIPU/seed1"]
    assert archive(place)["missing"] == []


def test_without_its_start_an_arm_is_not_tried(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behave(place, _start_1="fail")
    assert compare(place, "--seeds", "0", "1") == 2
    assert started(place) == ["_start/seed0", "Random/seed0", "RIPU/seed0", "_start/seed1"]
    assert (
        "blocked: RIPU seed 1: it depends on _start seed 1, which is not finished"
        in capsys.readouterr().out
    )


def test_a_training_on_labels_waits_for_the_run_that_makes_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "grid.py").write_text("arms = dict(final=dict(labels_of='RIPU'))")
    with_grid = ("--grid", str(place / "grid.py"), "--seeds", "0", "1", "--jobs", "2")
    behave(place, RIPU_0="slow", RIPU_1="fail")
    assert compare(place, *with_grid) == 2
    order = started(place)
    assert order.index("final/seed0") > order.index("RIPU/seed0")
    assert "final/seed1" not in order
    out = capsys.readouterr().out
    assert "blocked: final seed 1: it depends on RIPU seed 1, which is not finished" in out
    lines = out.splitlines()
    done = next(i for i, line in enumerate(lines) if "RIPU seed 0: done" in line)
    assert done < next(
        i for i, line in enumerate(lines) if line.startswith("final seed 0: started")
    )


def test_nothing_at_all_is_an_error_but_no_traceback(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behave(place, _start_0="fail")
    assert compare(place, "--seeds", "0") == 2
    assert capsys.readouterr().err.startswith("error: 3 of 3 runs failed")


def test_a_run_that_waits_for_answers_is_not_a_failure(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behave(place, RIPU_0="wait")
    assert compare(place, "--seeds", "0") == 0
    assert "RIPU seed 0: waiting after" in capsys.readouterr().out
    assert [r["state"] for r in archive(place)["runs"]] == ["finished", "under way"]
    assert compare(place, "--seeds", "0") == 0
    assert started(place)[-1] == "RIPU/seed0"  # asked again


def test_more_rounds_prolong_finished_runs(place: Path) -> None:
    assert compare(place, "--seeds", "0") == 0
    started(place)
    longer = ("--grid", str(place / "grid.py"))
    text = "arms = dict(Random=dict(acquisition=dict(heuristic='Random', rounds=%d)))"
    (place / "grid.py").write_text(text % 3)
    arguments = ["--seeds", "0", *longer]
    assert compare_stub.compare(place, arguments) == 2  # the stub has only two rounds to give ...
    assert started(place) == ["Random/seed0"]  # ... but was asked for the third
    (place / "grid.py").write_text(text % 1)
    assert compare_stub.compare(place, arguments) == 0
    assert started(place) == []


def test_several_at_once_wait_for_their_start_alone(place: Path) -> None:
    behave(place, _start_0="slow", _start_1="slow")
    assert compare(place, "--seeds", "0", "1", "--jobs", "4", "--full") == 0
    order = started(place)
    first = {f"{arm}/seed{seed}" for arm in ("_start", "_full") for seed in (0, 1)}
    assert set(order[:4]) == first  # though there was room for an arm
    assert len(order) == 8


def test_dry_run_lists_and_trains_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(place, "--seeds", "0", "--dry-run") == 0
    lines = [f"{name} seed 0: to do" for name in ("_start", "Random", "RIPU")]
    assert capsys.readouterr().out.splitlines() == lines
    assert started(place) == []
    assert not (place / "out/grid.json").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--grid", "none.py"), "--grid none.py does not exist"),
        (("--heuristics", "RIPU", "RIPU"), "arm 'RIPU' is given twice"),
        (
            ("--heuristics", "Ripu"),
            "arm 'Ripu': acquisition.heuristic: unknown heuristic 'Ripu'. Did you mean 'RIPU'?",
        ),
        (("--seeds", "-1"), "seeds: -1 must be"),
        (("--cfg-options", "rounds"), "--cfg-options 'rounds' is not KEY=VALUE"),
        (("--levels", "45"), "levels: 45.0 is not an mIoU"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    given = arguments if arguments[0] == "--heuristics" else (*ARMS, *arguments)
    assert compare_stub.compare(place, list(given)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert line in error
    assert error.count("\n") == 1
    assert started(place) == []


def test_changed_arms_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(place, "--seeds", "0") == 0
    (place / "g.py").write_text("arms = dict(RIPU=dict(acquisition=dict(budget=9)))")
    assert compare_stub.compare(place, ["--grid", str(place / "g.py")]) == 2
    assert "arm 'RIPU': acquisition.budget was null, now it is 9" in capsys.readouterr().err


def test_prune_keeps_what_a_run_can_be_prolonged_from(place: Path) -> None:
    kept = []
    for arm, rounds in (("_start", 1), ("Random", 3), ("RIPU", 3)):
        for r in range(rounds):
            fit = place / f"out/runs/{arm}/seed0/rounds/{r:03d}/fit"
            fit.mkdir(parents=True)
            for name in ("checkpoint.pth", "log.json"):
                (fit / name).write_text("")
            kept += [fit / "log.json"] + [fit / "checkpoint.pth"] * (r == rounds - 1)
    behave(place, Random_0="fail")
    kept += [place / f"out/runs/Random/seed0/rounds/{r:03d}/fit/checkpoint.pth" for r in (0, 1)]
    assert compare(place, "--seeds", "0", "--prune") == 2
    assert sorted(place.glob("out/runs/*/seed0/rounds/*/fit/*")) == sorted(kept)


@pytest.mark.parametrize(
    ("slot", "jobs", "processes", "devices", "given", "expected"),
    [
        (0, 1, 1, "", {}, {"OMP_NUM_THREADS": "16"}),
        (1, 4, 2, "", {}, {"OMP_NUM_THREADS": "2"}),
        (0, 1, 2, "0 1 2 3", {}, {"OMP_NUM_THREADS": "8"}),
        (1, 2, 2, "0 1 2 3", {}, {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "2,3"}),
        (2, 3, 1, "0 1", {}, {"OMP_NUM_THREADS": "5", "CUDA_VISIBLE_DEVICES": "0"}),
        (1, 32, 1, "", {}, {"OMP_NUM_THREADS": "1"}),
        (0, 2, 1, "5", {"OMP_NUM_THREADS": "3"}, {}),
    ],
)
def test_cores_and_devices_of_a_slot(
    slot: int,
    jobs: int,
    processes: int,
    devices: str,
    given: dict[str, str],
    expected: dict[str, str],
) -> None:
    found = runner.slot_environment(slot, jobs, processes, 16, devices.split(), given)
    assert found == expected


def test_the_command_of_a_run_can_be_read_back(tmp_path: Path) -> None:
    from regional_al.cli.options import parse_options

    made = compare_runs.arm("RIPU", heuristic={"type": "RIPU", "list": ["a,b", {"c": None}]})
    run = plan.PlannedRun(made, 2, tmp_path)
    words = runner.train_command(run, 1, ["model.a=1"], False)
    args = cli.build_parser().parse_args(words[3:])
    assert (args.command, args.no_report, args.resume) == ("train", True, True)
    options = parse_options(args.cfg_options)
    assert options["model.a"] == 1
    assert options["acquisition"] == {"_delete_": True, **run.acquisition()}
    words = runner.train_command(run, 2, [], True)
    assert words[3:6] == ["launch", "config.py", "2"]
    assert "--amp" in words


def begin(place: Path, *arguments: str) -> subprocess.Popen[str]:
    words = [sys.executable, str(STUB), "compare", str(place), *ARMS, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a shell's background jobs, and so a CI's, are started with SIGINT ignored


def sleeper(place: Path, run: str) -> int:
    """Wait until the stub of a run sleeps; its process id."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        text = (place / "started").read_text() if (place / "started").exists() else ""
        for line in text.splitlines():
            if line.startswith(run + " "):
                time.sleep(0.1)
                return int(line.split()[1])
        time.sleep(0.05)
    raise AssertionError(f"{run} did not start: {text}")


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            if ") Z" in Path(f"/proc/{pid}/stat").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_grid_leaves_no_process_and_goes_on(
    place: Path, number: signal.Signals
) -> None:
    behave(place, Random_0="sleep")
    process = begin(place, "--seeds", "0", "1")
    pid = sleeper(place, "Random/seed0")
    second = begin(place, "--seeds", "0")
    _, error = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"in use by another `regional-al compare` (process {process.pid} on " in error
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert gone(pid)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert error == "error: interrupted; run the same command again to resume\n"
    assert started(place) == ["_start/seed0", "Random/seed0"]
    behave(place)
    assert compare(place, "--seeds", "0", "1") == 0
    assert started(place) == [
        "Random/seed0",
        "RIPU/seed0",
        "_start/seed1",
        "Random/seed1",
        "RIPU/seed1",
    ]


def test_a_run_whose_compare_is_gone_ends() -> None:
    code = "from regional_al.cli.train import follow_parent; follow_parent()"
    environment = {**os.environ, runner.WITH_PARENT: "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 143
    environment[runner.WITH_PARENT] = str(os.getpid())
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
