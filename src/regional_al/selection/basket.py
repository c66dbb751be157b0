"""What is spent while a heuristic picks from the whole pool by itself."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ..errors import BudgetError
from ..types import I64, Bool


class Basket:
    """Takes units of a table within a budget; never overspends, never takes one twice.

    costs: int64 [n], price of each unit, >= 1 where `open_`. open_: bool [n], may be taken.
    budgets: int64 [g], what may be spent in each group; groups: int [n], the group of each unit
    (one group for a pool budget, one an image for scope='image').
    """

    def __init__(
        self,
        costs: npt.ArrayLike,
        open_: npt.ArrayLike,
        budgets: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
    ) -> None:
        self.costs: I64 = np.asarray(costs, dtype=np.int64)
        self.left: I64 = np.array(budgets, dtype=np.int64, ndmin=1)
        self.groups: I64 = (
            np.zeros(len(self.costs), dtype=np.int64)
            if groups is None
            else np.asarray(groups, dtype=np.int64)
        )
        self._open: Bool = np.array(open_, dtype=bool)
        if (self.costs[self._open] < 1).any():
            raise BudgetError("a unit that can be taken costs 1 or more")
        self.taken: list[int] = []
        """Positions taken, in order."""

    @property
    def affordable(self) -> Bool:
        """bool [n]: open, not taken, and within what is left of its group's budget."""
        return np.asarray(self._open & (self.costs <= self.left[self.groups]))

    @property
    def full(self) -> bool:
        """True when nothing that is open can be paid any more."""
        return not self.affordable.any()

    def take(self, position: int) -> bool:
        """Take one unit if it is open and can be paid; says whether it was."""
        group = self.groups[position]
        cost = self.costs[position]
        if not self._open[position] or cost > self.left[group]:
            return False
        self._open[position] = False
        self.left[group] -= cost
        self.taken.append(int(position))
        return True

    def fill(self, order: Iterable[int] | npt.NDArray[np.integer], limit: int | None = None) -> int:
        """Take units in this order, passing over those that cannot be paid; returns how many were
        taken (at most `limit`)."""
        count = 0
        for position in order:
            if limit is not None and count >= limit:
                break
            count += self.take(int(position))
        return count


def best_first(scores: npt.ArrayLike) -> I64:
    """int64: positions by score, descending; ties by position; -inf and NaN left out."""
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    kept = values[order]
    return np.asarray(order[~np.isnan(kept) & (kept != -np.inf)], dtype=np.int64)
