"""The budget of a heuristic that chooses from the whole pool by itself."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ..errors import BudgetError
from ..types import I64, Bool


class Basket:
    """Takes units of a table within a budget; never overspends, never takes one twice.

    Args:
        costs: int64 [n], cost of each unit, >= 1 where `open_`.
        open_: bool [n], whether a unit may be taken.
        budgets: int64 [g], what may be spent in each group.
        groups: int [n], the group of each unit (one group for a budget over the pool, one per image
            for scope='image'); None: one group.

    Raises:
        BudgetError: An open unit costs less than 1.

    Example:
        >>> basket = Basket(costs=[3, 2, 2], open_=[True, True, True], budgets=5)
        >>> basket.fill([0, 1, 2]), basket.taken, basket.left.tolist(), basket.full
        (2, [0, 1], [0], True)
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
        """bool [n]: open, not taken, and within the remaining budget of its group."""
        return np.asarray(self._open & (self.costs <= self.left[self.groups]))

    @property
    def full(self) -> bool:
        """True when the remaining budget pays for no open unit."""
        return not self.affordable.any()

    def take(self, position: int) -> bool:
        """Take one unit if it is open and affordable; returns whether it was taken."""
        group = self.groups[position]
        cost = self.costs[position]
        if not self._open[position] or cost > self.left[group]:
            return False
        self._open[position] = False
        self.left[group] -= cost
        self.taken.append(int(position))
        return True

    def fill(self, order: Iterable[int] | npt.NDArray[np.integer], limit: int | None = None) -> int:
        """Take units in this order, skipping those that are not affordable.

        Args:
            order: Positions, best first.
            limit: Take at most so many; None: no limit.

        Returns:
            How many were taken.
        """
        count = 0
        for position in order:
            if limit is not None and count >= limit:
                break
            count += self.take(int(position))
        return count


def best_first(scores: npt.ArrayLike) -> I64:
    """Positions by descending score; ties by position; -inf and NaN are left out.

    Args:
        scores: float [n].

    Returns:
        int64 [m], m <= n.

    Example:
        >>> import numpy as np
        >>> best_first([1.0, -np.inf, 3.0, 1.0]).tolist()
        [2, 0, 3]
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    kept = values[order]
    return np.asarray(order[~np.isnan(kept) & (kept != -np.inf)], dtype=np.int64)
