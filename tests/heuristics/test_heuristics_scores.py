"""Scores of single heuristics: worked by hand, by brute force, and against BAAL."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heuristic_contract import SPACE, Scene, pixels

from regional_al import functional
from regional_al.acquisition.acquirer import Acquirer
from regional_al.config import grammar as config
from regional_al.engines.base import Prediction
from regional_al.engines.views import pass_seed
from regional_al.errors import ConfigError, UnsupportedError
from regional_al.heuristics import HEURISTICS, Observation
from regional_al.loop import runner
from regional_al.runtime.progress import Stopwatch
from regional_al.selection import select_windows
from regional_al.store.labels import LabelStore
from regional_al.testing import toy
from regional_al.types import PredictRequest

ONE = torch.zeros(2, 2, dtype=torch.int32)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scores"))


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
        runner.run(engine, config.parse(raw), tmp_path / "dropout")
    raw = {"level": "image", "heuristic": {"type": "BALD", "checkpoints": [str(tmp_path / "x")]}}
    with pytest.raises(ConfigError, match="x does not exist"):
        runner.run(engine, config.parse(raw), tmp_path / "ensemble")


# PixelPick -------------------------------------------------------------------------------------


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
