"""A second look at labels: answers that a model finds unlikely."""

from __future__ import annotations

from .suspects import Suspect, Suspects, find_suspects

__all__ = ["Suspect", "Suspects", "find_suspects"]
