"""Adaptive superpixels: merging by hand, against its definition, and through the loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heuristic_contract import pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import play, small_data

from regional_al.acquisition.acquirer import Acquirer
from regional_al.errors import ConfigError, UnsupportedError
from regional_al.heuristics import HEURISTICS, AdaptiveSuperpixels, Observation, PoolHeuristic
from regional_al.heuristics.adaptive import merge_similar
from regional_al.heuristics.real import neighbours
from regional_al.store import results as records
from regional_al.store.images import read_ids, write_png
from regional_al.store.query import read_query
from regional_al.testing.toy import toy_engine

ALL = np.ones(5, np.bool_)
LINE = [np.array(n, dtype=np.int64) for n in ([1], [0, 2], [1, 3], [2, 4], [3])]  # 0-1-2-3-4
LARGEST = math.sqrt(math.log(2))


def distance(p: Sequence[float], q: Sequence[float]) -> float:
    """Jensen-Shannon distance of two distributions, term by term, in nats."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        middle = (a + b) / 2
        total += a / 2 * math.log(a / middle) if a else 0.0
        total += b / 2 * math.log(b / middle) if b else 0.0
    return math.sqrt(max(total, 0.0))


def connected(start: int, among: set[int], adjacent: Any) -> set[int]:
    """What can be reached from `start` over edges within `among`."""
    found, waiting = {start}, [start]
    while waiting:
        for other in adjacent[waiting.pop()].tolist():
            if other in among and other not in found:
                found.add(other)
                waiting.append(other)
    return found


def naive(p: Any, uncertainty: Any, adjacent: Any, open_: Any, threshold: float) -> list[set[int]]:
    """The regions, in the order in which they were started."""
    left = set(np.flatnonzero(open_).tolist())
    groups = []
    for root in sorted(left, key=lambda i: (-uncertainty[i], i)):
        if root in left:
            near = {i for i in left if distance(p[root], p[i]) < threshold} | {root}
            groups.append(connected(root, near, adjacent))
            left -= groups[-1]
    return groups


def test_a_line_of_five_units_by_hand() -> None:
    """Distances of 0.5 to 0.55: 0.0354, to 0.6: 0.0711, to 0.65: 0.1075; of 0.6 to 0.65: 0.0365.

    First unit 2 takes 1 and, beyond it, 0; 3 is too far from it. Then 4 takes 3, which is at 0.0365
    from it. The chain 2-3-4 does not make one region: units are compared with the first one.
    """
    p = np.array([[0.6, 0.4], [0.55, 0.45], [0.5, 0.5], [0.65, 0.35], [0.6, 0.4]])
    ratio = p[:, 1] / p[:, 0]
    assert merge_similar(p, ratio, LINE, ALL, 0.1).tolist() == [0, 0, 0, 1, 1]
    assert merge_similar(p, ratio, LINE, ALL, 0.11).tolist() == [0, 0, 0, 0, 0]
    assert merge_similar(p, ratio, LINE, ALL, 0.07).tolist() == [0, 1, 1, 2, 2]
    # an answered unit is a group of its own, and no way to those behind it
    answered = np.array([True, False, True, True, True])
    assert merge_similar(p, ratio, LINE, answered, 0.11).tolist() == [0, 1, 2, 2, 2]
    # what is visited first decides: from 4 and from 0
    assert merge_similar(p, p[:, 0], LINE, ALL, 0.08).tolist() == [0, 0, 0, 1, 1]
    assert merge_similar(p, np.arange(5.0), LINE, ALL, 0.08).tolist() == [0, 0, 0, 0, 0]


