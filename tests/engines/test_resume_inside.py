"""A training stretch that was interrupted ends as one that was not, byte for byte."""

from __future__ import annotations

import importlib
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from generation import mmseg_generation
from interrupted import (
    IDENTITY,
    KEYS,
    assert_same,
    content,
    differences,
    engine_of,
    fit,
    iteration_of,
    killed,
    signalled,
)
from mmseg_tiny import label_some, make_data, make_engine

from regional_al.engines.mmseg import resumable
from regional_al.engines.mmseg.resumable import Resumable
from regional_al.engines.mmseg.training import LabelCount
from regional_al.runtime import randomness
from regional_al.store import fit_state
from regional_al.store.labels import LabelStore

GENERATION = mmseg_generation()
if GENERATION is None:
    pytest.skip("MMSegmentation is not installed", allow_module_level=True)
pytest.importorskip("mmseg")

TINY = importlib.import_module(f"{GENERATION}_tiny").TINY


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    TINY.write_config(folder)
    return folder


@pytest.fixture(scope="module")
def store(root: Path) -> LabelStore:
    store = LabelStore(root / "labels")
    label_some(store, make_engine(root), 5)
    return store


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_twice_ends_as_not_killed(
    root: Path, store: LabelStore, tmp_path: Path, workers: int
) -> None:
    engine = engine_of(root, interval=3, workers=workers)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    killed(5, engine, store, broken)
    assert iteration_of(broken) == 3
    killed(8, engine, store, broken)
    assert iteration_of(broken) == 6
    assert_same(whole, fit(engine, store, broken))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("step", [2, 5])
def test_a_signal_in_the_middle_of_a_block(
    root: Path, store: LabelStore, tmp_path: Path, workers: int, step: int
) -> None:
    """Before the first save point, and after it; then killed again after the next one."""
    engine = engine_of(root, interval=4, workers=workers)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    before = signal.getsignal(signal.SIGUSR1)
    said = signalled(step, signal.SIGUSR1, engine, store, broken)
    assert said == (
        f"stopped by SIGUSR1: state saved at iteration {step}; run the same command with --resume"
    )
    assert signal.getsignal(signal.SIGUSR1) == before
    assert iteration_of(broken) == step
    killed(7, engine, store, broken)
    assert_same(whole, fit(engine, store, broken))


def test_a_stretch_of_a_continuous_run(root: Path, store: LabelStore, tmp_path: Path) -> None:
    engine = engine_of(root, interval=2)
    first = fit(engine, store, tmp_path / "first", until=3)
    more: Any = {"until": -1, "previous": first.checkpoint}
    whole = fit(engine, store, tmp_path / "whole", **more)
    broken = tmp_path / "broken"
    killed(4, engine, store, broken, **more)  # of 5
    assert iteration_of(broken) == 6
    assert_same(whole, fit(engine, store, broken, **more))


def test_accumulated_gradients_are_not_cut(root: Path, store: LabelStore, tmp_path: Path) -> None:
    engine = engine_of(root, interval=2, accumulate=3)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    signalled(2, signal.SIGTERM, engine, store, broken)
    assert iteration_of(broken) == 3
    killed(8, engine, store, broken)
    assert iteration_of(broken) == 6
    assert_same(whole, fit(engine, store, broken))


def test_saving_changes_nothing(root: Path, store: LabelStore, tmp_path: Path) -> None:
    saved = fit(engine_of(root, interval=1), store, tmp_path / "a")
    unsaved = fit(engine_of(root, interval=100), store, tmp_path / "b", identity=None)
    assert differences(content(saved)["state_dict"], content(unsaved)["state_dict"]) == []
    assert not (tmp_path / "b" / fit_state.FILE).exists()


