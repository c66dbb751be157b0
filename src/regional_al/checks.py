"""Checks of single config values, in one line each, and comparison of configs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .registry import Registry, nearest
from .types import JSON

_PERCENTAGE = re.compile(r"\s*[-+\d._/]{1,100}([eE][-+]?\d{1,3})?\s*%\s*")


def check_keys(where: str, raw: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise ConfigError for an unknown key, suggesting the nearest."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where} must be a dict, not {raw!r}")
    for key in raw:
        if key not in known:
            raise ConfigError(f"{where} has no key {key!r}.{nearest(str(key), known)}")


def choice(where: str, value: Any, options: tuple[str, ...]) -> str:
    """`value` if it is one of `options`; else ConfigError, suggesting the nearest."""
    if value not in options:
        raise ConfigError(f"{where}={value!r} is unknown.{nearest(str(value), options)}")
    return str(value)


def flag(where: str, value: Any) -> bool:
    """True or False. Raises ConfigError for anything else."""
    if not isinstance(value, bool):
        raise ConfigError(f"{where}={value!r} must be True or False")
    return value


def integer(where: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}={value!r} must be a whole number of at least {least}")
    return value


def whole_number(where: str, text: str, least: int = 1) -> int:
    """A whole number of at least `least` in a text, e.g. of the command line or environment."""
    if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) < least:
        raise ConfigError(f"{where}={text!r} must be a whole number of at least {least}")
    return int(text)


def positive(where: str, value: Any) -> float:
    """`value` as a finite float above 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= sys.float_info.max:
        raise ConfigError(f"{where}={value!r} must be a number above 0")
    return float(value)


def within(where: str, value: Any, low: float, high: float) -> float:
    """`value` as a float in [low, high]."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ConfigError(f"{where}={value!r} must be a number from {low:g} to {high:g}")
    return float(value)


def percentage(where: str, value: Any) -> Fraction:
    """A percentage as text, above 0 and up to 100: '5%' -> 1/20."""
    share = share_of(value)
    if share is None or not 0 < share <= 1:
        raise ConfigError(f"{where}={value!r} must be a percentage like '5%', at most '100%'")
    return share


def share_of(value: Any) -> Fraction | None:
    """A percentage as text, of any size, as an exact fraction; None for anything else. An exponent
    of many digits, which would take hours to work out, is no percentage."""
    if not isinstance(value, str) or _PERCENTAGE.fullmatch(value) is None:
        return None
    try:
        return Fraction(value.strip()[:-1].strip()) / 100
    except (ValueError, ZeroDivisionError):
        return None


def file_path(where: str, value: Any, what: str = "path") -> Path:
    """`value`, a name of a file or folder, as a path."""
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise ConfigError(f"{where}={value!r} must be a {what}")
    return Path(value)


def typed(where: str, raw: Any) -> JSON:
    """A name or dict(type=name, ...) as a dict with 'type'."""
    spec = dict(raw) if isinstance(raw, Mapping) else {"type": raw}
    if not isinstance(spec.get("type"), str):
        raise ConfigError(f"{where}={raw!r} must be a name or dict(type=name, ...)")
    return spec


def registered(where: str, raw: Any, registry: Registry[Any], *more: str) -> JSON:
    """`typed`, with a type that the registry knows; more: further names, for the message alone."""
    spec = typed(where, raw)
    if spec["type"] not in registry:
        hint = nearest(spec["type"], [*registry, *more])
        raise ConfigError(f"{where}: unknown {registry.kind} {spec['type']!r}.{hint}")
    return spec


def differences(then: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, old, new) of each leaf in which two JSON values differ, in name order.

    Lists are leaves, except for lists of equal length that contain dicts: their items are numbered.
    """
    if then is None and isinstance(now, dict) and now:
        then = {}
    elif now is None and isinstance(then, dict) and then:
        now = {}
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted(then.keys() | now.keys()):
            yield from differences(then.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif _items(then) and _items(now) and len(then) == len(now):
        for index, (old, new) in enumerate(zip(then, now, strict=True)):
            yield from differences(old, new, f"{name}.{index}")
    elif then != now:
        yield name, then, now


def _items(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)