def test_nothing_is_merged_at_0_and_touching_units_are_at_1() -> None:
    alike, apart = np.full((5, 3), 1 / 3), np.eye(5)
    assert merge_similar(alike, np.ones(5), LINE, ALL, 0.0).tolist() == [0, 1, 2, 3, 4]
    assert merge_similar(alike, np.ones(5), LINE, ALL, 1e-9).tolist() == [0] * 5
    assert merge_similar(apart, np.ones(5), LINE, ALL, LARGEST - 1e-9).tolist() == [0, 1, 2, 3, 4]
    assert merge_similar(apart, np.ones(5), LINE, ALL, LARGEST + 1e-9).tolist() == [0] * 5


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**31), st.integers(1, 16), st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.6, 1.0]))
def test_merging_is_the_definition(seed: int, size: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, size, (5, 6)).astype(np.int32)
    adjacent = neighbours(ids, size)
    open_ = (np.bincount(ids.ravel(), minlength=size) > 0) & (rng.random(size) < 0.8)
    p = rng.dirichlet([0.3, 1, 2], size)
    p[rng.random(size) < 0.3] = [0.25, 0.75, 0.0]  # alike, and a class without any probability
    uncertainty = rng.integers(0, 4, size) / 3  # many ties
    groups = merge_similar(p, uncertainty, adjacent, open_, threshold)
    expected = naive(p, uncertainty, adjacent, open_, threshold)
    expected += [{i} for i in np.flatnonzero(~open_).tolist()]
    found = [set(np.flatnonzero(groups == g).tolist()) for g in range(groups.max() + 1)]
    assert sorted(found, key=min) == sorted(expected, key=min)  # so each unit is in one group
    assert [min(g) for g in found] == sorted(min(g) for g in found)  # numbered by the lowest
    for group in found:
        assert connected(min(group), group, adjacent) == group
        assert len(group) == 1 or (threshold > 0 and open_[list(group)].all())
        if threshold == 1 and open_[min(group)]:
            among = set(np.flatnonzero(open_).tolist())
            assert connected(min(group), among, adjacent) == group


def test_units_are_merged_by_their_mean_softmax_and_scored_as_one() -> None:
    """Units of two pixels. The means of units 0 and 1 are alike, their pixels are not."""
    seen = Observation(pixels((0.9, 0.1), (0.3, 0.7), (0.6, 0.4), (0.6, 0.4), (0.1, 0.9)))
    regions = torch.tensor([[0, 0, 1, 1, 3]])
    adaptive = HEURISTICS.build({"type": "AdaptiveSuperpixels", "heuristic": "LeastConfidence"})
    groups = adaptive.merge_units(seen, regions, 4)
    assert groups.tolist() == [0, 0, 1, 2]  # 2 has no pixel
    scores = adaptive.unit_scores(seen, groups[regions], 3).tolist()
    assert scores[0] == pytest.approx((0.1 + 0.3 + 0.4 + 0.4) / 4)
    assert math.isnan(scores[1])
    assert scores[2] == pytest.approx(0.1)
    for annotated, expected in (([1, 1, 0, 0, 0], [0, 1, 2, 3]), ([1, 0, 0, 1, 0], [0, 0, 1, 2])):
        partly = Observation(seen.logits, annotated=np.array([annotated], np.uint8))
        assert adaptive.merge_units(partly, regions, 4).tolist() == expected


