"""Losses over labelled pixels: mmseg's own value on whole masks, and nothing from pixels of 255."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmseg_tiny import Tiny

from regional_al.engines.mmseg.masked_heads import classes_present, unknown_details

X = 255
WEIGHTS = [1.0, 2.0, 0.5, 1.5]
SPECS: dict[str, list[dict[str, Any]]] = {
    "DiceLoss": [{}, {"loss_weight": 3.0, "use_sigmoid": False}],
    "TverskyLoss": [{}, {"alpha": 0.5, "beta": 0.5, "class_weight": WEIGHTS}],
    "LovaszLoss": [
        {"reduction": "none"},
        {"per_image": True},
        {"per_image": True, "classes": "all"},
    ],
    "FocalLoss": [
        {},
        {"gamma": 1.0, "alpha": [0.1, 0.2, 0.3, 0.4], "class_weight": WEIGHTS, "loss_weight": 2.0},
        {"reduction": "sum"},
    ],
    "OhemCrossEntropy": [
        {"min_kept": 20, "thres": 0.3},
        {"min_kept": 9, "thres": 0.1, "class_weight": WEIGHTS, "loss_weight": 0.4},
    ],
}
CASES = [(name, spec) for name, specs in SPECS.items() for spec in specs]


def batch(channels: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [2, C, 12, 10] and a target without 255."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, channels, 12, 10, generator=generator)
    return logits, torch.randint(0, max(channels, 2), (2, 12, 10), generator=generator)


def built(tiny: Tiny, name: str, spec: dict[str, Any], masked: bool = True) -> Callable[..., Any]:
    """A loss of mmseg or the one that takes its place; skips what a generation lacks."""
    part = tiny.part("losses")
    if name not in part.SETTLING.losses:
        pytest.skip(f"{tiny.name} has no {name}")
    kind = part.SETTLING.losses[name] if masked else name
    loss: Callable[..., Any] = part.build({}, {"type": kind, **spec}).loss_decode
    return loss


def stock(tiny: Tiny, name: str, spec: dict[str, Any], logits: Any, target: Any) -> torch.Tensor:
    """The value of mmseg's own loss. Of its focal loss only the way of one-hot targets works on a
    CPU in all releases."""
    loss = built(tiny, name, spec, masked=False)
    if name == "FocalLoss":
        target = F.one_hot(target, logits.shape[1]).movedim(-1, 1)
    value: torch.Tensor = loss(logits, target)
    return value


def test_every_substitute_is_tested(tiny: Tiny) -> None:
    assert set(tiny.part("losses").SETTLING.losses) <= {*SPECS, "BoundaryLoss"}


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_whole_masks_give_mmsegs_own_value(tiny: Tiny, name: str, spec: dict[str, Any]) -> None:
    logits, target = batch()
    found = built(tiny, name, spec)(logits, target, ignore_index=X)
    torch.testing.assert_close(found, stock(tiny, name, spec, logits, target), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_labels_of_a_part_give_the_value_of_that_part(
    tiny: Tiny, name: str, spec: dict[str, Any]
) -> None:
    """mmseg's own loss of the labelled rectangle alone, and no gradient outside."""
    logits, target = batch()
    part = target.clone()
    part[:, 7:], part[:, :, 6:] = X, X
    logits.requires_grad_(True)
    found = built(tiny, name, spec)(logits, part, ignore_index=X)
    inside = logits[:, :, :7, :6].contiguous(), target[:, :7, :6].contiguous()
    expected = stock(tiny, name, spec, *inside)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(found, logits)
    size = gradient.abs().sum(1)
    assert bool((size[part == X] == 0).all())
    assert bool(size[part != X].any())


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_few_labels_are_finite(tiny: Tiny, name: str, spec: dict[str, Any]) -> None:
    """None at all, a single pixel of which the model is sure, and an image without labels."""
    loss = built(tiny, name, spec)
    logits, target = batch()
    blank = torch.full_like(target, X)
    logits.requires_grad_(True)
    value = loss(logits, blank, ignore_index=X)
    assert float(value) == 0
    assert float(torch.autograd.grad(value, logits)[0].abs().sum()) == 0
    blank[1, 3, 4] = 2
    sure = torch.zeros(2, 4, 12, 10)
    sure[1, 2, 3, 4] = 40.0
    sure.requires_grad_(True)
    value = loss(sure, blank, ignore_index=X)
    (gradient,) = torch.autograd.grad(value, sure)
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(gradient).all())
    half = target.clone()
    half[0] = X
    alone = loss(logits[1:], target[1:], ignore_index=X)
    torch.testing.assert_close(loss(logits, half, ignore_index=X), alone, rtol=1e-5, atol=1e-6)


