"""Training stretches of the MMSegmentation engines: where weights start, where schedules stop."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import (
    CLASSES,
    Tiny,
    fit_once,
    label_some,
    make_data,
    make_engine,
    weights_hash,
)

from regional_al.engines.mmseg.checkpoints import strip
from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.store.labels import LabelStore

FIRST = "backbone.encoder.0.0.convs.0.conv.weight"


@pytest.fixture(scope="module")
def whole(engine: Any, store: LabelStore, root: Path) -> Any:
    """An uninterrupted training."""
    return fit_once(engine, store, root / "whole")


def state(checkpoint: Path) -> Any:
    return torch.load(checkpoint, weights_only=True)


def test_a_stretch_leaves_one_plain_checkpoint(tiny: Tiny, whole: Any, root: Path) -> None:
    content = state(whole.checkpoint)
    assert set(content) == tiny.checkpoint_keys
    assert content["meta"]["iter"] == whole.iterations == 8
    assert tiny.saved_classes(content) == CLASSES
    assert not any(key.startswith("module.") for key in content["state_dict"])
    names = {path.name for path in (root / "whole").glob("*.pth*")}
    assert names == tiny.checkpoint_files, "ours, and those of the config's own hooks"
    assert whole.checkpoint == root / "whole" / "checkpoint.pth"


def test_loss_falls_and_every_iteration_is_logged(tiny: Tiny, whole: Any, root: Path) -> None:
    found = tiny.logged(root / "whole")
    assert [line["iter"] for line in found] == list(range(1, 9))
    assert found[-1]["loss"] < found[0]["loss"]
    (text,) = (root / "whole").glob("**/*.log")
    assert tiny.last_line in text.read_text()


def test_share_of_labels_that_reach_the_loss(whole: Any) -> None:
    assert 0.1 < whole.label_share < 1.5
    assert whole.extra["samples"] == 16
    assert 0 <= whole.extra["samples_without_labels"] < 16


def test_same_seed_same_weights_other_seed_others(
    engine: Any, store: LabelStore, whole: Any, tmp_path: Path
) -> None:
    again = fit_once(engine, store, tmp_path / "a")
    other = fit_once(engine, store, tmp_path / "b", seed=4)
    assert weights_hash(again.checkpoint) == weights_hash(whole.checkpoint)
    assert weights_hash(other.checkpoint) != weights_hash(whole.checkpoint)


def test_continuous_run_has_one_schedule(
    tiny: Tiny, engine: Any, store: LabelStore, whole: Any, root: Path, tmp_path: Path
) -> None:
    first = fit_once(engine, store, tmp_path / "a", until=4)
    content = state(first.checkpoint)
    rates = [line["lr"] for line in tiny.logged(root / "whole")]
    assert (first.iterations, content["meta"]["iter"]) == (4, 4)
    assert content["optimizer"]["state"], "momentum must be kept"
    saved = content["optimizer"]["param_groups"][0]["lr"]
    assert saved == pytest.approx(rates[4 + tiny.saved_rate], abs=tiny.logged_precision)
    rest = fit_once(engine, store, tmp_path / "b", until=-1, previous=first.checkpoint, seed=5)
    assert rest.iterations == 4
    assert state(rest.checkpoint)["meta"]["iter"] == 8
    continued = tiny.logged(tmp_path / "a") + tiny.logged(tmp_path / "b")
    assert [line["lr"] for line in continued] == rates
    assert [line["iter"] for line in continued] == list(range(1, 9))
    assert rates[7] < rates[0]


def test_stretch_restores_weights_and_momentum(
    engine: Any, store: LabelStore, tmp_path: Path
) -> None:
    first = fit_once(engine, store, tmp_path / "a", until=4)
    there = fit_once(engine, store, tmp_path / "b", until=4, previous=first.checkpoint)
    assert there.iterations == 0
    assert math.isnan(there.label_share)
    assert weights_hash(there.checkpoint) == weights_hash(first.checkpoint)
    one, two = (state(r.checkpoint) for r in (first, there))
    assert one["optimizer"]["state"]
    for index, item in one["optimizer"]["state"].items():
        buffer = two["optimizer"]["state"][index]["momentum_buffer"]
        assert torch.equal(item["momentum_buffer"], buffer)
    assert one.get("param_schedulers") == two.get("param_schedulers")


def test_until_zero_is_the_untrained_model(engine: Any, store: LabelStore, tmp_path: Path) -> None:
    start = fit_once(engine, store, tmp_path / "a", until=0)
    again = fit_once(engine, store, tmp_path / "b", until=0)
    assert start.iterations == 0
    assert weights_hash(start.checkpoint) == weights_hash(again.checkpoint)


def test_scratch_forgets_continue_keeps_pretrained_loads(
    tiny: Tiny, root: Path, store: LabelStore, whole: Any, tmp_path: Path
) -> None:
    """With a learning rate of zero the weights that training starts from are those it ends with
    (but for BN statistics), so they tell where each `init` starts."""
    frozen = make_engine(root, tiny.frozen(), load_from=str(whole.checkpoint))

    def start(name: str, **request: Any) -> float:
        result = fit_once(frozen, store, tmp_path / name, **request)
        content = state(result.checkpoint)
        assert content["meta"]["iter"] == 8, "a fresh schedule"
        return float(content["state_dict"][FIRST].sum())

    trained = float(state(whole.checkpoint)["state_dict"][FIRST].sum())
    assert start("scratch", previous=whole.checkpoint) != trained
    assert start("continue", init="continue", previous=whole.checkpoint) == trained
    assert start("first", init="continue", previous=None) == trained
    assert start("pretrained", init="pretrained", seed=9) == trained


def test_continue_starts_the_schedule_afresh(
    tiny: Tiny, engine: Any, store: LabelStore, whole: Any, root: Path, tmp_path: Path
) -> None:
    result = fit_once(engine, store, tmp_path / "a", init="continue", previous=whole.checkpoint)
    found, usual = tiny.logged(tmp_path / "a"), tiny.logged(root / "whole")
    assert result.iterations == 8
    assert [line["lr"] for line in found] == [line["lr"] for line in usual]
    assert found[0]["loss"] < usual[0]["loss"]


def test_a_length_of_its_own_stretches_the_schedule(
    tiny: Tiny, engine: Any, store: LabelStore, whole: Any, root: Path, tmp_path: Path
) -> None:
    """Half the iterations: the polynomial falls twice as fast; the next training has the config's
    own length again."""
    result = fit_once(engine, store, tmp_path / "a", iterations=4)
    assert result.iterations == 4
    first = tiny.logged(root / "whole")[0]["lr"]
    rates = [line["lr"] for line in tiny.logged(tmp_path / "a")]
    assert rates == pytest.approx(tiny.poly(first, 4), abs=tiny.logged_precision)
    usual = [line["lr"] for line in tiny.logged(root / "whole")]
    assert usual == pytest.approx(tiny.poly(first, 8), abs=tiny.logged_precision)
    assert fit_once(engine, store, tmp_path / "b").iterations == 8


def test_milestones_are_stretched(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path
) -> None:
    engine = make_engine(root, tiny.steps([2, 6], gamma=0.1))
    result = fit_once(engine, store, tmp_path / "a", iterations=4)
    assert result.iterations == 4
    rates = [line["lr"] for line in tiny.logged(tmp_path / "a")]
    assert rates == pytest.approx([0.05, 0.005, 0.005, 0.0005])


@pytest.mark.parametrize("iterations", [1, 2, 6])
def test_a_short_training_ends_its_warm_up(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path, iterations: int
) -> None:
    """A warm-up that is longer than the training would leave the learning rate near nothing."""
    engine = make_engine(root, tiny.warm_up(8))
    assert fit_once(engine, store, tmp_path / "a", iterations=iterations).iterations == iterations
    rates = [line["lr"] for line in tiny.logged(tmp_path / "a")]
    assert max(rates) > 0.05 / 2 / iterations


@pytest.mark.parametrize("iterations", [1, 3, 40, 60, 600])
def test_a_long_warm_up_in_a_short_training(tiny: Tiny, iterations: int) -> None:
    """The schedule of mmseg's SegFormer on ADE20K: a warm-up of one step of 160000/60 would leave
    the learning rate at its start, 1e-6 of it; one of none is a traceback."""
    rates = tiny.segformer_rates(iterations)
    assert len(rates) == iterations
    assert max(rates) > 0.9 if iterations > 3 else max(rates) > 0.6
    assert max(rates) <= 1
    assert iterations < 40 or rates[-1] < 0.1


def test_pretrained_needs_load_from(engine: Any, store: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="load_from"):
        fit_once(engine, store, tmp_path / "a", init="pretrained")


def test_query_beyond_the_schedule(engine: Any, store: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"queries.*9.*max_iters=8"):
        fit_once(engine, store, tmp_path / "a", until=9)


def test_no_labels_is_said(engine: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no label"):
        fit_once(engine, LabelStore(tmp_path / "none"), tmp_path / "a")


def test_epochs_with_fewer_images_than_a_batch(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """drop_last would leave epochs without a batch; an infinite sampler epochs without an end."""
    engine = make_engine(root, {**tiny.epochs(2), tiny.batch_size: 4})
    result = fit_once(engine, store, tmp_path / "a")
    assert result.iterations == 2
    assert result.extra["samples"] == 8
    with pytest.raises(UnsupportedError, match=tiny.loop):
        fit_once(engine, store, tmp_path / "b", until=1)
    with pytest.raises(UnsupportedError, match=r"acquisition\.iterations"):
        fit_once(engine, store, tmp_path / "c", iterations=3)


@pytest.mark.parametrize("images", [1, 3])
def test_passes_through_a_few_images_do_not_stall(
    tiny: Tiny, root: Path, tmp_path: Path, images: int
) -> None:
    """mmcv and mmengine pause two seconds whenever a finite loader has come to its end."""
    engine = make_engine(root, tiny.finite_sampler())
    store = LabelStore(tmp_path / "labels")
    label_some(store, engine, images)
    start = time.monotonic()
    assert fit_once(engine, store, tmp_path / "a").iterations == 8
    assert time.monotonic() - start < 9


def test_workers(tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path) -> None:
    for name, changes in (("a", {tiny.train_workers: 1}), ("b", tiny.persistent_workers())):
        result = fit_once(make_engine(root, changes), store, tmp_path / name)
        assert result.extra["samples"] == 16
        assert result.label_share > 0


def test_custom_hooks_run(tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path) -> None:
    """EMAHook swaps weights when a checkpoint is saved; what predicts is the average."""
    engine = make_engine(root, custom_hooks=[{"type": "EMAHook", "momentum": 0.5}])
    result = fit_once(engine, store, tmp_path / "a")
    assert tiny.has_average(state(result.checkpoint))
    assert engine.evaluate(result.checkpoint).sum() > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_training_image_is_named(tiny: Tiny, tmp_path: Path, workers: int) -> None:
    make_data(tmp_path)
    tiny.write_config(tmp_path)
    engine = make_engine(tmp_path, {tiny.train_workers: workers})
    store = LabelStore(tmp_path / "labels")
    label_some(store, engine, 1)
    path = engine.pool[0].image
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"00_img\.png or .*00\.png cannot be read") as caught:
        fit_once(engine, store, tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [None, False, True])
@pytest.mark.parametrize(
    ("images", "batch", "length", "lone"),
    [(1, 4, 4, False), (3, 2, 3, True), (4, 2, 4, False), (2, 2, 2, False), (3, 1, 3, False)],
)
def test_epochs_have_whole_batches(
    tiny: Tiny, engine: Any, images: int, batch: int, length: int, lone: bool, given: bool | None
) -> None:
    """Fewer images than a batch are repeated; a last batch of one, fatal to BN, is dropped;
    otherwise `drop_last` is what the config says."""
    loader = tiny.epoch_loader(engine, images, batch, given)
    wanted = tiny.drops_last if given is None else given
    assert loader == (length, wanted or lone, True)


def test_seed_of_a_stretch_is_its_own(engine: Any, store: LabelStore, tmp_path: Path) -> None:
    """A runner that resumes would take over the seed of the checkpoint."""
    first = fit_once(engine, store, tmp_path / "a", until=1, seed=1)
    hashes = {
        weights_hash(
            fit_once(
                engine, store, tmp_path / str(seed), until=2, previous=first.checkpoint, seed=seed
            ).checkpoint
        )
        for seed in (1, 2)
    }
    assert len(hashes) == 2
    assert "seed" not in state(first.checkpoint)["meta"]


def test_stripped_checkpoints() -> None:
    tensor = torch.ones(2)
    found = strip(
        {
            "a": np.float64(0.5),
            "b": (1, "x", object()),
            "c": tensor,
            "d": np.arange(3),
            "e": print,
            "f": {"g": None, "h": [True, np.bool_(False)]},
        }
    )
    assert found["c"] is tensor
    assert torch.equal(found.pop("d"), torch.arange(3))
    del found["c"]
    assert found == {"a": 0.5, "b": (1, "x"), "f": {"g": None, "h": [True, False]}}
    assert type(found["a"]) is float
