"""Heuristics that pick units unlike one another: CoreSet, BADGE, ContextualDiversity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pool_tables import picks, random_table, table

from regional_al.errors import ConfigError
from regional_al.heuristics import HEURISTICS, Observation
from regional_al.heuristics.diversity import LEAST, divergences
from regional_al.selection.pool_table import PoolTable


def test_core_set_starts_at_the_mean_and_knows_what_is_labelled() -> None:
    points = np.array([[0, 0], [1, 0], [4, 0], [5, 0], [10, 0]], dtype=np.float32)
    nothing = table([1] * 5, score=np.ones(5), vector=points)
    assert picks(HEURISTICS.build("CoreSet"), nothing, 3) == [2, 4, 0]  # mean 4; 6 away, 4 away
    some = table([1, 1, 1, 1, 0], score=np.ones(5), vector=points)
    assert picks(HEURISTICS.build("CoreSet"), some, 4) == [0, 3, 1, 2]  # 10; 5; 1, 1: by position
    half = table([1] * 5, score=np.ones(5), vector=points.astype(np.float16))
    assert picks(HEURISTICS.build("CoreSet"), half, 3) == [2, 4, 0]


def test_candidates_keep_the_most_uncertain_and_then_the_rest() -> None:
    points = np.array([[0], [1], [2], [100], [50]], dtype=np.float32)
    pool = table([0, 1, 1, 1, 1], score=[9, 0.9, 0.8, 0.1, 0.2], vector=points)
    short = HEURISTICS.build({"type": "CoreSet", "candidates": 2})
    assert picks(short, pool, 4) == [2, 1, 3, 4]  # of {1, 2} first, then of {3, 4}
    share = HEURISTICS.build({"type": "CoreSet", "candidates": "75%"})
    assert picks(share, pool, 4) == [4, 2, 1, 3]  # three of four open
    for wrong in (0, -1, 2.5, True, "0%", "120%", "x%", "5"):
        with pytest.raises(ConfigError, match=r"CoreSet: candidates=.* must be a"):
            HEURISTICS.build({"type": "CoreSet", "candidates": wrong})


def test_badge_embeds_the_gradient_that_autograd_finds() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(3, 5, 6, generator=generator).double().requires_grad_()
    regions = torch.randint(0, 4, (5, 6), generator=generator)
    columns = HEURISTICS.build("BADGE").describe(Observation(logits.detach()), regions, 5)
    for r in range(4):
        inside = regions == r
        loss = torch.nn.functional.cross_entropy(
            logits[:, inside].T, logits.detach().argmax(0)[inside]
        )
        (gradient,) = torch.autograd.grad(loss, logits)
        expected = gradient.sum(dim=(1, 2))
        assert columns["gradient"][r].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
        assert columns["score"][r].item() == pytest.approx(expected.norm().item(), abs=1e-6)
    assert torch.isnan(columns["score"][4])


def test_badge_is_naive_k_means_plus_plus_from_the_longest_gradient() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pool = random_table(rng, 15)
        score = np.linalg.norm(pool["gradient"], axis=1)
        pool = PoolTable(pool.units, {**pool.columns, "score": score})
        taken = picks(HEURISTICS.build("BADGE"), pool, 6, seed=seed)
        again, x = np.random.default_rng(seed), pool["gradient"].astype(np.float64)
        expected = [max(np.flatnonzero(pool.open), key=lambda i: score[i])]
        while len(expected) < 6:
            weight = np.array(
                [
                    min(((x[i] - x[j]) ** 2).sum() for j in expected) * pool.open[i]
                    for i in range(15)
                ]
            )
            can = np.flatnonzero(pool.open)
            expected.append(int(again.choice(can, p=weight[can] / weight[can].sum())))
        assert taken == expected


def test_badge_of_equal_gradients_is_random_and_seeded() -> None:
    pool = table([1] * 9, score=np.ones(9), entropy=np.ones(9), gradient=np.ones((9, 2)))
    orders = {tuple(picks(HEURISTICS.build("BADGE"), pool, 9, seed=s)) for s in (0, 0, 1, 2)}
    assert len(orders) == 3
    assert all(sorted(order) == list(range(9)) for order in orders)


def naive_mixtures(logits: torch.Tensor, regions: torch.Tensor, r: int) -> dict[int, Any]:
    """{predicted class: entropy-weighted mean softmax} of one unit, pixel by pixel, float64."""
    p = logits.double().softmax(0).reshape(logits.shape[0], -1).T
    out: dict[int, Any] = {}
    for c in range(logits.shape[0]):
        sums, weight = 0.0, 0.0
        for pixel, region in zip(p, regions.flatten().tolist(), strict=True):
            if region == r and int(pixel.argmax()) == c:
                h = float(-(pixel * pixel.log()).sum())
                sums, weight = sums + h * pixel.numpy(), weight + h
        if weight > 0:
            out[c] = sums / weight
    return out


def naive_divergence(a: dict[int, Any], b: dict[int, Any]) -> float:
    common = a.keys() & b.keys()
    if not common:
        return math.inf
    each = [(a[c] * np.log(a[c] / b[c])).sum() + (b[c] * np.log(b[c] / a[c])).sum() for c in common]
    return float(np.mean(each) / 2)


def test_contextual_diversity_against_a_naive_version() -> None:
    generator = torch.Generator().manual_seed(8)
    logits = 2 * torch.randn(4, 8, 9, generator=generator)
    regions = torch.randint(0, 12, (8, 9), generator=generator)
    heuristic = HEURISTICS.build("ContextualDiversity")
    columns = heuristic.describe(Observation(logits), regions, 13)
    naive = [naive_mixtures(logits, regions, r) for r in range(12)]
    assert torch.isnan(columns["score"][12])
    mixtures, present = columns["mixtures"].numpy()[:12], columns["present"].numpy()[:12]
    for r in range(12):
        assert np.flatnonzero(present[r]).tolist() == sorted(naive[r])
        for c, expected in naive[r].items():
            assert mixtures[r, c] == pytest.approx(expected, rel=1e-4)
    for r in range(12):
        mine = divergences(mixtures, present, mixtures[r], present[r])
        assert mine[r] == 0
        assert mine.tolist() == pytest.approx(
            [naive_divergence(naive[r], other) for other in naive], rel=1e-3, abs=1e-6
        )
    pixels = [0, 1, 1, 1, 0] + [1] * 7
    score = columns["score"][:12].tolist()
    pool = table(pixels, score=score, mixtures=mixtures, present=present)
    chosen = [0, 4]
    while len(chosen) < 8:
        left = [i for i in range(12) if i not in chosen]
        distance = {i: min(naive_divergence(naive[i], naive[j]) for j in chosen) for i in left}
        chosen.append(max(left, key=lambda i: (distance[i], score[i])))
    assert picks(heuristic, pool, 6) == chosen[2:]


def test_contextual_diversity_without_common_classes() -> None:
    """Unit 3 shares no class with the labelled 0: first. 1 is 0's double: last."""
    mixtures = np.zeros((4, 2, 2), dtype=np.float32)
    mixtures[:, 0], mixtures[:, 1] = [0.9, 0.1], [0.2, 0.8]
    mixtures[2, 0] = [0.5, 0.5]
    present = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=bool)
    pool = table([0, 1, 1, 1], score=[9, 0.9, 0.2, 0.1], mixtures=mixtures, present=present)
    assert picks(HEURISTICS.build("ContextualDiversity"), pool, 3) == [3, 2, 1]
    first = table([1] * 4, score=[0.3, 0.9, 0.2, 0.1], mixtures=mixtures, present=present)
    assert picks(HEURISTICS.build("ContextualDiversity"), first, 3) == [1, 3, 2]


def test_contextual_diversity_of_certain_predictions_is_finite() -> None:
    logits = torch.zeros(3, 2, 2)
    logits[0, 0] = 500.0
    logits[1, 1] = 500.0
    regions = torch.tensor([[0, 0], [0, 1]])
    heuristic = HEURISTICS.build("ContextualDiversity")
    columns = heuristic.describe(Observation(logits), regions, 2)
    assert columns["mixtures"][0, 0].tolist() == [1, 0, 0]  # entropy 0: unweighted
    assert columns["mixtures"][1, 1].tolist() == [0, 1, 0]
    other = np.array([[[0, 1, 0], [0, 1, 0], [0, 0, 0]]], dtype=np.float32)
    present = np.array([[True, True, False]])
    far = divergences(other, present, columns["mixtures"][0].numpy(), present[0])
    assert far.tolist() == pytest.approx([-math.log(LEAST) / 2], rel=1e-3)  # one of two differs
