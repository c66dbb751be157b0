"""Best-first selection over a pool that streams by, exact, in memory proportional to the budget.

What may be forgotten. Greedy selection passes over what does not fit, so if a unit u is taken, then
each unit v ranked above it with c(v) <= c(u) was taken too (more was left when v was tried than
when u was). Hence u is never taken, whatever else is added later, if

    c(u) + sum of c(v) over v above u with c(v) <= c(u)  >  budget.

Forgetting such a v hides nothing: what ruled it out rules out each u that it would have ruled out.
What is kept is at most budget * (1 + 1/2 + ... + 1/D) / (smallest cost) units for D distinct costs,
a few times the picks. With `slack` s > 1 the same holds with max(c, s) in place of c in the
comparison, since nothing is taken when less than s is left.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import DataError, ScoreError
from ..types import I64, PICK_DTYPE, Picks
from ._order import order_picks, whole_number
from .units import as_costs, spend

BUFFER = 4096  # candidates kept before anything is pruned
LEVELS = 16  # cost levels of the quick test in add()


class CandidateStream:
    """Takes candidates image by image; `result` is what `select_units` would take from all of them.

    budget: in the unit of the costs. slack: selection ends when less than this is left (1: when
    nothing fits). With slack = the usual cost (say the full window) hardly anything beside the
    picks is kept and `threshold` is sharp, at the price of up to slack - 1 unspent.

    The result does not depend on the order of `add`, nor on how candidates are split over several
    streams whose `candidates` are then added to one: order is score descending, then image, row,
    column, unit ascending. A candidate must be added once only.
    """

    def __init__(self, budget: int, slack: int = 1) -> None:
        self.budget = whole_number(budget, "budget")
        self.slack = max(1, min(whole_number(slack, "slack"), self.budget))
        self._picks: list[Picks] = []
        self._costs: list[I64] = []
        self._size = 0  # candidates held
        self._ranked = 0  # of them, ordered and pruned
        self._limit = BUFFER
        self._levels: I64 = np.array([self.slack], dtype=np.int64)
        self._floors: npt.NDArray[np.float64] = np.array([-np.inf])

    def __len__(self) -> int:
        """Candidates held at this moment."""
        return self._size

    def add(self, picks: Picks, costs: npt.ArrayLike) -> None:
        """Add candidates: PICK_DTYPE [n] in any order, costs int [n] >= 1. -inf is never picked.

        Raises DataError for another dtype, ScoreError for NaN or +inf, BudgetError for costs < 1.
        """
        if picks.dtype != PICK_DTYPE or picks.ndim != 1:
            raise DataError(f"candidates must be a PICK_DTYPE vector, not {picks.dtype}")
        price = as_costs(costs, len(picks))
        scores = picks["score"]
        usable = scores < np.inf
        if not usable.all():
            image = int(picks["image"][np.argmin(usable)])
            raise ScoreError(f"pool image {image}: a candidate's score is NaN or +inf")
        step = np.searchsorted(self._levels, np.maximum(price, self.slack), side="right") - 1
        keep = (scores >= self._floors[step]) & (price <= self.budget) & (scores > -np.inf)
        at = np.flatnonzero(keep)
        if not at.size:
            return
        self._picks.append(picks[at])
        self._costs.append(price[at])
        self._size += at.size
        if self._size > self._limit:
            self._prune()

    def threshold(self) -> float:
        """Nothing with a score below this can be picked any more, whatever it costs; or -inf."""
        if self._size - self._ranked > self._ranked // 4:
            self._prune()
        return float(self._floors[0])

    def candidates(self) -> tuple[Picks, I64]:
        """What may still be picked, best first, and its costs; for `add` to another stream."""
        self._prune()
        return self._picks[0].copy(), self._costs[0].copy()

    def result(self) -> Picks:
        """The picks, best first; their total cost is within the budget."""
        self._prune()
        taken, _ = spend(self._costs[0], self.budget, self.slack)
        return self._picks[0][taken]

    def _prune(self) -> None:
        if self._ranked == self._size and self._picks:
            return
        picks = np.concatenate([np.zeros(0, dtype=PICK_DTYPE), *self._picks])
        costs = np.concatenate([np.zeros(0, dtype=np.int64), *self._costs])
        order = order_picks(picks)
        costs = costs[order]
        level = np.maximum(costs, self.slack)
        keep = np.flatnonzero(level + smaller_above(level, costs) <= self.budget)
        self._picks, self._costs = [picks[order[keep]]], [costs[keep]]
        self._size = self._ranked = keep.size
        self._limit = max(BUFFER, 2 * keep.size)
        self._raise_floors(level[keep])

    def _raise_floors(self, level: I64) -> None:
        """Per cost level, the score below which a newcomer of that cost or more is hopeless."""
        distinct = np.unique(level)
        if distinct.size > LEVELS:
            distinct = np.unique(level[:: max(1, level.size // 4096)])
            distinct = distinct[np.linspace(0, distinct.size - 1, LEVELS).astype(np.int64)]
        self._levels = np.union1d([self.slack], distinct)
        self._floors = np.full(self._levels.size, -np.inf)
        for i, least in enumerate(self._levels.tolist()):
            mine = np.flatnonzero(level <= least)
            spent = np.cumsum(self._costs[0][mine])
            first = int(np.searchsorted(spent, self.budget - least, side="right"))
            if first < mine.size:
                self._floors[i] = self._picks[0]["score"][mine[first]]


def smaller_above(level: I64, costs: I64) -> I64:
    """Per i, the sum of costs[j] over j < i with level[j] <= level[i]. O(n log distinct levels).

    Levels are split bit by bit, highest first: where the higher bits agree and i has a 1, every
    earlier 0 is smaller. After the last bit, earlier equals are left.
    """
    total = np.zeros(level.size, dtype=np.int64)
    if not level.size:
        return total
    distinct, ident = np.unique(level, return_inverse=True)
    bits = int(distinct.size - 1).bit_length()
    ident = ident.astype(np.uint16 if bits <= 16 else np.int64)  # uint16: numpy sorts it by radix
    for shift in range(bits - 1, -1, -1):
        order = np.argsort(ident >> (shift + 1), kind="stable")
        one = (ident[order] >> shift) & 1 == 1
        before = _sum_before(ident[order] >> (shift + 1), np.where(one, 0, costs[order]))
        total[order[one]] += before[one]
    order = np.argsort(ident, kind="stable")
    total[order] += _sum_before(ident[order], costs[order])
    return total


def _sum_before(group: npt.NDArray[np.integer], values: I64) -> I64:
    """Per i, the sum of `values` before i in its group; groups are contiguous, values >= 0."""
    before = np.cumsum(values) - values
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    lengths = np.diff(np.append(starts, group.size))
    return np.asarray(before - np.repeat(before[starts], lengths), dtype=np.int64)
