"""Heuristics by name. Importing this package registers the built-in ones."""

from . import (
    badge,
    bald,
    clasp,
    class_balance,
    class_random,
    combine,
    contextual,
    coreset,
    equal,
    pixelpick,
    random,
    real,
    redal,
    ripu,
    stochastic,
    uncertainty,
)
from .base import HEURISTICS, Heuristic, Observation

__all__ = [
    "HEURISTICS",
    "Heuristic",
    "Observation",
    "badge",
    "bald",
    "clasp",
    "class_balance",
    "class_random",
    "combine",
    "contextual",
    "coreset",
    "equal",
    "pixelpick",
    "random",
    "real",
    "redal",
    "ripu",
    "stochastic",
    "uncertainty",
]

HEURISTICS.family("baal", "regional_al.compat.baal.heuristics:find")
