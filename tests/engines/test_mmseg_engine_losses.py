"""Losses over labelled pixels only, pools and label spaces of the MMSegmentation engines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import CLASSES, Tiny, make_data, make_engine

from regional_al.engines.mmseg import loss_probe
from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.store.images import write_png
from regional_al.testing import streets

CE = {"type": "CrossEntropyLoss", "loss_weight": 1.0}
OHEM = {"type": "OHEMPixelSampler", "min_kept": 30}


def settle(
    tiny: Tiny, refuse: bool = True, sampler: Any = None, channels: int = 4, **loss: Any
) -> Any:
    """The loss config that a head with this loss trains with."""
    head = {
        "type": "FCNHead",
        "num_classes": max(channels, 2),
        "out_channels": channels,
        "loss_decode": loss,
        "sampler": sampler,
    }
    tiny.part("losses").average_over_labels({"decode_head": head}, refuse)
    return head["loss_decode"]


def test_cross_entropy_averages_over_labels(tiny: Tiny) -> None:
    assert settle(tiny, **CE) == {**CE, "avg_non_ignore": True}
    assert settle(tiny, refuse=False, **CE)["avg_non_ignore"] is True
    assert settle(tiny, **CE, use_sigmoid=True)["avg_non_ignore"] is True


def test_class_weights_take_the_variant_that_works(tiny: Tiny) -> None:
    found = settle(tiny, **CE, class_weight=[1.0, 2.0, 3.0, 4.0])
    assert bool(found.get("avg_non_ignore")) == tiny.averages_weighted


def test_one_channel_sigmoid_gets_a_guard(tiny: Tiny) -> None:
    found = settle(tiny, channels=1, **CE, use_sigmoid=True)
    assert found["type"] == "LabelledCrossEntropyLoss"
    assert found["avg_non_ignore"] is True


def test_hard_pixel_sampler_passes_or_is_named(tiny: Tiny) -> None:
    assert settle(tiny, sampler={**OHEM, "thresh": 0.7}, **CE)["avg_non_ignore"] is True
    with pytest.raises(UnsupportedError, match="OHEMPixelSampler"):
        settle(tiny, sampler=OHEM, **CE, use_sigmoid=True)


def test_whole_images_keep_a_loss_that_works(tiny: Tiny) -> None:
    for loss in ({"type": "DiceLoss"}, {"type": "LovaszLoss", "reduction": "none"}):
        assert settle(tiny, refuse=False, **loss) == loss


def test_focal_loss_works_on_whole_images(tiny: Tiny) -> None:
    """mmseg's own way for CPUs fails in some releases even where every pixel is labelled."""
    spec = settle(tiny, refuse=False, type="FocalLoss")
    logits, target = torch.randn(2, 4, 6, 5), torch.randint(0, 4, (2, 6, 5))
    assert torch.isfinite(tiny.part("losses").build({}, spec)(logits, target))


class Spreading(torch.nn.Module):
    """A user's loss: the mean of something over all pixels; `of`: a factor for each."""

    loss_name = "loss_spreading"

    def __init__(self, of: str) -> None:
        super().__init__()
        self.of = of

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, ignore_index: int, **_: Any
    ) -> torch.Tensor:
        kept = (target != ignore_index).float()
        factor = {"all": torch.ones_like(kept), "labelled": kept, "clamped": kept.clamp(0.1)}
        value = (logits**2).sum(1) * factor[self.of]
        return value.mean() if self.of != "broken" else value.no_such_attribute


def user_loss(tiny: Tiny, of: str, head: Any) -> Any:
    losses = tiny.part("losses")
    settling = dataclasses.replace(
        losses.SETTLING, build=lambda *_: loss_probe.HeadLoss(Spreading(of), None)
    )
    loss_probe.average_over_labels({"decode_head": head}, True, settling)


