"""The keys of `acquisition.sieve`: training on a part of the pixels of a region that was answered
by one class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..checks import check_keys, integer
from ..errors import ConfigError
from ..types import JSON

KEY = "acquisition.sieve"
SIEVED_ANSWERS = ("dominant", "correction")
"""Kinds of answers that give a whole region one class."""


@dataclass(frozen=True)
class Sieve:
    """Which regions are sieved.

    Args:
        min_pixels: Those with at least so many answered pixels, from 1.

    Example:
        >>> Sieve.parse(True, "dominant"), Sieve.parse(None, "dominant")
        (Sieve(min_pixels=512), None)
    """

    min_pixels: int = 512

    @staticmethod
    def parse(raw: Any, answer: str) -> Sieve | None:
        """Check the value of `acquisition.sieve`.

        Args:
            raw: A dict; True is an empty one; None and False: it is off.
            answer: Of the annotator.

        Returns:
            The settings; None when it is off.

        Raises:
            ConfigError: A key or value is invalid, or answers are of another kind.

        Example:
            >>> Sieve.parse({"min_pixels": 0}, "dominant")
            Traceback (most recent call last):
            regional_al.errors.ConfigError: acquisition.sieve.min_pixels=0 must be a whole number \
of at least 1
        """
        if raw is None or raw is False:
            return None
        given = {} if raw is True else raw
        if not isinstance(given, Mapping):
            raise ConfigError(f"{KEY}={raw!r} must be a dict(min_pixels=512), True, False or None")
        check_keys(KEY, given, tuple(one.name for one in fields(Sieve)))
        found = Sieve(**{k: integer(f"{KEY}.{k}", v, 1) for k, v in given.items()})
        if answer not in SIEVED_ANSWERS:
            raise ConfigError(
                f"{KEY} is about regions that are answered by one class, not about "
                f"answer={answer!r}: use acquisition.annotator=dict(answer='dominant') or "
                "'correction', or leave sieve out"
            )
        return found

    def resolved(self) -> JSON:
        """Every key with its value, JSON-able."""
        return asdict(self)
