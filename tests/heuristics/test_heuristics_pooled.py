"""Heuristics that pick from a table of the whole pool: by hand, and against naive versions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pool_tables import picks, random_table, table

from regional_al.errors import ConfigError, DataError, ScoreError
from regional_al.heuristics import HEURISTICS, Observation
from regional_al.heuristics.classes import balanced, noisy_order, open_counts, purse, schedule
from regional_al.heuristics.pixel_balance import class_weights
from regional_al.heuristics.redal import discounted, k_means
from regional_al.selection import Basket

NAMES = (
    "BADGE",
    "ClaSPPE",
    "ClassAwareRandom",
    "ClassBalance",
    "ContextualDiversity",
    "CoreSet",
    "EDALD",
    "MaxHerding",
    "PixBal",
    "ReDAL",
)
SHORT = ("BADGE", "ContextualDiversity", "CoreSet", "MaxHerding", "ReDAL")  # have `candidates`


@pytest.mark.parametrize("short", [None, 3, "20%"])
@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 25), budget=st.integers(1, 60))
def test_within_budget_never_twice_never_labelled_and_all_is_spent(
    name: str, short: Any, seed: int, n: int, budget: int
) -> None:
    if short is not None and name not in SHORT:
        return
    spec = {"type": name} if short is None else {"type": name, "candidates": short}
    rng = np.random.default_rng(seed)
    pool = random_table(rng, n)
    groups, budgets = np.zeros(n, dtype=np.int64), [budget]
    if seed % 2:
        groups, budgets = rng.integers(0, 3, n), [budget, 2, 5]
    costs = np.maximum(pool.units["pixels"], 1)
    taken = []
    for _ in range(2):  # the same seed, the same picks
        basket = Basket(costs, pool.open, budgets, groups)
        HEURISTICS.build(spec).choose(pool, basket, np.random.default_rng(seed))
        taken.append(basket.taken)
    assert taken[0] == taken[1]
    assert len(set(taken[0])) == len(taken[0])
    assert pool.open[taken[0]].all()
    spent = np.bincount(groups[taken[0]], costs[taken[0]], minlength=len(budgets))
    assert (spent <= budgets).all()
    assert basket.full  # nothing that could be paid is left


def test_class_balance_by_hand() -> None:
    """Open: u = .2 .4 .6 1. -> m = 0 .25 .5 1; three of class 0 and one of class 2:
    w0 = e^-.75, w2 = e^-.25. The answered ones (u = 9, 0; class 2) count for nothing."""
    u = [0.2, 9.0, 0.4, 0.6, 1.0, 0.0]
    majority = np.array([0, 2, 0, 0, 2, 2])
    open_ = np.array([True, False, True, True, True, False])
    w0, w2 = math.exp(-0.75), math.exp(-0.25)
    expected = [0, -np.inf, 0.25 * w0, 0.5 * w0, w2, -np.inf]
    assert balanced(u, majority, open_).tolist() == pytest.approx(expected)
    # the rarer class overtakes a higher u: .55 < .6 but e^-.25 .4375 > e^-.75 .5
    u[4], u[0], u[2] = 0.55, 0.2, 1.0
    pool = table(open_.astype(int), score=u, majority=majority)
    assert picks(HEURISTICS.build("ClassBalance"), pool, 4) == [2, 4, 3, 0]


def test_class_balance_of_equal_uncertainty_prefers_the_rare_class() -> None:
    pool = table([1] * 4, score=[0.5] * 4, majority=[1, 1, 0, 1])
    assert picks(HEURISTICS.build("ClassBalance"), pool, 2) == [2, 0]


def test_class_balance_describes_superpixels() -> None:
    """Region 0: p2/p1 = 1/2 (class 1) and 1/4 (class 1); region 1 is empty; region 2: 1 (tie)."""
    logits = torch.tensor([[[0.0, 0.0, 3.0]], [[math.log(2), math.log(4), 3.0]]])
    columns = HEURISTICS.build("ClassBalance").describe(
        Observation(logits), torch.tensor([[0, 0, 2]]), 3
    )
    assert columns["score"].tolist() == pytest.approx([0.375, math.nan, 1.0], nan_ok=True)
    assert columns["majority"].tolist() == [1, -1, 0]


def test_pixbal_describes_superpixels() -> None:
    """Region 0: p2/p1 = 1/2 of class 1 and 1/4 of class 0, region 1 is empty, region 2: 1 (tie)."""
    logits = torch.tensor([[[0.0, math.log(4), 3.0]], [[math.log(2), 0.0, 3.0]]])
    columns = HEURISTICS.build("PixBal").describe(Observation(logits), torch.tensor([[0, 0, 2]]), 3)
    assert columns["score"].tolist() == pytest.approx([0.375, math.nan, 1.0], nan_ok=True)
    assert columns["by_class"][[0, 2]].flatten().tolist() == pytest.approx([0.125, 0.25, 1.0, 0.0])
    mass = [1 / 3 + 4 / 5, 2 / 3 + 1 / 5, 0.5, 0.5]
    assert columns["mass"][[0, 2]].flatten().tolist() == pytest.approx(mass)


def test_pixbal_by_hand() -> None:
    """P = (3/4, 1/4), so w = (1 + 6 P)^-2 = (1/5.5^2, 1/2.5^2) = (0.0331, 0.16); what is answered
    counts in P and is not selected."""
    assert class_weights([[3.0, 1.0]], 6.0).tolist() == pytest.approx([5.5**-2, 2.5**-2])
    by_class = [[0.9, 0.0], [0.0, 0.9], [0.0, 0.2], [0.5, 0.1], [0.0, 0.18]]
    mass = [[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    pool = table([1, 0, 1, 1, 1], score=[0.0] * 5, by_class=np.array(by_class), mass=np.array(mass))
    # .0298, answered, .032, .0325, .0288
    assert picks(HEURISTICS.build("PixBal"), pool, 5) == [3, 2, 0, 4]
    # without weights: .9, .2, .6, .18
    assert picks(HEURISTICS.build({"type": "PixBal", "balance": 0}), pool, 5) == [0, 3, 2, 4]


@given(st.integers(0, 10**6))
def test_pixbal_against_loops(seed: int) -> None:
    """Two images of four regions, pixel by pixel."""
    generator = torch.Generator().manual_seed(seed)
    logits = [3 * torch.randn(3, 4, 5, generator=generator) for _ in range(2)]
    regions = [torch.arange(20).view(4, 5) % 4 for _ in range(2)]
    heuristic = HEURISTICS.build({"type": "PixBal", "balance": 6.0})
    parts = [heuristic.describe(Observation(z), r, 4) for z, r in zip(logits, regions, strict=True)]
    columns = {name: torch.cat([one[name] for one in parts]).numpy() for name in parts[0]}
    p = [z.double().softmax(dim=0) for z in logits]
    share = torch.stack(p).mean(dim=(0, 2, 3))
    naive = np.zeros(8)
    for image in range(2):
        for row in range(4):
            for col in range(5):
                own = p[image][:, row, col].sort(descending=True)
                weight = (1 + 6 * float(share[own.indices[0]])) ** -2
                ratio = float(own.values[1] / own.values[0])
                naive[4 * image + int(regions[image][row, col])] += weight * ratio / 5
    scores = columns["by_class"].astype(np.float64) @ class_weights(columns["mass"], 6.0)
    assert scores == pytest.approx(naive, rel=1e-5)
    taken = picks(heuristic, table([1] * 8, **columns), 8)
    assert naive[taken] == pytest.approx(np.sort(naive)[::-1], rel=1e-5)


def test_clasp_schedule_and_noise() -> None:
    assert [schedule(t, 3, 100.0) for t in (1, 2, 3)] == pytest.approx([1, 10, 100])
    assert schedule(1, 1, 100.0) == 1.0
    rng = np.random.default_rng(5)
    first = [noisy_order([1.0, 0.0, 3.0], 1.0, rng)[0] for _ in range(3000)]
    assert np.bincount(first)[2] / 3000 == pytest.approx(0.75, abs=0.03)  # s^b / sum s^b
    first = [noisy_order([1.0, 0.0, 3.0], 2.0, rng)[0] for _ in range(3000)]
    assert np.bincount(first)[2] / 3000 == pytest.approx(0.9, abs=0.03)
    assert set(noisy_order([1.0, 0.0, 3.0], 1.0, rng)) == {0, 2}  # ln 0: never


def test_clasp_follows_the_published_schedule_over_the_rounds_that_it_selects() -> None:
    """Published: b_t = 100^(t / (T - 1)), t = 0..T-1. T is `rounds`, t is round - 1: the warm start
    (round 0) selects at random and is not counted. The first selection has b = 1, the last 100."""
    published = [1.0, 10**0.5, 10.0, 10**1.5, 100.0]
    assert [schedule(r, 5, 100.0) for r in range(1, 6)] == pytest.approx(published)
    assert [schedule(r, 2, 100.0) for r in (1, 2)] == [1.0, 100.0]
    assert schedule(1, 1, 100.0) == 1.0


def test_clasp_without_noise_by_hand() -> None:
    """Q = 8, half of it for the classes 0 and 2, 1 excluded: two each, the rest by entropy."""
    by_class = (
        np.array(
            [[9, 9, 1], [8, 1, 1], [7, 1, 8], [1, 9, 9], [1, 2, 2], [2, 1, 7], [3, 9, 6], [2, 9, 3]]
        )
        / 10.0
    )
    entropy = [0.1, 0.2, 0.3, 0.4, 0.9, 0.5, 0.8, 0.7]
    pool = table([1] * 8 + [0], 2, 2, score=[*entropy, 5.0], by_class=[*by_class, [9, 9, 9]])
    clasp = HEURISTICS.build({"type": "ClaSPPE", "share": 0.5, "exclude": [1], "max_beta": 1e12})
    taken = picks(clasp, pool, 8)
    turns = [taken[0::2][:2], taken[1::2][:2]]
    assert sorted(turns) == [[0, 1], [3, 2]]
    assert taken[4:] == [4, 6, 7, 5]


def test_clasp_against_a_naive_version() -> None:
    rng = np.random.default_rng(11)
    for trial in range(30):
        n = int(rng.integers(5, 40))
        pool = random_table(rng, n)
        q = int(rng.integers(1, 30))
        taken = picks(HEURISTICS.build("ClaSPPE"), pool, q, seed=trial)

        again = np.random.default_rng(trial)
        classes, beta = again.permutation([0, 1, 2]), 1.0
        noisy = [np.log(pool["by_class"][:, c]) + again.gumbel(0, 1 / beta, n) for c in classes]
        plain = np.log(pool["score"]) + again.gumbel(0, 1 / beta, n)
        total = min(q, int(pool.open.sum()))
        left, expected = set(np.flatnonzero(pool.open).tolist()), []
        for step in range(total):
            score = noisy[step % 3] if step < int(0.66 * total) else plain
            best = max(left, key=lambda i: score[i])
            expected.append(best)
            left.remove(best)
        assert taken == expected


def test_clasp_shares_the_budget_in_its_own_unit() -> None:
    """Pixels: 60 of 90 for the classes, 20 each, whatever the sizes of their units."""
    scores = np.zeros((60, 3), dtype=np.float32)
    scores[:20, 0], scores[20:40, 1], scores[40:, 2] = 1.0, 1.0, 1.0
    costs = np.repeat([2, 5, 10], 20)
    pool = table(costs, score=np.full(60, 0.5), by_class=scores)
    clasp = HEURISTICS.build({"type": "ClaSPPE", "share": 2 / 3})
    taken = np.array(picks(clasp, pool, 90, costs))
    of_classes = taken[np.cumsum(costs[taken]) <= 60]
    assert [int(costs[of_classes[of_classes // 20 == c]].sum()) for c in range(3)] == [20, 20, 20]
    assert costs[taken].sum() <= 90


def test_clasp_counts_what_can_be_spent_at_all() -> None:
    basket = Basket([1, 1, 1, 5], [True, True, False, True], [10, 3], [0, 0, 0, 1])
    assert purse(basket) == 2  # two open units; the fourth costs more than its image has left


def test_clasp_describes_the_mean_of_its_passes() -> None:
    generator = torch.Generator().manual_seed(2)
    passes = [torch.randn(4, 5, 6, generator=generator) for _ in range(3)]
    regions = torch.randint(0, 3, (5, 6), generator=generator)
    seen = Observation(passes[0], more=iter(passes[1:]))
    clasp = HEURISTICS.build({"type": "ClaSPPE", "passes": 3})
    assert clasp.needs is not None
    assert clasp.needs.passes == 3
    columns = clasp.describe(seen, regions, 4)
    q = torch.stack([p.double().softmax(0) for p in passes]).mean(0)
    entropy = -(q * q.log()).sum(0)
    for r in range(3):
        inside = regions == r
        assert columns["score"][r].item() == pytest.approx(entropy[inside].mean().item(), rel=1e-5)
        for c in range(4):
            expected = (q[c] * entropy)[inside].mean().item()
            assert columns["by_class"][r, c].item() == pytest.approx(expected, rel=1e-5)
    assert torch.isnan(columns["score"][3])


def test_class_aware_random_takes_turns_and_shares_pixels() -> None:
    majority = [0] * 12 + [1] * 2 + [4] * 4
    pool = table([1] * 17 + [0], score=np.linspace(0.1, 0.9, 18), majority=majority)
    classes = [majority[i] for i in picks(HEURISTICS.build("ClassAwareRandom"), pool, 12)]
    assert all(set(classes[3 * turn : 3 * turn + 3]) == {0, 1, 4} for turn in range(2))
    assert classes.count(4) == 3  # the fourth is answered
    assert classes.count(1) == 2
    costs = np.array([2] * 12 + [6] * 6)
    taken = picks(HEURISTICS.build("ClassAwareRandom"), pool, 36, costs)
    spent = [sum(costs[i] for i in taken if majority[i] == c) for c in (0, 1, 4)]
    assert spent == [12, 12, 12]


def test_class_aware_random_is_uniform_within_a_class() -> None:
    heuristic = HEURISTICS.build("ClassAwareRandom")
    logits = torch.zeros(2, 1, 4)
    logits[1, 0, 3] = 9.0
    regions = torch.tensor([[0, 1, 2, 4]])
    first = []
    for seed in range(600):
        seen = Observation(logits, np.random.default_rng(seed))
        columns = heuristic.describe(seen, regions, 5)
        assert torch.isnan(columns["score"][3])
        assert columns["majority"].tolist() == [0, 0, 0, -1, 1]
        first.append(int(columns["score"][:3].argmax()))
    assert (np.abs(np.bincount(first) / 600 - 1 / 3) < 0.06).all()


def test_class_aware_random_pixels_are_drawn_equally_by_predicted_class() -> None:
    """Class 0: one open pixel, class 1: three (two more are answered), class 2: eight. Each class
    is first in a third of the draws, as weights 1 / n have it, and without replacement then."""
    labels = torch.tensor([[0, 1, 1, 1, 1, 1, 2], [2, 2, 2, 2, 2, 2, 2]])
    logits = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).float()
    annotated = np.zeros((2, 7), dtype=np.uint8)
    annotated[0, 1:3] = 1
    counts = open_counts(labels, 3, annotated)
    assert counts.tolist() == [1, 3, 8]
    heuristic = HEURISTICS.build("ClassAwareRandom")
    first, second = np.zeros(3), np.zeros(3)
    for seed in range(3000):
        seen = Observation(logits, np.random.default_rng(seed), annotated=annotated)
        scores = heuristic.pixel_scores(seen)
        assert torch.isfinite(scores).all()
        scores[torch.from_numpy(annotated > 0)] = -torch.inf
        order = scores.flatten().argsort(descending=True)
        first[labels.flatten()[order[0]]] += 1
        second[labels.flatten()[order[1]]] += 1
    assert np.allclose(first / 3000, 1 / 3, atol=0.03)
    # P(second = 0) = sum over a first of class 1 or 2 of 1/3 * w0 / (3 - w), w0 = 1, w = 1/3, 1/8
    assert second[0] / 3000 == pytest.approx((1 / (3 - 1 / 3) + 1 / (3 - 1 / 8)) / 3, abs=0.03)


def test_redal_discount_by_hand() -> None:
    """Sorted: 10 (a), 9 (b), 8 (a), 7 (a), 7 (b, later): a 10, 8 * .5, 7 * .25; b 9, 7 * .5."""
    scores = discounted([7.0, 10.0, 9.0, 8.0, 7.0], np.array([0, 0, 1, 0, 1]), 0.5)
    assert scores.tolist() == [1.75, 10, 9, 4, 3.5]


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8))
def test_redal_discount_is_the_naive_walk(seed: int, n: int, clusters: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, n) / 7.0  # with ties
    of = rng.integers(0, clusters, n)
    weight, expected = [1.0] * clusters, scores.copy()
    for i in sorted(range(n), key=lambda i: (-scores[i], i)):
        expected[i] = scores[i] * weight[of[i]]
        weight[of[i]] *= 0.95
    assert discounted(scores, of, 0.95).tolist() == expected.tolist()


def test_redal_finds_clusters_and_survives_equal_rows() -> None:
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    middle = np.array([[0, 0], [50, 0], [0, 50]], dtype=np.float32)
    vectors = (middle[np.arange(30) % 3] + rng.normal(size=(30, 2))).astype(np.float32)
    labels = k_means(vectors, 3, np.random.default_rng(1))
    assert len({tuple(labels[k::3]) for k in range(3)}) == 3
    assert all(len(set(labels[k::3].tolist())) == 1 for k in range(3))
    same = k_means(np.ones((6, 2), dtype=np.float32), 4, np.random.default_rng(1))
    assert len(set(same.tolist())) == 1


def test_redal_spreads_over_clusters() -> None:
    """Twenty near copies score just above ten others: without the discount they go first."""
    pytest.importorskip("scipy")
    vectors = np.zeros((30, 2), dtype=np.float32)
    vectors[20:] = 100.0
    scores = np.r_[np.linspace(1.0, 0.99, 20), np.linspace(0.9, 0.89, 10)]
    pool = table([1] * 30, score=scores, vector=vectors)
    flat = HEURISTICS.build({"type": "ReDAL", "decay": 1.0})
    assert picks(flat, pool, 6) == [0, 1, 2, 3, 4, 5]
    # 1, .95, .9025, (.9), .857, (.855), ...
    assert picks(HEURISTICS.build("ReDAL"), pool, 6) == [0, 1, 2, 20, 3, 21]


def test_redal_information_is_entropy_and_edges(tmp_path: Path) -> None:
    filters = pytest.importorskip("skimage.filters")
    from PIL import Image

    rgb = np.zeros((6, 8, 3), dtype=np.uint8)
    rgb[:, 4:] = 255
    Image.fromarray(rgb).save(tmp_path / "a.png")
    logits = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(1))
    regions = (torch.arange(48).reshape(6, 8) % 8) // 2
    seen = Observation(logits, image=tmp_path / "a.png")
    score = HEURISTICS.build("ReDAL").describe(seen, regions, 4)["score"]
    p = logits.double().softmax(0)
    entropy = (-p * torch.log2(p)).mean(0).numpy()  # as published: bits, mean over the classes
    edges = filters.sobel(rgb[..., 0] / 255.0)
    assert edges.max() == pytest.approx(math.sqrt(0.5))
    for r in range(4):
        expected = (entropy + 0.05 * edges)[regions.numpy() == r].mean()
        assert score[r].item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(DataError, match=r"a\.png"):
        HEURISTICS.build("ReDAL").describe(
            Observation(logits[:, :5], image=tmp_path / "a.png"), regions[:5], 4
        )


@pytest.mark.parametrize("classes", [2, 19])
def test_redal_weighs_entropy_against_edges_as_published(classes: int, tmp_path: Path) -> None:
    """Uniform predictions: log2(C) / C bits per class (0.5 at C = 2, 0.2236 at C = 19), so that an
    edge of strength s outweighs 0.05 s of that; entropy / ln C would be 1 whatever C."""
    pytest.importorskip("skimage.filters")
    from PIL import Image

    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    seen = Observation(torch.zeros(classes, 4, 4), image=tmp_path / "a.png")
    score = HEURISTICS.build("ReDAL").describe(seen, torch.zeros(4, 4, dtype=torch.int64), 1)
    by_hand = {2: 0.5, 19: 4.247927513 / 19}
    assert score["score"].tolist() == pytest.approx([by_hand[classes]], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_descriptions_are_finite_leave_their_input_alone_and_refuse_nan(name: str) -> None:
    if name == "ReDAL":
        pytest.importorskip("skimage")
    heuristic = HEURISTICS.build(name)
    for classes in (1, 5):
        logits = torch.randn(classes, 9, 11, generator=torch.Generator().manual_seed(1))
        features = torch.randn(6, 3, 4)
        before = logits.clone()
        regions = torch.arange(99).reshape(9, 11) // 33
        for given_features in (None, features):
            seen = Observation(logits, np.random.default_rng(0), features=given_features)
            columns = heuristic.describe(seen, regions, 4)
            assert torch.equal(logits, before)
            for column in columns.values():
                assert column.shape[0] == 4
                assert torch.isfinite(column[:3]).all()
            units = columns["score"]
            assert torch.isnan(units[3])
            assert torch.isfinite(units[:3]).all()
    logits[2, 3, 4] = float("nan")
    with pytest.raises(ScoreError):
        heuristic.describe(Observation(logits), regions, 4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "ClaSPPE", "share": 1.5}, "ClaSPPE: share=1.5"),
        ({"type": "ClaSPPE", "share": "much"}, "ClaSPPE: share='much'"),
        ({"type": "ClaSPPE", "max_beta": 0}, "ClaSPPE: max_beta=0"),
        ({"type": "ClaSPPE", "passes": 0}, "ClaSPPE: passes=0"),
        ({"type": "PixBal", "balance": -1}, "PixBal: balance=-1"),
        ({"type": "ClaSPPE", "exclude": 3}, "ClaSPPE: exclude=3"),
        ({"type": "ClaSPPE", "exclude": ["road"]}, "ClaSPPE: exclude='road'"),
        ({"type": "ReDAL", "decay": 0}, "ReDAL: decay=0"),
        ({"type": "ReDAL", "clusters": 0}, "ReDAL: clusters=0"),
        ({"type": "ReDAL", "edge": -1}, "ReDAL: edge=-1"),
        ({"type": "BADGE", "candidate": 3}, "'BADGE'"),
    ],
)
def test_wrong_arguments_name_heuristic_and_key(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HEURISTICS.build(spec)
    assert message in str(caught.value)


@pytest.mark.parametrize("exclude", [[0, 1], [2]])
def test_classes_to_exclude_are_checked_against_the_model(exclude: list[int]) -> None:
    clasp = HEURISTICS.build({"type": "ClaSPPE", "exclude": exclude})
    with pytest.raises(ConfigError, match=r"exclude=.* must leave out some of the classes 0..1"):
        clasp.describe(Observation(torch.zeros(2, 2, 2)), torch.zeros(2, 2, dtype=torch.int64), 1)
