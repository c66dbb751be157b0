"""Active learning for semantic segmentation at image, region and pixel level.

`import regional_al` needs torch and numpy alone; what it offers is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import functional, heuristics, kernels, metrics, partitions, selection
    from .compat.baal.model_wrapper import ModelWrapper
    from .config.grammar import Acquisition
    from .data import ActiveLearningDataset
    from .loop.loop import ActiveLearningLoop
    from .loop.runner import run
    from .store.labels import LabelStore
    from .store.readers import register_image_reader
    from .types import UNLABELED

__version__ = "0.2.0"

__all__ = [
    "UNLABELED",
    "Acquisition",
    "ActiveLearningDataset",
    "ActiveLearningLoop",
    "LabelStore",
    "ModelWrapper",
    "__version__",
    "functional",
    "heuristics",
    "kernels",
    "metrics",
    "partitions",
    "register_image_reader",
    "run",
    "selection",
]

_MODULE_OF = {
    "UNLABELED": "types",
    "Acquisition": "config.grammar",
    "ActiveLearningDataset": "data",
    "ActiveLearningLoop": "loop.loop",
    "LabelStore": "store.labels",
    "ModelWrapper": "compat.baal.model_wrapper",
    "register_image_reader": "store.readers",
    "run": "loop.runner",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    elif name in __all__:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
