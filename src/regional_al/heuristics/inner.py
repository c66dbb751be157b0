"""Heuristics inside a heuristic: what wrappers and mixtures build and inherit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..checks import typed
from ..errors import ConfigError, UnsupportedError
from ..types import LEVELS, Level, PredictRequest
from .base import HEURISTICS, Heuristic


def build_inner(where: str, spec: Any) -> Heuristic:
    """The heuristic of a name or dict(type=name, ...), one that scores each unit by itself.

    Raises ConfigError; UnsupportedError, by name, for one that picks from the pool or makes groups.
    """
    spec = typed(where, spec)
    inner = HEURISTICS.build(spec)
    if inner.pooled or inner.groups:
        why = "joins units into groups" if inner.groups else "picks from the whole pool by itself"
        raise UnsupportedError(
            f"{where}: {spec['type']!r} {why}; use a heuristic that scores each unit by itself"
        )
    return inner


def common_levels(
    where: str, inner: Sequence[Heuristic], of: Sequence[Level] = LEVELS
) -> tuple[Level, ...]:
    """Levels at which all make sense. Raises UnsupportedError when there is none."""
    levels = tuple(level for level in of if all(level in h.levels for h in inner))
    if not levels:
        names = ", ".join(type(h).__name__ for h in inner)
        raise UnsupportedError(f"{where}: {names} makes no sense at any of: {', '.join(of)}")
    return levels


def joint_needs(where: str, inner: Sequence[Heuristic]) -> PredictRequest | None:
    """One prediction that serves all; None when none needs any. Further views (passes, flip,
    ensemble) are streamed once, so that one heuristic at most may need them: else ConfigError."""
    needs = [(type(h).__name__, h.needs) for h in inner if h.needs is not None]
    several = [(name, request) for name, request in needs if request.views > 1]
    if len(several) > 1:
        names = " and ".join(name for name, _ in several)
        raise ConfigError(
            f"{where}: {names} each need several predictions of an image; one of them at most"
        )
    if not needs:
        return None
    most = several[0][1] if several else PredictRequest()
    return PredictRequest(
        most.passes, most.flip, any(request.features for _, request in needs), most.ensemble
    )
