"""How long a round trains, made explicit: it changes which strategy looks best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..checks import check_keys, choice, integer
from ..errors import ConfigError
from ..types import Costs

PER = ("image", "region", "pixel", "click")


@dataclass(frozen=True)
class Iterations:
    """Iterations of a round's training: `amount`, or, with `per`, that many for each image, region,
    pixel or click that has been spent so far (rounded up), kept within least..most."""

    amount: float
    per: str | None = None
    least: int = 1
    most: int | None = None

    def of(self, spent: Costs) -> int:
        """For a round after which `spent` has been spent in all. Raises ConfigError when clicks are
        asked for and not known (people's answers)."""
        if self.per is None:
            return int(self.amount)
        count: int | None = getattr(spent, f"{self.per}s")
        if count is None:
            raise ConfigError(
                "acquisition.iterations.per='click': the clicks of these answers are not known; "
                "use 'image', 'region' or 'pixel'"
            )
        wanted = math.ceil(self.amount * count)
        return max(self.least, wanted if self.most is None else min(wanted, self.most))


def parse_iterations(raw: Any, queries: Any = None) -> Iterations | None:
    """Read `iterations=`: None (the config's own schedule), a number, or a dict of amount, per,
    least, most. Raises ConfigError."""
    key = "acquisition.iterations"
    if raw is None:
        return None
    if queries:
        raise ConfigError(
            f"{key} makes no sense with queries=[...]: one continuous run has the config's schedule"
        )
    if not isinstance(raw, Mapping):
        return Iterations(integer(key, raw, 1))
    check_keys(key, raw, ("amount", "per", "least", "most"))
    amount = raw.get("amount")
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not amount > 0:
        raise ConfigError(f"{key}.amount={amount!r} must be a number above 0")
    if raw.get("per") is None:
        return Iterations(integer(f"{key}.amount", amount, 1))
    per = choice(f"{key}.per", raw["per"], PER)
    least = integer(f"{key}.least", raw.get("least", 1), 1)
    most = None if raw.get("most") is None else integer(f"{key}.most", raw["most"], least)
    return Iterations(float(amount), per, least, most)
