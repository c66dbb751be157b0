"""BAAL's names: heuristics, `ModelWrapper`, probabilities in its layout."""

from .heuristics import BaalHeuristic
from .model_wrapper import ModelWrapper

__all__ = ["BaalHeuristic", "ModelWrapper"]
