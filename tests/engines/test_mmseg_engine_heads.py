"""Whole heads on sparse labels: no part of their losses has a gradient from unlabelled pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from mmseg_tiny import Tiny, make_engine
from torch import nn

from regional_al.engines.mmseg import head_probe
from regional_al.errors import UnsupportedError

NORM = {"type": "BN", "requires_grad": True}
CE = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}
COMMON = {"channels": 8, "num_classes": 3, "norm_cfg": NORM, "align_corners": False}
FCN = {"type": "FCNHead", "in_channels": 8, "in_index": 2, "num_convs": 1, "concat_input": False}
PLAIN = {**FCN, **COMMON, "loss_decode": CE}
UPDATE = {
    "type": "KernelUpdateHead",
    "num_classes": 3,
    "num_ffn_fcs": 2,
    "num_heads": 2,
    "num_mask_fcs": 1,
    "feedforward_channels": 8,
    "in_channels": 8,
    "out_channels": 8,
    "dropout": 0.0,
    "ffn_act_cfg": {"type": "ReLU", "inplace": True},
    "kernel_updator_cfg": {
        "type": "KernelUpdator",
        "in_channels": 8,
        "feat_channels": 8,
        "out_channels": 8,
        "act_cfg": {"type": "ReLU", "inplace": True},
        "norm_cfg": {"type": "LN"},
    },
}
HEADS: dict[str, dict[str, Any]] = {
    "EncHead": {
        "type": "EncHead",
        "in_channels": [16, 8],
        "in_index": [1, 2],
        "num_codes": 4,
        **COMMON,
        "loss_decode": CE,
    },
    "STDCHead": {
        **PLAIN,
        "type": "STDCHead",
        "num_classes": 2,
        "loss_decode": [{**CE, "use_sigmoid": True}, {"type": "DiceLoss"}],
    },
    "DAHead": {
        "type": "DAHead",
        "in_channels": 16,
        "in_index": 1,
        "pam_channels": 4,
        **COMMON,
        "loss_decode": CE,
    },
    "IterativeDecodeHead": {
        "type": "IterativeDecodeHead",
        "num_stages": 2,
        "kernel_update_head": [UPDATE, UPDATE],
        "kernel_generate_head": PLAIN,
    },
    "FCNHead": {**PLAIN, "loss_decode": [CE, {"type": "DiceLoss", "loss_name": "loss_dice"}]},
}


def model_of(tiny: Tiny, root: Path, key: str, head: Mapping[str, Any], **more: Any) -> Any:
    """(engine, its model in training mode) with this head."""
    options = {f"model.{key}": {"_delete_": True, **head}}
    engine: Any = make_engine(root, options, **more)
    return engine, tiny.part("predict").build_model(engine.cfg).train()


def check(tiny: Tiny, engine: Any, model: Any, sparse: bool = True) -> None:
    tiny.part("preflight").check_losses(model, engine._pool, sparse)


@pytest.mark.parametrize("name", list(HEADS))
def test_mmsegs_heads_train_on_sparse_labels(tiny: Tiny, root: Path, name: str) -> None:
    key = "auxiliary_head" if name == "STDCHead" else "decode_head"
    engine, model = model_of(tiny, root, key, HEADS[name])
    check(tiny, engine, model)
    check(tiny, engine, model, sparse=False)


POINTS: dict[str, Any] = {
    "model.type": "CascadeEncoderDecoder",
    "model.num_stages": 2,
    "model.train_cfg": {
        "num_points": 64,
        "oversample_ratio": 3,
        "importance_sample_ratio": 0.75,
    },
    "model.decode_head": [
        PLAIN,
        {
            "type": "PointHead",
            "in_channels": [8],
            "in_index": [2],
            "num_fcs": 1,
            "channels": 8,
            "dropout_ratio": 0.0,
            "num_classes": 3,
            "align_corners": False,
            "loss_decode": [CE, {"type": "DiceLoss"}],
        },
    ],
}


@pytest.mark.parametrize("aligned", [False, True])
def test_points_train_on_sparse_labels(tiny: Tiny, root: Path, aligned: bool) -> None:
    """PointRend's second head compares points of the image, not maps; it is tried on points."""
    engine: Any = make_engine(root, POINTS)
    engine.cfg.model.decode_head[1]["align_corners"] = aligned
    model = tiny.part("predict").build_model(engine.cfg).train()
    check(tiny, engine, model)
    model.decode_head[1].loss_decode[0] = Leaking(model.decode_head[1].loss_decode[0], "beside")
    match = r"decode_head\[1\] \(PointHead\): pointloss_ce \(Leaking\) .* at unlabelled pixels"
    with pytest.raises(UnsupportedError, match=match):
        check(tiny, engine, model)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("EncHead", r"decode_head \(EncHead\): loss_se .*a batch without labels"),
        ("STDCHead", r"auxiliary_head \(STDCHead\): loss_ce \(\w*CrossEntropyLoss\)"),
    ],
)
def test_mmsegs_own_heads_would_not(tiny: Tiny, root: Path, name: str, match: str) -> None:
    """Without the substitution, the probe refuses them, and tells head, loss and what it saw."""
    key = "auxiliary_head" if name == "STDCHead" else "decode_head"
    engine, _ = model_of(tiny, root, key, HEADS[name])
    engine.cfg.model[key]["type"] = name
    model = tiny.part("predict").build_model(engine.cfg).train()
    with pytest.raises(UnsupportedError, match=match) as caught:
        check(tiny, engine, model)
    assert "\n" not in str(caught.value)
    assert "acquisition.level='image'" in str(caught.value)
    check(tiny, engine, model, sparse=False)


