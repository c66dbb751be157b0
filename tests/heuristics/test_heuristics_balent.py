"""BalEnt against Beta distributions of another library, and by what the paper says of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from regional_al.errors import ConfigError, ScoreError
from regional_al.heuristics import HEURISTICS, Observation
from regional_al.heuristics.balanced_entropy import balanced_entropy


def passes(seed: int, count: int, classes: int = 4, spread: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    middle = 2 * torch.randn(classes, 3, 5, generator=generator)
    return [middle + spread * torch.randn(classes, 3, 5, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_scores_are_those_of_the_definition(seed: int, spread: float) -> None:
    views = passes(seed, 6, spread=spread)
    found = balanced_entropy(views)
    p = torch.stack(views).double().softmax(1).numpy()
    for y, x in np.ndindex(3, 5):
        mean, variance = p[:, :, y, x].mean(0), p[:, :, y, x].var(0)
        total = entropy = 0.0
        for m, v in zip(mean, variance, strict=True):
            a = m**2 * (1 - m) / v - m
            b = (1 / m - 1) * a
            total += m * stats.beta(a + 1, b).entropy()
            entropy -= m * math.log(m)
        wanted = (total + entropy) / (entropy + math.log(2))
        assert found[y, x].item() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_small_positive_values_come_first_and_negative_ones_last() -> None:
    views = passes(0, 3)
    values = balanced_entropy(views)
    scores = HEURISTICS.build({"type": "BalEnt", "passes": 3}).pixel_scores(
        Observation(views[0], more=iter(views[1:]))
    )
    order = values.flatten()[scores.flatten().argsort(descending=True)]
    positive, negative = order[order >= 0], order[order < 0]
    assert len(positive) > 1
    assert len(negative) > 1
    assert torch.equal(order, torch.cat([positive.sort().values,
                                         negative.sort(descending=True).values]))  # fmt: skip


def test_passes_that_agree_have_finite_scores_and_come_last() -> None:
    same = [torch.tensor([[[9.0, 0.0]], [[-9.0, 0.1]]])] * 4
    assert torch.isfinite(balanced_entropy(same)).all()
    assert (balanced_entropy(same) < -1).all()


def test_one_class_and_certain_ones() -> None:
    assert torch.isfinite(balanced_entropy([torch.zeros(1, 2, 2)] * 2)).all()
    certain = [torch.tensor([[[1e4]], [[0.0]]]), torch.tensor([[[0.0]], [[1e4]]])]
    assert torch.isfinite(balanced_entropy(certain)).all()


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"heuristic BalEnt: passes=1"):
        HEURISTICS.build({"type": "BalEnt", "passes": 1})
    with pytest.raises(ScoreError):
        balanced_entropy([torch.full((2, 1, 1), float("nan"))] * 2)
    with pytest.raises(ValueError, match="at least two"):
        balanced_entropy(passes(0, 1))
    with pytest.raises(ValueError, match="shape"):
        balanced_entropy([torch.zeros(2, 1, 1), torch.zeros(2, 1, 2)])
