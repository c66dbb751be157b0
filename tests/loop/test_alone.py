"""The exported `ActiveLearningLoop` works without `regional_al.run`: its own ledger, results.json,
resume and refusals, on one process and on two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_loop import SPACE, picks, settings
from warm_ranks import launch

import regional_al
from regional_al.annotators import OracleAnnotator
from regional_al.config.grammar import Acquisition
from regional_al.engines.torch import TorchEngine
from regional_al.errors import ConfigError, WorkDirError
from regional_al.loop import runner
from regional_al.store import results as records
from regional_al.store.ledger import Ledger
from regional_al.testing.toy import toy_engine


def alone(data: Path, work_dir: Path, acquisition: Any, **more: Any) -> Any:
    engine = toy_engine(data, SPACE)
    oracle = OracleAnnotator(engine.pool, SPACE)
    loop = regional_al.ActiveLearningLoop(engine, acquisition, oracle, work_dir, **more)
    loop.run()
    return loop


def facts(work_dir: Path) -> list[Any]:
    return [(r.round, r.costs, r.asked, r.miou) for r in records.load(work_dir).records]


@pytest.mark.parametrize("name", ["slic", "window", "image"])
def test_it_runs_and_makes_the_picks_of_run(
    name: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    loop = alone(data, tmp_path / "alone", settings(name))
    assert (loop.status, loop.reason) == ("finished", "all 2 rounds are done")
    assert len(capsys.readouterr().out.splitlines()) >= 3  # a line per round
    runner.run(toy_engine(data, SPACE), settings(name), tmp_path / "run", report=False)
    assert picks(tmp_path / "alone") == picks(tmp_path / "run")
    assert facts(tmp_path / "alone") == facts(tmp_path / "run")
    results = records.load(tmp_path / "alone")
    assert (results.stopped, results.engine) == ("all 2 rounds are done", "TorchEngine")
    with Ledger.open(tmp_path / "alone", readonly=True) as ledger:
        assert ledger.position() == (3, "query")


def test_a_dict_and_an_acquisition_are_one(data: Path, tmp_path: Path) -> None:
    alone(data, tmp_path / "dict", settings("image"))
    parsed = regional_al.Acquisition.parse(settings("image"))
    assert Acquisition.parse(parsed) is parsed
    alone(data, str(tmp_path / "parsed"), parsed)  # type: ignore[arg-type]
    assert picks(tmp_path / "dict") == picks(tmp_path / "parsed")
    with pytest.raises(ConfigError, match=r"'levl'.*Did you mean 'level'"):
        alone(data, tmp_path / "wrong", {"levl": "image"})
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("stage", ["fit", "evaluate"])
def test_it_resumes_after_a_kill(
    stage: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Killed(BaseException):
        pass

    work, calls = getattr(TorchEngine, stage), iter(range(9))

    def dies(*args: Any) -> Any:
        if next(calls) == 1:
            raise Killed
        return work(*args)

    alone(data, tmp_path / "whole", settings("slic"))
    with monkeypatch.context() as patch:
        patch.setattr(TorchEngine, stage, dies)
        with pytest.raises(Killed):
            alone(data, tmp_path / "broken", settings("slic"))
    with Ledger.open(tmp_path / "broken", readonly=True) as ledger:
        assert ledger.position() == (1, stage)
    assert alone(data, tmp_path / "broken", settings("slic")).status == "finished"
    assert picks(tmp_path / "broken") == picks(tmp_path / "whole")
    assert facts(tmp_path / "broken") == facts(tmp_path / "whole")


def test_it_refuses_the_work_dir_of_another_run(data: Path, tmp_path: Path) -> None:
    alone(data, tmp_path, settings("slic", rounds=0), text="a model")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(WorkDirError, match=r"acquisition\.seed was 5, now it is 6"):
        alone(data, tmp_path, settings("slic", rounds=0, seed=6), text="a model")
    with pytest.raises(WorkDirError, match="started with another config"):
        alone(data, tmp_path, settings("slic", rounds=0), text="another model")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert alone(data, tmp_path, settings("slic", rounds=1), text="a model").round == 1  # extended


def test_it_can_be_stepped(data: Path, tmp_path: Path) -> None:
    engine = toy_engine(data, SPACE)
    oracle = OracleAnnotator(engine.pool, SPACE)
    loop = regional_al.ActiveLearningLoop(engine, settings("image", rounds=1), oracle, tmp_path)
    assert loop.step()
    assert (loop.round, loop.status) == (1, "running")
    assert len(records.load(tmp_path).records) == 1
    assert not loop.step()
    assert loop.status == "finished"


@pytest.mark.slow
def test_on_two_ranks_it_runs_resumes_and_refuses(data: Path, tmp_path: Path) -> None:
    runner.run(toy_engine(data, SPACE), settings("slic"), tmp_path / "one", report=False)
    two = tmp_path / "two"
    launch(2, data, two, settings("slic"), "--alone", "--kill-at-fit", "2", ends=-9)
    with Ledger.open(two, readonly=True) as ledger:
        assert ledger.position() == (1, "fit")
    launch(2, data, two, settings("slic"), "--alone")
    assert picks(two) == picks(tmp_path / "one")
    assert facts(two) == facts(tmp_path / "one")
    assert records.load(two).world_size == 2
    launch(2, data, two, settings("slic", seed=6), "--alone", ends=2)
    assert facts(two) == facts(tmp_path / "one")
