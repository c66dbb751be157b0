"""`acquisition.loss_average`: what the loss of the labels averages over, in both generations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmseg_tiny import Tiny, fit_once, make_engine, weights_hash
from torch import nn

from regional_al.engines.mmseg.loss_average import (
    WEIGHTS,
    AverageWeights,
    check_used,
    class_weights,
    image_weights,
)
from regional_al.errors import UnsupportedError
from regional_al.store.labels import LabelStore

LOSS = "model.decode_head.loss_decode"


def some_labels(seed: int, images: int) -> torch.Tensor:
    """int64 [images, 6, 5]: one labelled throughout, others less and less, the last not at all."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (images, 6, 5))
    for place in range(1, images):
        labels[place][rng.random((6, 5)) < place / (images - 1)] = 255
    return torch.from_numpy(labels)


@given(st.integers(0, 999), st.integers(2, 5))
def test_the_weighted_mean_is_the_mean_of_the_images_means(seed: int, images: int) -> None:
    labels = some_labels(seed, images)
    values = torch.from_numpy(np.random.default_rng(seed).random(tuple(labels.shape)))
    labelled = labels != 255
    means = [float(v[k].mean()) for v, k in zip(values, labelled, strict=True) if k.any()]
    weights = image_weights(labels).double()
    found = float((values * weights).sum() / labelled.sum())
    assert found == pytest.approx(sum(means) / len(means), rel=1e-6)
    assert not weights[~labelled].any()
    assert float(weights.sum()) == pytest.approx(int(labelled.sum()), rel=1e-6)


@given(st.integers(0, 999), st.integers(2, 5))
def test_the_weighted_mean_is_the_mean_of_the_classes_means(seed: int, images: int) -> None:
    labels = some_labels(seed, images)
    values = torch.from_numpy(np.random.default_rng(seed).random(tuple(labels.shape)))
    means = [float(values[labels == c].mean()) for c in range(3) if (labels == c).any()]
    weights, labelled = class_weights(labels).double(), labels != 255
    found = float((values * weights).sum() / labelled.sum())
    assert found == pytest.approx(sum(means) / len(means), rel=1e-6)
    assert not weights[~labelled].any()
    assert float(weights.sum()) == pytest.approx(int(labelled.sum()), rel=1e-6)


@pytest.mark.parametrize("over", WEIGHTS)
def test_no_label_at_all(over: str) -> None:
    weights = WEIGHTS[over](torch.full((2, 3, 4), 255))
    assert torch.equal(weights, torch.zeros(2, 3, 4))


def test_heads_average_over_images(tiny: Tiny, root: Path) -> None:
    """Against the mean of what each image's loss is on its own."""
    images: Any = make_engine(root, acquisition__loss_average="image")
    pixels: Any = make_engine(root)
    heads = [engine.network(None).decode_head for engine in (images, pixels)]
    labels = some_labels(0, 3)[:, None]
    labels[:2, 0, 0, 0] = 1
    logits = torch.randn(3, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    averaged, plain = (float(tiny.head_loss(head, logits, labels)) for head in heads)
    single = [float(tiny.head_loss(heads[1], logits[i : i + 1], labels[i : i + 1])) for i in (0, 1)]
    assert averaged == pytest.approx(sum(single) / 2, rel=1e-5)
    assert abs(averaged - plain) > 0.01
    assert float(tiny.head_loss(heads[0], logits, torch.full_like(labels, 255))) == 0


def test_heads_average_over_classes(tiny: Tiny, root: Path) -> None:
    """Against the mean of what the loss of each class is on its own."""
    classes: Any = make_engine(root, acquisition__loss_average="class")
    heads = [engine.network(None).decode_head for engine in (classes, make_engine(root))]
    labels = some_labels(0, 3)[:, None]
    labels[:, :, 1:][labels[:, :, 1:] == 2] = 255  # a rare class
    logits = torch.randn(3, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    averaged, plain = (float(tiny.head_loss(head, logits, labels)) for head in heads)
    single = [
        float(tiny.head_loss(heads[1], logits, labels.masked_fill(labels != c, 255)))
        for c in range(3)
    ]
    assert averaged == pytest.approx(sum(single) / 3, rel=1e-5)
    assert abs(averaged - plain) > 0.01


def test_a_training(tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path) -> None:
    found = {}
    for name in ("pixel", "image", "class"):
        engine = make_engine(root, acquisition__loss_average=name)
        engine.preflight()
        found[name] = weights_hash(fit_once(engine, store, tmp_path / name).checkpoint)
    off = weights_hash(fit_once(make_engine(root), store, tmp_path / "off").checkpoint)
    assert found["pixel"] == off
    assert len({found["image"], found["class"], off}) == 3


@pytest.mark.parametrize("kind", ["FocalLoss", "CrossEntropyLoss"])
def test_losses_that_weigh_pixels(root: Path, kind: str) -> None:
    loss: dict[str, Any] = {"_delete_": True, "type": kind}
    if kind == "CrossEntropyLoss":
        loss["class_weight"] = [1.0, 2.0, 0.5]
    for over in WEIGHTS:
        engine: Any = make_engine(root, {LOSS: dict(loss)}, acquisition__loss_average=over)
        for head in (engine.cfg.model.decode_head, engine.cfg.model.auxiliary_head):
            assert dict(head.sampler) == {"type": "LossAverage", "over": over}


@pytest.mark.parametrize("kind", ["DiceLoss", "LovaszLoss", "TverskyLoss"])
def test_losses_that_do_not(root: Path, kind: str) -> None:
    loss = {"_delete_": True, "type": kind}
    if kind == "LovaszLoss":
        loss["reduction"] = "none"
    with pytest.raises(UnsupportedError, match=rf"loss_average='image'.*decode_head.*{kind}"):
        make_engine(root, {LOSS: loss}, acquisition__loss_average="image")


def test_heads_with_a_sampler_of_their_own(root: Path) -> None:
    sampler = {"type": "OHEMPixelSampler", "min_kept": 10}
    with pytest.raises(UnsupportedError, match=r"decode_head\.sampler='OHEMPixelSampler' both wei"):
        make_engine(root, {"model.decode_head.sampler": sampler}, acquisition__loss_average="image")


def test_a_head_that_never_asks_for_weights_is_named() -> None:
    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sampler = AverageWeights("class")

    model = nn.ModuleList([Silent()])
    with pytest.raises(
        UnsupportedError, match="loss_average='class': Silent computes its loss without weights"
    ):
        check_used(model)
    model[0].sampler.sample(None, torch.zeros(1, 1, 2, 2).long())  # type: ignore[operator,union-attr]
    check_used(model)
