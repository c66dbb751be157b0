"""Training stretches of the mmseg1 engine: where weights start, where schedules stop."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmseg")
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from mmseg1_tiny import (
    fit_once,
    label_some,
    make_data,
    make_engine,
    weights_hash,
    write_config,
)

from regional_al.engines.mmseg1 import fit
from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.store.labels import LabelStore

pytestmark = pytest.mark.mmseg1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    write_config(folder)
    return folder


@pytest.fixture(scope="module")
def engine(root: Path) -> Any:
    return make_engine(root)


@pytest.fixture(scope="module")
def store(root: Path, engine: Any) -> LabelStore:
    store = LabelStore(root / "labels")
    label_some(store, engine, 3)
    return store


@pytest.fixture(scope="module")
def whole(engine: Any, store: LabelStore, root: Path) -> Any:
    """An uninterrupted training."""
    return fit_once(engine, store, root / "whole")


def scalars(folder: Path) -> list[dict[str, Any]]:
    """What LoggerHook wrote for each iteration."""
    (path,) = folder.glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_stretch_leaves_one_plain_checkpoint(whole: Any, root: Path) -> None:
    content = torch.load(whole.checkpoint, weights_only=True)
    assert set(content) == {"meta", "state_dict", "message_hub", "optimizer", "param_schedulers"}
    assert content["meta"]["iter"] == whole.iterations == 8
    assert [p.name for p in (root / "whole").glob("*.pth*")] == ["checkpoint.pth"]
    assert whole.checkpoint == root / "whole" / "checkpoint.pth"


def test_loss_falls_and_every_iteration_is_logged(whole: Any, root: Path) -> None:
    lines = scalars(root / "whole")
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < lines[0]["loss"]


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
    engine: Any, store: LabelStore, whole: Any, root: Path, tmp_path: Path
) -> None:
    first = fit_once(engine, store, tmp_path / "a", until=4)
    content = torch.load(first.checkpoint, weights_only=True)
    lines = scalars(root / "whole")
    assert (first.iterations, content["meta"]["iter"]) == (4, 4)
    assert content["optimizer"]["state"], "momentum must be kept"
    assert content["optimizer"]["param_groups"][0]["lr"] == pytest.approx(lines[4]["lr"], rel=1e-9)
    rest = fit_once(engine, store, tmp_path / "b", until=-1, previous=first.checkpoint, seed=5)
    assert rest.iterations == 4
    assert torch.load(rest.checkpoint, weights_only=True)["meta"]["iter"] == 8
    continued = scalars(tmp_path / "a") + scalars(tmp_path / "b")
    assert [line["lr"] for line in continued] == [line["lr"] for line in lines]
    assert [line["step"] for line in continued] == list(range(1, 9))


def test_stretch_restores_weights_and_momentum(
    engine: Any, store: LabelStore, tmp_path: Path
) -> None:
    first = fit_once(engine, store, tmp_path / "a", until=4)
    there = fit_once(engine, store, tmp_path / "b", until=4, previous=first.checkpoint)
    assert there.iterations == 0
    assert math.isnan(there.label_share)
    assert weights_hash(there.checkpoint) == weights_hash(first.checkpoint)
    one, two = (torch.load(r.checkpoint, weights_only=True) for r in (first, there))
    for index, state in one["optimizer"]["state"].items():
        buffer = state["momentum_buffer"]
        assert torch.equal(buffer, two["optimizer"]["state"][index]["momentum_buffer"])
    assert one["param_schedulers"] == two["param_schedulers"]


def test_until_zero_is_the_untrained_model(engine: Any, store: LabelStore, tmp_path: Path) -> None:
    start = fit_once(engine, store, tmp_path / "a", until=0)
    again = fit_once(engine, store, tmp_path / "b", until=0)
    assert start.iterations == 0
    assert weights_hash(start.checkpoint) == weights_hash(again.checkpoint)


def test_scratch_forgets_continue_keeps_pretrained_loads(
    root: Path, engine: Any, store: LabelStore, whole: Any, tmp_path: Path
) -> None:
    """With a learning rate of zero the weights that training starts from are those it ends with
    (but for BN statistics), so they tell where each `init` starts."""
    frozen = make_engine(
        root,
        optim_wrapper__optimizer__lr=0.0,
        param_scheduler=[],
        load_from=str(whole.checkpoint),
    )

    def start(name: str, **request: Any) -> str:
        result = fit_once(frozen, store, tmp_path / name, **request)
        content = torch.load(result.checkpoint, weights_only=True)
        assert content["meta"]["iter"] == 8, "a fresh schedule"
        return str(content["state_dict"]["backbone.encoder.0.0.convs.0.conv.weight"].sum().item())

    trained = torch.load(whole.checkpoint, weights_only=True)["state_dict"]
    trained_sum = str(trained["backbone.encoder.0.0.convs.0.conv.weight"].sum().item())
    scratch = start("scratch", previous=whole.checkpoint)
    assert scratch != trained_sum
    assert start("continue", init="continue", previous=whole.checkpoint) == trained_sum
    assert start("first", init="continue", previous=None) == trained_sum
    assert start("pretrained", init="pretrained", seed=9) == trained_sum


def test_continue_starts_the_schedule_afresh(
    engine: Any, store: LabelStore, whole: Any, root: Path, tmp_path: Path
) -> None:
    result = fit_once(engine, store, tmp_path / "a", init="continue", previous=whole.checkpoint)
    lines = scalars(tmp_path / "a")
    assert result.iterations == 8
    assert [line["lr"] for line in lines] == [line["lr"] for line in scalars(root / "whole")]
    assert lines[0]["loss"] < scalars(root / "whole")[0]["loss"]


def test_a_length_of_its_own_stretches_the_schedule(
    engine: Any, store: LabelStore, whole: Any, root: Path, tmp_path: Path
) -> None:
    """Half the iterations: the polynomial falls twice as fast to the same end; the next training
    has the config's own length again."""
    result = fit_once(engine, store, tmp_path / "a", iterations=4)
    rates = [line["lr"] for line in scalars(tmp_path / "a")]
    usual = [line["lr"] for line in scalars(root / "whole")]
    assert result.iterations == 4
    assert (rates[0], rates[-1]) == (usual[0], pytest.approx(usual[-1]))
    share = [(rate - rates[-1]) / (rates[0] - rates[-1]) for rate in rates]
    assert share == pytest.approx([(1 - i / 3) ** 0.9 for i in range(4)])
    assert fit_once(engine, store, tmp_path / "b").iterations == 8


