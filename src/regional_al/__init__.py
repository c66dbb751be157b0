"""regional_al: active learning for semantic segmentation at image, region and pixel level.

`import regional_al` needs torch and numpy alone and loads neither before a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import functional, kernels, partitions, selection
    from .compat.baal.model_wrapper import ModelWrapper
    from .data import ActiveLearningDataset
    from .loop.loop import ActiveLearningLoop
    from .store.labels import LabelStore
    from .types import UNLABELED

__version__ = "0.1.0"

__all__ = [
    "UNLABELED",
    "ActiveLearningDataset",
    "ActiveLearningLoop",
    "LabelStore",
    "ModelWrapper",
    "__version__",
    "functional",
    "kernels",
    "partitions",
    "selection",
]

_MODULES = ("functional", "kernels", "partitions", "selection")
_NAMES = {
    "ActiveLearningDataset": "data",
    "ActiveLearningLoop": "loop",
    "LabelStore": "store.labels",
    "ModelWrapper": "compat.baal.model_wrapper",
    "UNLABELED": "types",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
