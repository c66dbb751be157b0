"""Losses over labelled pixels only, pools and label spaces of the mmseg1 engine."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")
from mmseg1_tiny import TINY
from mmseg_tiny import make_data, make_engine

from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.store.images import write_png

pytestmark = pytest.mark.mmseg1
CE = {"type": "CrossEntropyLoss", "loss_weight": 1.0}


def settle(refuse: bool = True, sampler: Any = None, channels: int = 4, **loss: Any) -> Any:
    """The loss config that a head with this loss trains with."""
    from regional_al.engines.mmseg1.losses import average_over_labels

    head = {
        "type": "FCNHead",
        "num_classes": max(channels, 2),
        "out_channels": channels,
        "loss_decode": loss,
        "sampler": sampler,
    }
    average_over_labels({"decode_head": head}, refuse)
    return head["loss_decode"]


def test_cross_entropy_averages_over_labels() -> None:
    assert settle(**CE) == {**CE, "avg_non_ignore": True}
    assert settle(refuse=False, **CE)["avg_non_ignore"] is True
    assert settle(**CE, use_sigmoid=True)["avg_non_ignore"] is True


def test_class_weights_take_the_variant_that_works() -> None:
    """With avg_non_ignore, class weights raise an IndexError in mmseg; without, the sum of the
    labelled pixels' weights is what is divided by."""
    found = settle(**CE, class_weight=[1.0, 2.0, 3.0, 4.0])
    assert not found.get("avg_non_ignore")


def test_one_channel_sigmoid_gets_a_guard() -> None:
    found = settle(channels=1, **CE, use_sigmoid=True)
    assert found["type"] == "LabelledCrossEntropyLoss"
    assert found["avg_non_ignore"] is True


def test_hard_pixel_sampler_passes_or_is_named() -> None:
    ohem = {"type": "OHEMPixelSampler", "thresh": 0.7, "min_kept": 30}
    assert settle(sampler=ohem, **CE)["avg_non_ignore"] is True
    with pytest.raises(UnsupportedError, match="OHEMPixelSampler"):
        settle(sampler={"type": "OHEMPixelSampler", "min_kept": 30}, **CE, use_sigmoid=True)


@pytest.mark.parametrize(
    "loss",
    [{"type": "DiceLoss"}, {"type": "FocalLoss"}, {"type": "LovaszLoss", "reduction": "none"}],
)
def test_losses_that_need_every_label_are_refused_by_name(loss: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match=loss["type"]) as caught:
        settle(**loss)
    assert "\n" not in str(caught.value)
    assert settle(refuse=False, **loss) == loss, "whole images may keep it"


