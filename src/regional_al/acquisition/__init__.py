"""Score the pool and select within the budget."""

from .acquirer import Acquirer, Selector
from .target import SelectionRequest, Target

__all__ = ["Acquirer", "SelectionRequest", "Selector", "Target"]
