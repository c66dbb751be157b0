"""Engines, and how a config file is turned into one.

The dialect is read off the config: `train_dataloader` + `train_cfg` is MMSegmentation 1.x
(`mmseg1`), `data=dict(samples_per_gpu=...)` + `runner` is 0.x (`mmseg0`); `engine='...'` names it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, EnvironmentProblem, UnsupportedError
from ..registry import nearest
from ..types import JSON
from .base import Engine
from .quiet import quiet_imports
from .smoke import shrink

ENGINES = ("mmseg1", "mmseg0", "torch")
MMSEG1_PIP = "pip install 'regional-al[mmseg1]'"
MMSEG0_MAKE = "make env-mmseg0"
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
    config determines the result (for a fingerprint); build: makes the engine (imports it); resume:
    the config itself asks to go on with its work_dir (`auto_resume` of 0.x); smoke: what a smoke
    run changed, one line each."""

    name: str
    acquisition: JSON
    work_dir: Path
    text: str
    build: Callable[[], Engine] = field(repr=False)
    resume: bool = False
    smoke: tuple[str, ...] = ()


def load(
    config: Path,
    cfg_options: Mapping[str, Any] | None = None,
    work_dir: Path | None = None,
    amp: bool = False,
    smoke: bool = False,
) -> Loaded:
    """Read a config file of MMSegmentation 1.x or 0.x with overrides; starts the process group
    under torchrun. A 0.x config is read by mmcv, without mmengine.

    work_dir: argument, else the config's `work_dir`, else ./work_dirs/<config stem>.
    amp: mixed precision. smoke: cut the run down before the overrides, see `smoke.shrink`.
    Raises ConfigError (file, syntax, `_base_`, missing `acquisition`), UnsupportedError (an engine
    that is not there) and EnvironmentProblem (packages), each in one line.
    """
    config = Path(config)
    here = generation()
    if here is None:
        raise EnvironmentProblem(
            f"{config} needs MMSegmentation, which is not installed: {MMSEG1_PIP} for 1.x configs, "
            f"{MMSEG0_MAKE} for 0.x configs"
        )
    changes: list[str] = []
    reader = import_reader(here)
    with quiet_imports():  # a config is Python and may import anything
        change = (lambda tree: changes.extend(shrink(tree))) if smoke else None
        cfg = reader.read(config, dict(cfg_options or {}), change)
    name = dialect(cfg, config)
    if name == "torch":
        raise UnsupportedError(
            f"{config}: engine='torch' has no config file: build ActiveLearningLoop with a "
            "TorchEngine in Python"
        )
    if name != here:
        raise EnvironmentProblem(f"{config} {_WRONG_PLACE[name]}")
    if not isinstance(cfg.get("acquisition"), Mapping):
        raise ConfigError(
            f"{config} has no acquisition key; add acquisition=dict(level='region', "
            "heuristic='RIPU')"
        )
    missing = [m for m in ("mmcv", "mmseg") if importlib.util.find_spec(m) is None]
    if missing:
        mend = MMSEG1_PIP if name == "mmseg1" else MMSEG0_MAKE
        raise EnvironmentProblem(f"{config} needs the package {missing[0]}: {mend}")
    with quiet_imports():  # they may import mmseg, and register heuristics
        reader.import_custom(cfg, config)
    if amp:
        reader.use_amp(cfg)
    plain: JSON = reader.plain(cfg)
    where = Path(work_dir or plain.get("work_dir") or Path("work_dirs") / config.stem)
    cfg.work_dir = str(where)
    start_process_group(plain)

    def build() -> Engine:
        with quiet_imports():
            if name == "mmseg0":
                from .mmseg0.engine import MMSeg0Engine

                make: Callable[[Any], Engine] = MMSeg0Engine
            else:
                from .mmseg1.engine import MMSeg1Engine

                make = MMSeg1Engine
        return make(cfg)

    return Loaded(
        name,
        plain["acquisition"],
        where,
        fingerprint_text(plain),
        build,
        resume=name == "mmseg0" and bool(plain.get("auto_resume")),
        smoke=tuple(changes),
    )


def generation() -> str | None:
    """The engine whose packages are installed: 'mmseg0' where mmcv is 1.x (it has runners), else
    'mmseg1' where mmengine is; None for neither. Imports nothing."""
    mmcv = importlib.util.find_spec("mmcv")
    if mmcv is not None and mmcv.origin and (Path(mmcv.origin).parent / "runner").is_dir():
        return "mmseg0"
    return "mmseg1" if importlib.util.find_spec("mmengine") is not None else None


def import_reader(name: str) -> Any:
    """The module that reads the configs of an engine. Raises EnvironmentProblem."""
    try:
        with quiet_imports():
            return importlib.import_module(f"{__package__}.{name}.config")
    except ImportError as error:
        raise EnvironmentProblem(
            f"the packages of engine {name} do not import ({error}): run regional-al doctor"
        ) from None


_WRONG_PLACE = {
    "mmseg0": "is an MMSegmentation 0.x config (data=dict(samples_per_gpu=...), runner=...), but "
    f"1.x is installed: {MMSEG0_MAKE}, then PYTHON=.venv-mmseg0/bin/python bash "
    "tools/dist_train.sh CONFIG GPUS",
    "mmseg1": "is an MMSegmentation 1.x config (train_dataloader, train_cfg), but 0.x is installed:"
    " make env, then PYTHON=.venv/bin/python bash tools/dist_train.sh CONFIG GPUS",
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

    settings = (plain.get("env_cfg") or {}).get("dist_cfg") or plain.get("dist_params") or {}
    init_distributed(settings.get("backend"), settings.get("timeout"))
