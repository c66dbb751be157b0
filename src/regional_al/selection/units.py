"""Units: disjoint things with a score and a cost, taken best first within a budget."""

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
    """Indices of the units taken, best first: int64 [m].

    Greedy in order of (score descending, position ascending); a unit that costs more than what is
    left is passed over and the next one is tried, so the total never exceeds `budget`. `slack` ends
    the selection as soon as less than that is left (1: nothing is left).

    scores: float [n], array or tensor; -inf is never taken. costs: int [n], >= 1 where not
    excluded. excluded: bool [n], True = never taken (its score and cost may be anything).
    Raises ScoreError for NaN or +inf, BudgetError for costs below 1 or a negative budget.
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
            f"costs[{at}] is {array[at]}; a unit costs 1 or more: exclude those with nothing to ask"
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
