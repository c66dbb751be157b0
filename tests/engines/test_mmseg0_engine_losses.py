"""Losses over labelled pixels only, pools and label spaces of the mmseg0 engine."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmcv.runner")
from mmseg0_tiny import TINY
from mmseg_tiny import make_data, make_engine

from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.store.images import write_png

pytestmark = pytest.mark.mmseg0
CE = {"type": "CrossEntropyLoss", "loss_weight": 1.0}


def settle(refuse: bool = True, sampler: Any = None, channels: int = 4, **loss: Any) -> Any:
    """The loss config that a head with this loss trains with."""
    from regional_al.engines.mmseg0.losses import average_over_labels

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
    assert settle(**CE, class_weight=[1.0, 2.0, 3.0, 4.0])


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


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"type": "STDCHead"}, "STDCHead"),
        ({"type": "EncHead"}, "EncHead.*use_se_loss"),
        ({"ignore_index": 0}, "ignore_index=0"),
        ({"loss_decode": "CE"}, "must be a dict"),
        ({"loss_decode": {"type": "NoLoss"}}, "NoLoss"),
    ],
)
def test_heads_that_cannot_are_refused(change: dict[str, Any], match: str) -> None:
    from regional_al.engines.mmseg0.losses import average_over_labels

    head = {"type": "FCNHead", "num_classes": 3, "loss_decode": dict(CE), **change}
    with pytest.raises(ConfigError, match=match):
        average_over_labels({"decode_head": head}, refuse=True)
    whole = {"decode_head": {**head, "loss_decode": dict(CE), "ignore_index": 255}}
    average_over_labels(whole, refuse=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    TINY.write_config(folder)
    return folder


def test_unlabeled_batch_is_finite_end_to_end(root: Path) -> None:
    """Loss, gradients and weights after a step on a batch in which every pixel is 255."""
    from mmcv.parallel import collate

    from regional_al.engines.mmseg0.parallel import wrapped
    from regional_al.engines.mmseg0.pool import read_sample
    from regional_al.engines.mmseg0.predict import build_model

    engine: Any = make_engine(root)
    mask = root / "none.png"
    write_png(mask, np.full(engine.pool[0].shape, 255, np.uint8))
    model = wrapped(build_model(engine.cfg).train())
    samples = [read_sample(engine._pool.dataset, 0, mask) for _ in range(2)]
    outputs = model.train_step(collate(samples, samples_per_gpu=2), None)
    outputs["loss"].backward()
    assert float(outputs["loss"].detach()) == 0
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert found
    assert all(torch.isfinite(gradient).all() for gradient in found)


def test_unlabeled_pixels_leave_a_heads_loss_unchanged(root: Path) -> None:
    """The whole head, aux losses included: labels of one half, then the other half made void."""
    from regional_al.engines.mmseg0.predict import build_model

    engine: Any = make_engine(root)
    head = build_model(engine.cfg).decode_head
    logits = torch.randn(2, 3, 16, 16)
    target = torch.randint(0, 3, (2, 1, 16, 16))
    target[..., 8:] = 255
    half = head.losses(logits[..., :8], target[..., :8])["loss_ce"]
    torch.testing.assert_close(head.losses(logits, target)["loss_ce"], half, rtol=1e-5, atol=1e-6)


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
    bare = make_engine(tmp_path, data__train__ann_dir=None)
    assert [item.key for item in bare.pool] == [item.key for item in engine.pool]
    assert all(item.annotation is None for item in bare.pool)
    bare.preflight()


def test_joined_repeated_and_split_data_sets(root: Path) -> None:
    engine: Any = make_engine(root)
    one = engine.cfg.data.train.to_dict()
    other = {
        **one,
        "img_dir": "img/val",
        "ann_dir": "gt/val",
        "img_suffix": "2_img.png",
        "seg_map_suffix": "2_gt.png",
    }
    joined = make_engine(root, data__train=[one, other])
    assert [item.key for item in joined.pool][-1] == "town/0"
    assert joined.pool[-1].image == root / "img" / "val" / "town" / "02_img.png"
    repeated = {"_delete_": True, "type": "RepeatDataset", "times": 3, "dataset": one}
    assert len(make_engine(root, data__train=repeated).pool) == 5
    with pytest.raises(DataError, match=r"00_img\.png"):
        make_engine(root, data__train=[one, one])
    mixed = {"_delete_": True, "type": "MultiImageMixDataset", "dataset": one, "pipeline": []}
    with pytest.raises(UnsupportedError, match="MultiImageMixDataset"):
        make_engine(root, data__train=mixed)
    (root / "a.txt").write_text("town/01\ntown/03\n")
    (root / "b.txt").write_text("town/00\n")
    split = make_engine(root, data__train__split=["a.txt", "b.txt"])
    assert [item.key for item in split.pool] == ["town/01", "town/03", "town/00"]
    folders = {"img_dir": ["img/train/town", "img/val"], "ann_dir": ["gt/train/town", "gt/val"]}
    two = make_engine(root, data__train={**one, **folders, "_delete_": True})
    assert [item.key for item in two.pool] == [
        *(f"{i:02d}" for i in range(5)),
        *(f"town/{i:02d}" for i in range(3)),
    ]
    two.preflight()
    with pytest.raises(ConfigError, match="one length"):
        make_engine(root, data__train={**one, **folders, "ann_dir": ["gt/train"], "_delete_": True})


def test_cityscapes_folders_may_be_joined(tmp_path: Path) -> None:
    """mmseg itself refuses to join them, for the sake of an evaluation that is not its own here."""
    from regional_al.engines.mmseg0.pool import build_pool
    from regional_al.testing import streets

    streets.generate(tmp_path / "c", train=3, val=2, size=(32, 64), layout="cityscapes")
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]
    part = {"type": "CityscapesDataset", "data_root": str(tmp_path / "c"), "pipeline": pipeline}
    both = [
        {**part, "img_dir": f"leftImg8bit/{split}", "ann_dir": f"gtFine/{split}"}
        for split in ("train", "val")
    ]
    pool = build_pool(both)
    assert len(pool.items) == 5
    assert pool.items[0].key.count("/") == 1
    assert pool.items[0].annotation is not None
    assert pool.label_space.num_classes == 19
    assert len(build_pool(both, limit=1).items) == 2


@pytest.mark.parametrize("reduce_zero_label", [False, True])
@pytest.mark.parametrize("chosen", [None, ("d", "b"), ("b", "a")])
def test_label_space_is_what_mmseg_loads(
    tmp_path: Path, reduce_zero_label: bool, chosen: tuple[str, ...] | None
) -> None:
    """By hand: the class map first, then `reduce_zero_label`; training and evaluation agree."""
    from mmseg.datasets import CustomDataset

    from regional_al.engines.mmseg0.pool import label_space, loads_annotations, loads_truth

    class Letters(CustomDataset):  # type: ignore[misc]
        CLASSES = ("a", "b", "c", "d")
        PALETTE = [[i, i, i] for i in range(4)]  # noqa: RUF012

    write_png(tmp_path / "img" / "x.jpg", np.zeros((16, 16, 3), np.uint8))
    load = {"type": "LoadAnnotations", "reduce_zero_label": reduce_zero_label}
    dataset = Letters(
        [{"type": "LoadImageFromFile"}, load],
        img_dir=str(tmp_path / "img"),
        ann_dir="gt",
        reduce_zero_label=reduce_zero_label,
        classes=chosen,
    )
    names = list(chosen or Letters.CLASSES)
    expected = []
    for raw in range(256):
        found = raw
        if chosen and raw < 4:
            letter = Letters.CLASSES[raw]
            found = names.index(letter) if letter in names else 255
        if reduce_zero_label:
            found = 255 if found in (0, 255) else found - 1
        expected.append(found if found < len(names) or found == 255 else -1)
    for load_by in (loads_annotations(dataset), loads_truth(dataset)):
        space = label_space(dataset, load_by)
        assert space.raw_to_train.tolist() == expected
        assert space.class_names == tuple(names)


def test_reduce_zero_label_must_agree(root: Path) -> None:
    engine: Any = make_engine(
        root, data__train__reduce_zero_label=True, data__val__reduce_zero_label=True
    )
    with pytest.raises(ConfigError, match="reduce_zero_label"):
        engine.preflight()
    pipeline = copy.deepcopy(engine.cfg.data.train.pipeline)
    pipeline[1].reduce_zero_label = True
    make_engine(
        root,
        data__train__reduce_zero_label=True,
        data__val__reduce_zero_label=True,
        data__train__pipeline=pipeline,
    ).preflight()
