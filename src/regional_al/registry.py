"""Name -> class tables. They alone decide which names a config may use.

A name with a dot, `prefix.X`, may belong to a family: it is looked up when it is used, so that the
library behind it is not needed before.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from .errors import ConfigError

T = TypeVar("T")


def nearest(word: str, options: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest option, or the list of all; for error messages."""
    names = sorted(options)
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(word).lower(), list(folded), n=1, cutoff=0.5)
    if close:
        return f" Did you mean {folded[close[0]]!r}?"
    return f" Choose from: {', '.join(names)}."


def refuse_unknown(
    what: str, factory: Callable[..., Any], arguments: Mapping[str, Any], given: Sequence[str]
) -> None:
    """Raise ConfigError for an argument that a class or function does not take, listing those that
    it does; given: names that a config does not set."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some built-in ones have none
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [
        name
        for name, p in parameters.items()
        if p.kind is not p.VAR_POSITIONAL and name not in given
    ]
    for name in arguments:
        if name not in parameters:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ConfigError(f"{what} has no argument {name!r}: {takes}")


class Registry(Generic[T]):
    """A table of classes (or factories) of one kind, by name; iterates over the sorted names.

    Args:
        kind: What it holds, for messages.

    Example:
        >>> SHAPES = Registry("shape")
        >>> @SHAPES.register("square")
        ... class Square:
        ...     def __init__(self, side=1):
        ...         self.side = side
        >>> SHAPES.build({"type": "square", "side": 3}).side, "square" in SHAPES, list(SHAPES)
        (3, True, ['square'])
        >>> SHAPES.get("sqare")
        Traceback (most recent call last):
        regional_al.errors.ConfigError: unknown shape 'sqare'. Did you mean 'square'?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, Callable[..., T]] = {}
        self._families: dict[str, str | Callable[[str], Callable[..., T]]] = {}

    def register(self, name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Class decorator: `@HEURISTICS.register('RIPU')`. Raises ValueError on a duplicate."""

        def add(item: Callable[..., T]) -> Callable[..., T]:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._items[name] = item
            return item

        return add

    def family(self, prefix: str, finder: str | Callable[[str], Callable[..., T]]) -> None:
        """Look up names `prefix.X` by calling `finder(X)` when they are used.

        Args:
            prefix: What precedes the dot.
            finder: Returns the factory of `prefix.X`, given X, or raises ConfigError; or where to
                find that function: `'module:function'`, imported on first use.

        Raises:
            ValueError: The prefix is taken.
        """
        if prefix in self._families:
            raise ValueError(f"{self.kind} family {prefix!r} is registered twice")
        self._families[prefix] = finder

    def get(self, name: str) -> Callable[..., T]:
        """The class of a name. Raises ConfigError, suggesting the nearest name."""
        if name in self._items:
            return self._items[name]
        prefix, dot, rest = str(name).partition(".")
        if dot and prefix in self._families:
            finder = self._families[prefix]
            if isinstance(finder, str):
                module, _, function = finder.partition(":")
                finder = getattr(importlib.import_module(module), function)
            return cast("Callable[..., T]", finder(rest))
        raise ConfigError(f"unknown {self.kind} {name!r}.{nearest(name, self._items)}")

    def build(self, spec: str | dict[str, Any], **defaults: Any) -> T:
        """Construct an item.

        Args:
            spec: A name or `dict(type=name, ...)` with arguments.
            defaults: Further arguments; `spec` overrides them.

        Raises:
            ConfigError: Unknown name or wrong arguments.
        """
        arguments = dict(spec) if isinstance(spec, dict) else {"type": spec}
        if "type" not in arguments:
            raise ConfigError(f"{self.kind}={spec!r} has no 'type'.{nearest('', self._items)}")
        name = arguments.pop("type")
        factory = self.get(name)
        refuse_unknown(f"{self.kind} {name!r}", factory, arguments, tuple(defaults))
        try:
            return factory(**{**defaults, **arguments})
        except TypeError as error:
            raise ConfigError(f"{self.kind} {name!r}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._items))

    def __contains__(self, name: object) -> bool:
        """True for a registered name and for any name of a family."""
        prefix, dot, _ = str(name).partition(".")
        return name in self._items or (bool(dot) and prefix in self._families)
