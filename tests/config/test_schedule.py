"""How schedules are stretched: contiguous, warm-ups that reach their end, milestones that rise."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional_al.config.schedule import stretch_policy, stretch_schedule

WARM_UP = {"type": "LinearLR", "start_factor": 1e-6, "begin": 0, "end": 1500, "by_epoch": False}
POLY = {"type": "PolyLR", "power": 1.0, "begin": 1500, "end": 160000, "by_epoch": False}


def spans(schedulers: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(s["begin"], s["end"]) for s in schedulers]


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        (1, [(0, 1)]),  # no room for a warm-up
        (2, [(0, 2)]),
        (3, [(0, 2), (2, 3)]),
        (40, [(0, 2), (2, 40)]),
        (60, [(0, 2), (2, 60)]),
        (600, [(0, 6), (6, 600)]),
        (160000, [(0, 1500), (1500, 160000)]),
        (320000, [(0, 3000), (3000, 320000)]),
    ],
)
def test_hand_worked(iterations: int, expected: list[tuple[int, int]]) -> None:
    before = [dict(WARM_UP), dict(POLY)]
    assert spans(stretch_schedule(before, 160000, iterations)) == expected
    assert before == [WARM_UP, POLY]


def test_other_step_counts() -> None:
    cosine = {"type": "CosineAnnealingLR", "T_max": 900, "begin": 100, "end": 1000}
    steps = {"type": "MultiStepLR", "milestones": [1, 2, 500, 900], "gamma": 0.1}
    restart = {"type": "CosineRestartLR", "periods": [1, 999], "restart_weights": [1, 0.5]}
    cycle = {"type": "OneCycleLR", "total_steps": 1000, "eta_max": 0.1}
    warm_up = {"type": "ConstantLR", "factor": 0.1, "begin": 0, "end": 100}
    out = stretch_schedule([warm_up, cosine, steps, restart, cycle], 1000, 10)
    assert spans(out[:2]) == [(0, 2), (2, 10)]
    assert out[1]["T_max"] == 8
    assert out[2] == {**steps, "milestones": [1, 2, 5, 9]}
    assert out[3] == {**restart, "periods": [1, 9]}
    assert out[4]["total_steps"] == 10
    assert "begin" not in out[2]


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=5),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.integers(1, 3000),
)
def test_stretched_schedules_stay_whole(
    lengths: list[int], linear: list[bool], iterations: int
) -> None:
    """A chain of schedulers stays a chain that covers the training, without empty or frozen parts;
    only schedulers that warm up are ever left out, and only when there is no room."""
    chain: list[dict[str, Any]] = []
    for length, is_linear in zip(lengths, linear, strict=False):
        begin = chain[-1]["end"] if chain else 0
        kind = "LinearLR" if is_linear else "PolyLR"
        chain.append({"type": kind, "begin": begin, "end": begin + length})
    old = chain[-1]["end"]
    out = stretch_schedule(chain, old, iterations)
    least = {"LinearLR": 2, "PolyLR": 1}
    needed = sum(least[s["type"]] for s in chain)
    if needed <= iterations:
        assert len(out) == len(chain)
    assert all(s["end"] - s["begin"] >= least[s["type"]] for s in out)
    if len(out) == len(chain) and needed <= iterations:
        assert all(a["end"] == b["begin"] for a, b in itertools.pairwise(out))
        assert out[0]["begin"] == 0
        assert out[-1]["end"] == iterations
    assert [s for s in out if s["type"] == "PolyLR"] or all(linear[: len(chain)])


@given(st.lists(st.integers(1, 10_000), unique=True, max_size=6), st.integers(1, 20_000))
def test_milestones_rise(milestones: list[int], iterations: int) -> None:
    (out,) = stretch_schedule(
        [{"type": "MultiStepLR", "milestones": sorted(milestones)}], 10_000, iterations
    )
    assert all(a < b for a, b in zip([0, *out["milestones"]], out["milestones"], strict=False))


def test_schedulers_of_another_unit_are_not_capped() -> None:
    """A warm-up in iterations, in a training of epochs cut from 100 to 1."""
    (out,) = stretch_schedule([WARM_UP], 100, 1, capped=False)
    assert (out["begin"], out["end"]) == (0, 15)


@pytest.mark.parametrize(
    ("iterations", "expected"), [(1, (None, 1)), (2, ("linear", 1)), (600, ("linear", 6))]
)
def test_a_policy_of_0x(iterations: int, expected: tuple[str | None, int]) -> None:
    policy = {"policy": "poly", "warmup": "linear", "warmup_iters": 1500, "min_lr": 0.0}
    out = stretch_policy(policy, 160000, iterations)
    assert (out["warmup"], out["warmup_iters"]) == expected
    assert out["min_lr"] == 0.0


def test_a_policy_that_is_all_warm_up_still_ends_before_the_training() -> None:
    out = stretch_policy({"policy": "fixed", "warmup": "linear", "warmup_iters": 100}, 100, 10)
    assert out["warmup_iters"] == 9
    by_iteration = {"policy": "step", "by_epoch": False}
    assert stretch_policy({**by_iteration, "step": [1, 2, 50]}, 100, 10)["step"] == [1, 2, 5]
    assert stretch_policy({**by_iteration, "step": 20}, 100, 10)["step"] == 2
    restart = {"policy": "CosineRestart", "by_epoch": False, "periods": [33, 33, 34]}
    assert stretch_policy(restart, 100, 10)["periods"] == [3, 4, 3]  # mmcv fails on a sum of 9
    assert stretch_policy({"policy": "step", "step": [30]}, 100, 10)["step"] == [30], "epochs"
    assert stretch_policy({"policy": "step", "step": [30]}, 100, 10, by_epoch=None)["step"] == [3]


def test_late_milestones_stay_within_the_training() -> None:
    steps = [{"type": "MultiStepLR", "milestones": [158000, 159000]}]
    assert stretch_schedule(steps, 160000, 40)[0]["milestones"] == [38, 39]
    assert stretch_schedule(steps, 160000, 2)[0]["milestones"] == [1, 2]  # no room for both