def test_auxiliary_heads_and_lists_are_reached() -> None:
    from regional_al.engines.mmseg1.losses import average_over_labels

    head = {"type": "FCNHead", "num_classes": 3}
    model = {
        "decode_head": [dict(head), {**head, "loss_decode": [dict(CE), {**CE, "loss_name": "b"}]}],
        "auxiliary_head": {**head, "loss_decode": dict(CE)},
    }
    average_over_labels(model, refuse=True)
    first, second = model["decode_head"]  # type: ignore[misc]
    assert first["loss_decode"]["avg_non_ignore"] is True  # type: ignore[index]
    assert all(loss["avg_non_ignore"] for loss in second["loss_decode"])  # type: ignore[index]
    assert model["auxiliary_head"]["loss_decode"]["avg_non_ignore"] is True  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"type": "Mask2FormerHead"}, "Mask2FormerHead"),
        ({"ignore_index": 0}, "ignore_index=0"),
        ({"loss_decode": "CE"}, "must be a dict"),
        ({"loss_decode": {"type": "NoLoss"}}, "NoLoss"),
    ],
)
def test_heads_that_cannot_are_refused(change: dict[str, Any], match: str) -> None:
    from regional_al.engines.mmseg1.losses import average_over_labels

    head = {"type": "FCNHead", "num_classes": 3, "loss_decode": dict(CE), **change}
    with pytest.raises(ConfigError, match=match):
        average_over_labels({"decode_head": head}, refuse=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    TINY.write_config(folder)
    return folder


def test_unlabeled_batch_is_finite_end_to_end(root: Path) -> None:
    """Loss, gradients and weights after a step on a batch in which every pixel is 255."""
    from mmengine.optim import build_optim_wrapper

    from regional_al.engines.mmseg1.pool import read_sample
    from regional_al.engines.mmseg1.predict import build_model

    engine: Any = make_engine(root)
    mask = root / "none.png"
    write_png(mask, np.full(engine.pool[0].shape, 255, np.uint8))
    model = build_model(engine.cfg).train()
    samples = [read_sample(engine._pool.dataset, 0, mask) for _ in range(2)]
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    wrapper = build_optim_wrapper(model, copy.deepcopy(engine.cfg.optim_wrapper))
    logs = model.train_step(batch, wrapper)
    assert float(logs["loss"]) == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_pool_items(root: Path) -> None:
    engine = make_engine(root)
    assert [item.key for item in engine.pool] == [f"town/{i:02d}" for i in range(5)]
    assert [item.shape for item in engine.pool[:2]] == [(90, 122), (96, 128)]
    assert engine.pool[0].annotation == root / "gt" / "train" / "town" / "00_gt.png"
    assert engine.label_space.class_names == ("left", "right", "low")
    assert engine.label_space.palette[1] == (0, 9, 0)


def test_pool_without_annotations(tmp_path: Path) -> None:
    make_data(tmp_path)
    for mask in (tmp_path / "gt" / "train").rglob("*.png"):
        mask.unlink()
    TINY.write_config(tmp_path)
    engine = make_engine(tmp_path)
    assert all(item.annotation is None for item in engine.pool)
    engine.preflight()
    bare = make_engine(
        tmp_path, train_dataloader__dataset__data_prefix={"_delete_": True, "img_path": "img/train"}
    )
    assert [item.key for item in bare.pool] == [item.key for item in engine.pool]
    assert all(item.annotation is None for item in bare.pool)


def test_joined_and_repeated_data_sets(root: Path) -> None:
    engine: Any = make_engine(root)
    one = engine.cfg.train_dataloader.dataset.to_dict()
    both = {
        "type": "ConcatDataset",
        "datasets": [
            one,
            {
                **one,
                "data_prefix": {"img_path": "img/val", "seg_map_path": "gt/val"},
                "img_suffix": "2_img.png",
                "seg_map_suffix": "2_gt.png",
            },
        ],
    }
    joined = make_engine(root, train_dataloader__dataset={"_delete_": True, **both})
    assert [item.key for item in joined.pool][-1] == "town/0"
    assert joined.pool[-1].image == root / "img" / "val" / "town" / "02_img.png"
    repeated = {"_delete_": True, "type": "RepeatDataset", "times": 3, "dataset": one}
    assert len(make_engine(root, train_dataloader__dataset=repeated).pool) == 5
    twice = {"_delete_": True, "type": "ConcatDataset", "datasets": [one, one]}
    with pytest.raises(DataError, match=r"00_img\.png"):
        make_engine(root, train_dataloader__dataset=twice)
    mixed = {"_delete_": True, "type": "MultiImageMixDataset", "dataset": one, "pipeline": []}
    with pytest.raises(UnsupportedError, match="MultiImageMixDataset"):
        make_engine(root, train_dataloader__dataset=mixed)


@pytest.mark.parametrize("reduce_zero_label", [False, True])
@pytest.mark.parametrize("chosen", [None, ("d", "b"), ("b", "a")])
def test_label_space_is_what_mmseg_loads(
    tmp_path: Path, reduce_zero_label: bool, chosen: tuple[str, ...] | None
) -> None:
    """Every raw id goes through mmseg's own LoadAnnotations and comes out as the table says."""
    from mmseg.datasets import BaseSegDataset
    from mmseg.datasets.transforms import LoadAnnotations

    from regional_al.engines.mmseg1.pool import label_space

    class Letters(BaseSegDataset):  # type: ignore[misc]
        METAINFO = {"classes": ("a", "b", "c", "d"), "palette": [[i, i, i] for i in range(4)]}  # noqa: RUF012

    (tmp_path / "img").mkdir()
    write_png(tmp_path / "img" / "x.png", np.zeros((16, 16, 3), np.uint8))
    write_png(tmp_path / "gt" / "x.png", np.arange(256, dtype=np.uint8).reshape(16, 16))
    dataset = Letters(
        data_root=str(tmp_path),
        img_suffix=".png",
        reduce_zero_label=reduce_zero_label,
        data_prefix={"img_path": "img", "seg_map_path": "gt"},
        metainfo=None if chosen is None else {"classes": chosen},
    )
    loaded = LoadAnnotations()(dataset.get_data_info(0))["gt_seg_map"].ravel().astype(int)
    space = label_space(dataset)
    classes = len(chosen or Letters.METAINFO["classes"])
    known = (loaded < classes) | (loaded == 255)
    assert np.array_equal(space.raw_to_train, np.where(known, loaded, -1))
    assert space.num_classes == classes
    assert space.trainable.sum() == classes
