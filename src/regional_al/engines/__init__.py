"""Engines, and how a config file is turned into one.

The dialect is read off the config: `train_dataloader` + `train_cfg` is MMSegmentation 1.x
(`mmseg1`), `data=dict(samples_per_gpu=...)` + `runner` is 0.x (`mmseg0`); `engine='...'` names it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, EnvironmentProblem, UnsupportedError
from ..registry import nearest
from ..types import JSON
from .base import Engine

ENGINES = ("mmseg1", "mmseg0", "torch")
MMSEG1_PIP = "pip install 'regional-al[mmseg1]'"
_NO_EFFECT = (
    "acquisition",
    "work_dir",
    "resume",
    "launcher",
    "log_level",
    "engine",
    "auto_resume",
    "gpu_ids",
)
"""Keys that change nothing about the result, and `acquisition`, which is compared on its own."""


@dataclass(frozen=True)
class Loaded:
    """A config that was read. name: of the engine; acquisition: plain python; text: what of the
    config determines the result (for a fingerprint); build: makes the engine (imports it)."""

    name: str
    acquisition: JSON
    work_dir: Path
    text: str
    build: Callable[[], Engine] = field(repr=False)


def load(
    config: Path,
    cfg_options: Mapping[str, Any] | None = None,
    work_dir: Path | None = None,
    amp: bool = False,
) -> Loaded:
    """Read an MMEngine-style config file with overrides; starts the process group under torchrun.

    work_dir: argument, else the config's `work_dir`, else ./work_dirs/<config stem>.
    amp: mixed precision (`optim_wrapper.type='AmpOptimWrapper'`).
    Raises ConfigError (file, syntax, `_base_`, missing `acquisition`), UnsupportedError (an engine
    that is not there) and EnvironmentProblem (packages), each in one line.
    """
    config = Path(config)
    if importlib.util.find_spec("mmengine") is None:
        raise EnvironmentProblem(f"{config} needs the package mmengine: {MMSEG1_PIP}")
    with quiet_imports():  # custom_imports of the config may import mmseg
        from .mmseg1 import config as reader

        cfg = reader.read(config, dict(cfg_options or {}))
    name = dialect(cfg, config)
    if name != "mmseg1":
        raise UnsupportedError(f"{config}: {_NOT_HERE[name]}")
    if not isinstance(cfg.get("acquisition"), Mapping):
        raise ConfigError(
            f"{config} has no acquisition key; add acquisition=dict(level='region', "
            "heuristic='RIPU')"
        )
    missing = [m for m in ("mmcv", "mmseg") if importlib.util.find_spec(m) is None]
    if missing:
        raise EnvironmentProblem(f"{config} needs the package {missing[0]}: {MMSEG1_PIP}")
    if amp:
        reader.use_amp(cfg)
    plain: JSON = reader.plain(cfg)
    where = work_dir or plain.get("work_dir") or Path("work_dirs") / config.stem
    cfg.work_dir = str(where)
    start_process_group(plain)

    def build() -> Engine:
        with quiet_imports():
            from .mmseg1.engine import MMSeg1Engine

        return MMSeg1Engine(cfg)

    return Loaded(name, plain["acquisition"], Path(where), fingerprint_text(plain), build)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """mmseg and mmcv speak while they are imported, about optional parts that are not there."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


_NOT_HERE = {
    "mmseg0": "this is an MMSegmentation 0.x config (data=dict(samples_per_gpu=...), runner=...); "
    "only 1.x configs (train_dataloader, train_cfg) are supported so far",
    "torch": "engine='torch' has no config file: build ActiveLearningLoop with a TorchEngine in "
    "Python",
}


def dialect(cfg: Mapping[str, Any], source: Path) -> str:
    """The engine that a config is written for. Raises ConfigError when it cannot be told."""
    named = cfg.get("engine")
    if named is not None:
        if named not in ENGINES:
            raise ConfigError(f"{source}: unknown engine={named!r}.{nearest(str(named), ENGINES)}")
        return str(named)
    if "train_dataloader" in cfg and "train_cfg" in cfg:
        return "mmseg1"
    data = cfg.get("data")
    if "runner" in cfg or (isinstance(data, Mapping) and "samples_per_gpu" in data):
        return "mmseg0"
    absent = next(key for key in ("train_dataloader", "train_cfg") if key not in cfg)
    raise ConfigError(
        f"{source} has no {absent}, so it is no MMSegmentation config: inherit one by "
        "_base_=[...], e.g. 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'"
    )


def fingerprint_text(plain: Mapping[str, Any]) -> str:
    """The config as sorted JSON without what has no effect on the result."""
    kept = {key: value for key, value in plain.items() if key not in _NO_EFFECT}
    return json.dumps(kept, indent=1, sort_keys=True, default=repr)


def start_process_group(plain: Mapping[str, Any]) -> None:
    """Join the process group when torchrun started this process."""
    from .mmseg1.launch import init_distributed

    settings = (plain.get("env_cfg") or {}).get("dist_cfg") or {}
    init_distributed(settings.get("backend"), settings.get("timeout"))
