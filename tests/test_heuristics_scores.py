"""Scores of single heuristics: worked by hand, by brute force, and against BAAL."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heuristic_contract import SPACE, Scene
from regional_al import config, functional, run
from regional_al.acquire import Acquirer
from regional_al.candidates import make_picks
from regional_al.engines.base import Prediction, PredictRequest
from regional_al.engines.views import pass_seed
from regional_al.errors import ConfigError, ScoreError, UnsupportedError
from regional_al.heuristics import HEURISTICS, Observation
from regional_al.heuristics.combine import minmax, rank_share
from regional_al.heuristics.pixelpick import draw
from regional_al.heuristics.stochastic import perturbed, shared_out, soft_ranks
from regional_al.labels import LabelStore
from regional_al.pool_table import PoolTable
from regional_al.query import read_query
from regional_al.selection import Basket, select_windows
from regional_al.testing import toy
from regional_al.timing import Stopwatch

ONE = torch.zeros(2, 2, dtype=torch.int32)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scores"))


def pixels(*probabilities: tuple[float, ...]) -> torch.Tensor:
    """Logits [C, 1, n] of n pixels with these class probabilities."""
    return torch.tensor(probabilities).log().T[:, None]


def h(*p: float) -> float:
    return -sum(q * math.log(q) for q in p if q > 0)


# One prediction --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sure", "unsure"),
    [
        ("Entropy", 0.0, math.log(2)),
        ("Margin", 0.0, 1.0),
        ("LeastConfidence", 0.0, 0.5),
        ("BvSB", 0.0, 1.0),
    ],
)
def test_uncertainty_of_two_classes(name: str, sure: float, unsure: float) -> None:
    """One pixel with p = (1, 0), one with p = (1/2, 1/2); a region is their mean."""
    logits = torch.tensor([[[60.0, 1.0]], [[0.0, 1.0]]])
    heuristic = HEURISTICS.build(name)
    assert heuristic.pixel_scores(Observation(logits)).tolist() == [
        pytest.approx([sure, unsure], abs=1e-6)
    ]
    region = heuristic.unit_scores(Observation(logits), torch.zeros(1, 2, dtype=torch.int32), 1)
    assert region.tolist() == pytest.approx([(sure + unsure) / 2], abs=1e-6)


def test_best_versus_second_best_is_a_ratio() -> None:
    logits = pixels((0.6, 0.3, 0.1), (0.5, 0.1, 0.4))
    scores = HEURISTICS.build("BvSB").pixel_scores(Observation(logits))
    assert scores[0].tolist() == pytest.approx([0.5, 0.8])


def test_ripu_of_a_region_is_impurity_times_uncertainty() -> None:
    """Four pixels, C = 2, all with p = (0.8, 0.2) or (0.2, 0.8): U = H(0.8)/ln 2. Three predicted
    as class 0 and one as 1: P = H(3/4)/ln 2."""
    gap = math.log(4.0)
    logits = torch.zeros(2, 2, 2)
    logits[0, 0, 0] = logits[0, 0, 1] = logits[0, 1, 0] = gap
    logits[1, 1, 1] = gap
    expected = h(0.8, 0.2) * h(0.75, 0.25) / math.log(2) ** 2
    ripu = HEURISTICS.build("RIPU")
    assert ripu.unit_scores(Observation(logits), ONE, 1).tolist() == pytest.approx([expected])
    assert ripu.window_scores(Observation(logits), 1)[0, 0].item() == pytest.approx(expected)
    one_class = ripu.unit_scores(Observation(torch.zeros(1, 2, 2)), ONE, 1)
    assert one_class.tolist() == [0.0]


# RIPU as published -----------------------------------------------------------------------------


def published_by_hand(logits: np.ndarray, k: int, pixel: bool) -> np.ndarray:
    """RIPU with 1e-6 inside the logarithms and ln 19, window by window, from its description."""
    e = np.exp(logits - logits.max(0))
    p = e / e.sum(0)
    entropy = -(p * np.log(p + 1e-6)).sum(0) / math.log(19)
    label = p.argmax(0)
    out = np.zeros(label.shape)
    for row, col in np.ndindex(*label.shape):
        window = (slice(max(0, row - k), row + k + 1), slice(max(0, col - k), col + k + 1))
        shares = np.bincount(label[window].ravel(), minlength=len(p)) / label[window].size
        impurity = -(shares * np.log(shares + 1e-6)).sum() / math.log(19)
        out[row, col] = impurity * (entropy[row, col] if pixel else entropy[window].mean())
    return out


def greedy_by_hand(score: np.ndarray, suppress: int, count: int) -> list[tuple[int, int]]:
    """One full argmax a pick, the first column that holds the maximum, in it the first row."""
    score, picks = score.copy(), []
    while len(picks) < count and score.max() > -np.inf:
        col, row = divmod(int(score.T.argmax()), score.shape[0])
        picks.append((row, col))
        top, left = max(0, row - suppress), max(0, col - suppress)
        score[top : row + suppress + 1, left : col + suppress + 1] = -np.inf
    return picks


def blobs(seed: int, classes: int = 5, shape: tuple[int, int] = (17, 23)) -> np.ndarray:
    """Logits with areas of one class, and so windows that hold nothing else, of few values each:
    many exact ties."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (classes, -(-shape[0] // 6), -(-shape[1] // 6)))
    fine = np.repeat(np.repeat(coarse, 6, 1), 6, 2)[:, : shape[0], : shape[1]]
    return fine * 1.5 + np.arange(classes)[:, None, None] * 0.01


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("pixel", "k"), [(False, 1), (False, 2), (True, 3)])
def test_published_ripu_scores_and_picks_like_the_published_code(
    seed: int, pixel: bool, k: int, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.from_numpy(blobs(seed)).float()
    spec = {"type": "RIPU", "compat": "published", "radius": k}
    ripu, suppress, count = HEURISTICS.build(spec), k if pixel else 2 * k, 12

    def scores(logits: torch.Tensor) -> np.ndarray:
        seen = Observation(logits)
        return (ripu.pixel_scores(seen) if pixel else ripu.window_scores(seen, k)).numpy()

    assert np.allclose(scores(logits), published_by_hand(logits.numpy(), k, pixel), 1e-4, 1e-7)
    # Picks through the library, from the same scores, so that rounding cannot turn a near tie.
    place = {"level": "pixel"} if pixel else {"region": {"type": "window", "radius": k}}
    budget = {"amount": count, "unit": "pixel" if pixel else "region", "scope": "image"}
    raw = {**place, "heuristic": spec, "budget": budget, "previews": 0}
    engine = scene.engine()
    engine.pool = engine.pool[:1]
    whole = torch.zeros(5, *engine.pool[0].shape)
    whole[0] = 200.0  # elsewhere certain and uniform
    whole[:, : logits.shape[1], : logits.shape[2]] = logits
    monkeypatch.setattr(engine, "predict", lambda *_: iter([Prediction(0, whole)]))
    acquirer = Acquirer(engine, config.parse(raw), LabelStore(tmp_path / "labels"), tmp_path)
    query = acquirer.query(1, None, Stopwatch(), warm=False)
    assert query is not None
    picked = [(int(p["row"]), int(p["col"])) for p in query.picks]
    expected = greedy_by_hand(scores(whole), suppress, count)
    assert len(picked) == count
    assert set(picked) == set(expected)  # a query lists equal scores row by row
    assert [scores(whole)[at] for at in picked] == [scores(whole)[at] for at in expected]


def test_published_ripu_prefers_the_certain_of_uniform_windows() -> None:
    """The flaw that `compat` keeps and the default does not have."""
    logits = torch.zeros(2, 1, 12)
    logits[0, :, :6], logits[0, :, 6:] = 0.5, 9.0  # class 0 everywhere; sure on the right
    seen = Observation(logits)
    flawed = HEURISTICS.build({"type": "RIPU", "compat": "published"}).window_scores(seen, 1)
    assert (flawed < 0).all()
    assert flawed[0, 11] > flawed[0, 0]
    assert torch.equal(HEURISTICS.build("RIPU").window_scores(seen, 1), torch.zeros(1, 12))


def test_ties_of_the_published_mode_go_down_the_columns() -> None:
    score = np.zeros((3, 4))
    assert greedy_by_hand(score, 0, 4) == [(0, 0), (1, 0), (2, 0), (0, 1)]
    assert select_windows(score, 0, 0, 4).tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert HEURISTICS.build({"type": "RIPU", "compat": "published"}).column_major
    assert not HEURISTICS.build("RIPU").column_major


# Several predictions ---------------------------------------------------------------------------


def test_bald_is_what_certain_passes_disagree_about() -> None:
    """Pixel 1: passes (0.9, 0.1) and (0.1, 0.9), pixel 2: (1/2, 1/2) both times."""
    passes = [pixels((0.9, 0.1), (0.5, 0.5)), pixels((0.1, 0.9), (0.5, 0.5))]
    seen = Observation(passes[0], more=iter(passes[1:]))
    scores = HEURISTICS.build("BALD").pixel_scores(seen)
    assert scores[0].tolist() == pytest.approx([math.log(2) - h(0.9, 0.1), 0.0], abs=1e-6)


def test_equal_is_the_mean_of_both_entropies() -> None:
    views = [pixels((0.9, 0.1), (0.5, 0.5)), pixels((0.5, 0.5), (0.5, 0.5))]
    scores = HEURISTICS.build("EquAL").pixel_scores(Observation(views[0], more=iter(views[1:])))
    expected = [(h(0.9, 0.1) + math.log(2)) / 2, math.log(2)]
    assert scores[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_views_of_the_torch_engine(scene: Scene) -> None:
    """Flip: the model on the mirrored image, mirrored back. Ensemble: the other checkpoint's plain
    prediction. Passes: dropout of image and pass alone. Features: what the last layer sees."""
    engine = scene.engine()
    one, other = scene.checkpoints

    def plain(checkpoint: Path) -> torch.nn.Module:
        model = engine.build_model()
        model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
        return model.eval()

    image = engine._image(engine.pool[2])[None]
    with torch.no_grad():
        expected = plain(one)(image)[0]
        mirrored = plain(one)(image.flip(-1))[0].flip(-1)
        elsewhere = plain(other)(image)[0]
        inside = plain(one).body[:-1](image)[0]
    request = PredictRequest(flip=True, ensemble=(other, one), features=True)
    (found,) = engine.predict(one, [2], request)
    assert found.more is not None
    views = [found.logits, *found.more]
    for view, wanted in zip(views, [expected, mirrored, elsewhere, expected], strict=True):
        assert torch.equal(view, wanted)
    assert torch.equal(found.features, inside)  # type: ignore[arg-type]

    noisy = PredictRequest(passes=3)
    alone = next(engine.predict(one, [2], noisy))
    after = list(engine.predict(one, [0, 2], noisy))[1]  # not consumed before the next image
    state = torch.get_rng_state()
    passes = [alone.logits, *(alone.more or ())]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, passes, [after.logits, *(after.more or ())]))
    assert not torch.equal(passes[0], expected)
    assert torch.equal(next(engine.predict(one, [2], PredictRequest())).logits, expected)
    assert len({pass_seed(index, number) for index in range(40) for number in range(40)}) == 1600


