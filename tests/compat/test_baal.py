"""BAAL's heuristics by name: the same numbers and picks as BAAL itself, on streamed predictions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regional_al import functional
from regional_al.compat.baal import heuristics as adapter
from regional_al.config import grammar as config
from regional_al.errors import ConfigError, EnvironmentProblem, ScoreError, UnsupportedError
from regional_al.heuristics import HEURISTICS, Observation
from regional_al.loop import runner
from regional_al.registry import Registry
from regional_al.selection import select_units
from regional_al.store.query import read_query
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace

pytest.importorskip("baal")
from baal.active import heuristics as theirs

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
SHAPE = (5, 13, 17)


def views(count: int = 4, seed: int = 0, scale: float = 3.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(SHAPE, generator=generator) for _ in range(count)]


def seen(logits: list[torch.Tensor]) -> Observation:
    return Observation(logits[0], more=iter(logits[1:]))


def stacked(logits: list[torch.Tensor]) -> np.ndarray:
    """Probabilities as BAAL wants them: [1, C, H, W, T]."""
    return torch.stack([z.double().softmax(0) for z in logits], -1)[None].numpy()


def built(name: str, **arguments: Any) -> Any:
    return HEURISTICS.build({"type": f"baal.{name}", **arguments})


@pytest.mark.parametrize("name", ["BALD", "Entropy", "Margin", "Certainty", "Variance"])
def test_pixel_scores_are_baals_own_with_the_best_ones_highest(name: str) -> None:
    """BAAL's ranking of the pixels, each taken for a sample of its own, is ours read downwards."""
    logits = views()
    ours = built(name, passes=4).pixel_scores(seen(logits)).numpy()
    assert ours.shape == SHAPE[1:]
    assert ours.dtype == np.float32
    samples = np.moveaxis(stacked(logits)[0], (1, 2), (0, 1)).reshape(-1, SHAPE[0], 4)
    reduction = "mean" if name == "Variance" else "none"
    ranks, _ = getattr(theirs, name)(reduction=reduction).get_ranks(samples)
    ordered = ours.ravel()[np.asarray(ranks)]
    assert (np.diff(ordered) <= 1e-6).all()
    assert ordered[0] > ordered[-1] + 0.1 * (name != "Variance")


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("BALD", functional.bald),
        ("Entropy", lambda z: functional.entropy(z[0])),
        ("Margin", lambda z: functional.margin(z[0]) - 1),  # p2 - p1: the same order
        ("Certainty", lambda z: functional.least_confidence(z[0]) - 1),
    ],
)
def test_parity_with_our_functions(name: str, reference: Any) -> None:
    logits = views(6 if name == "BALD" else 1, seed=7)
    ours = built(name, passes=len(logits)).pixel_scores(seen(logits))
    expected = reference(logits)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-6)
    regions = torch.arange(13 * 17).reshape(13, 17) // 10
    costs = torch.bincount(regions.ravel()).numpy()
    scores = built(name, passes=len(logits)).unit_scores(seen(logits), regions, len(costs)).numpy()
    sums = np.bincount(regions.numpy().ravel(), expected.numpy().ravel())
    picked = select_units(scores, costs, 60).tolist()
    assert picked == select_units(sums / costs, costs, 60).tolist()
    assert len(picked) == 6


def test_variance_by_hand() -> None:
    """Two passes, p = (0.8, 0.2) and (0.4, 0.6): variance 0.04 of each class."""
    logits = [torch.tensor([[[p]], [[1 - p]]]).log() for p in (0.8, 0.4)]
    assert built("Variance", passes=2).pixel_scores(seen(logits)).item() == pytest.approx(0.04)
    summed = built("Variance", passes=2, reduction="sum")
    assert summed.pixel_scores(seen(logits)).item() == pytest.approx(0.08)


def test_logits_between_0_and_1_are_not_taken_for_probabilities() -> None:
    """[1, 0] looks like a distribution to BAAL; its softmax has a certainty of 0.731."""
    logits = torch.tensor([[[1.0]], [[0.0]]])
    assert theirs.Certainty().compute_score(logits.numpy()[None, ..., None]).item() == 1.0
    score = built("Certainty").pixel_scores(Observation(logits)).item()
    assert -score == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item())