def test_the_inner_heuristic_decides_what_is_needed() -> None:
    bald = AdaptiveSuperpixels({"type": "BALD", "passes": 3})
    assert bald.needs is not None
    assert bald.needs.passes == 3
    assert AdaptiveSuperpixels("Random").needs is not None  # to merge
    assert AdaptiveSuperpixels("SIM").needs_prelabels
    for name, pooled in (("BvSB", False), ("ClassBalance", True), ("CoreSet", True)):
        adaptive = AdaptiveSuperpixels(name)
        assert isinstance(adaptive, PoolHeuristic) == pooled
        assert (adaptive.levels, adaptive.regions) == (("region",), ("units",))
    assert AdaptiveSuperpixels("CoreSet").vectors == ("vector",)  # type: ignore[attr-defined]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"threshold": -0.1}, r"AdaptiveSuperpixels: threshold=-0\.1"),
    ({"threshold": 1.5}, r"threshold=1\.5"),
    ({"threshold": "0.1"}, r"threshold='0\.1'"),
    ({"heuristic": "BvsB"}, "mean 'BvSB'"),
    ({"heuristic": "ReAL"}, "'ReAL' joins units into groups by itself"),
    ({"heuristic": "AdaptiveSuperpixels"}, "'AdaptiveSuperpixels' joins units"),
    ({"heuristic": "PixelPick"}, "PixelPick is not supported at any of: region"),
    ({"heuristic": "ByClass"}, "'ByClass' does not support units"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        HEURISTICS.build({"type": "AdaptiveSuperpixels", **wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("outer", ["Stochastic", "Maximum", "ReAL"])
def test_others_cannot_wrap_it(outer: str) -> None:
    key = "score" if outer == "ReAL" else "heuristic"
    with pytest.raises(UnsupportedError, match="'AdaptiveSuperpixels' joins units into groups"):
        HEURISTICS.build({"type": outer, key: "AdaptiveSuperpixels"})


SIZE, CELL = (40, 48), 8
GRID = {"type": "grid", "cell": CELL}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=4, val=1, size=SIZE, seed=4)


def start(data: Path, work_dir: Path, heuristic: Any, answer: str, **more: Any) -> Any:
    raw = {
        "level": "region",
        "region": GRID,
        "budget": {"amount": 6, "unit": "region"},
        "rounds": 2,
        "previews": 1,
        "heuristic": {"type": "AdaptiveSuperpixels", "heuristic": heuristic, "threshold": 0.1},
        "annotator": {"type": "oracle", "answer": answer},
        "warm_start": {"amount": 6, "unit": "region"},
        **more,
    }
    return play(data, work_dir, raw, iterations=10)


@pytest.mark.parametrize(
    ("heuristic", "answer"),
    [
        ("BvSB", "full"),
        ("BvSB", "correction"),
        ("ClassBalance", "dominant"),
        ("ClassBalance", "multiclass"),
    ],
)
def test_through_the_loop(heuristic: str, answer: str, data: Path, tmp_path: Path) -> None:
    """Regions are connected, of whole cells, of several cells, and never asked about twice."""
    more: dict[str, Any] = {}
    if answer == "correction":
        for item in toy_engine(data).pool:
            assert item.annotation is not None
            write_png(tmp_path / "pre" / f"{item.key}.png", read_ids(item.annotation))
        more["warm_start"] = {"prelabels": str(tmp_path / "pre")}
    loop = start(data, tmp_path / "run", heuristic, answer, **more)
    sizes, earlier = [], {item.key: np.zeros(item.shape, bool) for item in loop.engine.pool}
    for record in records.load(tmp_path / "run").records:
        if record.round == 0 and answer == "correction":
            continue
        query = read_query(loop.work_dir.query(record.round))
        assert record.asked.regions == len(query.picks) == 6
        if answer in ("dominant", "correction"):
            assert record.asked.clicks <= 6
        for key in query.image_keys():
            asked = query.asked(key)
            assert not (earlier[key] & (asked > 0)).any()
            earlier[key] |= asked > 0
            for item, pick in enumerate(query.items(key), start=1):
                mine = asked == item
                assert mine.sum() == pick["pixels"]
                cells = {(y // CELL, x // CELL) for y, x in np.argwhere(mine).tolist()}
                assert len(cells) * CELL * CELL == mine.sum()
                around = {
                    (y, x): [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)] for y, x in cells
                }
                reached, waiting = {min(cells)}, [min(cells)]
                while waiting:
                    for cell in around[waiting.pop()]:
                        if cell in cells and cell not in reached:
                            reached.add(cell)
                            waiting.append(cell)
                assert reached == cells
                sizes.append(len(cells))
                if record.round == 1 and key in preview_keys(loop.work_dir.previews(1)):
                    shown = np.load(loop.work_dir.previews(1) / f"{key}.npy")[mine]
                    assert (shown == shown[0]).all()
                    assert shown[0] == np.float16(pick["score"])
    assert max(sizes) > 1
    assert not list((tmp_path / "run/rounds").glob("*/scores"))


def preview_keys(folder: Path) -> set[str]:
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.npy")}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("heuristic", ["BvSB", "ClassBalance"])
def test_a_run_that_is_killed_before_its_query_is_written_goes_on_as_if_not(
    heuristic: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(data, tmp_path / "whole", heuristic, "dominant", rounds=1)

    def killed(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Acquirer, "_info", killed)
        with pytest.raises(Killed):
            start(data, tmp_path / "run", heuristic, "dominant", rounds=1)
    with monkeypatch.context() as patch:
        true = Acquirer._info
        patch.setattr(
            Acquirer, "_info", lambda self, r: killed() if r.round == 1 else true(self, r)
        )
        with pytest.raises(Killed):
            start(data, tmp_path / "run", heuristic, "dominant", rounds=1)
    assert (tmp_path / "run/rounds/001/scores/groups").is_dir()
    start(data, tmp_path / "run", heuristic, "dominant", rounds=1)
    for round_ in (0, 1):
        one, two = (
            read_query(tmp_path / name / f"rounds/{round_:03d}/query") for name in ("whole", "run")
        )
        assert one.picks.tobytes() == two.picks.tobytes()
        for key in one.image_keys():
            assert np.array_equal(one.asked(key), two.asked(key))