def test_bald_over_checkpoints_is_bald_over_their_predictions(scene: Scene) -> None:
    bald = HEURISTICS.build({"type": "BALD", "checkpoints": [str(scene.checkpoints[1])]})
    engine = scene.engine()
    found = next(engine.predict(scene.checkpoints[0], [1], bald.needs or PredictRequest()))
    logits = [next(engine.predict(c, [1], PredictRequest())).logits for c in scene.checkpoints]
    scores = bald.pixel_scores(Observation(found.logits, more=found.more))
    assert torch.equal(scores, functional.bald(logits))
    assert scores.max() > 1e-4


def test_what_the_model_cannot_give_is_said_before_anything_is_trained(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = scene.engine()
    monkeypatch.setattr(engine, "fit", lambda *_: pytest.fail("trained"))
    raw = {"level": "image", "heuristic": "BALD"}
    engine.build_model = lambda: toy.ToyNet(SPACE.num_classes, dropout=0.0)
    with pytest.raises(UnsupportedError, match="10 passes need dropout"):
        run.run(engine, config.parse(raw), tmp_path / "dropout")
    raw = {"level": "image", "heuristic": {"type": "BALD", "checkpoints": [str(tmp_path / "x")]}}
    with pytest.raises(ConfigError, match="x does not exist"):
        run.run(engine, config.parse(raw), tmp_path / "ensemble")


# PixelPick -------------------------------------------------------------------------------------


@given(
    st.integers(1, 7), st.integers(1, 7), st.integers(0, 10_000),
    st.sampled_from(["5%", "30%", "100%"]), st.booleans(),
)  # fmt: skip
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
    run.run(engine, config.parse(raw), run_, report=False)
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
        if heuristic.pooled:
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
    assert shared_out(scores, seen, 1.0)[0].tolist() == pytest.approx(
        [1 / 4, 3 / 4, 2 / 6, 2 / 6, 4 / 6]
    )
    squared = shared_out(scores, seen, 2.0)[0] ** 2
    assert squared.tolist() == pytest.approx([1 / 10, 9 / 10, 4 / 20, 4 / 20, 16 / 20])
    odd = shared_out(torch.tensor([[-1.0, 0.0, 1.0, torch.nan, 4.0]]), seen, 1.0)[0]
    assert odd.tolist() == pytest.approx([0.0, 0.0, 0.25, math.nan, 1.0], nan_ok=True)


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
    assert built("PixelPick").levels == ("pixel",)
    published = built({"type": "RIPU", "compat": "published"})
    assert (published.units, published.column_major) == (False, True)
    ranked = built("Margin", kind="rank")
    assert (ranked.levels, ranked.windows) == (("image", "region"), False)


# Mixtures --------------------------------------------------------------------------------------


def test_sums_and_products_of_scores() -> None:
    """Margins 0.2 and 0.8, least confidence 0.1 and 0.4 (two classes: half the margin)."""
    seen = Observation(pixels((0.9, 0.1), (0.6, 0.4)))
    parts = [{"type": "Margin", "weight": 2.0}, {"type": "LeastConfidence"}]
    added = HEURISTICS.build({"type": "Combine", "parts": parts})
    assert added.pixel_scores(seen)[0].tolist() == pytest.approx([0.5, 2.0])
    times = HEURISTICS.build({"type": "Combine", "parts": parts, "how": "product"})
    assert times.pixel_scores(seen)[0].tolist() == pytest.approx([0.2**2 * 0.1, 0.8**2 * 0.4])
    region = torch.zeros(1, 2, dtype=torch.int32)  # of the means, not the mean of products
    assert times.unit_scores(seen, region, 1).tolist() == pytest.approx([0.5**2 * 0.25])
    assert times.window_scores(seen, 1)[0].tolist() == pytest.approx([0.5**2 * 0.25] * 2)


def test_what_one_part_refuses_is_refused_and_products_take_no_negative_scores() -> None:
    power = {"type": "Stochastic", "heuristic": "Margin"}  # -inf for a certain pixel
    seen = Observation(torch.tensor([[[200.0, 1.0]], [[0.0, 1.0]]]))
    both = HEURISTICS.build({"type": "Combine", "parts": ["Entropy", power]})
    assert torch.isfinite(both.pixel_scores(seen))[0].tolist() == [False, True]
    assert both.pixel_scores(seen)[0, 0] == -torch.inf
    spec = {"type": "Combine", "parts": ["Entropy", {**power, "kind": "softmax"}]}
    logits = torch.zeros(2, 9, 9)
    logits[0] = 9.0
    with pytest.raises(ScoreError, match=r"Stochastic gave -.*use how='sum'"):
        HEURISTICS.build({**spec, "how": "product"}).pixel_scores(Observation(logits))


def test_needs_of_a_mixture_are_those_of_all_its_parts() -> None:
    def needs(*parts: Any) -> Any:
        return HEURISTICS.build({"type": "Combine", "parts": list(parts)}).needs

    assert needs("Random", "Random") is None
    assert needs("Random", "Margin") == PredictRequest()
    assert needs("Margin", {"type": "BALD", "passes": 4}) == PredictRequest(passes=4)
    assert needs("Entropy", "EquAL") == PredictRequest(flip=True)
    mixed = HEURISTICS.build(
        {"type": "Combine", "parts": ["Margin", {"type": "RIPU", "radius": 5}]}
    )
    assert (mixed.levels, mixed.pixel_suppress_radius) == (("image", "region", "pixel"), 5)


def test_scales_by_hand() -> None:
    scores = np.array([3.0, 1.0, 2.0, 2.0, 5.0])
    assert minmax(scores).tolist() == [0.5, 0.0, 0.25, 0.25, 1.0]
    assert rank_share(scores).tolist() == [0.75, 0.0, 0.375, 0.375, 1.0]
    assert minmax(np.array([2.0, 2.0])).tolist() == [0.0, 0.0]
    assert rank_share(np.array([2.0])).tolist() == [0.0]
    assert rank_share(np.array([2.0, 2.0])).tolist() == [0.5, 0.5]
    assert len(minmax(scores[:0])) == len(rank_share(scores[:0])) == 0


@pytest.mark.parametrize(
    ("how", "normalize", "order"),
    [
        # Open units 0..3; part 0: 10, 20, 30, 40; part 1 (weight 2): 8, 2, 5, 1.
        # minmax: 0, 1/3, 2/3, 1 and 1, 1/7, 4/7, 0: sums 2, 0.62, 1.81, 1; products 0, .007, .22, 0
        # rank: the same but 1, 1/3, 2/3, 0: sums 2, 1, 2, 1; products 0, 1/27, 8/27, 0
        ("sum", "minmax", [0, 2, 3, 1]),
        ("product", "minmax", [2, 1, 0, 3]),
        ("sum", "rank", [0, 2, 1, 3]),
        ("product", "rank", [2, 1, 0, 3]),
    ],
)
def test_normalised_mixtures_rank_over_the_open_units(
    how: str, normalize: str, order: list[int]
) -> None:
    parts = [{"type": "Entropy"}, {"type": "Margin", "weight": 2.0}]
    spec = {"type": "Combine", "parts": parts, "how": how, "normalize": normalize}
    units = make_picks(0, np.zeros(6), [1, 1, 1, 1, 0, 1], unit=range(6))
    columns = {
        "score": np.zeros(6),
        "part0": np.array([10.0, 20.0, 30.0, 40.0, 900.0, -np.inf]),  # answered; refused
        "part1": np.array([8.0, 2.0, 5.0, 1.0, -900.0, 4.0]),
    }
    table = PoolTable(units, columns)
    basket = Basket([1] * 6, table.open, 6)
    HEURISTICS.build(spec).choose(table, basket, np.random.default_rng(0))
    assert basket.taken == order


# BAAL ------------------------------------------------------------------------------------------


def test_same_scores_as_baal() -> None:
    """BAAL takes [N, C, ..., T]; for its margin and certainty lower means: ask. Its certainty is
    the only one that does not turn logits into probabilities."""
    baal = pytest.importorskip("baal.active.heuristics")
    passes = torch.randn(6, 5, 8, 9, generator=torch.Generator().manual_seed(2)) * 2
    logits = passes.permute(1, 2, 3, 0)[None].double()

    def mine(name: str, views: torch.Tensor) -> np.ndarray:
        seen = Observation(views[0], more=iter(views[1:]))
        return HEURISTICS.build(name).pixel_scores(seen).numpy()

    def theirs(heuristic: Any, given: torch.Tensor) -> np.ndarray:
        return np.asarray(heuristic.get_uncertainties(given.numpy().copy())[0])

    one, p = logits[..., :1], logits[..., :1].softmax(1)
    pairs = [
        (mine("BALD", passes), theirs(baal.BALD(), logits)),
        (mine("Entropy", passes[:1]), theirs(baal.Entropy(), one)),
        (1 - mine("Margin", passes[:1]), theirs(baal.Margin(), one)),
        (1 - mine("LeastConfidence", passes[:1]), theirs(baal.Certainty(), p)),
    ]
    for ours, other in pairs:
        assert ours.shape == other.shape
        assert np.allclose(ours, other, atol=1e-6)
