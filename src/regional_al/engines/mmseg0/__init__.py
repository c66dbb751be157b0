"""Engine `mmseg0`: MMSegmentation 0.x, on mmcv 1.x.

Importing this file imports none of them; the other modules of the folder need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import EnvironmentProblem
from ...types import JSON
from ..base import ENGINES, ConfigReader, Engine, EngineLoader
from ..quiet import old_mmcv_installed, quiet_imports

_KEYS = frozenset(
    {"model", "data", "optimizer", "optimizer_config", "lr_config", "momentum_config", "runner"}
    | {"total_iters", "checkpoint_config", "evaluation", "log_config", "load_from", "resume_from"}
    | {"workflow", "custom_hooks", "custom_imports", "fp16", "seed", "deterministic", "device"}
    | {"cudnn_benchmark", "find_unused_parameters", "train_cfg", "test_cfg", "dist_params"}
    | {"opencv_num_threads", "mp_start_method", "source_dataloader"}
)
"""Top-level keys that have an effect."""


@ENGINES.register("mmseg0")
class MMSeg0(EngineLoader):
    """Configs with `data=dict(samples_per_gpu=...)` or a `runner`."""

    packages = ("mmcv", "mmseg")
    install = "make env-mmseg0"

    def recognises(self, cfg: Mapping[str, Any]) -> bool:
        data = cfg.get("data")
        if "train_dataloader" in cfg and "train_cfg" in cfg:  # 1.x
            return False
        return "runner" in cfg or (isinstance(data, Mapping) and "samples_per_gpu" in data)

    def check(self, config: Path) -> None:
        if not old_mmcv_installed():
            raise EnvironmentProblem(
                f"{config} is an MMSegmentation 0.x config (data=dict(samples_per_gpu=...), "
                f"runner=...), but 1.x is installed: {self.install}, then "
                "PYTHON=.venv-mmseg0/bin/python bash tools/dist_train.sh CONFIG GPUS"
            )
        super().check(config)

    def has_reader(self) -> bool:
        return old_mmcv_installed()

    def reader(self) -> ConfigReader:
        from . import config

        return config

    def use_amp(self, cfg: Any) -> None:
        from .config import use_amp

        use_amp(cfg)

    def reads(self, key: str) -> bool:
        return key in _KEYS

    def resumes(self, cfg: JSON) -> bool:
        return bool(cfg.get("auto_resume"))

    def build(self, cfg: Any) -> Engine:
        with quiet_imports():
            from .engine import MMSeg0Engine
        return MMSeg0Engine(cfg)