def test_focal_loss_of_one_channel_by_hand(tiny: Tiny) -> None:
    """Two pixels, p = 0.5: alpha or 1 - alpha, times 0.5 ** 2, times ln 2."""
    loss = built(tiny, "FocalLoss", {"alpha": 0.25})
    target = torch.tensor([[[1, 0, X]]])
    expected = (0.25 + 0.75) / 2 * 0.25 * 0.6931472
    assert float(loss(torch.zeros(1, 1, 1, 3), target)) == pytest.approx(expected)


def test_focal_loss_without_reduction(tiny: Tiny) -> None:
    logits, target = batch()
    target[0, 0, 0] = X
    one_by_one = built(tiny, "FocalLoss", {"reduction": "none"})(logits, target)
    assert one_by_one.shape == logits.shape
    assert float(one_by_one[0, :, 0, 0].abs().sum()) == 0
    mean = built(tiny, "FocalLoss", {})(logits, target)
    torch.testing.assert_close(one_by_one.sum() / (239 * 4), mean)


def test_hard_pixels_by_hand(tiny: Tiny) -> None:
    """Three pixels of probability 0.5, 0.88 and 0.98 of the right class: below 0.9 are two."""
    loss = built(tiny, "OhemCrossEntropy", {"thres": 0.9, "min_kept": 1})
    logits = torch.tensor([[[[0.0, 2.0, 4.0, 0.0]], [[0.0, 0.0, 0.0, 9.0]]]])
    target = torch.tensor([[[0, 0, 0, X]]])
    expected = (0.6931472 + 0.1269280) / 2
    assert float(loss(logits, target)) == pytest.approx(expected)
    assert float(loss(logits, target, weight=None, ignore_index=X)) == pytest.approx(expected)


def test_borders_that_are_unknown_stay_out(tiny: Tiny) -> None:
    loss, own = (built(tiny, "BoundaryLoss", {}, masked) for masked in (True, False))
    logits, _ = batch(channels=1)
    target = torch.zeros(2, 12, 10, dtype=torch.long)
    target[:, 4:6] = 1
    torch.testing.assert_close(loss(logits, target), own(logits, target))
    part = target.clone()
    part[:, :, 6:] = X
    expected = own(logits[..., :6].contiguous(), target[..., :6].contiguous())
    torch.testing.assert_close(loss(logits, part), expected)
    assert float(loss(logits, torch.full_like(target, X))) == 0


@pytest.mark.parametrize("name", ["DiceLoss", "FocalLoss", "LovaszLoss", "TverskyLoss"])
def test_substitution_is_told_in_one_line(
    tiny: Tiny, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = {"type": name, "loss_weight": 2.0, **SPECS[name][0]}
    head = {"type": "FCNHead", "num_classes": 4, "loss_decode": [dict(spec), dict(spec)]}
    tiny.part("losses").average_over_labels({"decode_head": head}, refuse=True)
    assert [loss["type"] for loss in head["loss_decode"]] == [f"Labelled{name}"] * 2
    assert all(loss["loss_weight"] == 2.0 for loss in head["loss_decode"])
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"model.decode_head.loss_decode: {name} by Labelled{name}" in told


def test_classes_that_images_hold() -> None:
    label = torch.tensor([[[0, 0], [2, 1]], [[0, X], [0, 3]], [[X, X], [X, X]]])
    expected = [[1, 1, 1, 0], [1, X, X, 1], [X, X, X, X]]
    assert classes_present(label, 4).tolist() == expected


def test_details_are_unknown_where_the_borders_see_no_label() -> None:
    """By brute force: whether mmseg's Laplacians, at all three strides, change with the values of
    the unlabelled pixels."""
    generator = torch.Generator().manual_seed(3)
    kernel = torch.full((1, 1, 3, 3), -1.0)
    kernel[..., 1, 1] = 8.0
    for _ in range(20):
        label = torch.randint(0, 3, (1, 1, 19, 22), generator=generator).float()
        hidden = torch.zeros_like(label, dtype=torch.bool)
        top, left = (int(torch.randint(0, 15, (1,), generator=generator)) for _ in "yx")
        hidden[..., top : top + 4, left : left + 5] = True
        depends = hidden.clone()
        for stride in (1, 2, 4):
            seen = [
                F.interpolate(F.conv2d(filled, kernel, stride=stride, padding=1), (19, 22))
                for filled in (label.masked_fill(hidden, value) for value in (0.0, 1000.0))
            ]
            depends |= seen[0] != seen[1]
        found = unknown_details(label.masked_fill(hidden, X))
        assert torch.equal(found, depends)
