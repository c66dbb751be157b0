"""The keys of `acquisition.region_classes`: training on regions of which only the classes are
known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..checks import check_keys, flag, integer, within
from ..errors import ConfigError
from ..types import JSON

KEY = "acquisition.region_classes"
NO_FEATURES = (
    f"{KEY}.pseudo compares features, and the model gives none: predict whole images "
    "(model.test_cfg.mode='whole', not 'slide') by a head with a classifier conv_seg, or use "
    "region_classes=dict(pseudo=False)"
)
"""What is wrong with a model that pseudo labels cannot be made by."""
_LARGEST = 1e6
_COLDEST = 1e-3
_WIDEST = 255


@dataclass(frozen=True)
class Pseudo:
    """Which pixels get pseudo labels.

    Args:
        spread: Also pixels of neighbouring regions without an answer.
        trim: Not those of which the square of so many pixels a side reaches into another region;
            odd; 0 or 1: all of them.

    Example:
        >>> Pseudo.parse({"trim": 3}), Pseudo.parse(False)
        (Pseudo(spread=True, trim=3), None)
    """

    spread: bool = True
    trim: int = 5

    @staticmethod
    def parse(raw: Any) -> Pseudo | None:
        """Check the value of `acquisition.region_classes.pseudo`.

        Args:
            raw: A dict; True is an empty one; None and False: it is off.

        Returns:
            The settings; None when it is off.

        Raises:
            ConfigError: A key or value is invalid.

        Example:
            >>> Pseudo.parse({"trim": 4})
            Traceback (most recent call last):
            regional_al.errors.ConfigError: acquisition.region_classes.pseudo.trim=4 must be odd, \
so that a pixel is in the middle: use 3 or 5
        """
        where = f"{KEY}.pseudo"
        if raw is None or raw is False:
            return None
        given = {} if raw is True else raw
        if not isinstance(given, Mapping):
            raise ConfigError(f"{where}={raw!r} must be a dict(spread=True), True, False or None")
        check_keys(where, given, tuple(one.name for one in fields(Pseudo)))
        spread = flag(f"{where}.spread", given.get("spread", Pseudo.spread))
        size = given.get("trim", Pseudo.trim)
        trim = 0 if size is None else integer(f"{where}.trim", size, 0)
        if trim > _WIDEST:
            raise ConfigError(f"{where}.trim={trim} must be at most {_WIDEST}")
        if trim and trim % 2 == 0:
            raise ConfigError(
                f"{where}.trim={trim} must be odd, so that a pixel is in the middle: use "
                f"{trim - 1} or {trim + 1}"
            )
        return Pseudo(spread, trim)


@dataclass(frozen=True)
class RegionClasses:
    """How regions of which only the classes are known are trained on.

    Args:
        merged: Weight of the merged positive loss, beside the head's own loss.
        prototype: Weight of the prototypical loss, likewise.
        temperature: Of the softmax in both, above 0.
        pseudo: Which of their pixels get labels by the model of the round before; None: none.

    Example:
        >>> RegionClasses.parse(None, "multiclass"), RegionClasses.parse(None, "full")
        (RegionClasses(merged=0.5, prototype=0.0625, temperature=1.0, pseudo=None), None)
    """

    merged: float = 0.5
    prototype: float = 0.0625
    temperature: float = 1.0
    pseudo: Pseudo | None = None

    @staticmethod
    def parse(raw: Any, answer: str) -> RegionClasses | None:
        """Check the value of `acquisition.region_classes`.

        Args:
            raw: A dict; True is an empty one; False switches it off; None: as `answer` says.
            answer: Of the annotator; 'multiclass' switches it on.

        Returns:
            The settings; None when it is off.

        Raises:
            ConfigError: A key or value is invalid.

        Example:
            >>> RegionClasses.parse({"merged": -1}, "multiclass")
            Traceback (most recent call last):
            regional_al.errors.ConfigError: acquisition.region_classes.merged=-1 must be a number \
from 0 to 1e+06
        """
        if raw is False or (raw is None and answer != "multiclass"):
            return None
        given = {} if raw is True or raw is None else raw
        if not isinstance(given, Mapping):
            raise ConfigError(f"{KEY}={raw!r} must be a dict(merged=0.5, ...), True, False or None")
        check_keys(KEY, given, tuple(one.name for one in fields(RegionClasses)))
        least = {"temperature": _COLDEST}
        numbers = {
            k: within(f"{KEY}.{k}", v, least.get(k, 0), _LARGEST)
            for k, v in given.items()
            if k != "pseudo"
        }
        return RegionClasses(**numbers, pseudo=Pseudo.parse(given.get("pseudo")))

    def check_spread(self, level: str, region: str) -> None:
        """Raise ConfigError where pseudo labels are to spread and images have no partition.

        Args:
            level: Of the units.
            region: Type of the regions.

        Example:
            >>> RegionClasses(pseudo=Pseudo(spread=False)).check_spread("pixel", "window")
        """
        if self.pseudo is None or not self.pseudo.spread:
            return
        if level != "region" or region == "window":
            raise ConfigError(
                f"{KEY}.pseudo.spread is about neighbouring regions of a partition, which "
                f"level={level!r} with region type {region!r} has none of: use "
                "region_classes=dict(pseudo=dict(spread=False))"
            )

    @staticmethod
    def of(acquisition: Mapping[str, Any]) -> RegionClasses | None:
        """From `acquisition` as written. Raises ConfigError."""
        annotator = acquisition.get("annotator")
        answer = annotator.get("answer", "full") if isinstance(annotator, Mapping) else "full"
        return RegionClasses.parse(acquisition.get("region_classes"), str(answer))

    def resolved(self) -> JSON:
        """Every key with its value, JSON-able."""
        return asdict(self)
