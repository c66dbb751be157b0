"""PixelPick and stochastic batches: what is drawn, and how often."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heuristic_contract import Scene, pixels
from hypothesis import given
from hypothesis import strategies as st

from regional_al import functional
from regional_al.acquisition.candidates import make_picks, window_candidates
from regional_al.config import grammar as config
from regional_al.errors import ConfigError, UnsupportedError
from regional_al.heuristics import HEURISTICS, Observation, PoolHeuristic
from regional_al.heuristics.stochastic import log_shares, perturbed, soft_ranks
from regional_al.heuristics.uncertainty import draw
from regional_al.loop import runner
from regional_al.selection import Basket
from regional_al.selection.pool_table import PoolTable
from regional_al.store.query import read_query
from regional_al.types import PredictRequest


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scores"))


@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(0, 10_000),
    st.sampled_from(["5%", "30%", "100%"]),
    st.booleans(),
)
def test_pixelpick_draws_from_the_top_share_of_what_is_open(
    height: int, width: int, seed: int, top: str, some: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, 5, (height, width)) / 4).astype(np.float32)  # many ties
    annotated = (rng.random((height, width)) < 0.4).astype(np.uint8) if some else None
    share = Fraction(top[:-1]) / 100
    out = draw(values, annotated, share, 1.0, np.random.default_rng([1, seed]))
    again = draw(values, annotated, share, 1.0, np.random.default_rng([1, seed]))
    assert out.tobytes() == again.tobytes()
    open_ = [i for i in range(values.size) if annotated is None or not annotated.flat[i]]
    ranked = sorted(open_, key=lambda i: (-values.flat[i], i))
    kept = set(ranked[: max(1, int(share * len(open_)))])
    for i in range(values.size):
        if i in kept:
            assert 2 <= out.flat[i] <= 3
        else:
            assert out.flat[i] == values.flat[i]


def test_pixelpick_draws_uniformly() -> None:
    """Four of eight pixels are kept; each is the first as often as any other."""
    values = np.array([[0.9, 0.8, 0.1, 0.7], [0.2, 0.3, 0.6, 0.1]], dtype=np.float32)
    firsts = np.zeros(8)
    for seed in range(2000):
        out = draw(values, None, Fraction(1, 2), 1.0, np.random.default_rng(seed))
        firsts[out.argmax()] += 1
    assert set(np.flatnonzero(firsts)) == {0, 1, 3, 6}
    assert abs(firsts[[0, 1, 3, 6]] - 500).max() < 80  # 4 standard deviations


@pytest.mark.parametrize("score", ["margin", "entropy", "least_confidence"])
def test_pixelpick_of_a_round_is_the_published_method(
    score: str, scene: Scene, tmp_path: Path
) -> None:
    """Ten pixels an image, all among its 5 % most uncertain ones, not simply the best ten."""
    raw = {"level": "pixel", "heuristic": {"type": "PixelPick", "score": score}, "rounds": 1}
    run_, engine = tmp_path / "run", scene.engine()
    runner.run(engine, config.parse(raw), run_, report=False)
    query = read_query(run_ / "rounds/001/query")
    assert len(query.picks) == 10 * len(engine.pool)
    checkpoint = run_ / "rounds/000/fit/checkpoint.pth"
    best_ten = 0
    for found in engine.predict(checkpoint, range(len(engine.pool)), PredictRequest()):
        item = engine.pool[found.index]
        values = getattr(functional, score)(found.logits).numpy()
        first = read_query(run_ / "rounds/000/query").asked(item.key)
        ranked = np.argsort(np.where(first > 0, 9, -values).ravel(), kind="stable")
        kept = set(ranked[: int(0.05 * (values.size - (first > 0).sum()))].tolist())
        mine = query.picks[query.picks["image"] == found.index]
        places = set((mine["row"] * item.shape[1] + mine["col"]).tolist())
        assert len(places) == 10
        assert places <= kept
        best_ten += places == set(ranked[:10].tolist())
    assert best_ten == 0


# Stochastic batches ----------------------------------------------------------------------------


def test_noise_is_added_to_the_logarithm_the_score_or_the_rank() -> None:
    scores = torch.tensor([2.0, 0.0, 1.0, -torch.inf, torch.nan, 4.0])
    noise = torch.tensor([0.5, 0.5, -1.0, 0.5, 0.5, 0.25], dtype=torch.float64)
    power = perturbed(scores, noise, "power").tolist()
    assert power[:4] == [math.log(2) + 0.5, -math.inf, -1.0, -math.inf]
    assert math.isnan(power[4])
    assert power[5] == math.log(4) + 0.25
    soft = perturbed(scores, noise, "softmax").tolist()
    assert soft[:4] == [2.5, 0.5, 0.0, -math.inf]
    ranks = soft_ranks(np.array([2.0, -np.inf, 3.0, 2.0]), np.array([0.1, 9.0, 0.2, 0.3]))
    expected = [0.1 - math.log(2), -math.inf, 0.2, 0.3 - math.log(3)]
    assert ranks.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "beta", "weights"),
    [
        ("power", 1.0, [0.1, 0.5, 0.9]),
        ("power", 2.0, [0.01, 0.25, 0.81]),
        ("softmax", 3.0, [math.exp(0.3), math.exp(1.5), math.exp(2.7)]),
        ("rank", 1.0, [1 / 3, 1 / 2, 1.0]),
    ],
)
def test_the_first_pick_is_drawn_in_proportion(
    kind: str, beta: float, weights: list[float]
) -> None:
    """Gumbel-max: s^beta, e^(beta s) or r^-beta over their sum. Three units of one pixel each with
    margins 0.1, 0.5, 0.9, and one that has an answer."""
    values = torch.tensor([0.1, 0.5, 0.9, 1.0])
    logits = pixels(*[((2 - v) / 2, v / 2) for v in values.tolist()])
    spec = {"type": "Stochastic", "heuristic": "Margin", "kind": kind, "beta": beta}
    heuristic = HEURISTICS.build(spec)
    firsts = np.zeros(3)
    regions = torch.arange(4)[None]
    units = make_picks(0, np.zeros(4), [1, 1, 1, 0], unit=range(4))
    for seed in range(3000):
        seen = Observation(logits, np.random.default_rng(seed))
        if isinstance(heuristic, PoolHeuristic):
            columns = {k: v.numpy() for k, v in heuristic.describe(seen, regions, 4).items()}
            table = PoolTable(units, columns)
            basket = Basket([1] * 4, table.open, 1)
            heuristic.choose(table, basket, np.random.default_rng(seed))
            firsts[basket.taken[0]] += 1
        else:
            firsts[int(heuristic.unit_scores(seen, regions, 4)[:3].argmax())] += 1
    shares = np.array(weights) / sum(weights)
    assert np.allclose(firsts / 3000, shares, atol=4 * math.sqrt(0.25 / 3000))


def test_with_little_noise_the_order_is_that_of_the_heuristic(scene: Scene, tmp_path: Path) -> None:
    logits = torch.randn(4, 9, 11, generator=torch.Generator().manual_seed(0))
    for inner in ("Entropy", {"type": "RIPU", "radius": 1}):
        spec = {"type": "Stochastic", "heuristic": inner, "kind": "softmax", "beta": 1e9}
        plain, noisy = HEURISTICS.build(inner), HEURISTICS.build(spec)
        assert noisy.pixel_suppress_radius == plain.pixel_suppress_radius
        for ask in (
            lambda h: h.pixel_scores(Observation(logits)),
            lambda h: h.window_scores(Observation(logits), 1),
            lambda h: h.unit_scores(Observation(logits), torch.arange(99).reshape(9, 11) // 9, 11),
        ):
            assert torch.allclose(ask(noisy), ask(plain).to(ask(noisy).dtype), atol=1e-6)


def test_scores_shared_out_by_predicted_class() -> None:
    """Two pixels of class 0 (scores 1, 3), three of class 1 (2, 2, 4), the first 2 answered."""
    logits = torch.zeros(2, 1, 5)
    logits[1, 0, 2:] = 1.0
    annotated = np.array([[0, 0, 1, 0, 0]], dtype=np.uint8)
    seen = Observation(logits, annotated=annotated)
    scores = torch.tensor([[1.0, 3.0, 2.0, 2.0, 4.0]])
    assert log_shares(scores, seen, 1.0)[0].exp().tolist() == pytest.approx(
        [1 / 4, 3 / 4, 2 / 6, 2 / 6, 4 / 6]
    )
    squared = log_shares(scores, seen, 2.0)[0].exp() ** 2
    assert squared.tolist() == pytest.approx([1 / 10, 9 / 10, 4 / 20, 4 / 20, 16 / 20])
    odd = log_shares(torch.tensor([[-1.0, 0.0, 1.0, torch.nan, 4.0]]), seen, 1.0)[0]
    assert odd.exp().tolist() == pytest.approx([0.0, 0.0, 0.25, math.nan, 1.0], nan_ok=True)


@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0, 400.0])
@pytest.mark.parametrize("classes", [2, 60])
def test_a_class_without_an_open_pixel_is_left_out_and_the_others_are_drawn(
    beta: float, classes: int
) -> None:
    """A later round: all pixels predicted as class 0 are answered. Entropies of 60 classes are
    above 4 nats; small and large powers of the scores leave the range of float64."""
    logits = torch.zeros(classes, 4, 8)
    logits[0, 0] += 1e-3
    logits[1, 1:] += torch.linspace(0.0, 20.0, 24).reshape(3, 8) + 1e-3
    annotated = np.zeros((4, 8), dtype=np.uint8)
    annotated[0] = 1
    spec = {"type": "Stochastic", "heuristic": "Entropy", "beta": beta, "per_class": True}
    heuristic = HEURISTICS.build(spec)
    seen = Observation(logits, np.random.default_rng(0), annotated=annotated)
    score = heuristic.pixel_scores(seen)
    found = window_candidates(0, "a", score, 0, 0, annotated, [], 24, True)
    assert len(found) == 24  # every open pixel has a score of its own, none of them -inf
    assert len(np.unique(found["score"])) > 20
    windows = heuristic.window_scores(Observation(logits, annotated=annotated), 1)
    assert len(window_candidates(0, "a", windows, 1, 2, annotated, [], 9, True)) > 0


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_every_predicted_class_gets_its_share(beta: float) -> None:
    """Class 1 is 1 of 100 pixels, and the surest: it gets half the draws; within class 0 a pixel is
    drawn by margin^beta."""
    values = [0.9] * 33 + [0.3] * 66 + [0.1]
    logits = pixels(*[((2 - v) / 2, v / 2) for v in values[:-1]], (0.05, 0.95))
    heuristic = HEURISTICS.build(
        {"type": "Stochastic", "heuristic": "Margin", "beta": beta, "per_class": True}
    )
    for scores in (heuristic.pixel_scores, lambda seen: heuristic.window_scores(seen, 0)):
        firsts = [
            int(scores(Observation(logits, np.random.default_rng(seed))).argmax())
            for seed in range(2000)
        ]
        unsure = 0.5 * 33 * 0.9**beta / (33 * 0.9**beta + 66 * 0.3**beta)
        assert firsts.count(99) / 2000 == pytest.approx(0.5, abs=0.04)
        assert sum(i < 33 for i in firsts) / 2000 == pytest.approx(unsure, abs=0.04)


def test_a_wrapper_takes_over_what_its_heuristic_needs_and_allows() -> None:
    def built(inner: Any, **more: Any) -> Any:
        return HEURISTICS.build({"type": "Stochastic", "heuristic": inner, **more})

    assert built("Random").needs is None
    assert built("EquAL").needs == PredictRequest(flip=True)
    assert built({"type": "Combine", "parts": ["Margin"]}).levels == ("image", "region", "pixel")
    published = built({"type": "RIPU", "compat": "published"})
    assert (published.regions, published.column_major) == (("windows",), True)
    ranked = built("Margin", kind="rank")
    assert (ranked.levels, ranked.regions) == (("image", "region"), ("units",))


@pytest.mark.parametrize(
    "inner", ["PixelPick", {"type": "Combine", "parts": ["Margin", "PixelPick"]}]
)
def test_noise_on_a_draw_is_refused_before_anything_is_trained(
    inner: Any, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = scene.engine()
    monkeypatch.setattr(engine, "fit", lambda *_: pytest.fail("trained"))
    raw = {"level": "pixel", "heuristic": {"type": "Stochastic", "heuristic": inner}}
    name = inner if isinstance(inner, str) else inner["type"]
    with pytest.raises(
        UnsupportedError, match=f"Stochastic: heuristic='{name}' draws at random by"
    ):
        runner.run(engine, config.parse(raw), tmp_path / "run")


# Mixtures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_by_class_draws_as_stochastic_does(beta: float) -> None:
    """The same scores, of pixels and of windows, from the same generator; RIPU by default."""
    logits = torch.randn(4, 12, 16, generator=torch.Generator().manual_seed(0))
    spec = {"type": "Stochastic", "heuristic": "RIPU", "beta": beta, "per_class": True}
    own, other = HEURISTICS.build({"type": "ByClass", "beta": beta}), HEURISTICS.build(spec)
    for method, more in (("pixel_scores", ()), ("window_scores", (1,))):
        found = [
            getattr(one, method)(Observation(logits, np.random.default_rng(5)), *more)
            for one in (own, other)
        ]
        assert torch.equal(*found)
    assert (own.levels, own.regions, own.needs) == (other.levels, other.regions, other.needs)


def test_by_class_names_itself() -> None:
    with pytest.raises(UnsupportedError, match="heuristic ByClass: heuristic='PixelPick' draws"):
        HEURISTICS.build({"type": "ByClass", "heuristic": "PixelPick"})
    with pytest.raises(ConfigError, match=r"heuristic ByClass: beta=0"):
        HEURISTICS.build({"type": "ByClass", "beta": 0})
    with pytest.raises(UnsupportedError, match=r"^heuristic ByClass: ClassBalance|picks from"):
        HEURISTICS.build({"type": "ByClass", "heuristic": "ClassBalance"})
