"""Budgets: how much may be asked for in one round, in which unit, of an image or of the pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

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
SENSIBLE: dict[str, tuple[str, ...]] = {
    "image": ("image", "pixel"),
    "region": ("region", "pixel", "click"),
    "pixel": ("pixel", "click"),
}


@dataclass(frozen=True)
class Budget:
    """One round's budget: e.g. Budget('1%', 'pixel', 'pool') or Budget(10, 'pixel', 'image').

    amount: a whole number >= 1 of the unit, or a percentage as text, above 0 and up to 100.
    unit: 'image' | 'region' (annotation visits) | 'pixel' (that get an answer) | 'click'.
    scope: 'pool' = for all images together, 'image' = for each image.
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
            raise BudgetError("budget unit 'image' is counted over the pool: use scope='pool'")
        object.__setattr__(self, "amount", _amount(self.amount))

    @property
    def share(self) -> Fraction | None:
        """The percentage as an exact fraction, or None for a plain number."""
        return _share(self.amount) if isinstance(self.amount, str) else None

    @staticmethod
    def parse(
        raw: Any, level: str, region_type: str = "", answer: str = "full", key: str = "budget"
    ) -> Budget:
        """Read `budget=` of a config: None, a number, '1%', or a dict of amount, unit, scope.

        What is left out comes from the level: image 5 % of the images; region 1 % of the pool's
        pixels; pixel 10 pixels an image. key: name of the config key, for messages.
        Raises BudgetError in one line.
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
        _refuse_senseless(budget, where, level, region_type, answer)
        return budget

    def resolve(self, available_total: int) -> int:
        """The budget as a number of its unit. available_total: how many of the unit there are in
        all (labelled ones included) in the pool, or in the image for scope='image'.

        A percentage is rounded down, so that 'at most 1 %' holds, but is at least 1: a round that
        may ask for nothing would end the run without a word. An image that holds fewer than a
        plain number asks for gives all it has; a pool that does is a BudgetError.
        """
        if available_total < 1:
            raise BudgetError(f"there is no {self.unit} to spend {self} on")
        share = self.share
        if share is not None:
            return max(1, math.floor(share * available_total))
        amount = int(self.amount)
        if amount > available_total and self.scope == "pool":
            raise BudgetError(
                f"{self} a round is above the pool, which has {available_total} in all: "
                f"lower amount, or write a percentage such as '1%'"
            )
        return min(amount, available_total)

    def cost_of(self, picks: Picks) -> I64:
        """int64 [n]: what each pick costs in this unit: 1, or the pixels it covers.

        Clicks are 1 a pick: they are a budget only where an answer is one class.
        """
        if self.unit == "pixel":
            return picks["pixels"].astype(np.int64)
        return np.ones(len(picks), dtype=np.int64)

    def __str__(self) -> str:
        amount = f"{self.amount} of the" if isinstance(self.amount, str) else str(self.amount)
        plural = "" if self.amount == 1 else "s"
        return f"{amount} {self.unit}{plural}" + (" an image" if self.scope == "image" else "")


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
    if not math.isfinite(raw) or raw <= 0:
        raise BudgetError(f"amount {raw!r} must be 1 or more, or a percentage like '1%'")
    if raw != int(raw):
        hint = f"{float(raw) * 100:g}%" if raw < 1 else f"{round(float(raw))}"
        raise BudgetError(f"amount {raw!r} is not a whole number: did you mean {hint!r}?")
    return int(raw)


def _share(text: str) -> Fraction:
    try:
        return Fraction(text.strip()[:-1].strip()) / 100
    except (ValueError, ZeroDivisionError):
        raise BudgetError(f"amount {text!r} is not a percentage like '1%' or '0.05%'") from None


def _refuse_senseless(
    budget: Budget, where: str, level: str, region_type: str, answer: str
) -> None:
    usable = SENSIBLE[level]
    if level == "region" and answer != "dominant":
        usable = tuple(unit for unit in usable if unit != "click")
    if budget.unit not in usable:
        kind = f" with region type {region_type!r}" if level == "region" and region_type else ""
        why = ""
        if budget.unit == "click" and level != "pixel":
            why = ": the clicks of a full answer are not known before it is given"
        raise BudgetError(
            f"{where}.unit={budget.unit!r} makes no sense at level={level!r}{kind}{why}; "
            f"use {' or '.join(repr(unit) for unit in usable)}"
        )
    if level == "image" and budget.scope == "image":
        raise BudgetError(
            f"{where}.scope='image' makes no sense at level='image': whole images are asked for, "
            "use scope='pool'"
        )