@pytest.mark.parametrize("of", ["all", "clamped"])
def test_a_users_loss_on_unlabelled_pixels_is_refused(tiny: Tiny, of: str) -> None:
    head = {"type": "FCNHead", "num_classes": 4, "loss_decode": {"type": "Mine"}}
    with pytest.raises(UnsupportedError, match=r"'Mine' cannot .* its gradient is") as caught:
        user_loss(tiny, of, head)
    assert "\n" not in str(caught.value)


def test_a_users_loss_that_weakens_is_told(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    """No gradient at unlabelled pixels, but less at the others the more there are of them."""
    head = {"type": "FCNHead", "num_classes": 4, "loss_decode": {"type": "Mine"}}
    user_loss(tiny, "labelled", head)
    assert head["loss_decode"] == {"type": "Mine"}
    (told,) = [record.getMessage() for record in caplog.records]
    assert "'Mine' divides by all pixels" in told
    assert "leave 29 % of its gradient" in told  # 12 rows of 42


def test_auxiliary_heads_and_lists_are_reached(tiny: Tiny) -> None:
    head = {"type": "FCNHead", "num_classes": 3}
    model: Any = {
        "decode_head": [dict(head), {**head, "loss_decode": [dict(CE), {**CE, "loss_name": "b"}]}],
        "auxiliary_head": {**head, "loss_decode": dict(CE)},
    }
    tiny.part("losses").average_over_labels(model, refuse=True)
    first, second = model["decode_head"]
    assert first["loss_decode"]["avg_non_ignore"] is True
    assert all(loss["avg_non_ignore"] for loss in second["loss_decode"])
    assert model["auxiliary_head"]["loss_decode"]["avg_non_ignore"] is True


def refused_head(tiny: Tiny, change: Any, match: str) -> None:
    """A head with this change is refused with sparse labels; as it should be, with whole images it
    is taken."""
    average = tiny.part("losses").average_over_labels
    head = {"type": "FCNHead", "num_classes": 3, "loss_decode": dict(CE), **change}
    with pytest.raises(ConfigError, match=match):
        average({"decode_head": head}, refuse=True)
    mended = {**head, "loss_decode": dict(CE), "ignore_index": 255}
    average({"decode_head": mended}, refuse=False)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ignore_index": 0}, "ignore_index=0"),
        ({"loss_decode": "CE"}, "must be a dict"),
        ({"loss_decode": {"type": "NoLoss"}}, "NoLoss"),
    ],
)
def test_heads_that_cannot_are_refused(tiny: Tiny, change: dict[str, Any], match: str) -> None:
    refused_head(tiny, change, match)


def test_heads_that_no_loss_helps_are_refused(tiny: Tiny) -> None:
    for change, match in tiny.refused_heads:
        refused_head(tiny, change, match)


def test_unlabeled_batch_is_finite_end_to_end(tiny: Tiny, engine: Any, root: Path) -> None:
    """Loss, gradients and weights after a step on a batch in which every pixel is 255."""
    mask = root / "none.png"
    write_png(mask, np.full(engine.pool[0].shape, 255, np.uint8))
    model = tiny.part("predict").build_model(engine.cfg).train()
    samples = [engine.read_sample(engine.dataset, 0, mask) for _ in range(2)]
    gradients: list[torch.Tensor] = []
    for parameter in model.parameters():
        parameter.register_hook(gradients.append)
    assert tiny.step(engine, model, samples) == 0
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_unlabeled_pixels_leave_a_heads_loss_unchanged(tiny: Tiny, engine: Any) -> None:
    """The whole head: labels of one half, then the other half made void."""
    head = tiny.part("predict").build_model(engine.cfg).decode_head
    logits = torch.randn(2, 3, 16, 16)
    target = torch.randint(0, 3, (2, 1, 16, 16))
    target[..., 8:] = 255
    half = tiny.head_loss(head, logits[..., :8], target[..., :8])
    found = tiny.head_loss(head, logits, target)
    torch.testing.assert_close(found, half, rtol=1e-5, atol=1e-6)


