"""ReAL: regions grown by hand, against a naive reading of the definition, and through the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regional_al.config import grammar as config
from regional_al.errors import ConfigError, UnsupportedError
from regional_al.heuristics import HEURISTICS, Observation
from regional_al.heuristics.real import grow, neighbours, unit_length
from regional_al.loop import runner
from regional_al.store import results as records
from regional_al.store.query import read_query
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
LINE = [np.array(n, dtype=np.int64) for n in ([1], [0, 2], [1, 3], [2, 4], [3])]  # 0-1-2-3-4


def naive(
    scores: Any, vectors: Any, adjacent: Any, pixels: Any, tau: float, cap: int, max_pixels: Any
) -> tuple[list[list[int]], set[int]]:
    """(members of each region in the order of growth, redundant units), word by word."""
    left = {i for i in range(len(scores)) if pixels[i] > 0}
    regions, redundant = [], set()
    while left:
        region = [min(left, key=lambda i: (-scores[i], i))]
        left.remove(region[0])
        while len(region) < cap:
            around = {int(j) for i in region for j in adjacent[i]} & left
            used = sum(int(pixels[i]) for i in region)
            allowed = [
                j
                for j in around
                if all(float(vectors[j] @ vectors[i]) <= tau for i in region)
                and (max_pixels is None or used + pixels[j] <= max_pixels)
            ]
            if not allowed:
                break
            region.append(min(allowed, key=lambda i: (-scores[i], i)))
            left.remove(region[-1])
        around = {int(j) for i in region for j in adjacent[i]} & left
        alike = {j for j in around if any(float(vectors[j] @ vectors[i]) > tau for i in region)}
        left -= alike
        redundant |= alike
        regions.append(region)
    return regions, redundant


def test_a_line_of_five_units_by_hand() -> None:
    """Seed 2 (0.9). Neighbour 1 looks the same: redundant. 3 (other) joins, 4 (like 2, through 3)
    is too similar to member 2: redundant. 0 is left and is a region of its own."""
    vectors = unit_length(np.array([[1, 0], [1, 0.1], [1, 0], [0, 1], [1, 0.2]], dtype=np.float32))
    scores = np.array([0.1, 0.8, 0.9, 0.3, 0.7])
    of_unit, count = grow(scores, vectors, LINE, np.ones(5, np.int64), 0.9, 3)
    assert count == 2
    assert of_unit.tolist() == [1, 2, 0, 0, 2]


def test_caps_answered_units_and_ties() -> None:
    apart = unit_length(np.eye(5, dtype=np.float32))
    ones = np.ones(5)
    free = np.full(5, 4, np.int64)
    assert grow(ones, apart, LINE, free, 0.5, 2)[0].tolist() == [0, 0, 1, 1, 2]  # ties: by id
    assert grow(ones, apart, LINE, free, 0.5, 5, 11)[0].tolist() == [0, 0, 1, 1, 2]  # 8 <= 11 < 12
    answered = np.array([4, 4, 0, 4, 4])
    assert grow(ones, apart, LINE, answered, 0.5, 5)[0].tolist() == [0, 0, 2, 1, 1]
    assert grow(ones, apart, LINE, free, 0.5, 1)[1] == 5


def test_with_tau_1_nothing_is_redundant_not_even_an_identical_unit() -> None:
    """Unit vectors of equal units have a product of 1.0000001 here and there."""
    rng = np.random.default_rng(0)
    rows = unit_length(rng.normal(size=(500, 7)).astype(np.float32))
    products = np.array([row @ row for row in rows])
    assert products.max() > 1.0
    vectors = np.repeat(rows[products.argmax()][None], 5, axis=0)
    of_unit, count = grow(np.ones(5), vectors, LINE, np.ones(5, np.int64), 1.0, 2)
    assert (of_unit.tolist(), count) == ([0, 0, 1, 1, 2], 3)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**31),
    st.integers(2, 14),
    st.integers(1, 5),
    st.floats(-0.5, 0.99),
    st.sampled_from([None, 3, 7]),
)
def test_growth_is_the_definition(
    seed: int, size: int, cap: int, tau: float, max_pixels: int | None
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, size, (5, 6)).astype(np.int32)
    adjacent = neighbours(ids, size)
    for i, others in enumerate(adjacent):  # the graph itself
        touching = {
            int(b)
            for r in range(5)
            for c in range(6)
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))
            if 0 <= r + dr < 5 and 0 <= c + dc < 6
            if ids[r, c] == i and (b := ids[r + dr, c + dc]) != i
        }
        assert others.tolist() == sorted(touching)
    pixels = np.bincount(ids.ravel(), minlength=size) * rng.integers(0, 2, size)
    scores = rng.integers(0, 4, size) / 3  # many ties
    vectors = unit_length(rng.normal(size=(size, 3)).astype(np.float32))
    of_unit, count = grow(scores, vectors, adjacent, pixels, tau, cap, max_pixels)
    regions, redundant = naive(scores, vectors, adjacent, pixels, tau, cap, max_pixels)
    assert [sorted(np.flatnonzero(of_unit == g).tolist()) for g in range(count)] == [
        sorted(r) for r in regions
    ]
    out = set(np.flatnonzero(of_unit == count).tolist())
    assert out == redundant | set(np.flatnonzero(pixels == 0).tolist())


def test_scores_are_sums_or_means_of_the_members() -> None:
    """Two halves: left certain, right uncertain (p = 1/2): ln 2 a unit; features differ."""
    logits = torch.zeros(2, 2, 4)
    logits[0, :, :2] = 60.0
    regions = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]])
    features = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    for reduce, expected in (("sum", np.log(2)), ("mean", np.log(2) / 2)):
        real = HEURISTICS.build({"type": "ReAL", "reduce": reduce})
        scores, groups = real.regroup(Observation(logits, features=features), regions, 2)
        assert groups.tolist() == [0, 0]
        assert scores.tolist() == [pytest.approx(expected, abs=1e-6), -np.inf]
    alike = torch.ones(2, 1, 2)
    scores, groups = real.regroup(Observation(logits, features=alike), regions, 2)
    assert groups.tolist() == [1, 0]  # the certain neighbour is redundant
    annotated = np.zeros((2, 4), np.uint8)
    annotated[:, 2:] = 1
    seen = Observation(logits, features=features, annotated=annotated)
    assert real.regroup(seen, regions, 2)[1].tolist() == [0, 1]


@pytest.mark.parametrize("region", ["slic", "grid"])
def test_through_the_loop(region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streets.generate(tmp_path / "data", train=4, val=1, size=(40, 48), seed=4)
    monkeypatch.setattr(runner, "finish", lambda *_: None)
    spec = {"slic": {"type": "slic", "n_segments": 40}, "grid": {"type": "grid", "cell": 8}}
    raw = {
        "level": "region",
        "region": spec[region],
        "budget": "5%",
        "rounds": 3,
        "heuristic": {"type": "ReAL", "max_units": 3, "tau": 0.999},
    }
    loop = runner.run(
        toy_engine(tmp_path / "data", SPACE, iterations=3), config.parse(raw), tmp_path
    )
    for record in records.load(tmp_path).records[1:]:
        query = read_query(tmp_path / f"rounds/{record.round:03d}/query")
        assert record.asked.pixels <= loop.acquirer.limit(loop.config.budget)
        assert record.asked.regions == len(query.picks) > 0  # one visit a region
        sizes = []
        for key in query.image_keys():
            asked = query.asked(key)
            for item, pick in enumerate(query.items(key), start=1):
                assert (asked == item).sum() == pick["pixels"]
                if region == "grid":
                    sizes.append(len(np.unique(np.argwhere(asked == item) // 8, axis=0)))
        if region == "grid":
            assert max(sizes) <= 3


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in ({"tau": 2}, {"max_units": 0}, {"reduce": "max"}, {"score": "ReAL"}):
        with pytest.raises(ConfigError, match="ReAL"):
            HEURISTICS.build({"type": "ReAL", **wrong})


@pytest.mark.parametrize("place", [{"level": "pixel"}, {"level": "region", "region": "window"}])
def test_places_without_units_are_refused(place: dict[str, Any], tmp_path: Path) -> None:
    streets.generate(tmp_path / "data", train=1, val=1, size=(32, 32), seed=4)
    engine = toy_engine(tmp_path / "data", SPACE, iterations=1)
    with pytest.raises(UnsupportedError, match="'ReAL'"):
        runner.run(engine, config.parse({**place, "heuristic": "ReAL"}), tmp_path / "out")
