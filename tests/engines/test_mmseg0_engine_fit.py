"""Training stretches of the mmseg0 engine: where weights start, where schedules stop, which keys
of a 0.x config keep their meaning."""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmcv.runner")
from mmseg0_tiny import (
    fit_once,
    label_some,
    logged,
    make_data,
    make_engine,
    weights_hash,
    write_config,
)

from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.store.labels import LabelStore

pytestmark = pytest.mark.mmseg0
FIRST = "backbone.encoder.0.0.convs.0.conv.weight"


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


def state(checkpoint: Path) -> Any:
    return torch.load(checkpoint, weights_only=True)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [line for line in logged(folder) if line["mode"] == "train"]


def test_a_stretch_leaves_one_plain_checkpoint(whole: Any, root: Path) -> None:
    content = state(whole.checkpoint)
    assert set(content) == {"meta", "state_dict", "optimizer"}
    assert content["meta"]["iter"] == whole.iterations == 8
    assert content["meta"]["CLASSES"] == ("left", "right", "low")
    assert not any(key.startswith("module.") for key in content["state_dict"])
    names = {path.name for path in (root / "whole").glob("*.pth*")}
    assert names == {"checkpoint.pth", "iter_8.pth", "latest.pth"}, "ours, and CheckpointHook's"
    assert whole.checkpoint == root / "whole" / "checkpoint.pth"


def test_loss_falls_and_every_iteration_is_logged(whole: Any, root: Path) -> None:
    found = lines(root / "whole")
    assert [line["iter"] for line in found] == list(range(1, 9))
    assert found[-1]["loss"] < found[0]["loss"]
    (text,) = (root / "whole").glob("*.log")
    assert "Iter [8/8]" in text.read_text()


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
    content = state(first.checkpoint)
    whole_lines = lines(root / "whole")
    assert (first.iterations, content["meta"]["iter"]) == (4, 4)
    assert content["optimizer"]["state"], "momentum must be kept"
    rest = fit_once(engine, store, tmp_path / "b", until=-1, previous=first.checkpoint, seed=5)
    assert rest.iterations == 4
    assert state(rest.checkpoint)["meta"]["iter"] == 8
    continued = lines(tmp_path / "a") + lines(tmp_path / "b")
    assert [line["lr"] for line in continued] == [line["lr"] for line in whole_lines]
    assert [line["iter"] for line in continued] == list(range(1, 9))
    assert whole_lines[7]["lr"] < whole_lines[0]["lr"]


def test_stretch_restores_weights_and_momentum(
    engine: Any, store: LabelStore, tmp_path: Path
) -> None:
    first = fit_once(engine, store, tmp_path / "a", until=4)
    there = fit_once(engine, store, tmp_path / "b", until=4, previous=first.checkpoint)
    assert there.iterations == 0
    assert math.isnan(there.label_share)
    assert weights_hash(there.checkpoint) == weights_hash(first.checkpoint)
    one, two = (state(r.checkpoint)["optimizer"]["state"] for r in (first, there))
    for index, item in one.items():
        assert torch.equal(item["momentum_buffer"], two[index]["momentum_buffer"])


def test_until_zero_is_the_untrained_model(engine: Any, store: LabelStore, tmp_path: Path) -> None:
    start = fit_once(engine, store, tmp_path / "a", until=0)
    again = fit_once(engine, store, tmp_path / "b", until=0)
    assert start.iterations == 0
    assert weights_hash(start.checkpoint) == weights_hash(again.checkpoint)


def test_scratch_forgets_continue_keeps_pretrained_loads(
    root: Path, store: LabelStore, whole: Any, tmp_path: Path
) -> None:
    """With a learning rate of zero the weights that training starts from are those it ends with
    (but for BN statistics), so they tell where each `init` starts."""
    frozen = make_engine(
        root,
        optimizer__lr=0.0,
        optimizer__weight_decay=0.0,
        lr_config=None,
        load_from=str(whole.checkpoint),
    )

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