@pytest.mark.parametrize("reduction", ["none", "mean", "sum", "max", "min"])
@pytest.mark.parametrize("name", ["Entropy", "Margin", "Variance"])
def test_a_whole_image_scores_as_baal_ranks_it(name: str, reduction: str) -> None:
    """Margin is 'low is best' in BAAL: its largest pixel is our smallest."""
    images = [views(3, seed=seed) for seed in range(4)]
    one = torch.zeros(SHAPE[1:], dtype=torch.int32)
    ours = [built(name, passes=3, reduction=reduction).unit_scores(seen(i), one, 1) for i in images]
    whole = getattr(theirs, name)(reduction="mean" if reduction == "none" else reduction)
    ranks, _ = whole.get_ranks(np.concatenate([stacked(i) for i in images]))
    assert np.argsort([-float(s) for s in ours]).tolist() == list(ranks)


@pytest.mark.parametrize("reduction", ["sum", "max", "min"])
def test_reductions_of_units_and_their_limits(reduction: str) -> None:
    heuristic = built("Margin", reduction=reduction)
    logits = views(1)
    regions = torch.arange(13 * 17).reshape(13, 17) // 100  # 0, 1, 2; 3 is empty
    scores = heuristic.unit_scores(Observation(logits[0]), regions, 4)
    pixels = -heuristic.pixel_scores(Observation(logits[0]))  # BAAL's sign
    whole = {"sum": torch.sum, "max": torch.max, "min": torch.min}[reduction]
    expected = [-whole(pixels[regions == r]).item() for r in range(3)]
    assert scores[:3].tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.isnan(scores[3])
    assert "windows" not in heuristic.regions
    with pytest.raises(ConfigError, match=r"reduction='median'.*Did you mean"):
        built("Margin", reduction="median")


def test_chunks_and_temporary_files_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = views(5)
    for name in ("BALD", "Entropy"):
        whole = built(name, passes=5).pixel_scores(seen(logits))
        monkeypatch.setattr(adapter, "CHUNK", 1)  # a row at a time
        monkeypatch.setattr(adapter, "IN_MEMORY", 0)
        assert torch.equal(built(name, passes=5).pixel_scores(seen(logits)), whole)
        monkeypatch.undo()
    monkeypatch.setattr(adapter, "IN_MEMORY", 4 * 5 * int(np.prod(SHAPE)) - 1)
    assert isinstance(adapter.probabilities(iter(logits), 5, False), np.memmap)
    assert not isinstance(adapter.probabilities(iter(logits), 5, True), np.memmap)


def test_views_are_taken_one_at_a_time() -> None:
    """The mean over passes needs one map, whatever their number."""
    alive: list[int] = []

    def stream() -> Any:
        for z in views(3):
            alive.append(1)
            yield z

    out = adapter.probabilities(stream(), 3, True)
    assert out.shape == (1, *SHAPE)
    assert len(alive) == 3
    np.testing.assert_allclose(out[0], stacked(views(3)).mean(-1)[0], atol=1e-6)


def test_what_is_asked_of_the_engine(tmp_path: Path) -> None:
    assert built("BALD").needs.passes == 10
    assert built("Variance", passes=3).needs.passes == 3
    assert built("Entropy").needs.passes == 1
    assert built("Entropy", passes=4).needs.passes == 4
    (tmp_path / "a.pth").touch()
    needs = built("BALD", checkpoints=[tmp_path / "a.pth"]).needs
    assert (needs.passes, needs.ensemble) == (1, (tmp_path / "a.pth",))
    assert built("Random").needs is None
    assert type(built("Random")).__name__ == "Random"


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"baal\.BALD: passes=1 must be .* at least 2"):
        built("BALD", passes=1)
    with pytest.raises(UnsupportedError, match=r"baal\.BALD: shuffle_prop=0\.3 is not offered"):
        built("BALD", shuffle_prop=0.3)
    with pytest.raises(UnsupportedError, match=r"'baal\.BatchBALD' scores a batch.*Stochastic"):
        built("BatchBALD", num_samples=3)
    with pytest.raises(UnsupportedError, match=r"GibbsSampling' use .*kind='softmax'"):
        built("GibbsSampling")
    with pytest.raises(ConfigError, match=r"BAAL has no heuristic 'bald'\. Did you mean 'BALD'"):
        built("bald")
    with pytest.raises(ConfigError, match=r"'baal\.Entropy'.*unexpected keyword argument 'radius'"):
        built("Entropy", radius=1)
    with pytest.raises(ConfigError, match=r"follows acquisition\.seed"):
        built("Random", seed=3)
    with pytest.raises(ConfigError, match=r"checkpoints: .*gone\.pth does not exist"):
        built("BALD", checkpoints=["gone.pth"])


