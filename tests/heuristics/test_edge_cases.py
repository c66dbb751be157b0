"""Scores at the edge of what numbers hold, and combinations that undo one another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regional_al.errors import ConfigError
from regional_al.heuristics import HEURISTICS, Observation
from regional_al.heuristics.classes import schedule
from regional_al.heuristics.real import grow, unit_length
from regional_al.heuristics.stochastic import log_shares


def two_classes(annotated: list[int] | None = None) -> Observation:
    """Pixels 0, 1 are predicted as class 0, pixels 2, 3 as class 1."""
    logits = torch.zeros(2, 1, 4)
    logits[1, 0, 2:] = 1.0
    given_ = None if annotated is None else np.array([annotated], dtype=np.uint8)
    return Observation(logits, annotated=given_)


@pytest.mark.parametrize("beta", [0.02, 0.5, 1.0, 200.0])
@pytest.mark.parametrize("score", [1e-30, 1.0, 4.6])
def test_shares_of_a_class_without_open_pixels(beta: float, score: float) -> None:
    """All pixels of class 1 are answered: they are never asked for; nothing overflows."""
    seen = two_classes([0, 0, 1, 1])
    shares = log_shares(torch.full((1, 4), score), seen, beta)[0]
    half = math.log(0.5) / beta
    assert shares.tolist() == [pytest.approx(half), pytest.approx(half), -math.inf, -math.inf]


@given(st.floats(0.01, 300), st.lists(st.floats(1e-40, 5), min_size=4, max_size=4))
def test_shares_of_each_class_sum_to_one(beta: float, scores: list[float]) -> None:
    shares = log_shares(torch.tensor([scores], dtype=torch.float64), two_classes(), beta)[0]
    for of_class in (shares[:2], shares[2:]):
        assert torch.logsumexp(beta * of_class, 0).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
def test_drawing_by_class_goes_on_when_a_class_is_answered(beta: float) -> None:
    heuristic = HEURISTICS.build(
        {"type": "Stochastic", "heuristic": "Entropy", "beta": beta, "per_class": True}
    )
    scores = heuristic.pixel_scores(two_classes([0, 0, 1, 1]))[0]
    assert torch.isfinite(scores[:2]).all()
    assert (scores[2:] == -math.inf).all()


@pytest.mark.parametrize("inner", ["PixelPick", {"type": "Stochastic", "heuristic": "Margin"}])
def test_noise_on_a_draw_is_refused(inner: Any) -> None:
    with pytest.raises(ConfigError, match=r"Stochastic: heuristic='\w+' draws at random by itself"):
        HEURISTICS.build({"type": "Stochastic", "heuristic": inner})


def test_a_product_with_negative_scores_is_refused_when_built() -> None:
    """Logarithms of scores are negative; found only after a training before."""
    parts: list[Any] = ["Entropy", {"type": "Stochastic", "heuristic": "Margin"}]
    with pytest.raises(ConfigError, match=r"how='product'.*Stochastic.*use how='sum'"):
        HEURISTICS.build({"type": "Combine", "how": "product", "parts": parts})
    HEURISTICS.build({"type": "Combine", "how": "sum", "parts": parts})
    nested = [{"type": "Combine", "how": "sum", "parts": parts}, "Entropy"]
    with pytest.raises(ConfigError, match=r"how='product'.*Combine"):
        HEURISTICS.build({"type": "Combine", "how": "product", "parts": nested})
    scaled = {"type": "Combine", "how": "product", "normalize": "rank", "parts": parts}
    HEURISTICS.build(scaled)  # on one scale of 0..1 first


@given(st.integers(1, 40), st.integers(0, 10_000))
def test_identical_units_are_not_redundant_at_a_cosine_of_one(depth: int, seed: int) -> None:
    """x . x may round to more than 1."""
    vector = np.random.default_rng(seed).normal(size=(1, depth)).astype(np.float32)
    vectors = unit_length(np.repeat(vector, 3, axis=0))
    chain = [np.array([1]), np.array([0, 2]), np.array([1])]
    of_unit, count = grow(np.ones(3), vectors, chain, np.ones(3, np.int64), 1.0, max_units=3)
    assert (of_unit.tolist(), count) == ([0, 0, 0], 1)


def test_clasp_schedule_counts_the_queries_of_a_model() -> None:
    """Five rounds are t = 0..4 of T = 5 in the paper: 100^(t / (T - 1))."""
    found = [schedule(round_, 5, 100.0) for round_ in range(1, 6)]
    assert found == pytest.approx([100 ** (t / 4) for t in range(5)])
    assert schedule(1, 1, 100.0) == 1.0


def test_redal_scales_entropy_as_published(tmp_path: Path) -> None:
    """Uniform over four classes: each -p log2 p is 0.5, and so is their mean."""
    seen = Observation(torch.zeros(4, 2, 2))
    score = HEURISTICS.build("ReDAL").describe(seen, torch.zeros(2, 2, dtype=torch.int64), 1)
    assert score["score"].tolist() == pytest.approx([0.5])
