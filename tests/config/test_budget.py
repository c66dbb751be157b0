"""Budgets: what a config may say, what it means in numbers, and what is refused."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional_al.config.budget import Budget
from regional_al.errors import BudgetError
from regional_al.types import PICK_DTYPE


@pytest.mark.parametrize(
    ("level", "raw", "want"),
    [
        ("image", None, ("5%", "image", "pool")),
        ("region", None, ("1%", "pixel", "pool")),
        ("pixel", None, (10, "pixel", "image")),
        ("image", 20, (20, "image", "pool")),
        ("region", "0.5 %", ("0.5%", "pixel", "pool")),
        ("region", {"amount": 1026, "unit": "region", "scope": "image"}, (1026, "region", "image")),
        ("region", {"unit": "region"}, ("1%", "region", "pool")),
        ("pixel", {"amount": 40.0}, (40, "pixel", "image")),
        ("pixel", {"amount": np.int64(3), "unit": "click"}, (3, "click", "image")),
        ("pixel", Budget("1%", "pixel", "pool"), ("1%", "pixel", "pool")),
    ],
)
def test_what_a_config_says(level: str, raw: Any, want: tuple[Any, ...]) -> None:
    budget = Budget.parse(raw, level, "slic", "full")
    assert (budget.amount, budget.unit, budget.scope) == want
    assert Budget.parse(asdict(budget), level) == budget


def test_clicks_are_a_budget_only_where_an_answer_is_one_class() -> None:
    raw = {"amount": 100, "unit": "click"}
    assert Budget.parse(raw, "region", "slic", "dominant").unit == "click"
    with pytest.raises(BudgetError, match=r"unit='click'.*'full' answer.*use 'region' or 'pixel'"):
        Budget.parse(raw, "region", "slic", "full")


@pytest.mark.parametrize(
    ("level", "raw", "message"),
    [
        ("region", 0, "amount 0 must be 1 or more"),
        ("region", -3, "amount -3 must be 1 or more"),
        ("region", float("nan"), "amount nan must be 1 or more"),
        ("region", "0%", "above 0% and at most 100%"),
        ("region", "-1%", "above 0% and at most 100%"),
        ("region", "101%", "above 0% and at most 100%"),
        ("region", "one%", "not a percentage"),
        ("region", "5", "whole number or a percentage"),
        ("region", 0.01, "did you mean '1%'"),
        ("region", 2.5, "not a whole number"),
        ("region", True, "whole number or a percentage"),
        ("region", [5], "whole number or a percentage"),
        ("region", {"amount": 5, "unit": "pixels"}, "Did you mean 'pixel'"),
        ("region", {"amount": 5, "scope": "images"}, "Did you mean 'image'"),
        ("region", {"amont": 5}, "no key 'amont'. Did you mean 'amount'"),
        ("region", {"unit": "image"}, "unit='image' is not supported at level='region'"),
        ("image", {"unit": "region"}, "use 'image' or 'pixel'"),
        ("image", {"unit": "pixel", "scope": "image"}, "use scope='pool'"),
        ("image", {"scope": "image"}, "use scope='pool'"),
        ("pixel", {"unit": "region"}, "use 'pixel' or 'click'"),
    ],
)
def test_what_is_refused_in_one_line_that_names_the_key(level: str, raw: Any, message: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(raw, level, "slic", "full", key="warm_start")
    assert message in str(caught.value)
    assert "acquisition.warm_start" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("amount", "total", "want"),
    [
        ("1%", 300, 3),  # exact: 300 * 0.01 in floating point may fall to 2.999...
        ("1%", 150, 1),
        ("1%", 50, 1),  # at least one
        ("0.05%", 10_000, 5),
        ("29%", 100, 29),
        ("100%", 7, 7),
        ("0.1%", 30_000_000_000, 30_000_000),
        (10, 10, 10),
        (10, 500, 10),
    ],
)
def test_amounts_in_numbers(amount: Any, total: int, want: int) -> None:
    assert Budget(amount, "pixel", "pool").resolve(total) == want


@given(st.integers(1, 10_000), st.integers(1, 10**12))
def test_a_percentage_never_exceeds_its_share(hundredths: int, total: int) -> None:
    got = Budget(f"{hundredths / 100}%", "pixel", "pool").resolve(total)
    assert 1 <= got <= total
    assert got == 1 or got * 10_000 <= hundredths * total
    assert (got + 1) * 10_000 > hundredths * total


def test_above_the_pool() -> None:
    with pytest.raises(BudgetError, match=r"20 images per round exceeds the pool size \(12\)"):
        Budget(20, "image", "pool").resolve(12)
    assert Budget(20, "pixel", "image").resolve(12) == 12  # a small image gives all it has
    with pytest.raises(BudgetError, match="there is no image to spend"):
        Budget("5%", "image", "pool").resolve(0)


def test_costs_of_picks() -> None:
    picks = np.zeros(3, dtype=PICK_DTYPE)
    picks["pixels"] = [9, 6, 4]
    assert Budget("1%", "pixel", "pool").cost_of(picks).tolist() == [9, 6, 4]
    assert Budget(5, "region", "pool").cost_of(picks).tolist() == [1, 1, 1]
    assert Budget(5, "click", "pool").cost_of(picks).tolist() == [1, 1, 1]
    cost = Budget(5, "image", "pool").cost_of(picks[:0])
    assert cost.dtype == np.int64
    assert cost.shape == (0,)


def test_is_frozen_and_checked_when_built_directly() -> None:
    budget = Budget("1%", "pixel", "pool")
    with pytest.raises(AttributeError):
        budget.amount = 5  # type: ignore[misc]
    with pytest.raises(BudgetError, match="Did you mean 'click'"):
        Budget(1, "clicks", "pool")  # type: ignore[arg-type]
