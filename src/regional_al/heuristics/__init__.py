"""Heuristics by name. Importing this package registers the built-in ones."""

from . import random, ripu, uncertainty
from .base import HEURISTICS, Heuristic

__all__ = ["HEURISTICS", "Heuristic", "random", "ripu", "uncertainty"]