@pytest.mark.parametrize("iterations", [1, 3, 40, 60, 600])
def test_a_short_training_ends_its_warm_up(engine: Any, iterations: int) -> None:
    """The schedule of mmseg's SegFormer on ADE20K: a warm-up of one step of 160000/60 would leave
    the learning rate at its start, 1e-6 of it; one of none is a traceback."""
    cfg = Config(
        {
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 160000, "val_interval": 1},
            "param_scheduler": [
                {"type": "LinearLR", "start_factor": 1e-6, "begin": 0, "end": 1500},
                {"type": "PolyLR", "power": 1.0, "eta_min": 0.0, "begin": 1500, "end": 160000},
            ],
        }
    )
    for scheduler in cfg.param_scheduler:
        scheduler["by_epoch"] = False
    fit.set_iterations(cfg, iterations)
    assert cfg.train_cfg["max_iters"] == iterations
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedulers = [
        PARAM_SCHEDULERS.build({**s, "optimizer": optimizer}) for s in cfg.param_scheduler
    ]
    rates = []
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
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
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """drop_last would leave epochs without a batch; an infinite sampler epochs without an end."""
    engine = make_engine(
        root,
        train_cfg={"_delete_": True, "by_epoch": True, "max_epochs": 2},
        param_scheduler=[],
        train_dataloader__batch_size=4,
        train_dataloader__drop_last=True,
        log_processor={"by_epoch": True},
    )
    result = fit_once(engine, store, tmp_path / "a")
    assert result.iterations == 2
    with pytest.raises(UnsupportedError, match="IterBasedTrainLoop"):
        fit_once(engine, store, tmp_path / "b", until=1)


def test_finite_sampler_does_not_stall_iterations(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """One labelled image, and mmengine would pause two seconds whenever it has been seen."""
    import time

    engine = make_engine(
        root,
        train_dataloader__sampler={"_delete_": True, "type": "DefaultSampler", "shuffle": True},
    )
    start = time.monotonic()
    assert fit_once(engine, store, tmp_path / "a").iterations == 8
    assert time.monotonic() - start < 9


def test_workers_and_persistent_workers(root: Path, store: LabelStore, tmp_path: Path) -> None:
    engine = make_engine(
        root, train_dataloader__num_workers=1, train_dataloader__persistent_workers=True
    )
    result = fit_once(engine, store, tmp_path / "a")
    assert result.extra["samples"] == 16
    assert result.label_share > 0


def test_custom_hooks_run(root: Path, store: LabelStore, tmp_path: Path) -> None:
    """EMAHook swaps weights when a checkpoint is saved; what predicts is the average."""
    engine = make_engine(root, custom_hooks=[{"type": "EMAHook", "momentum": 0.5}])
    result = fit_once(engine, store, tmp_path / "a")
    content = torch.load(result.checkpoint, weights_only=True)
    assert "ema_state_dict" in content
    assert engine.evaluate(result.checkpoint).sum() > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_training_image_is_named(tmp_path: Path, workers: int) -> None:
    make_data(tmp_path)
    write_config(tmp_path)
    engine = make_engine(tmp_path, train_dataloader__num_workers=workers)
    store = LabelStore(tmp_path / "labels")
    label_some(store, engine, 1)
    path = engine.pool[0].image
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"00_img\.png or .*00\.png cannot be read") as caught:
        fit_once(engine, store, tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "batch", "length", "dropped"),
    [(1, 4, 4, False), (3, 2, 3, True), (4, 2, 4, False), (2, 2, 2, False), (3, 1, 3, False)],
)
def test_epochs_have_whole_batches(
    engine: Any, images: int, batch: int, length: int, dropped: bool
) -> None:
    """Fewer images than a batch are repeated; a last batch of one, fatal to BN, is dropped."""
    from regional_al.engines.mmseg1.fit import loader_config

    cfg = copy.deepcopy(engine.cfg)
    cfg.train_cfg = {"by_epoch": True, "max_epochs": 1}
    cfg.train_dataloader.batch_size = batch
    loader = loader_config(cfg, list(range(images)))
    assert len(loader["dataset"]) == length
    assert bool(loader.get("drop_last")) is dropped
    assert loader["sampler"]["type"] == "DefaultSampler"


def test_stripped_checkpoints() -> None:
    import numpy as np

    from regional_al.engines.mmseg1.hooks import strip

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


def test_seed_of_a_stretch_is_its_own(engine: Any, store: LabelStore, tmp_path: Path) -> None:
    """A Runner that resumes would take over the seed of the checkpoint."""
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
    assert "seed" not in torch.load(first.checkpoint, weights_only=True)["meta"]
