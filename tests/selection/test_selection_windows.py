"""Greedy windows: against the definition, pick by pick."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regional_al.errors import ConfigError, ScoreError
from regional_al.selection import _order, select_windows, top_pixels, windows

Array = npt.NDArray[Any]


def greedy(
    score: Array, suppress: int, count: int, excluded: Array | None, least: float = -np.inf
) -> Array:
    """The definition: argmax, suppress, repeat."""
    left = score.astype(np.float64)
    if excluded is not None:
        left[excluded] = -np.inf
    picks: list[tuple[int, int]] = []
    while len(picks) < count and left.size:
        row, col = divmod(int(np.argmax(left)), left.shape[1])
        if left[row, col] == -np.inf or left[row, col] < least:
            break
        picks.append((row, col))
        left[
            max(0, row - suppress) : row + suppress + 1, max(0, col - suppress) : col + suppress + 1
        ] = -np.inf
    return np.array(picks, dtype=np.int64).reshape(-1, 2)


@st.composite
def maps(draw: st.DrawFn) -> tuple[Array, Array | None]:
    """Small maps with many ties, -inf, excluded pixels, in several dtypes and layouts."""
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    score = (rng.integers(0, levels, (height, width)) - levels // 2) / 4
    score[rng.random(score.shape) < draw(st.sampled_from([0, 0.3, 1]))] = -np.inf
    score = score.astype(draw(st.sampled_from(["f4", "f8", "f2"])))
    if draw(st.booleans()):
        score = np.asfortranarray(score)
    share = draw(st.sampled_from([None, 0.0, 0.4, 1.0]))
    excluded = None if share is None else rng.random(score.shape) < share
    return score, excluded


@pytest.fixture(params=["one sort", "chunks"])
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with every lazy path taken on maps of a few pixels."""
    if request.param == "chunks":
        monkeypatch.setattr(_order, "SMALL", 0)
        monkeypatch.setattr(_order, "SAMPLE", 60)
        monkeypatch.setattr(_order, "MARGIN", 0)
        monkeypatch.setattr(windows, "WALK", 2)


@pytest.mark.usefixtures("chunked")
class TestAgainstTheDefinition:
    @settings(deadline=None, max_examples=100)
    @given(maps(), st.integers(0, 16), st.integers(0, 40), st.sampled_from([-np.inf, 0.0, 0.25]))
    def test_same_picks(
        self, case: tuple[Array, Array | None], suppress: int, count: int, least: float
    ) -> None:
        score, excluded = case
        before = score.copy(), None if excluded is None else excluded.copy()
        got = select_windows(score, 1, suppress, count, excluded, min_score=least)
        np.testing.assert_array_equal(got, greedy(score, suppress, count, excluded, least))
        assert got.dtype == np.int64
        assert got.shape == (len(got), 2)
        np.testing.assert_array_equal(score, before[0])
        if excluded is not None:
            np.testing.assert_array_equal(excluded, before[1])

    @settings(deadline=None, max_examples=60)
    @given(maps(), st.integers(0, 5), st.integers(0, 12))
    def test_fewer_picks_are_a_prefix_of_more(
        self, case: tuple[Array, Array | None], suppress: int, count: int
    ) -> None:
        more = select_windows(case[0], 0, suppress, count + 7, case[1])
        fewer = select_windows(case[0], 0, suppress, count, case[1])
        np.testing.assert_array_equal(fewer, more[:count])

    @settings(deadline=None, max_examples=60)
    @given(maps(), st.integers(0, 60), st.sampled_from([-np.inf, 0.0]))
    def test_top_pixels_is_the_case_without_suppression(
        self, case: tuple[Array, Array | None], count: int, least: float
    ) -> None:
        rows, cols, scores = top_pixels(case[0], count, case[1], least)
        want = greedy(case[0], 0, count, case[1], least)
        np.testing.assert_array_equal(np.stack([rows, cols], axis=1), want)
        np.testing.assert_array_equal(scores, case[0][rows, cols])


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("levels", [3, 10_000])
def test_lazy_order_is_the_full_order(dtype: str, levels: int) -> None:
    rng = np.random.default_rng(5)
    values = (rng.integers(-levels, levels, 300) / 7).astype(dtype)
    values[::10] = -np.inf
    full = np.argsort(-values, kind="stable")
    got = np.concatenate(list(_order.descending(values, 1, None)))
    assert got.tolist() == full[np.isfinite(values[full])].tolist()
    kept = np.concatenate(list(_order.descending(values, 1, lambda ids: ids % 3 == 0, 0.0)))
    assert kept.tolist() == [i for i in full.tolist() if i % 3 == 0 and values[i] >= 0]


