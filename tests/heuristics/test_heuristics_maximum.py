"""The largest score of a unit's pixels: by hand, and against a loop over pixels."""

from __future__ import annotations

import math

import pytest
import torch
from heuristic_contract import pixels

from regional_al.errors import UnsupportedError
from regional_al.heuristics import HEURISTICS, Observation, PixelHeuristic, UnitHeuristic


class Given(PixelHeuristic):
    """The first logit is the score."""

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return seen.logits[0]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> PixelHeuristic:
    monkeypatch.setitem(HEURISTICS._items, "Given", Given)
    found: PixelHeuristic = HEURISTICS.build({"type": "Maximum", "heuristic": "Given"})
    return found


def test_by_hand() -> None:
    """Margins 0.2, 0.8 and 0.4 (bigger: less certain); a unit without a pixel is never selected."""
    seen = Observation(pixels((0.9, 0.1), (0.6, 0.4), (0.8, 0.2)))
    most = HEURISTICS.build({"type": "Maximum", "heuristic": "Margin"})
    first, empty, last = most.unit_scores(seen, torch.tensor([[0, 0, 2]]), 3).tolist()
    assert (first, last) == pytest.approx((0.8, 0.4))
    assert math.isnan(empty)
    assert most.window_scores(seen, 1)[0].tolist() == pytest.approx([0.8, 0.8, 0.8])
    assert most.window_scores(seen, 0)[0].tolist() == pytest.approx([0.2, 0.8, 0.4])


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_against_a_loop_over_pixels(given: PixelHeuristic, radius: int) -> None:
    """Negative scores and those that are never to be selected, too; windows end at the border."""
    generator = torch.Generator().manual_seed(radius)
    scores = torch.randn(7, 9, generator=generator) - 3.0
    scores[torch.rand(7, 9, generator=generator) < 0.2] = -torch.inf
    regions = torch.randint(0, 12, (7, 9), generator=generator)
    seen = Observation(scores[None])
    units = given.unit_scores(seen, regions, 14)
    windows = given.window_scores(seen, radius)
    for unit in range(14):
        mine = scores[regions == unit]
        assert math.isnan(units[unit]) if not len(mine) else units[unit] == mine.max()
    for y in range(7):
        for x in range(9):
            rows = slice(max(y - radius, 0), y + radius + 1)
            columns = slice(max(x - radius, 0), x + radius + 1)
            assert windows[y, x] == scores[rows, columns].max()


class Area(UnitHeuristic):
    """Scores units alone."""


def test_it_needs_scores_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEURISTICS._items, "Area", Area)
    with pytest.raises(UnsupportedError, match=r"Maximum: heuristic='Area' does not score pixels"):
        HEURISTICS.build({"type": "Maximum", "heuristic": "Area"})
    with pytest.raises(UnsupportedError, match="Maximum: heuristic: 'ClassBalance' picks from"):
        HEURISTICS.build({"type": "Maximum", "heuristic": "ClassBalance"})
    with pytest.raises(UnsupportedError, match="PixelPick is not supported at any of: image, reg"):
        HEURISTICS.build({"type": "Maximum", "heuristic": "PixelPick"})
