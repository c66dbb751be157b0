"""Sums and products of heuristics, and their scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from heuristic_contract import pixels

from regional_al.acquisition.candidates import make_picks
from regional_al.errors import ScoreError, UnsupportedError
from regional_al.heuristics import HEURISTICS, Observation, PixelHeuristic
from regional_al.heuristics.combine import minmax, rank_share
from regional_al.selection import Basket
from regional_al.selection.pool_table import PoolTable
from regional_al.types import PredictRequest


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


class Minus(PixelHeuristic):
    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return -torch.ones(seen.logits.shape[-2:])


def test_what_one_part_refuses_is_refused_and_products_take_no_negative_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(HEURISTICS._items, "Minus", Minus)
    power = {"type": "Stochastic", "heuristic": "Margin"}  # -inf for a certain pixel
    seen = Observation(torch.tensor([[[200.0, 1.0]], [[0.0, 1.0]]]))
    both = HEURISTICS.build({"type": "Combine", "parts": ["Entropy", power]})
    assert torch.isfinite(both.pixel_scores(seen))[0].tolist() == [False, True]
    assert both.pixel_scores(seen)[0, 0] == -torch.inf
    spec = {"type": "Combine", "parts": ["Entropy", "Minus"], "how": "product"}
    with pytest.raises(ScoreError, match=r"Minus gave -1.*use how='sum'"):
        HEURISTICS.build(spec).pixel_scores(Observation(torch.zeros(2, 9, 9)))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "Stochastic", "heuristic": "Margin"},
        {"type": "Stochastic", "heuristic": "Margin", "kind": "softmax"},
        {"type": "RIPU", "compat": "published"},
        {"type": "Combine", "parts": ["Margin", {"type": "Stochastic", "heuristic": "Margin"}]},
    ],
)
def test_a_product_with_negative_scores_is_refused_when_it_is_built(part: dict[str, Any]) -> None:
    """After a round of training somebody would have paid for it."""
    spec = {"type": "Combine", "parts": ["Entropy", part], "how": "product"}
    with pytest.raises(UnsupportedError, match=rf"'{part['type']}' may be negative: use how='sum'"):
        HEURISTICS.build(spec)
    assert HEURISTICS.build({**spec, "how": "sum"})
    if part["type"] != "RIPU":  # windows and pixels only: nothing to normalise over
        assert HEURISTICS.build({**spec, "normalize": "rank"})


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
