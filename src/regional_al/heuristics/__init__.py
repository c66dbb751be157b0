"""Heuristics by name. Importing this package registers the built-in ones."""

from . import (
    baal,
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
)  # fmt: skip
from .base import HEURISTICS, Heuristic, Observation

__all__ = [
    "HEURISTICS", "Heuristic", "Observation",
    "baal", "badge", "bald", "clasp", "class_balance", "class_random", "combine", "contextual",
    "coreset", "equal", "pixelpick", "random", "real", "redal", "ripu", "stochastic", "uncertainty",
]  # fmt: skip
