"""Arguments of heuristics that pick from the whole pool: `candidates`, and numbers in a range."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..selection import Basket, best_first
from ..types import I64


class Shortlist:
    """Keeps the units with the highest entropy before a step that costs units x picks x features.

    candidates: None, all of them; a whole number >= 1; or a share of the open units as text, such
    as '5%'. heuristic: the name, for messages. Raises ConfigError.
    """

    def __init__(self, heuristic: str, candidates: Any) -> None:
        self.amount: int | Fraction | None = candidates
        if isinstance(candidates, str) and candidates.strip().endswith("%"):
            try:
                self.amount = Fraction(candidates.strip()[:-1].strip()) / 100
            except (ValueError, ZeroDivisionError):
                self.amount = Fraction(-1)
            usable = 0 < self.amount <= 1
        else:
            whole = isinstance(candidates, int) and not isinstance(candidates, bool)
            usable = candidates is None or (whole and candidates >= 1)
        if not usable:
            raise ConfigError(
                f"heuristic {heuristic}: candidates={candidates!r} must be None, a whole number of "
                "at least 1, or a share of the open units such as '5%'"
            )

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


def within(where: str, value: Any, low: float, high: float) -> float:
    """`value` as a float in [low, high]. Raises ConfigError."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ConfigError(f"{where}={value!r} must be a number from {low:g} to {high:g}")
    return float(value)
