"""From scores of one image to candidates and back to what is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regional_al.acquisition import candidates
from regional_al.acquisition.candidates import (
    asked_map,
    make_picks,
    unit_candidates,
    window_candidates,
)
from regional_al.errors import ScoreError


def test_units_cost_only_what_is_not_annotated_yet() -> None:
    ids = np.array([[0, 0, 1], [2, 2, 1]], dtype=np.int32)
    annotated = np.array([[1, 0, 0], [2, 2, 0]], dtype=np.uint8)
    scores = torch.tensor([0.5, 0.9, 7.0, float("nan")])  # unit 3 is empty
    found = unit_candidates(4, "a", scores, ids, annotated)
    assert found["unit"].tolist() == [0, 1]  # 2 is annotated whole, 3 is empty
    assert found["pixels"].tolist() == [1, 2]
    assert found["image"].tolist() == [4, 4]
    assert unit_candidates(4, "a", scores, ids, annotated, 0.6)["unit"].tolist() == [1]


def test_nan_score_of_an_open_unit_names_the_image() -> None:
    ids = np.zeros((2, 2), dtype=np.int32)
    with pytest.raises(ScoreError, match="frame_7"):
        unit_candidates(0, "frame_7", torch.tensor([float("nan")]), ids, None)


def greedy(
    score: np.ndarray,
    label: int,
    suppress: int,
    annotated: np.ndarray,
    taken: list,
    budget: int,
    by_pixel: bool,
) -> list[tuple[int, int, int]]:
    """The definition, pick by pick: (row, col, fresh pixels) until the image would overspend."""
    height, width = score.shape
    free = annotated == 0
    for row, col in taken:
        free[
            max(0, row - suppress) : row + suppress + 1, max(0, col - suppress) : col + suppress + 1
        ] = False
    out, spent = [], 0
    while free.any() and spent < budget:
        value = np.where(free, score, -np.inf)
        row, col = divmod(int(value.argmax()), width)
        cells = [
            (r, c)
            for r in range(max(0, row - label), min(height, row + label + 1))
            for c in range(max(0, col - label), min(width, col + label + 1))
            if annotated[r, c] == 0
        ]
        out.append((row, col, len(cells)))
        spent += len(cells) if by_pixel else 1
        free[
            max(0, row - suppress) : row + suppress + 1, max(0, col - suppress) : col + suppress + 1
        ] = False
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(3, 12),
    st.integers(3, 12),
    st.integers(0, 2),
    st.integers(1, 60),
    st.booleans(),
)
def test_windows_are_the_greedy_sequence(
    seed: int, height: int, width: int, label: int, budget: int, by_pixel: bool
) -> None:
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 5, (height, width)).astype(np.float32)
    annotated = (rng.random((height, width)) < 0.2).astype(np.uint8)
    taken = [(int(rng.integers(height)), int(rng.integers(width)))]
    found = window_candidates(
        2, "a", torch.from_numpy(score), label, 2 * label, annotated, taken, budget, by_pixel
    )
    expected = greedy(score, label, 2 * label, annotated.copy(), taken, budget, by_pixel)
    assert [(p["row"], p["col"], p["pixels"]) for p in found] == expected
    asked = asked_map(found, (height, width), None, label, annotated)
    counts = np.bincount(asked.ravel(), minlength=len(found) + 1)[1:]
    assert counts.tolist() == found["pixels"].tolist()  # what is asked is what is paid for


def test_asked_units_are_numbered_in_pick_order_without_answered_pixels() -> None:
    ids = np.array([[0, 0, 1], [2, 2, 1]], dtype=np.int32)
    annotated = np.array([[0, 9, 0], [0, 0, 0]], dtype=np.uint8)
    picks = make_picks(0, [0.9, 0.1], [2, 1], unit=[1, 0])
    asked = asked_map(picks, (2, 3), ids, None, annotated)
    assert asked.tolist() == [[2, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize("shape", [(9, 13), (60, 70), (1, 5)])
@pytest.mark.parametrize("radius", [0, 1, 3, 7])
def test_open_pixels_of_windows_are_counted_one_by_one(shape: tuple[int, int], radius: int) -> None:
    """Whether the windows have more pixels than the image (the summed-area table) or fewer."""
    rng = np.random.default_rng([*shape, radius])
    annotated = (rng.random(shape) < 0.3).astype(np.uint8) * 5
    every = np.stack(np.divmod(np.arange(shape[0] * shape[1]), shape[1]), axis=1)
    for centres in (every, every[:: 1 + len(every) // 3], every[:0]):
        found = candidates._window_pixels(centres, radius, shape, annotated)
        expected = [
            int((annotated[candidates.square(int(r), int(c), radius)] == 0).sum())
            for r, c in centres
        ]
        assert found.tolist() == expected
