"""`--cfg-options key=value ...`, with the syntax of MMEngine's option of that name.

Values are numbers, true/false, None or text; `[a,b]` or `a,b` is a list, `(a,b)` a tuple, nested to
any depth; quotes make a value text. In addition `{...}` is a JSON object, for what dotted keys
cannot express: `acquisition={"_delete_": true, "level": "pixel"}` replaces the whole key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError

_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}
_CLOSING = {"[": "]", "(": ")"}


def parse_options(items: Sequence[str]) -> dict[str, Any]:
    """The options as a dict. Raises ConfigError, in one line.

    Example:
        >>> parse_options(["a.b=1", "c=x,y"])
        {'a.b': 1, 'c': ['x', 'y']}
    """
    options: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--cfg-options {item!r} is not KEY=VALUE")
        try:
            options[key.strip()] = parse_value(value)
        except ValueError as error:
            raise ConfigError(f"--cfg-options {item!r}: {error}") from None
        except RecursionError:
            raise ConfigError(f"--cfg-options {key}: its value is nested too deeply") from None
    return options


def parse_value(text: str) -> Any:
    """One value. Raises ValueError for unmatched brackets or quotes and for invalid JSON."""
    text = text.strip()
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"not a JSON object: {error}") from None
    parts = _split(text)
    if len(parts) > 1:
        return [parse_value(part) for part in parts]
    if text and text[0] in _CLOSING and text[-1] == _CLOSING[text[0]]:
        inner = text[1:-1].strip().rstrip(",")
        values = [parse_value(part) for part in _split(inner)] if inner else []
        return tuple(values) if text[0] == "(" else values
    return _scalar(text)


def _scalar(text: str) -> Any:
    if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]:
        return text[1:-1]
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    parts, start, quote = [], 0, ""
    open_: list[str] = []
    for position, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _CLOSING:
            open_.append(_CLOSING[letter])
        elif letter in _CLOSING.values():
            if not open_ or open_.pop() != letter:
                raise ValueError(f"unmatched {letter!r}")
        elif letter == "," and not open_:
            parts.append(text[start:position])
            start = position + 1
    if open_ or quote:
        raise ValueError(f"{(open_ or [quote])[-1]!r} is missing")
    return [*parts, text[start:]]
