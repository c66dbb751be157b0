"""Heuristics by name. Importing this package registers the built-in ones."""

from . import random, ripu, uncertainty
from .base import HEURISTICS, Heuristic, Observation

__all__ = ["HEURISTICS", "Heuristic", "Observation", "random", "ripu", "uncertainty"]
