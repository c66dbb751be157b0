"""The argument `candidates` of heuristics that measure distances over the whole pool."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from ..checks import integer, percentage
from ..selection import Basket, best_first
from ..types import I64


class Shortlist:
    """Keeps the units with the highest entropy before a step that costs units x picks x features.

    candidates: None, all of them; a whole number >= 1; or a share of the open units as text, such
    as '5%'. heuristic: the name, for messages. Raises ConfigError.
    """

    def __init__(self, heuristic: str, candidates: Any) -> None:
        where = f"heuristic {heuristic}: candidates"
        self.amount: int | Fraction | None = None
        if isinstance(candidates, str):
            self.amount = percentage(where, candidates)
        elif candidates is not None:
            self.amount = integer(where, candidates, 1)

    def count(self, units: int) -> int:
        """How many of so many open units are kept, at least 1."""
        if isinstance(self.amount, Fraction):
            return max(1, int(self.amount * units))
        return units if self.amount is None else self.amount

    def lists(self, basket: Basket, entropy: Any) -> Iterator[I64]:
        """Positions to choose among, ascending, all affordable; another list of what is left as
        long as the budget is not spent. The consumer takes one or more of each list."""
        size = self.count(int(basket.affordable.sum()))
        while True:
            best = best_first(np.where(basket.affordable, entropy, -np.inf))
            if not len(best):
                return
            yield np.sort(best[:size])