def test_resume_from_goes_on_with_its_schedule(
    root: Path, store: LabelStore, engine: Any, tmp_path: Path
) -> None:
    first = fit_once(engine, store, tmp_path / "a", until=3)
    options = {"resume_from": str(first.checkpoint), "acquisition__queries": [5]}
    resumed = make_engine(root, **options)
    result = fit_once(resumed, store, tmp_path / "b", until=5)
    assert result.iterations == 2
    assert [line["iter"] for line in lines(tmp_path / "b")] == [4, 5]
    with pytest.raises(UnsupportedError, match="resume_from"):
        make_engine(root, resume_from=str(first.checkpoint))


def test_iterations_stretch_the_schedule(root: Path, store: LabelStore, tmp_path: Path) -> None:
    engine = make_engine(
        root,
        lr_config={
            "_delete_": True,
            "policy": "step",
            "step": [2, 6],
            "gamma": 0.1,
            "by_epoch": False,
        },
    )
    result = fit_once(engine, store, tmp_path / "a", iterations=4)
    assert result.iterations == 4
    rates = [line["lr"] for line in lines(tmp_path / "a")]
    assert rates == pytest.approx([0.05, 0.005, 0.005, 0.0005])


@pytest.mark.parametrize("iterations", [1, 2, 6])
def test_a_short_training_ends_its_warm_up(
    root: Path, store: LabelStore, tmp_path: Path, iterations: int
) -> None:
    """A warm-up that is longer than the training would leave the learning rate near nothing."""
    policy = {"_delete_": True, "policy": "poly", "power": 1.0, "by_epoch": False}
    policy.update(warmup="linear", warmup_iters=8, warmup_ratio=1e-6)
    engine = make_engine(root, lr_config=policy)
    assert fit_once(engine, store, tmp_path / "a", iterations=iterations).iterations == iterations
    rates = [line["lr"] for line in lines(tmp_path / "a")]
    assert max(rates) > 0.05 / 2 / iterations


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
    """drop_last would leave epochs without a batch."""
    engine = make_engine(
        root,
        runner={"_delete_": True, "type": "EpochBasedRunner", "max_epochs": 1},
        lr_config={"_delete_": True, "policy": "step", "step": [1]},
        log_config={"interval": 1, "hooks": [{"type": "TextLoggerHook"}]},
        data__samples_per_gpu=4,
    )
    result = fit_once(engine, store, tmp_path / "a")
    assert result.iterations == 1
    assert result.extra["samples"] == 4
    with pytest.raises(UnsupportedError, match="IterBasedRunner"):
        fit_once(engine, store, tmp_path / "b", until=1)
    with pytest.raises(UnsupportedError, match=r"acquisition\.iterations"):
        fit_once(engine, store, tmp_path / "c", iterations=3)


def test_one_image_does_not_stall_iterations(root: Path, tmp_path: Path) -> None:
    """mmcv would pause two seconds whenever the only labelled image has been seen."""
    engine = make_engine(root)
    store = LabelStore(tmp_path / "labels")
    label_some(store, engine, 1)
    start = time.monotonic()
    assert fit_once(engine, store, tmp_path / "a").iterations == 8
    assert time.monotonic() - start < 12


def test_drawn_samples_are_passes_in_changing_order() -> None:
    from regional_al.engines.mmseg0.loaders import Drawn

    drawn = Drawn(list("abcde"), 17, seed=3)
    found = [drawn[i] for i in range(len(drawn))]
    passes = [found[i : i + 5] for i in (0, 5, 10)]
    assert all(sorted(one) == list("abcde") for one in passes)
    assert passes[0] != passes[1] or passes[1] != passes[2]
    assert [Drawn(list("abcde"), 17, seed=3)[i] for i in range(17)] == found
    assert [Drawn(list("abcde"), 17, seed=4)[i] for i in range(17)] != found
    assert [Drawn(list("ab"), 4, 0, shuffle=False)[i] for i in range(4)] == list("abab")


