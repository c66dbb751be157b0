"""Pixel scores: hand-worked values, float64 references, odd shapes and types."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regional_al import functional as F
from regional_al.errors import ScoreError

SCORES = [F.entropy, F.margin, F.least_confidence, F.bvsb]


def probabilities(logits: Tensor) -> np.ndarray:
    """Sorted probabilities, best first, in float64: [C, ...]."""
    z = logits.double().numpy()
    e = np.exp(z - z.max(axis=0))
    return -np.sort(-e / e.sum(axis=0), axis=0)


def expected(name: str, logits: Tensor) -> np.ndarray:
    p = probabilities(logits)
    second = p[1] if len(p) > 1 else np.zeros_like(p[0])
    if name == "entropy":
        return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=0)
    if name == "margin":
        return 1 - (p[0] - second) if len(p) > 1 else np.zeros_like(second)
    return 1 - p[0] if name == "least_confidence" else second / p[0]


def test_hand_worked() -> None:
    # p = 1/2, 1/4, 1/4
    logits = torch.tensor([0.5, 0.25, 0.25]).log().reshape(3, 1, 1)
    assert F.entropy(logits).item() == pytest.approx(1.5 * math.log(2), rel=1e-6)
    assert F.margin(logits).item() == pytest.approx(0.75, rel=1e-6)
    assert F.least_confidence(logits).item() == pytest.approx(0.5, rel=1e-6)
    assert F.bvsb(logits).item() == pytest.approx(0.5, rel=1e-6)


def test_uniform_is_the_maximum() -> None:
    logits = torch.full((7, 2, 3), 4.25)
    assert torch.allclose(F.entropy(logits), torch.tensor(math.log(7)), rtol=1e-6)
    assert torch.equal(F.margin(logits), torch.ones(2, 3))
    assert torch.equal(F.bvsb(logits), torch.ones(2, 3))


@pytest.mark.parametrize("score", SCORES)
def test_certain_pixels_score_exactly_zero(score: object) -> None:
    logits = torch.tensor([[[1000.0]], [[-1000.0]], [[0.0]]])
    assert score(logits).item() == 0.0  # type: ignore[operator]


@pytest.mark.parametrize("score", [*SCORES, lambda z: F.ripu(z, 1), lambda z: F.ripu_pixel(z, 1)])
def test_one_class_is_zero_not_nan(score: object) -> None:
    assert torch.equal(score(torch.randn(1, 3, 4)), torch.zeros(3, 4))  # type: ignore[operator]


def test_small_entropies_keep_their_relative_accuracy() -> None:
    # ln S - T / S would cancel here; ln(1 + rest) does not
    logits = torch.tensor([14.0, 0.0, -1.0]).reshape(3, 1, 1)
    reference = expected("entropy", logits).item()
    assert reference < 2e-5
    assert F.entropy(logits).item() == pytest.approx(reference, rel=2e-6)


@settings(max_examples=40, deadline=None)
@given(
    classes=st.sampled_from([1, 2, 3, 19, 255]),
    height=st.integers(1, 6),
    width=st.integers(1, 9),
    scale=st.sampled_from([0.01, 1.0, 20.0]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    seed=st.integers(0, 10_000),
)
def test_against_float64(
    classes: int, height: int, width: int, scale: float, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(classes, height, width, generator=generator) * scale).to(dtype)
    for score in SCORES:
        got = score(logits)
        assert got.dtype == torch.float32
        assert got.shape == (height, width)
        np.testing.assert_allclose(
            got.numpy(), expected(score.__name__, logits.float()), rtol=5e-6, atol=1e-12
        )


def test_leading_dimensions_and_strides() -> None:
    logits = torch.randn(2, 3, 4, 5, 6)
    whole = F.entropy(logits)
    assert whole.shape == (2, 3, 5, 6)
    assert torch.equal(whole[1, 2], F.entropy(logits[1, 2]))
    channels_last = logits[0].to(memory_format=torch.channels_last)
    assert not channels_last.is_contiguous()
    assert torch.equal(F.entropy(channels_last), whole[0])
    assert torch.equal(F.ripu(logits[0, 0].mT, 1), F.ripu(logits[0, 0].mT.contiguous(), 1))
    assert torch.equal(
        F.entropy(logits.half()[..., ::2]), F.entropy(logits.half()[..., ::2].clone())
    )
    assert F.entropy(logits[:0]).shape == (0, 3, 5, 6)
    assert F.entropy(logits.clone().requires_grad_()).requires_grad is False


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("channel", [0, 2])
def test_nan_and_infinity_are_refused(dtype: torch.dtype, value: float, channel: int) -> None:
    logits = torch.zeros(3, 4, 5, dtype=dtype)
    logits[channel, 3, 4] = value
    for score in [*SCORES, lambda z: F.ripu(z, 1), lambda z: F.bald([z, z])]:
        with pytest.raises(ScoreError, match="logits contain NaN or infinite values"):
            score(logits)


def test_largest_half_is_finite() -> None:
    logits = torch.tensor([65504.0, -65504.0]).reshape(2, 1, 1)
    assert F.entropy(logits.half()).item() == 0.0
    tiny = torch.tensor([6e-8, 0.0], dtype=torch.float16).reshape(2, 1, 1)  # subnormal
    assert F.margin(tiny).item() == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [torch.zeros(3, 4), torch.zeros(3, 4, 5, dtype=torch.int64)])
def test_wrong_input_is_named(bad: Tensor) -> None:
    with pytest.raises(ValueError, match=r"logits must be float \[C, H, W\]"):
        F.entropy(bad)


def test_impurity_by_hand() -> None:
    labels = torch.tensor([[0, 0, 1], [0, 2, 1], [2, 2, 2]])
    got = F.region_impurity(labels, 3, 1)
    # centre: 3 of 0, 2 of 1, 4 of 2; corner (0, 0): 3 of 0, 1 of 2; (0, 1): 3 of 0, 2 of 1, 1 of 2
    shares = {(1, 1): (3, 2, 4), (0, 0): (3, 1), (0, 1): (3, 2, 1), (2, 2): (1, 3)}
    for (row, col), counts in shares.items():
        p = np.array(counts) / sum(counts)
        assert got[row, col].item() == pytest.approx(-(p * np.log(p)).sum(), rel=1e-6)
    assert torch.equal(F.region_impurity(labels, 3, 0), torch.zeros(3, 3))


def test_ripu_is_impurity_times_mean_entropy() -> None:
    torch.manual_seed(3)
    logits = torch.randn(5, 7, 6)
    entropy = F.entropy(logits).double()
    impurity = F.region_impurity(logits.argmax(0), 5, 2).double()
    log_c = math.log(5)
    for row, col in ((0, 0), (3, 3), (6, 5), (1, 4)):
        window = entropy[max(0, row - 2) : row + 3, max(0, col - 2) : col + 3]
        area = impurity[row, col] / log_c * window.mean() / log_c
        assert F.ripu(logits, 2)[row, col].item() == pytest.approx(area.item(), rel=1e-5)
        pixel = impurity[row, col] / log_c * entropy[row, col] / log_c
        assert F.ripu_pixel(logits, 2)[row, col].item() == pytest.approx(pixel.item(), rel=1e-5)


def test_bald() -> None:
    a = torch.tensor([0.9, 0.1]).log().reshape(2, 1, 1)
    b = torch.tensor([0.1, 0.9]).log().reshape(2, 1, 1)
    one = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert F.bald(iter([a, b])).item() == pytest.approx(math.log(2) - one, rel=1e-5)
    assert F.bald([a, a, a]).item() == pytest.approx(0.0, abs=1e-6)
    passes = torch.randn(6, 2, 4, 3, 5)
    p = passes.double().softmax(2)
    mean = p.mean(0)
    reference = -torch.xlogy(mean, mean).sum(1) + torch.xlogy(p, p).sum(2).mean(0)
    np.testing.assert_allclose(F.bald(passes).numpy(), reference.numpy(), rtol=1e-4, atol=1e-6)


def test_bald_refuses_nothing_and_unequal_shapes() -> None:
    with pytest.raises(ValueError, match="at least one pass"):
        F.bald([])
    with pytest.raises(ValueError, match="pass 1 has shape"):
        F.bald([torch.zeros(2, 3, 3), torch.zeros(2, 3, 4)])