def test_whole_images_keep_mmsegs_heads(tiny: Tiny, root: Path) -> None:
    engine, _ = model_of(tiny, root, "decode_head", HEADS["EncHead"], acquisition__level="image")
    assert engine.cfg.model.decode_head.type == "EncHead"
    assert "loss_se_decode" not in engine.cfg.model.decode_head
    engine, _ = model_of(tiny, root, "decode_head", HEADS["EncHead"])
    assert engine.cfg.model.decode_head.type == "LabelledEncHead"


def test_inner_heads_are_settled(tiny: Tiny, root: Path) -> None:
    engine, model = model_of(tiny, root, "decode_head", HEADS["IterativeDecodeHead"])
    inner = engine.cfg.model.decode_head.kernel_generate_head
    assert inner.loss_decode.avg_non_ignore is True
    assert "loss_decode" not in engine.cfg.model.decode_head
    assert next(head.key for head in head_probe.heads_of(model)) == "model.decode_head"


def test_details_equal_mmsegs_own_on_whole_masks(tiny: Tiny, root: Path) -> None:
    """A head of either kind with the same weights."""
    engine, model = model_of(tiny, root, "auxiliary_head", HEADS["STDCHead"])
    engine.cfg.model.auxiliary_head["type"] = "STDCHead"
    other = tiny.part("predict").build_model(engine.cfg).train()
    logits = torch.randn(2, 2, 24, 20)
    target = torch.randint(0, 3, (2, 1, 24, 20)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    ours, own = (tiny.head_losses(one.auxiliary_head, logits, target) for one in (model, other))
    assert ours.keys() == own.keys()
    for name in own:
        torch.testing.assert_close(ours[name], own[name])


def test_classes_equal_mmsegs_own_on_whole_masks(tiny: Tiny, root: Path) -> None:
    engine, model = model_of(tiny, root, "decode_head", HEADS["EncHead"])
    engine.cfg.model.decode_head["type"] = "EncHead"
    other = tiny.part("predict").build_model(engine.cfg).train()
    logits = torch.randn(2, 3, 24, 20), torch.randn(2, 3)
    target = torch.zeros(2, 1, 24, 20, dtype=torch.long)
    target[1, :, 5:] = 2
    ours, own = (tiny.head_losses(one.decode_head, logits, target) for one in (model, other))
    torch.testing.assert_close(ours["loss_se"], own["loss_se"])
    target[:, :, 0] = 255  # now class 1, and class 2 in the first image, may be there
    ours = tiny.head_losses(model.decode_head, logits, target)
    known = torch.stack([logits[1][0, 0], logits[1][1, 0], logits[1][1, 2]])
    expected = 0.2 * nn.functional.softplus(-known).mean()
    torch.testing.assert_close(ours["loss_se"], expected)


class Leaking(nn.Module):
    """A head's loss of which a part has a gradient where it should not; `kind`: which."""

    def __init__(self, original: Any, kind: str) -> None:
        super().__init__()
        self.kind, self.original = kind, original
        self.loss_name = "loss_ce"

    def forward(self, logits: torch.Tensor, target: torch.Tensor, **more: Any) -> torch.Tensor:
        value: torch.Tensor = self.original(logits, target, **more)
        labelled = target != 255
        if self.kind == "beside" and bool(labelled.any()):
            value = value + logits.abs().mean()
        if self.kind == "infinite" and not bool(labelled.any()):
            value = value / 0 * 0
        if self.kind == "always":
            value = value + 0.001 * logits.mean()
        return value


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("always", "has a gradient of .* on a batch without labels"),
        ("infinite", "is not finite on a batch without labels"),
        ("beside", "has a gradient of .* at unlabelled pixels"),
    ],
)
def test_a_leak_is_found_and_named(tiny: Tiny, engine: Any, kind: str, match: str) -> None:
    model = tiny.part("predict").build_model(engine.cfg).train()
    check(tiny, engine, model)
    model.decode_head.loss_decode = Leaking(model.decode_head.loss_decode, kind)
    with pytest.raises(UnsupportedError, match=rf"decode_head \(FCNHead\): loss_ce.* {match}"):
        check(tiny, engine, model)


def test_whole_images_ask_for_a_finite_loss_only(tiny: Tiny, engine: Any) -> None:
    model = tiny.part("predict").build_model(engine.cfg).train()
    model.decode_head.loss_decode = Leaking(model.decode_head.loss_decode, "always")
    check(tiny, engine, model, sparse=False)
