"""Typed access to the JSON of a file; each error is one line that names file and key."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import DataError
from ..types import JSON

_MISSING = object()


class Reader:
    """Typed access to a mapping; each error names where it is and the key."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise DataError(f"{where}: must be an object, not {type(data).__name__}")
        self._data, self._where, self._read = data, where, {"format"}

    def __call__(self, key: str, check: Callable[[Any], Any], default: Any = _MISSING) -> Any:
        """The checked value; a missing or null value is the default, if one is given."""
        self._read.add(key)
        value = self._data.get(key)
        if value is None and default is not _MISSING:
            return default
        if key not in self._data:
            raise DataError(f"{self._where}: key {key!r} is missing")
        try:
            return check(value)
        except ValueError as error:
            raise DataError(f"{self._where}: {key} {error}") from None

    def rest(self) -> JSON:
        return {key: value for key, value in self._data.items() if key not in self._read}


def integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be an integer, not {value!r}")
    return value


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"must be a number, not {value!r}")
    return float(value)


def share(value: Any) -> float:
    if not 0.0 <= number(value) <= 1.0:
        raise ValueError(f"must lie in 0..1, not {value!r}")
    return float(value)


def at_least_zero(value: Any) -> float:
    """A number of 0 or more."""
    if number(value) < 0:
        raise ValueError(f"must be 0 or more, not {value!r}")
    return float(value)


def share_or_null(value: Any) -> float | None:
    return None if value is None else share(value)


def seconds(value: Any) -> dict[str, float]:
    return {str(k): number(v) for k, v in mapping(value).items() if v is not None}


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {value!r}")
    return value


def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {type(value).__name__}")
    return value


def colour(value: Any) -> tuple[int, int, int]:
    channels = [integer(v) for v in value] if isinstance(value, list) else []
    if len(channels) != 3 or not all(0 <= v <= 255 for v in channels):
        raise ValueError(f"must be three numbers of 0..255, not {value!r}")
    return channels[0], channels[1], channels[2]


def list_of(check: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def checked(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list, not {type(value).__name__}")
        return [check(item) for item in value]

    return checked