def test_pool_items(engine: Any, root: Path) -> None:
    assert [item.key for item in engine.pool] == [f"town/{i:02d}" for i in range(5)]
    assert [item.shape for item in engine.pool[:2]] == [(90, 122), (96, 128)]
    assert engine.pool[0].annotation == root / "gt" / "train" / "town" / "00_gt.png"
    assert engine.label_space.class_names == CLASSES
    assert engine.label_space.palette[1] == (0, 9, 0)


def test_pool_without_annotations(tiny: Tiny, tmp_path: Path) -> None:
    make_data(tmp_path)
    for mask in (tmp_path / "gt" / "train").rglob("*.png"):
        mask.unlink()
    tiny.write_config(tmp_path)
    engine: Any = make_engine(tmp_path)
    assert all(item.annotation is None for item in engine.pool)
    engine.preflight()
    spec = {**tiny.train_spec(engine), **tiny.folders("img/train", None), "_delete_": True}
    bare: Any = make_engine(tmp_path, {tiny.train_set: spec})
    assert [item.key for item in bare.pool] == [item.key for item in engine.pool]
    assert all(item.annotation is None for item in bare.pool)
    bare.preflight()


def test_joined_and_repeated_data_sets(tiny: Tiny, engine: Any, root: Path) -> None:
    one = tiny.train_spec(engine)
    suffixes = {"img_suffix": "2_img.png", "seg_map_suffix": "2_gt.png"}
    other = {**one, **tiny.folders("img/val", "gt/val"), **suffixes}
    joined = make_engine(root, tiny.joined([one, other]))
    assert [item.key for item in joined.pool][-1] == "town/0"
    assert joined.pool[-1].image == root / "img" / "val" / "town" / "02_img.png"
    repeated = {"_delete_": True, "type": "RepeatDataset", "times": 3, "dataset": one}
    assert len(make_engine(root, {tiny.train_set: repeated}).pool) == 5
    with pytest.raises(DataError, match=r"00_img\.png"):
        make_engine(root, tiny.joined([one, one]))
    mine = {"_delete_": True, "type": "MyWrapper", "dataset": one}
    with pytest.raises(UnsupportedError, match=r"MyWrapper.*use the data set inside"):
        make_engine(root, {tiny.train_set: mine})


def test_cityscapes_folders_may_be_joined(tiny: Tiny, engine: Any, root: Path) -> None:
    """mmseg 0.x itself refuses to join them, for the sake of an evaluation that is not its own
    here."""
    folder = root / "cityscapes"
    streets.generate(folder, train=3, val=2, size=(32, 64), layout="cityscapes")
    pipeline = tiny.train_spec(engine)["pipeline"]
    part = {"type": "CityscapesDataset", "data_root": str(folder), "pipeline": pipeline}
    both = [
        {**part, **tiny.folders(f"leftImg8bit/{split}", f"gtFine/{split}")}
        for split in ("train", "val")
    ]
    joined = make_engine(root, tiny.joined(both))
    assert len(joined.pool) == 5
    assert joined.pool[0].key.count("/") == 1
    assert joined.pool[0].annotation is not None
    assert joined.label_space.num_classes == 19


@pytest.mark.parametrize("reduce_zero_label", [False, True])
@pytest.mark.parametrize("chosen", [None, ("d", "b"), ("b", "a")])
def test_label_space_is_what_mmseg_loads(
    tiny: Tiny, tmp_path: Path, reduce_zero_label: bool, chosen: tuple[str, ...] | None
) -> None:
    """Every raw id becomes what mmseg makes of it."""
    spaces, expected = tiny.letters(tmp_path, chosen, reduce_zero_label)
    names = chosen or tuple("abcd")
    assert spaces
    for space in spaces:
        assert np.array_equal(space.raw_to_train, expected)
        assert space.class_names == names
        assert space.num_classes == len(names)
        assert space.trainable.sum() == ((expected >= 0) & (expected != 255)).sum()
