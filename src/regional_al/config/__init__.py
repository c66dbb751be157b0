"""The `acquisition` key: its grammar, budgets, and the length of a training."""

from .budget import Budget
from .grammar import Acquisition, Stop, parse
from .schedule import Iterations
from .warm_start import WarmStart

__all__ = ["Acquisition", "Budget", "Iterations", "Stop", "WarmStart", "parse"]
