"""Heuristics by name. Importing this package registers the built-in ones."""

from . import random, real, ripu, uncertainty
from .base import HEURISTICS, Heuristic, Observation

__all__ = ["HEURISTICS", "Heuristic", "Observation", "random", "real", "ripu", "uncertainty"]
