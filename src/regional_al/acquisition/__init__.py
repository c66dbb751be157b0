"""Score the pool and select within the budget."""

from .acquirer import Acquirer

__all__ = ["Acquirer"]
