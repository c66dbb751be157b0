"""Training frameworks behind one protocol. mm* packages are imported here only, and lazily.

Importing this package registers the built-in engines in `ENGINES`.
"""

from . import mmseg0, mmseg1
from .base import ENGINES, Engine, EngineLoader, FitRequest, FitResult, Prediction
from .loading import Loaded, dialect, generation, load
from .torch import TorchEngine

__all__ = [
    "ENGINES",
    "Engine",
    "EngineLoader",
    "FitRequest",
    "FitResult",
    "Loaded",
    "Prediction",
    "TorchEngine",
    "dialect",
    "generation",
    "load",
    "mmseg0",
    "mmseg1",
]