def test_a_table_worked_by_hand() -> None:
    score = np.array(
        [
            [9, 8, 1, 7],
            [1, 1, 1, 1],
            [5, 1, 7, 2],
        ],
        dtype=np.float32,
    )
    picks = [[0, 0], [0, 3], [2, 2], [2, 0]]  # 8 falls with 9; the 7 of the earlier row first
    assert select_windows(score, 0, 1, 9).tolist() == picks
    assert select_windows(score, 0, 1, 2).tolist() == picks[:2]
    assert select_windows(score, 0, 1, 9, min_score=7).tolist() == picks[:3]
    assert select_windows(score, 0, 3, 9).tolist() == [[0, 0]]
    assert select_windows(score, 0, 0, 3).tolist() == [[0, 0], [0, 1], [0, 3]]
    assert select_windows(score, 0, 1, 1, score == 9).tolist() == [[0, 1]]
    assert select_windows(score.T, 0, 1, 3)[:, ::-1].tolist() == [[0, 0], [2, 2], [0, 3]]


@pytest.mark.parametrize("suppress", [0, 2, 5, 33])
@pytest.mark.parametrize("kind", ["noise", "smooth", "steps", "flat", "peak"])
def test_same_picks_on_a_map_larger_than_one_chunk(kind: str, suppress: int) -> None:
    rng = np.random.default_rng([7, suppress])
    score = rng.random((211, 307), dtype=np.float32)
    if kind == "smooth":
        score += 10 * np.sin(np.arange(307) / 40) * np.cos(np.arange(211) / 30)[:, None]
    if kind == "steps":
        score = np.floor(score * 6)
    if kind == "flat":
        score[:] = 0.5
    if kind == "peak":  # all of the sample lies elsewhere
        score[50:60, 50:60] += 5
    score = score.astype(np.float32)
    excluded = rng.random(score.shape) < 0.2
    for count in (1, 60, 400):
        got = select_windows(score, 1, suppress, count, excluded)
        np.testing.assert_array_equal(got, greedy(score, suppress, count, excluded))


def test_zeros_of_either_sign_tie() -> None:
    score = np.array([[0.0, -0.0, 0.0], [-0.0, 1.0, -1.0]], dtype=np.float32)
    want = [[1, 1], [0, 0], [0, 1], [0, 2], [1, 0], [1, 2]]
    assert select_windows(score, 0, 0, 9).tolist() == want


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors(dtype: torch.dtype) -> None:
    score = torch.arange(12, dtype=dtype).reshape(3, 4).requires_grad_()
    excluded = torch.zeros(3, 4, dtype=torch.bool)
    excluded[2, 3] = True
    assert select_windows(score, 0, 1, 2, excluded).tolist() == [[2, 2], [2, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("suppress", [0, 1])
def test_unrankable_scores_are_refused_with_name_and_place(bad: float, suppress: int) -> None:
    score = np.zeros((4, 5), dtype=np.float32)
    score[2, 3] = bad
    with pytest.raises(ScoreError, match=r"town/a1: 1 value.*\(2, 3\)"):
        select_windows(score, 0, suppress, 2, name="town/a1")
    with pytest.raises(ScoreError):
        top_pixels(score, 2)
    excluded = score != 0  # what is excluded may be anything
    assert select_windows(score, 0, suppress, 99, excluded).tolist() == (
        greedy(np.zeros((4, 5)), suppress, 99, excluded).tolist()
    )


def test_nothing_to_pick() -> None:
    nothing = np.full((3, 3), -np.inf)
    assert select_windows(nothing, 1, 2, 5).shape == (0, 2)
    assert select_windows(np.zeros((3, 3)), 1, 2, 0).shape == (0, 2)
    assert select_windows(np.zeros((0, 7)), 1, 2, 5).shape == (0, 2)
    assert select_windows(np.zeros((3, 3)), 1, 2, 5, np.ones((3, 3), bool)).shape == (0, 2)


def test_wrong_arguments_are_refused() -> None:
    score = np.zeros((3, 4))
    for arguments in ((-1, 0, 1), (0, -1, 1), (0, 0, -1), (0, 0.5, 1), (0, True, 1)):
        with pytest.raises(ConfigError, match="must be a whole number"):
            select_windows(score, *arguments)
    with pytest.raises(ScoreError, match="2 dimension"):
        select_windows(score[0], 0, 0, 1)
    with pytest.raises(ScoreError, match="shape"):
        select_windows(score, 0, 0, 1, np.zeros((4, 3), bool))
