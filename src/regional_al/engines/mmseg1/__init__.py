"""Engine `mmseg1`: MMSegmentation 1.x, on mmengine and mmcv 2.

Importing this file imports none of them; the other modules of the folder need them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import EnvironmentProblem
from ..base import ENGINES, ConfigReader, Engine, EngineLoader
from ..quiet import old_mmcv_installed, quiet_imports

_KEYS = frozenset(
    {"model", "data_preprocessor", "train_dataloader", "val_dataloader", "test_dataloader"}
    | {"source_dataloader", "train_cfg", "val_cfg", "test_cfg", "val_evaluator", "test_evaluator"}
    | {"optim_wrapper", "param_scheduler", "auto_scale_lr", "default_hooks", "custom_hooks"}
    | {"custom_imports", "load_from", "env_cfg", "log_processor", "visualizer", "default_scope"}
    | {"randomness", "model_wrapper_cfg", "find_unused_parameters"}
)
"""Top-level keys that have an effect."""


@ENGINES.register("mmseg1")
class MMSeg1(EngineLoader):
    """Configs with `train_dataloader` and `train_cfg`."""

    packages = ("mmcv", "mmseg")
    install = "pip install 'regional-al[mmseg1]'"

    def recognises(self, cfg: Mapping[str, Any]) -> bool:
        return "train_dataloader" in cfg and "train_cfg" in cfg

    def check(self, config: Path) -> None:
        if old_mmcv_installed():
            raise EnvironmentProblem(
                f"{config} is an MMSegmentation 1.x config (train_dataloader, train_cfg), but 0.x "
                "is installed: make env, then PYTHON=.venv/bin/python bash tools/dist_train.sh "
                "CONFIG GPUS"
            )
        super().check(config)

    def has_reader(self) -> bool:
        return importlib.util.find_spec("mmengine") is not None and not old_mmcv_installed()

    def reader(self) -> ConfigReader:
        from . import config

        return config

    def use_amp(self, cfg: Any) -> None:
        from .config import use_amp

        use_amp(cfg)

    def reads(self, key: str) -> bool:
        return key in _KEYS

    def build(self, cfg: Any) -> Engine:
        from .ops import stand_in

        stand_in()
        with quiet_imports():
            from .engine import MMSeg1Engine
        return MMSeg1Engine(cfg)
