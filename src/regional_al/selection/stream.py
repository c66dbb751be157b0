"""Best-first selection over a pool that streams by, exact, in memory proportional to the budget.

What may be forgotten. Rank all candidates, let M be the largest cost among them, and cut the
ranking as soon as the costs above the cut reach the budget. Let greedy selection run on these
candidates and any others that may still come. When it arrives at the cut, less than M is left:
while M or more was left everything above the cut fitted, and all of that spends the budget.
Selection passes over what does not fit, so if a unit u below the cut is taken, each v between the
cut and u with c(v) <= c(u) is taken too (more was left when v was tried). Hence if

    c(u) + sum of c(v) over v between the cut and u with c(v) <= c(u)  >=  M,

u is never taken, whatever comes later. What is kept is the part above the cut (about as many as
will be picked) and below it fewer than M/c candidates of each cost c, however large the pool is.
With `slack` s > 1 nothing is taken when less than s is left, so that the same holds with max(c, s)
for c in the comparison.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import DataError, ScoreError
from ..types import I64, PICK_DTYPE, Picks
from ._order import order_picks, whole_number
from .units import as_costs, spend

BUFFER = 4096  # candidates kept before anything is pruned
LEVELS = 64  # cost levels of the quick test in add()


class CandidateStream:
    """Takes candidates image by image; `result` is what `select_units` would take from all of them.

    The result does not depend on the order of `add`, nor on how candidates are split over several
    streams whose `candidates` are then added to one: the order is score descending, then image,
    row, column, unit ascending. A candidate must be added once only.

    Args:
        budget: In the unit of the costs.
        slack: Selection ends when less than this is left (1: when nothing fits). With the usual
            cost (such as a whole window) hardly anything but the picks is kept and `threshold` is
            sharp, at the price of up to slack - 1 unspent.

    Example:
        >>> import numpy as np
        >>> from regional_al.types import PICK_DTYPE
        >>> stream = CandidateStream(budget=2)
        >>> for image, score in enumerate([0.1, 0.7, 0.4]):
        ...     pick = np.zeros(1, dtype=PICK_DTYPE)
        ...     pick["image"], pick["score"] = image, score
        ...     stream.add(pick, [1])
        >>> stream.result()["image"].tolist()
        [1, 2]
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
        """Add candidates.

        Args:
            picks: PICK_DTYPE [n] in any order; a score of -inf is never picked.
            costs: int [n], >= 1.

        Raises:
            DataError: Another dtype.
            ScoreError: A score is NaN or +inf.
            BudgetError: A cost is below 1.
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

    def threshold(self, least_cost: int = 1) -> float:
        """Nothing that scores below this and costs at least `least_cost` can be picked any more.

        -inf while anything can. Sharp where all costs are alike or `slack` is the usual cost;
        otherwise something cheap may still fill the last of the budget, and it stays -inf.
        """
        if self._size - self._ranked > self._ranked // 4:
            self._prune()
        level = max(whole_number(least_cost, "least_cost"), self.slack)
        return float(self._floors[np.searchsorted(self._levels, level, side="right") - 1])

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
        cut, room = self._cut(costs)
        tail = costs[cut:]
        level = np.maximum(tail, self.slack)
        keep = np.flatnonzero(level + smaller_above(level, tail) < room) + cut
        order = np.concatenate([order[:cut], order[keep]])
        self._picks, self._costs = [picks[order]], [np.concatenate([costs[:cut], costs[keep]])]
        self._size = self._ranked = order.size
        self._limit = max(BUFFER, 2 * order.size)
        self._raise_floors(cut, room)

    def _cut(self, costs: I64) -> tuple[int, int]:
        """(size of the head, bound below which the cost of everything taken after it stays)."""
        spent = np.cumsum(costs)
        cut = int(np.searchsorted(spent, self.budget)) + 1
        return min(cut, costs.size), int(costs.max(initial=1))

    def _raise_floors(self, cut: int, room: int) -> None:
        """Per cost level, the score below which a newcomer of that cost or more is hopeless."""
        picks, costs = self._picks[0], self._costs[0]
        if not costs.size or int(costs[:cut].sum()) < self.budget:
            return  # the head is not full: anything may still be picked
        spread = np.quantile(costs, np.linspace(0, 1, LEVELS), method="lower").astype(np.int64)
        self._levels = np.union1d([self.slack], np.maximum(spread, self.slack))
        self._floors = np.full(self._levels.size, -np.inf)
        for i, least in enumerate(self._levels.tolist()):
            # after the last of the head (which counts as 0) or the first in the tail that fills up
            mine = np.flatnonzero(costs[cut:] <= least) + cut
            filled = least + np.cumsum(np.concatenate([[0], costs[mine]])) >= room
            if filled[-1]:
                last = int(np.argmax(filled))
                self._floors[i] = picks["score"][cut - 1 if last == 0 else mine[last - 1]]


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
