"""Checks of single config values; each error is one line that names the key and the fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import ConfigError
from .registry import nearest
from .types import JSON


def check_keys(where: str, raw: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse a key that is not known, naming the nearest."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where} must be a dict, not {raw!r}")
    for key in raw:
        if key not in known:
            raise ConfigError(f"{where} has no key {key!r}.{nearest(str(key), known)}")


def choice(where: str, value: Any, options: tuple[str, ...]) -> str:
    """`value` if it is one of `options`, else ConfigError naming the nearest."""
    if value not in options:
        raise ConfigError(f"{where}={value!r} is unknown.{nearest(str(value), options)}")
    return str(value)


def integer(where: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}={value!r} must be a whole number of at least {least}")
    return value


def typed(where: str, raw: Any) -> JSON:
    """A name or dict(type=name, ...) as a dict with 'type'."""
    spec = dict(raw) if isinstance(raw, Mapping) else {"type": raw}
    if not isinstance(spec.get("type"), str):
        raise ConfigError(f"{where}={raw!r} must be a name or dict(type=name, ...)")
    return spec