@pytest.mark.parametrize("name", sorted(adapter.REFUSED))
def test_every_refusal_says_what_to_do(name: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        built(name)
    assert "\n" not in str(caught.value)


def test_every_class_of_baal_is_either_offered_or_refused() -> None:
    names = {
        name
        for name, value in vars(theirs).items()
        if isinstance(value, type) and issubclass(value, theirs.AbstractHeuristic)
    }
    offered = {"BALD", "Entropy", "Margin", "Certainty", "Variance", "Random"}
    assert names == offered | (names & set(adapter.REFUSED))


def test_nan_is_refused() -> None:
    logits = views(2)
    logits[1][2, 3, 4] = float("nan")
    with pytest.raises(ScoreError, match="NaN"):
        built("BALD", passes=2).pixel_scores(seen(logits))


def test_a_class_of_ones_own() -> None:
    """Any object with `compute_score` and `reversed`; its failures are one line."""

    class Mine(theirs.AbstractHeuristic):
        def compute_score(self, predictions: Any, target_predictions: Any = None) -> Any:
            return predictions[:, 0].max(-1)

    logits = views(2)
    mine = adapter.BaalHeuristic(Mine(reverse=True), passes=2)
    expected = stacked(logits)[0, 0].max(-1)
    np.testing.assert_allclose(mine.pixel_scores(seen(logits)), expected, atol=1e-6)
    low = adapter.BaalHeuristic(Mine(reverse=False), passes=2)
    np.testing.assert_allclose(low.pixel_scores(seen(logits)), -expected, atol=1e-6)
    for wrong, told in (
        (lambda p: 1 / 0, "ZeroDivisionError"),
        (lambda p: p.mean((2, 3)), "only scores of pixels"),
        (lambda p: p[:, 0, ..., 0] * np.nan, "NaN"),
    ):
        broken = Mine(reverse=True)
        broken.compute_score = lambda p, target_predictions=None, w=wrong: w(p)
        with pytest.raises(ScoreError, match=told):
            adapter.BaalHeuristic(broken, passes=2).pixel_scores(seen(views(2)))
    HEURISTICS_WITH_MINE: Registry[Any] = Registry("heuristic")
    HEURISTICS_WITH_MINE.register("Mine")(lambda passes=3: adapter.BaalHeuristic(Mine(), passes))
    assert HEURISTICS_WITH_MINE.build({"type": "Mine", "passes": 5}).needs.passes == 5


def test_families_of_names() -> None:
    table: Registry[Any] = Registry("thing")
    table.register("Plain")(lambda: "plain")
    table.family("far", lambda name: lambda **given: (name, given))
    assert table.build("far.away") == ("away", {})
    assert table.build({"type": "far.a.b", "x": 1}) == ("a.b", {"x": 1})
    assert "far.anything" in table
    assert "far" not in table
    assert "near.x" not in table
    assert list(table) == ["Plain"]
    with pytest.raises(ConfigError, match=r"unknown thing 'near\.x'"):
        table.build("near.x")
    with pytest.raises(ValueError, match="twice"):
        table.family("far", lambda name: dict)


def test_without_baal_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == "baal"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "baal", None)
    with pytest.raises(EnvironmentProblem, match=r"needs BAAL .*pip install 'regional-al\[baal\]'"):
        built("BALD")
    assert type(built("Random")).__name__ == "Random"


def test_naming_nothing_of_baal_does_not_import_it() -> None:
    code = (
        "import sys; from regional_al.heuristics import HEURISTICS; HEURISTICS.build('BALD');"
        "print('baal' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


GRID = {"level": "region", "region": {"type": "grid", "cell": 8}, "budget": "4%"}


@pytest.mark.parametrize(
    ("place", "name", "arguments"),
    [
        ({"level": "image", "budget": {"amount": 1, "unit": "image"}}, "Margin", {}),
        (GRID, "Margin", {}),
        (GRID, "BALD", {"passes": 3}),
        ({"level": "region", "region": "window"}, "Margin", {}),
        ({"level": "pixel", "budget": 5}, "Margin", {}),
    ],
    ids=["image", "grid", "grid-passes", "window", "pixel"],
)
def test_a_run_picks_what_our_own_heuristic_picks(
    place: dict[str, Any],
    name: str,
    arguments: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streets.generate(tmp_path / "data", train=3, val=1, size=(32, 40), seed=4)
    monkeypatch.setattr(runner, "finish", lambda *_: None)
    picks = []
    for kind in (name, f"baal.{name}"):
        work_dir = tmp_path / kind
        work_dir.mkdir()
        heuristic = {"type": kind, **arguments}
        acquisition = config.parse({**place, "heuristic": heuristic, "rounds": 1, "previews": 0})
        runner.run(toy_engine(tmp_path / "data", SPACE, iterations=2), acquisition, work_dir)
        picks.append(read_query(work_dir / "rounds/001/query").picks)
    for field in ("image", "row", "col", "unit"):
        assert picks[0][field].tolist() == picks[1][field].tolist()
