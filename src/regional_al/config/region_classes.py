"""The keys of `acquisition.region_classes`: training on regions of which only the classes are
known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..checks import check_keys, within
from ..errors import ConfigError
from ..types import JSON

KEY = "acquisition.region_classes"
_LARGEST = 1e6
_COLDEST = 1e-3


@dataclass(frozen=True)
class RegionClasses:
    """How regions of which only the classes are known are trained on.

    Args:
        merged: Weight of the merged positive loss, beside the head's own loss.
        prototype: Weight of the prototypical loss, likewise.
        temperature: Of the softmax in both, above 0.

    Example:
        >>> RegionClasses.parse(None, "multiclass"), RegionClasses.parse(None, "full")
        (RegionClasses(merged=0.5, prototype=0.0625, temperature=1.0), None)
    """

    merged: float = 0.5
    prototype: float = 0.0625
    temperature: float = 1.0

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
        return RegionClasses(
            **{k: within(f"{KEY}.{k}", v, least.get(k, 0), _LARGEST) for k, v in given.items()}
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
