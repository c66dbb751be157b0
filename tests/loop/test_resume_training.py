"""A round that was interrupted in its training: when the saved state is used, and when not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from regional_al import cli
from regional_al.engines import torch as torch_engine
from regional_al.errors import TrainingStopped
from regional_al.loop import runner
from regional_al.store import fit_state
from regional_al.store.images import read_ids, write_png
from regional_al.testing.toy import toy_engine

CONFIG = {"optimizer": {"lr": 0.1}, "train_dataloader": {"batch_size": 8, "num_workers": 4}}
LOSS = torch_engine.masked_cross_entropy


class Killed(BaseException):
    """In place of SIGKILL."""


@pytest.fixture(autouse=True)
def loss(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls of the loss; `limit` ends the training at one of them."""

    class Counted:
        calls, limit = 0, 0

        def __call__(self, *values: Any) -> torch.Tensor:
            self.calls += 1
            if self.calls == self.limit:
                raise Killed
            return LOSS(*values)

    counted = Counted()
    monkeypatch.setattr(torch_engine, "masked_cross_entropy", counted)
    return counted


def run(data: Path, work_dir: Path, config: Any = CONFIG, engine: Any = None) -> None:
    engine = engine or toy_engine(data, iterations=6)
    engine.save_interval = 2
    acquisition = {"level": "image", "heuristic": "Entropy", "rounds": 1, "previews": 0}
    acquisition["budget"] = {"amount": 1, "unit": "image"}
    runner.run(engine, acquisition, work_dir, text=json.dumps(config), report=False)


def interrupt(data: Path, work_dir: Path, loss: Any, step: int) -> None:
    loss.calls, loss.limit = 0, step
    with pytest.raises(Killed):
        run(data, work_dir)
    loss.calls, loss.limit = 0, 0


def checkpoints(work_dir: Path) -> list[Any]:
    return [
        torch.load(work_dir / f"rounds/{n:03d}/fit/checkpoint.pth", weights_only=True)["model"]
        for n in (0, 1)
    ]


def test_a_killed_training_goes_on_and_ends_the_same(
    data: Path, tmp_path: Path, loss: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, tmp_path / "whole")
    assert loss.calls == 12
    interrupt(data, tmp_path / "run", loss, 11)  # the fifth of round 1
    capsys.readouterr()
    run(data, tmp_path / "run", {**CONFIG, "log_config": {"interval": 3}})
    assert loss.calls == 2
    assert "the training of round 1 resumes at iteration 4\n" in capsys.readouterr().out
    for one, two in zip(
        checkpoints(tmp_path / "whole"), checkpoints(tmp_path / "run"), strict=True
    ):
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert not list((tmp_path / "run").rglob("resume*"))


@pytest.mark.parametrize("what", ["labels", "config", "damaged", "processes"])
def test_what_has_changed_starts_the_training_anew(
    data: Path, tmp_path: Path, loss: Any, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    work_dir, config = tmp_path / "run", CONFIG
    interrupt(data, work_dir, loss, 5)
    state = work_dir / "rounds/000/fit" / fit_state.FILE
    said = f"{what} changed since it was interrupted"
    if what == "labels":
        mask = next((work_dir / "labels").glob("*.png"))
        write_png(mask, read_ids(mask)[:, ::-1])
        assert cli.main(["check", str(work_dir), "--accept-labels"]) == 0
    elif what == "config":
        config = {**CONFIG, "optimizer": {"lr": 0.2}}
    elif what == "damaged":
        state.write_bytes(state.read_bytes()[:-100])
        said = f"{state} is damaged"
    else:
        content = torch.load(state, weights_only=True)
        content["meta"][fit_state.KEY]["identity"]["processes"] = 2
        torch.save(content, state)
        said = "the number of processes changed since it was interrupted"
    capsys.readouterr()
    run(data, work_dir, config)
    assert loss.calls == 12
    out = capsys.readouterr().out
    assert out.count("the training of round 0 starts anew: ") == 1
    assert said in out


def test_a_signal_is_exit_code_75_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(_: Any) -> int:
        raise TrainingStopped("stopped by SIGUSR1: state saved at iteration 3; run ...")

    monkeypatch.setattr(cli, "_run", stopped)
    assert cli.main(["train", "config.py"]) == 75
    assert capsys.readouterr().err == "stopped by SIGUSR1: state saved at iteration 3; run ...\n"
