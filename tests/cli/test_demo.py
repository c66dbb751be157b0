"""`regional-al demo`: which config, where its files go, and what it says when it cannot run."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from regional_al import cli, shipped
from regional_al.cli import demo
from regional_al.errors import EnvironmentProblem
from regional_al.testing import streets


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stands for `run_training`: keeps what it is given."""
    calls: list[tuple[Any, ...]] = []

    def run_training(config: Path, work_dir: Path, resume: bool, *more: Any, **rest: Any) -> int:
        calls.append((config, work_dir, resume, os.environ.get("STREETS_ROOT")))
        work_dir.mkdir(exist_ok=True)
        (work_dir / "ledger.sqlite").touch()
        return 0

    module = types.ModuleType("regional_al.loop.runner")
    module.run_training = run_training  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "regional_al.loop.runner", module)
    monkeypatch.setenv("STREETS_ROOT", "elsewhere")
    return calls


def test_it_makes_the_scenes_runs_in_its_folder_and_resumes(
    training: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("regional_al.engines.loading.generation", lambda: "mmseg1")
    monkeypatch.setattr(
        streets.generate, "__defaults__", (2, 1, (32, 32), 0, "day", True, False, "plain")
    )
    assert cli.main(["demo"]) == 0
    assert cli.main(["demo", "regional_al_demo"]) == 0
    folder = tmp_path / "regional_al_demo"
    configs = {shipped.config(demo.SLIC), shipped.config(demo.WINDOW)}
    assert {call[0] for call in training} <= configs
    assert [call[1:] for call in training] == [
        (folder / "run", False, str(folder / "streets")),
        (folder / "run", True, str(folder / "streets")),
    ]
    assert (folder / "streets/images/train/train_0000.jpg").is_file()


def test_the_config_follows_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.choose("mmseg1", True) == "streets/region_ripu_slic.py"
    assert demo.choose("mmseg0", True) == "mmseg0/streets_region_ripu.py"
    assert capsys.readouterr().out == ""
    assert demo.choose("mmseg1", False) == "streets/region_ripu_window.py"
    assert "pip install scikit-image" in capsys.readouterr().out
    for name in (demo.SLIC, demo.WINDOW, demo.OLD):
        assert shipped.config(name).is_file()
    with pytest.raises(EnvironmentProblem, match=r"pip install 'regional-al\[mmseg1,fast\]'"):
        demo.choose(None, True)


def test_mistakes_are_one_line(
    training: list[tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", str(tmp_path), "--gpus", "two"]) == 2
    assert capsys.readouterr().err == ("error: --gpus='two' must be a whole number of at least 1\n")
    (tmp_path / "streets").mkdir()
    (tmp_path / "streets/mine.txt").touch()
    assert cli.main(["demo", str(tmp_path)]) == 2
    assert "is not empty and has no streets.json" in capsys.readouterr().err
    assert training == []


def test_a_config_that_is_not_there_names_the_reinstallation() -> None:
    with pytest.raises(EnvironmentProblem, match=r"gone\.py is missing: pip install"):
        shipped.config("streets/gone.py")
    with pytest.raises(EnvironmentProblem, match="folder gone of regional-al is missing"):
        shipped.folder("gone")
