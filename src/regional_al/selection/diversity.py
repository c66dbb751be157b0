"""Picks that spread out: k-centre, D^2 sampling, lists in turn. numpy only.

All of them spend through a `Basket` and go on past what cannot be paid. Distances to one point are
taken by difference, in blocks: exactly 0 for equal rows, and the same bits on any number of
threads, so that ties go by position everywhere.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..types import F32, I64, Bool
from .basket import Basket

BLOCK = 1 << 16
"""Numbers worked on at once: they stay in the cache."""


class Reach:
    """Rows of a table to choose among, and which of them can still be taken.

    rows: int64 [n], positions in the basket. usable: bool [n], open and within what is left.
    """

    def __init__(self, basket: Basket, rows: I64) -> None:
        self.basket, self.rows = basket, rows
        self.usable: Bool = basket.affordable[rows]
        self._costs, self._groups = basket.costs[rows], basket.groups[rows]

    def take(self, place: int) -> None:
        """Take the row at this place (0..n-1); what can no longer be paid becomes unusable."""
        self.basket.take(int(self.rows[place]))
        self.usable[place] = False
        self.usable &= self._costs <= self.basket.left[self._groups]


def k_centre(reach: Reach, nearest: F32, distance_to: Callable[[int], F32]) -> None:
    """Take the usable row that is farthest from everything chosen so far, until none is usable
    (greedy k-centre; Sener and Savarese, ICLR 2018, algorithm 1). Ties: the first row.

    nearest: float32 [n], distance of each row to what is chosen already (inf: to nothing); changed
    in place. distance_to(place): float32 [n], distances to one row. n distances a pick, no matrix.
    """
    while reach.usable.any():
        place = int(np.argmax(np.where(reach.usable, nearest, -np.inf)))
        reach.take(place)
        np.minimum(nearest, distance_to(place), out=nearest)


def d2_sampling(
    reach: Reach, nearest: F32, distance_to: Callable[[int], F32], rng: np.random.Generator
) -> None:
    """Draw usable rows with probability proportional to `nearest` (squared distances), until none
    is usable (k-means++ seeding; Arthur and Vassilvitskii, 2007). See `k_centre`, `draw`."""
    while reach.usable.any():
        place = draw(np.where(reach.usable, nearest, 0.0), reach.usable, rng)
        reach.take(place)
        np.minimum(nearest, distance_to(place), out=nearest)


def herding(reach: Reach, covered: F32, similar_to: Callable[[int], F32]) -> None:
    """Take the usable row that adds most to the coverage, the sum over all rows of the similarity
    to the most similar one chosen, until none is usable (MaxHerding; Bae et al., ECCV 2024).
    Ties: the first row.

    covered: float32 [n], similarity of each row to what is chosen already (0: nothing is); changed
    in place. similar_to(place): float32 [n], similarities to one row. What a row adds never grows,
    in floating point either, so it is computed again only for rows that may be the best (lazy
    greedy; Minoux, 1978): the picks are those of computing all of them for each pick.
    """

    def gain(place: int) -> float:
        return float(np.maximum(similar_to(place) - covered, 0).sum(dtype=np.float64))

    waiting = [(-gain(place), place) for place in np.flatnonzero(reach.usable).tolist()]
    heapq.heapify(waiting)
    while waiting:
        place = heapq.heappop(waiting)[1]
        if not reach.usable[place]:
            continue
        found = (-gain(place), place)
        if waiting and found > waiting[0]:
            heapq.heappush(waiting, found)
            continue
        reach.take(place)
        np.maximum(covered, similar_to(place), out=covered)


def draw(weights: npt.ArrayLike, usable: Bool, rng: np.random.Generator) -> int:
    """A place with probability proportional to its weight (finite, 0 where not usable); uniform
    over the usable ones when all weights are 0. One number of `rng` a draw."""
    sums = np.cumsum(np.asarray(weights, dtype=np.float64))
    if sums[-1] <= 0:
        sums = np.cumsum(usable, dtype=np.float64)
    # below sums[-1] even when the product is rounded up, so that a place of weight > 0 is found
    point = min(rng.random() * sums[-1], np.nextafter(sums[-1], 0.0))
    return int(np.searchsorted(sums, point, side="right"))


def squared_distances(points: F32, centre: npt.ArrayLike) -> F32:
    """float32 [n]: squared Euclidean distance of each row of points [n, d] to centre [d]."""
    out = np.empty(len(points), dtype=np.float32)
    middle = np.asarray(centre, dtype=np.float32)
    for block in blocks(len(points), points.shape[1]):
        difference = points[block] - middle
        np.einsum("nd,nd->n", difference, difference, out=out[block])
    return out


def from_row(points: F32) -> Callable[[int], F32]:
    """`squared_distances` to the row at a given place of points [n, d]."""
    return lambda place: squared_distances(points, points[place])


def nearest_squared(points: F32, seeds: F32) -> F32:
    """float32 [n]: squared distance of each row of points [n, d] to its nearest row of seeds
    [s, d], s >= 1. The nearest is found by matrix products (float64, less the mean, so that
    rounding does not matter), its distance taken by difference."""
    out = np.empty(len(points), dtype=np.float32)
    mean = seeds.mean(axis=0, dtype=np.float64)
    centred = seeds.astype(np.float64) - mean
    lengths = np.einsum("sd,sd->s", centred, centred)
    for block in blocks(len(points), max(len(seeds), points.shape[1]), 16 * BLOCK):
        rows = points[block]
        which = np.argmin(lengths - 2.0 * ((rows - mean) @ centred.T), axis=1)
        difference = rows - seeds[which]
        np.einsum("nd,nd->n", difference, difference, out=out[block])
    return out


def blocks(rows: int, width: int, size: int = BLOCK) -> list[slice]:
    """Slices of 0..rows of about size / width rows each."""
    step = max(1, size // max(1, width))
    return [slice(start, min(rows, start + step)) for start in range(0, rows, step)]


def in_turns(basket: Basket, orders: Sequence[I64], limit: int | None = None) -> int:
    """Lists of units take turns: the one that has spent least (ties: the first) takes its next
    unit that is still open and can be paid. At most `limit` is spent; returns how much was.

    Units of one price: a round-robin. A list that has run out leaves the rest to the others.
    """
    spent = 0
    place = [0] * len(orders)
    waiting = [(0, which) for which in range(len(orders))]
    while waiting:
        mine, which = heapq.heappop(waiting)
        order = orders[which]
        while place[which] < len(order):
            unit = int(order[place[which]])
            place[which] += 1
            cost = int(basket.costs[unit])
            if (limit is None or spent + cost <= limit) and basket.take(unit):
                spent += cost
                heapq.heappush(waiting, (mine + cost, which))
                break
    return spent
