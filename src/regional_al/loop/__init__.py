"""The active learning loop: rounds of query, answers, training and evaluation."""

from .loop import ActiveLearningLoop
from .runner import run, run_training

__all__ = ["ActiveLearningLoop", "run", "run_training"]
