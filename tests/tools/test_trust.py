"""`make trust` notices what it looks for, and its quick form passes."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT

import regional_al
from regional_al.store.images import read_ids, write_png
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


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kills", "pairs", "disk", "leakage", "processes", "inputs",
                                  "readers", "scale"])  # fmt: skip
def test_a_few_tries_of_each_part_pass(part: str) -> None:
    command = [sys.executable, "-W", "ignore", str(TRUST), "--quick", "--engines", "torch"]
    done = subprocess.run([*command, "--only", part], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " ok " in done.stdout or "skipped" in done.stdout