def test_workers(root: Path, store: LabelStore, tmp_path: Path) -> None:
    engine = make_engine(root, data__workers_per_gpu=1)
    result = fit_once(engine, store, tmp_path / "a")
    assert result.extra["samples"] == 16
    assert result.label_share > 0


def test_evaluation_checkpoints_and_workflow_keep_their_meaning(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    engine = make_engine(
        root,
        evaluation__interval=4,
        evaluation__save_best="mIoU",
        checkpoint_config__interval=3,
        checkpoint_config__max_keep_ckpts=1,
        workflow=[("train", 2), ("val", 1)],
        momentum_config={"policy": "cyclic", "by_epoch": False},
        optimizer_config={"grad_clip": {"max_norm": 1.0}},
    )
    result = fit_once(engine, store, tmp_path / "a")
    found = logged(tmp_path / "a")
    scores = [line["mIoU"] for line in found if "mIoU" in line]
    assert len(scores) == 2
    names = {path.name for path in (tmp_path / "a").glob("*.pth")}
    assert {"checkpoint.pth", "iter_8.pth"} <= names
    assert any(name.startswith("best_mIoU_iter_") for name in names)
    assert "iter_3.pth" not in names
    assert any("decode.loss_ce_val" in line for line in found)
    assert all("grad_norm" in line for line in found if line["mode"] == "train" and "loss" in line)
    from regional_al.metrics import mean_iou

    matrix = engine.evaluate(result.checkpoint)
    assert scores[-1] == pytest.approx(mean_iou(matrix), abs=1e-4)


def test_custom_hooks_run(root: Path, store: LabelStore, tmp_path: Path) -> None:
    engine = make_engine(root, custom_hooks=[{"type": "EMAHook", "momentum": 0.5}])
    result = fit_once(engine, store, tmp_path / "a")
    assert any(key.startswith("ema_") for key in state(result.checkpoint)["state_dict"])
    assert engine.evaluate(result.checkpoint).sum() > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_training_image_is_named(tmp_path: Path, workers: int) -> None:
    make_data(tmp_path)
    write_config(tmp_path)
    engine = make_engine(tmp_path, data__workers_per_gpu=workers)
    store = LabelStore(tmp_path / "labels")
    label_some(store, engine, 1)
    path = engine.pool[0].image
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"00_img\.png or .*00\.png cannot be read") as caught:
        fit_once(engine, store, tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "batch", "length", "dropped"),
    [(1, 4, 4, True), (3, 2, 3, True), (4, 2, 4, True), (2, 2, 2, True), (3, 1, 3, True)],
)
def test_epochs_have_whole_batches(
    engine: Any, images: int, batch: int, length: int, dropped: bool
) -> None:
    """Fewer images than a batch are repeated; a last batch of one, fatal to BN, is dropped."""
    from regional_al.engines.mmseg0.loaders import train_loader

    cfg = copy.deepcopy(engine.cfg)
    cfg.data.samples_per_gpu = batch
    loader = train_loader(cfg, list(range(images)), 0, None)
    assert len(loader.dataset) == length
    assert loader.drop_last is dropped
    cfg.data.train_dataloader = {"drop_last": False}
    assert train_loader(cfg, list(range(3)), 0, None).drop_last is (batch == 2)


def test_seed_of_a_stretch_is_its_own(engine: Any, store: LabelStore, tmp_path: Path) -> None:
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


def test_checkpoints_with_code_in_them_are_refused(root: Path, tmp_path: Path) -> None:
    """mmcv itself would run the code."""
    path = tmp_path / "old.pth"
    torch.save({"state_dict": {}, "meta": {"where": tmp_path}}, path)
    engine = make_engine(root, load_from=str(path))
    with pytest.raises(ConfigError, match="weights_only") as caught:
        engine.preflight()
    assert "\n" not in str(caught.value)
