"""The `acquisition` key: its grammar, budgets, and the length of a training."""

from .budget import Budget
from .grammar import Acquisition, Stop, WarmStart, parse
from .schedule import Iterations

__all__ = ["Acquisition", "Budget", "Iterations", "Stop", "WarmStart", "parse"]
