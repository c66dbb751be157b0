"""The `acquisition` key: its grammar, budgets, and how long a round trains."""

from .budget import Budget
from .grammar import Acquisition, Stop, WarmStart, parse
from .schedule import Iterations

__all__ = ["Acquisition", "Budget", "Iterations", "Stop", "WarmStart", "parse"]
