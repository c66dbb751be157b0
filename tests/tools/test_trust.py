"""`make trust` notices what it looks for, and its quick form passes."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT

import regional_al
from regional_al.store.images import read_ids, write_png
from regional_al.store.ledger import Ledger
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine

TRUST = ROOT / "benchmarks/trust"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of benchmarks/trust; its own imports are found there."""
    monkeypatch.syspath_prepend(str(TRUST))
    spec = importlib.util.spec_from_file_location(f"trust_{name.strip('_')}", TRUST / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def one_label(work_dir: Path) -> str:
    path = min((work_dir / "labels").glob("*.png"))
    ids = read_ids(path)
    write_png(path, (ids != 255) * (ids + 1) + (ids == 255) * ids)
    return str(path.relative_to(work_dir))


def one_weight(work_dir: Path) -> str:
    path = work_dir / "rounds/001/fit/checkpoint.pth"
    content = torch.load(path, weights_only=True)
    name = next(iter(content["model"]))
    content["model"][name].view(-1)[0] += 1e-6
    torch.save(content, path)
    return f"model.{name}"


def one_pick(work_dir: Path) -> str:
    path = work_dir / "rounds/001/query/picks.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    return "rounds/001/query/picks.npy"


@pytest.mark.parametrize("plant", [one_label, one_weight, one_pick])
def test_two_endings_differ_by_one_label_weight_or_pick(
    plant: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = load("jobs", monkeypatch)
    data = streets.generate(tmp_path / "data", train=4, val=1, size=(32, 32))
    config = {
        "heuristic": "Random",
        "region": {"type": "grid", "cell": 8},
        "rounds": 1,
        "budget": "10%",
    }
    regional_al.run(toy_engine(data, iterations=2), {**config, "previews": 0}, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    truth = jobs.ending(tmp_path / "one")
    assert jobs.different(truth, jobs.ending(tmp_path / "other")) == []
    name = plant(tmp_path / "other")
    found = jobs.different(truth, jobs.ending(tmp_path / "other"))
    assert len(found) == 1
    assert name in found[0]


def test_one_failure_is_the_exit_code_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = load("__main__", monkeypatch)
    rows = {
        "pairs": {"part": "fine", "tried": 3, "failures": []},
        "disk": {"part": "broken", "tried": 2, "failures": ["plan 7: labels/a.png differs"]},
    }
    monkeypatch.setattr(main, "parts_of", lambda *_: list(rows)[: seed[0]])
    monkeypatch.setattr(main, "attempt", lambda name, *_: [rows[name]])
    seed = [1]
    assert main.main(["--quick"]) == 0
    seed[0] = 2
    assert main.main(["--quick"]) == 1
    said = capsys.readouterr().out
    assert "1 FAILED" in said
    assert "plan 7: labels/a.png differs" in said
    assert "5 tries" in said


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`__main__` with two parts whose rows a test gives, and files of its own."""
    main = load("__main__", monkeypatch)
    main.given = {name: [{"part": name, "tried": 2, "failures": []}] for name in ("pairs", "disk")}

    def attempt(name: str, *_: Any) -> Any:
        if isinstance(main.given[name], Exception):
            raise main.given[name]
        return main.given[name]

    monkeypatch.setattr(main, "attempt", attempt)
    monkeypatch.setattr(
        main, "parts_of", lambda only, *_, **__: [name for name in main.given if name in only]
    )
    monkeypatch.setattr(main, "ROWS", tmp_path / "rows.json")
    monkeypatch.setattr(main, "revision", lambda: "abc")
    monkeypatch.setattr(main.page, "write", lambda: tmp_path / "page.md")
    main.written = []

    def write_result(name: str, rows: Any, **_: Any) -> Path:
        main.written.append([row["part"] for row in rows])
        return tmp_path

    monkeypatch.setattr(main, "write_result", write_result)
    return main


def test_a_part_that_raises_has_failed_and_the_others_are_kept(
    parts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    parts.given["pairs"] = RuntimeError("no such thing")
    assert parts.main([]) == 1
    out = capsys.readouterr().out
    assert "it did not end: RuntimeError: no such thing" in out
    kept = parts.read()
    assert [len(kept[name][0]["failures"]) for name in ("pairs", "disk")] == [1, 0]
    assert parts.written == [["pairs", "disk"]]  # failures stand in the result file


def test_parts_one_by_one_become_one_result(parts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert parts.main(["--only", "disk"]) == 0
    assert "pairs have not been tried" in capsys.readouterr().out
    assert parts.written == []
    assert parts.main(["--only", "pairs"]) == 0
    assert parts.written == [["pairs", "disk"]]


def test_an_interrupted_run_tries_only_what_is_missing_or_failed(parts: Any) -> None:
    parts.given["disk"] = KeyError("interrupted")
    assert parts.main([]) == 1
    parts.given["disk"] = [{"part": "disk", "tried": 3, "failures": []}]
    parts.given["pairs"] = RuntimeError("must not be tried again")
    assert parts.main(["--resume"]) == 0
    assert parts.read()["disk"][0]["tried"] == 3
    assert parts.main(["--resume", "--seed", "1"]) == 1  # other moments: all anew


def test_kills_that_prove_little_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    interruptions = load("interruptions", monkeypatch)
    chain = interruptions._Chain
    good = [chain(["fit", "query"], inside=1) for _ in range(5)]
    assert interruptions.shy(good, 10) == []
    assert "only 10 of 11" in interruptions.shy(good, 11)[0]
    outside = [chain(["fit", "query"]) for _ in range(5)]
    assert "resumed inside" in interruptions.shy(outside, 10)[0]
    early = [chain(["start", "start"], inside=1) for _ in range(5)]
    assert "not spread" in interruptions.shy(early, 10)[0]
    training = [chain(["fit", "fit"], inside=1) for _ in range(8)]
    assert "not spread" in interruptions.shy(training, 16)[0]
    assert interruptions.shy(training[:5], 10) == []  # few kills may all hit the training
    once = [chain([stage], inside=1) for stage in ("fit", "query") * 5]
    assert interruptions.shy(once, 10) == ["no run was killed again while it resumed"]


def test_endings_are_compared_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of times says nothing about an ending, any other does."""
    jobs = load("jobs", monkeypatch)
    found = []
    for columns, values in (
        ("seconds REAL, who TEXT", (1.5, "eva")),
        ("who TEXT, seconds REAL", ("eva", 2.5)),
        ("who TEXT, seconds REAL", ("ada", 2.5)),
    ):
        ledger = sqlite3.connect(":memory:")
        ledger.execute(f"CREATE TABLE answers (round INTEGER, key TEXT, {columns})")
        ledger.execute("INSERT INTO answers VALUES (0, 'a', ?, ?)", values)
        found.append(jobs._columns(ledger, "answers"))
    assert found[0] == found[1]
    assert found[1] != found[2]


def test_where_a_run_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = load("jobs", monkeypatch)
    assert jobs.stopped_in(tmp_path) == "start"
    with Ledger.create(tmp_path, config="", pool="", acquisition={"rounds": 0}) as ledger:
        for stage in jobs.STAGES:
            assert jobs.stopped_in(tmp_path) == stage
            ledger.mark(0, stage, {}, 0.0)
    assert jobs.stopped_in(tmp_path) == "end"


def test_the_page_is_written_from_the_result_file(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = load("page", monkeypatch)
    rows = [
        {"part": "SIGKILL, torch", "tried": 1200, "killed in": {"start": 2, "fit": 1198},
         "seconds": 3.0, "revision": "abc", "seed": 0, "failures": []},
        {"part": "disk full", "tried": 0, "skipped": "not root", "revision": "def", "seed": 0,
         "failures": ["disk 3: exit code 1"]},
    ]  # fmt: skip
    machine = {"cores": 2, "cpu": "a CPU", "python": "3.11", "versions": {"torch": "2"}}
    result = {"rows": rows, "machine": machine, "kills": parts.kills_of(rows), "seconds": 660}
    monkeypatch.setattr(page, "RESULT", tmp_path / "trust.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    page.RESULT.write_text(json.dumps(result))
    page.PAGE.write_text(f"before\n{page.START} x -->\n{page.NOT_YET}\n{page.END}\nafter\n")
    page.write()
    written = page.PAGE.read_text()
    assert "| SIGKILL, torch | 1,200 | 0 | killed in: start 2, fit 1,198 |" in written
    assert "| disk full | not tried | 1 | skipped: not root |" in written
    assert "1,200 SIGKILLs in all." in written
    assert "revision abc, def, seed 0, 11 minutes." in written
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert page.NOT_YET not in written


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kills", "pairs", "disk", "leakage", "processes", "inputs",
                                  "readers", "scale"])  # fmt: skip
def test_a_few_tries_of_each_part_pass(part: str) -> None:
    command = [sys.executable, "-W", "ignore", str(TRUST), "--quick", "--engines", "torch"]
    done = subprocess.run([*command, "--only", part], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " ok " in done.stdout or "skipped" in done.stdout
