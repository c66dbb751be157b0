"""Units: disjoint, each with a score and a cost, selected best first within a budget."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import BudgetError
from ..types import I64, Bool
from ._order import as_excluded, as_scores, descending, refuse_unrankable, whole_number

BLOCK = 4096


def select_units(
    scores: Any,
    costs: Any,
    budget: int,
    excluded: Any = None,
    *,
    slack: int = 1,
    min_score: float = -np.inf,
    name: str = "scores",
) -> I64:
    """Select units best first within a budget.

    Greedy in order of (score descending, position ascending); a unit that exceeds the remaining
    budget is skipped and the next one is tried, so the total never exceeds `budget`.

    Args:
        scores: float [n], array or tensor; -inf is never selected.
        costs: int [n], >= 1 where not excluded.
        budget: In the unit of the costs, >= 0.
        excluded: bool [n], True: never selected (its score and cost may have any value).
        slack: End as soon as less than this is left (1: when nothing is left).
        min_score: Units below are not selected; the others are the same as without it.
        name: What error messages call the scores.

    Returns:
        int64 [m], indices of the selected units, best first.

    Raises:
        ScoreError: A score that is not excluded is NaN or +inf.
        BudgetError: A cost is below 1.
        ConfigError: The budget is negative.

    Example:
        >>> select_units([0.2, 0.9, 0.5], costs=[1, 2, 2], budget=3).tolist()
        [1, 0]
    """
    values = as_scores(scores, 1, name)
    taken = as_excluded(excluded, values.shape, name)
    budget = whole_number(budget, "budget")
    price = as_costs(costs, values.size, taken)
    refuse_unrankable(values, taken, name)
    slack = max(1, min(whole_number(slack, "slack"), budget))
    left = budget

    def affordable(ids: I64) -> Bool:
        fits = price[ids] <= left  # the budget left at this moment: misfits are never sorted
        return fits if taken is None else fits & ~taken[ids]

    parts: list[I64] = []
    if values.size and budget:
        usual = max(1.0, float(price.mean()))
        wanted = int(min(values.size, budget / usual * 1.2 + 64))
        for ids in descending(values, wanted, affordable, min_score):
            where, left = spend(price[ids], left, slack)
            parts.append(ids[where])
            if left < slack:
                break
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def as_costs(costs: Any, size: int, excluded: Bool | None = None) -> I64:
    """int64 [size], all >= 1 (where not excluded)."""
    if hasattr(costs, "detach"):
        costs = costs.detach().cpu().numpy()
    array = np.ascontiguousarray(costs)
    if array.shape != (size,) or (size and array.dtype.kind not in "iu"):
        raise BudgetError(
            f"costs must be whole numbers, one per score: shape ({size},), not {array.dtype} of "
            f"shape {array.shape}"
        )
    low = array < 1
    if excluded is not None:
        low &= ~excluded
    if low.any():
        at = int(np.flatnonzero(low)[0])
        raise BudgetError(
            f"costs[{at}] is {array[at]}; a unit costs 1 or more: exclude those that are annotated"
        )
    return array.astype(np.int64, copy=False)


def spend(costs: I64, left: int, slack: int = 1) -> tuple[I64, int]:
    """Walk ranked costs, taking what fits: positions taken int64 [m], and what is left."""
    parts: list[I64] = []
    for start in range(0, len(costs), BLOCK):
        if left < slack:
            break
        block = costs[start : start + BLOCK]
        fit = np.flatnonzero(block <= left)
        if not fit.size:
            continue
        price = block[fit]
        total = np.cumsum(price)
        ok = total - price + np.maximum(price, slack) <= left
        head = fit.size if ok.all() else int(np.argmin(ok))  # all before the first misfit are taken
        taken = fit[:head]
        if head:
            left -= int(total[head - 1])
        if head < fit.size:
            tail, left = _spend_slowly(price[head:], left, slack)
            taken = np.concatenate([taken, fit[head:][tail]])
        parts.append(taken + start)
    return (np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)), left


def _spend_slowly(costs: I64, left: int, slack: int) -> tuple[I64, int]:
    """One by one: a block in which something did not fit (few blocks are like that)."""
    taken: list[int] = []
    for position, cost in enumerate(costs.tolist()):
        if left < slack:
            break
        if cost <= left:
            taken.append(position)
            left -= cost
    return np.array(taken, dtype=np.int64), left
