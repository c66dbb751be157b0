"""Budgets: how much one round may spend, in which unit, per image or over the pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from ..checks import share_of
from ..errors import BudgetError
from ..registry import nearest
from ..types import I64, Picks

BudgetUnit = Literal["image", "region", "pixel", "click"]
Scope = Literal["pool", "image"]

UNITS = ("image", "region", "pixel", "click")
SCOPES = ("pool", "image")
KEYS = ("amount", "unit", "scope")
DEFAULTS: dict[str, tuple[int | str, BudgetUnit, Scope]] = {
    "image": ("5%", "image", "pool"),
    "region": ("1%", "pixel", "pool"),
    "pixel": (10, "pixel", "image"),
}
SUPPORTED: dict[str, tuple[str, ...]] = {
    "image": ("image", "pixel"),
    "region": ("region", "pixel", "click"),
    "pixel": ("pixel", "click"),
}


@dataclass(frozen=True)
class Budget:
    """What one round may spend.

    Args:
        amount: A whole number >= 1 of the unit, or a percentage such as '1%', above 0, at most 100.
        unit: 'image', 'region' (annotation visits), 'pixel' (answered pixels) or 'click'.
        scope: 'pool' for all images together, 'image' for each image.

    Raises:
        BudgetError: An invalid amount, unit or scope.

    Example:
        >>> str(Budget("1%", "pixel", "pool")), str(Budget(10, "pixel", "image"))
        ('1% of the pixels', '10 pixels per image')
        >>> Budget("1%", "pixel", "pool").resolve(2048)
        20
    """

    amount: int | str
    unit: BudgetUnit
    scope: Scope

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise BudgetError(f"budget unit {self.unit!r} is unknown.{nearest(self.unit, UNITS)}")
        if self.scope not in SCOPES:
            raise BudgetError(
                f"budget scope {self.scope!r} is unknown.{nearest(self.scope, SCOPES)}"
            )
        if self.unit == "image" and self.scope == "image":
            raise BudgetError("budget unit 'image' counts over the pool: use scope='pool'")
        object.__setattr__(self, "amount", _amount(self.amount))

    @property
    def share(self) -> Fraction | None:
        """The percentage as an exact fraction, or None for a plain number."""
        return _share(self.amount) if isinstance(self.amount, str) else None

    @staticmethod
    def parse(
        raw: Any, level: str, region_type: str = "", answer: str = "full", key: str = "budget"
    ) -> Budget:
        """Read `budget=` of a config.

        Args:
            raw: None, a number, '1%', or a dict of amount, unit and scope. What is left out follows
                from the level: 5 % of the images, 1 % of the pool's pixels, 10 pixels per image.
            level: 'image', 'region' or 'pixel'.
            region_type: For messages.
            answer: 'full', 'dominant', ...; clicks are a budget only for the latter.
            key: Of the config, for messages.

        Raises:
            BudgetError: An invalid amount or combination, in one line.
        """
        where = f"acquisition.{key}"
        amount, unit, scope = DEFAULTS[level]
        if isinstance(raw, Budget):
            raw = {"amount": raw.amount, "unit": raw.unit, "scope": raw.scope}
        if isinstance(raw, Mapping):
            for name in raw:
                if name not in KEYS:
                    raise BudgetError(f"{where} has no key {name!r}.{nearest(name, KEYS)}")
            amount, unit = raw.get("amount", amount), raw.get("unit", unit)
            scope = raw.get("scope", scope)
        elif raw is not None:
            amount = raw
        try:
            budget = Budget(amount, unit, scope)
        except BudgetError as error:
            raise BudgetError(f"{where}: {error}") from None
        _refuse_unsupported(budget, where, level, region_type, answer)
        return budget

    def resolve(self, available_total: int) -> int:
        """The budget as a number of its unit.

        A percentage is rounded down, so that 'at most 1 %' holds, but to no less than 1. An image
        that has fewer units than a plain number requests gives all of them.

        Args:
            available_total: How many of the unit the pool contains, labelled ones included; or the
                image, with scope='image'.

        Raises:
            BudgetError: The pool is smaller than a plain number.
        """
        if available_total < 1:
            raise BudgetError(f"there is no {self.unit} to spend the budget of {self} on")
        share = self.share
        if share is not None:
            return max(1, math.floor(share * available_total))
        amount = int(self.amount)
        if amount > available_total and self.scope == "pool":
            raise BudgetError(
                f"budget of {self} per round exceeds the pool size ({available_total}): "
                f"lower amount, or give a percentage such as '1%'"
            )
        return min(amount, available_total)

    def cost_of(self, picks: Picks) -> I64:
        """int64 [n]: cost of each pick in this unit: the pixels it covers, else 1 (a budget of
        clicks is supported only where an answer is one click)."""
        if self.unit == "pixel":
            return picks["pixels"].astype(np.int64)
        return np.ones(len(picks), dtype=np.int64)

    def __str__(self) -> str:
        amount = f"{self.amount} of the" if isinstance(self.amount, str) else str(self.amount)
        plural = "" if self.amount == 1 else "s"
        return f"{amount} {self.unit}{plural}" + (" per image" if self.scope == "image" else "")


def _amount(raw: Any) -> int | str:
    """A whole number >= 1, or a percentage in its plain spelling ('1%', '0.05%')."""
    if isinstance(raw, str):
        text = raw.strip()
        if not text.endswith("%"):
            raise BudgetError(f"amount {raw!r} must be a whole number or a percentage like '1%'")
        share = _share(text)
        if not 0 < share <= 1:
            raise BudgetError(f"amount {raw!r} must be above 0% and at most 100%")
        return text[:-1].strip() + "%"
    if isinstance(raw, bool) or not isinstance(raw, (int, float, np.integer, np.floating)):
        raise BudgetError(f"amount {raw!r} must be a whole number or a percentage like '1%'")
    if not 0 < raw < math.inf:  # of any size: a Python integer may be no float
        raise BudgetError(f"amount {raw!r} must be 1 or more, or a percentage like '1%'")
    if raw != int(raw):
        hint = f"{float(raw) * 100:g}%" if raw < 1 else f"{round(float(raw))}"
        raise BudgetError(f"amount {raw!r} is not a whole number: did you mean {hint!r}?")
    return int(raw)


def _share(text: str) -> Fraction:
    share = share_of(text)
    if share is None:
        raise BudgetError(f"amount {text!r} is not a percentage like '1%' or '0.05%'")
    return share


def _refuse_unsupported(
    budget: Budget, where: str, level: str, region_type: str, answer: str
) -> None:
    usable = SUPPORTED[level]
    if level == "region" and answer != "dominant":
        usable = tuple(unit for unit in usable if unit != "click")
    if budget.unit not in usable:
        kind = f" with region type {region_type!r}" if level == "region" and region_type else ""
        why = ""
        if budget.unit == "click" and level != "pixel":
            why = f": the clicks of a {answer!r} answer are not known before it is given"
        raise BudgetError(
            f"{where}.unit={budget.unit!r} is not supported at level={level!r}{kind}{why}; "
            f"use {' or '.join(repr(unit) for unit in usable)}"
        )
    if level == "image" and budget.scope == "image":
        raise BudgetError(
            f"{where}.scope='image' is not supported at level='image': use scope='pool'"
        )