def test_a_state_of_another_training_or_a_damaged_one_is_not_used(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    engine = engine_of(root, interval=2)
    other = {**IDENTITY, "labels": "b"}
    whole = fit(engine, store, tmp_path / "whole")
    for name, now in (("other", other), ("damaged", IDENTITY)):
        out = tmp_path / name
        killed(4, engine, store, out)
        if name == "damaged":
            file = out / fit_state.FILE
            file.write_bytes(file.read_bytes()[:-200])
        with pytest.raises(fit_state.UnusableStateError):
            fit_state.read(out, now)
        assert_same(whole, fit(engine, store, out, identity=now))


@pytest.mark.parametrize("fault", ["generators", "position", "count", "workers", "replay"])
def test_each_part_of_the_state_counts(
    root: Path, store: LabelStore, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above compare does differ when a part of the state is not restored."""
    needs_workers = fault in ("workers", "replay")
    engine = engine_of(root, interval=4, workers=1 if needs_workers else 0)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    signalled(6, signal.SIGTERM, engine, store, broken)
    if fault == "generators":
        monkeypatch.setattr(randomness, "restore", lambda state: None)
    elif fault == "position":
        monkeypatch.setattr(Resumable, "_draw", from_the_start)
    elif fault == "count":
        monkeypatch.setattr(LabelCount, "load", lambda self, state: None)
    elif fault == "workers":
        monkeypatch.setattr(resumable.SeededWorker, "__call__", lambda self, worker: None)
    else:
        own = Resumable._own
        monkeypatch.setattr(Resumable, "_own", lambda self, entry: own(self, moved(entry)))
    with pytest.raises(AssertionError):
        assert_same(whole, fit(engine, store, broken))


def from_the_start(self: Any, stream: Any, count: int) -> list[Any]:
    return [next(stream) for _ in range(count)] if self.entry is None or count < 4 else []


def moved(entry: Any) -> Any:
    """The state, with a block that begins where it was saved."""
    entry["block"][0] = entry["iteration"]
    return entry


def best_of(out: Path) -> dict[str, Any]:
    """The checkpoints of the best scores that a training has left, by name."""
    found = {}
    for path in sorted(out.glob("best_*.pth")):
        one: Any = torch.load(path, weights_only=True)
        found[path.name] = {"state_dict": one["state_dict"], "iter": one["meta"]["iter"]}
    return found


def validations(out: Path) -> list[tuple[int, float]]:
    """Iteration and score of each validation in the logs of a training, each once."""
    return sorted({(int(line["step"]), line["mIoU"]) for line in TINY.validated(out)})


@pytest.mark.parametrize("step", [5, 6, 7])
def test_validation_and_the_best_model_are_resumed(
    root: Path, store: LabelStore, tmp_path: Path, step: int
) -> None:
    """Validated at 2, 4, 6, 8, saved at 3 and 6; killed right after a validation, and later."""
    engine = make_engine(root, **TINY.validating(2), **{KEYS["interval"]: 3})
    whole = fit(engine, store, tmp_path / "whole")
    scores, best = validations(tmp_path / "whole"), best_of(tmp_path / "whole")
    assert [iteration for iteration, _ in scores] == [2, 4, 6, 8]
    top = max(score for _, score in scores)
    (name,) = best
    assert name == f"best_mIoU_iter_{next(i for i, score in scores if score == top)}.pth"
    broken = tmp_path / "broken"
    killed(step, engine, store, broken)
    assert iteration_of(broken) == 3 * ((step - 1) // 3)
    resumed = fit(engine, store, broken)
    assert_same(whole, resumed)
    assert validations(broken) == scores
    assert differences(best, best_of(broken)) == []
    for one in (whole, resumed):
        assert TINY.best(torch.load(one.checkpoint, weights_only=True)) in (None, top)


def test_validating_changes_nothing_in_the_training(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    weights = [
        content(fit(make_engine(root, **options), store, tmp_path / name))["state_dict"]
        for name, options in (("a", TINY.validating(2)), ("b", TINY.validating(100)))
    ]
    assert differences(*weights) == []


def test_the_average_of_an_ema_hook_is_resumed(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """mmengine's hook keeps it in the checkpoint, mmcv's in buffers that it adds to the model."""
    engine = make_engine(root, custom_hooks=[{"type": "EMAHook"}], **{KEYS["interval"]: 3})
    whole = fit(engine, store, tmp_path / "whole")
    assert TINY.has_average(content(whole))
    broken = tmp_path / "broken"
    killed(5, engine, store, broken)
    killed(8, engine, store, broken)
    assert_same(whole, fit(engine, store, broken))


def test_the_average_of_an_ema_hook_goes_on_in_a_continuous_run(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """An average that starts anew with the second stretch would be its weights."""
    options = {"type": "EMAHook", "momentum": 0.0001}
    engine = make_engine(root, custom_hooks=[options])
    first = fit(engine, store, tmp_path / "first", until=6)
    last = fit(engine, store, tmp_path / "last", until=-1, previous=first.checkpoint)
    average, before = (TINY.average(content(one)) for one in (last, first))
    weights = TINY.weights(content(last))
    assert torch.dist(average, before) < 0.1 * torch.dist(average, weights)


def in_epochs(root: Path, interval: int, workers: int = 0, **more: Any) -> Any:
    """4 epochs of 2 iterations, saved every `interval` epochs."""
    by_epoch = KEYS["interval"].replace("interval", "by_epoch")
    saved = {KEYS["interval"]: interval, by_epoch: True, KEYS["workers"]: workers}
    return make_engine(root, {**TINY.epochs(4), **saved, **more})


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_epochs_killed_twice(root: Path, store: LabelStore, tmp_path: Path, workers: int) -> None:
    engine = in_epochs(root, 2, workers)
    whole = fit(engine, store, tmp_path / "whole")
    assert whole.iterations == 8
    broken = tmp_path / "broken"
    killed(4, engine, store, broken)
    assert not (broken / fit_state.FILE).exists(), "the first two epochs are not over"
    killed(6, engine, store, broken)
    assert iteration_of(broken) == 4
    killed(8, engine, store, broken)
    assert iteration_of(broken) == 4
    assert_same(whole, fit(engine, store, broken))
    unsaved = fit(in_epochs(root, 9, workers), store, tmp_path / "unsaved", identity=None)
    assert differences(content(whole)["state_dict"], content(unsaved)["state_dict"]) == []


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("step", [3, 4])
def test_epochs_stopped_in_the_middle_and_at_the_end_of_one(
    root: Path, store: LabelStore, tmp_path: Path, workers: int, step: int
) -> None:
    engine = in_epochs(root, 1, workers)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    said = signalled(step, signal.SIGTERM, engine, store, broken)
    assert f"state saved at iteration {step};" in said
    assert iteration_of(broken) == step
    killed(6, engine, store, broken)
    assert iteration_of(broken) == 4
    assert_same(whole, fit(engine, store, broken))


@pytest.mark.parametrize("step", [3, 4])
def test_epochs_with_an_average_and_validation(
    root: Path, store: LabelStore, tmp_path: Path, step: int
) -> None:
    """0.x exchanges weights and averages where epochs begin and end."""
    more = {"custom_hooks": [{"type": "EMAHook"}], **TINY.validating(1)}
    engine = in_epochs(root, 1, **more)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    signalled(step, signal.SIGTERM, engine, store, broken)
    killed(6, engine, store, broken)
    assert iteration_of(broken) == 4
    assert_same(whole, fit(engine, store, broken))
    assert differences(best_of(tmp_path / "whole"), best_of(broken)) == []


def test_epochs_that_cut_optimizer_steps(root: Path, store: LabelStore, tmp_path: Path) -> None:
    """Steps of 3 iterations: of epochs of 2, the third is the first that ends with a step."""
    options: Any = {KEYS["accumulate"]: 3}
    if GENERATION == "mmseg0":
        options["optimizer_config.type"] = "GradientCumulativeOptimizerHook"
    engine = in_epochs(root, 1, **options)
    whole = fit(engine, store, tmp_path / "whole")
    broken = tmp_path / "broken"
    killed(6, engine, store, broken)
    assert not (broken / fit_state.FILE).exists()
    killed(8, engine, store, broken)
    assert iteration_of(broken) == 6
    assert_same(whole, fit(engine, store, broken))


@pytest.mark.skipif(GENERATION != "mmseg1", reason="mmcv has no such hook")
@pytest.mark.parametrize("epochs", [False, True])
def test_the_patience_of_early_stopping_goes_on(
    root: Path, store: LabelStore, tmp_path: Path, epochs: bool
) -> None:
    """No score improves by 1000: the second validation after the first one ends the training."""
    hook = {"type": "EarlyStoppingHook", "monitor": "mIoU", "min_delta": 1000.0, "patience": 2}
    more: Any = {"custom_hooks": [hook]}
    if epochs:
        engine = in_epochs(root, 1, **more, **TINY.validating(1))
    else:
        engine = make_engine(root, **more, **TINY.validating(2), **{KEYS["interval"]: 4})
    whole = fit(engine, store, tmp_path / "whole")
    assert whole.iterations == 6
    broken = tmp_path / "broken"
    killed(5, engine, store, broken)
    assert iteration_of(broken) == 4
    assert_same(whole, fit(engine, store, broken))
