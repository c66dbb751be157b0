"""Reading and rewriting mmengine configs. Needs mmengine alone, not mmcv or mmseg."""

from __future__ import annotations

import copy
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import import_modules_from_strings, is_installed

from ...errors import ConfigError, EnvironmentProblem
from ...runtime import distributed as dist
from ..mmseg import config_file
from ..mmseg.config_file import read_config
from ..specs import dicts as dicts
from ..specs import first_line as first_line
from ..specs import heads as heads
from ..specs import type_name as type_name
from . import packages
from .ops import stand_in

log = logging.getLogger("regional_al")


def read(
    path: Path, options: dict[str, Any], change: Callable[[Any], None] | None = None
) -> Config:
    """Config.fromfile, then `change` on its dict, then the overrides; every failure is a
    ConfigError in one line. `custom_imports` are left to `import_custom`."""

    def load(file: str) -> Config:
        with maintained_fork():
            return Config.fromfile(file, import_custom_modules=False)

    cfg: Config = read_config(path, load, options, change)
    return cfg


def import_custom(cfg: Config, path: Path) -> None:
    """Import what the config's `custom_imports` names. Raises EnvironmentProblem."""
    stand_in()
    config_file.import_custom(
        cfg.get("custom_imports"), path, import_modules_from_strings, commands()
    )


def commands() -> dict[str, str]:
    """Package that configs of mmseg import -> how to install it beside this mmseg."""
    return packages.commands(torch.__version__, is_installed("onedl-mmsegmentation"))


def reason_of(module: str) -> str:
    """Why a module that is needed cannot be imported, as the end of a sentence.

    Example:
        >>> reason_of("no_such_module")
        'which is not installed'
    """
    try:
        importlib.import_module(module)
    except Exception as error:  # its own imports fail in many ways
        name = getattr(error, "name", None) or ""
        if isinstance(error, ModuleNotFoundError) and name in (module, module.partition(".")[0]):
            return "which is not installed"
        return f"which cannot be imported ({first_line(error)})"
    return "which could not be imported before"


def check_packages(model: Any) -> None:
    """Raise EnvironmentProblem for a head that is one of mmdet's where mmdet cannot be imported."""
    for name, head in heads(model):
        kind = type_name(head).removeprefix("Labelled")
        if kind in ("MaskFormerHead", "Mask2FormerHead"):
            try:
                importlib.import_module("mmdet.models")
            except Exception:  # its own imports fail in many ways
                raise EnvironmentProblem(
                    f"{name}.type={kind!r} needs mmdet: {commands()['mmdet']}"
                ) from None


@contextmanager
def maintained_fork() -> Iterator[None]:
    """Let `_base_ = 'mmseg::...'` find the maintained fork.

    mmengine's table names the distribution `mmsegmentation`; the fork is distributed as
    onedl-mmsegmentation. The entry is put back afterwards.
    """
    table, usual = MODULE2PACKAGE, MODULE2PACKAGE["mmseg"]
    fork = f"onedl-{usual}"
    if is_installed(fork) and not is_installed(usual):
        table["mmseg"] = fork
    try:
        yield
    finally:
        table["mmseg"] = usual


def plain(value: Any) -> Any:
    """ConfigDicts and Config as plain dicts, lists and tuples, recursively."""
    if isinstance(value, Config):
        value = value._cfg_dict
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


def use_amp(cfg: Config) -> None:
    """Switch the optimizer wrapper to mixed precision, unless it is already."""
    wrapper = cfg.get("optim_wrapper")
    if not isinstance(wrapper, Mapping):
        raise ConfigError("--amp needs an optim_wrapper in the config")
    kind = type_name(wrapper) if "type" in wrapper else "OptimWrapper"  # a class in lazy configs
    if kind == "OptimWrapper":
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
    elif kind != "AmpOptimWrapper":
        raise ConfigError(f"--amp cannot wrap optim_wrapper.type={kind!r}")


def fit_to_cpu(cfg: Config) -> None:
    """Replace what needs CUDA: SyncBN by BN, AmpOptimWrapper by OptimWrapper. One line each."""
    level = logging.WARNING if dist.is_main() else logging.DEBUG
    sync = [spec for spec in dicts(cfg.model) if type_name(spec) == "SyncBN"]
    for spec in sync:
        spec["type"] = "BN"
    if sync:
        log.log(level, "no CUDA: SyncBN is replaced by BN")
    wrapper: Any = cfg.get("optim_wrapper")
    if type_name(wrapper) == "AmpOptimWrapper":
        for key in ("loss_scale", "dtype", "use_fsdp"):
            wrapper.pop(key, None)
        wrapper["type"] = "OptimWrapper"
        log.log(level, "no CUDA: AmpOptimWrapper is replaced by OptimWrapper (full precision)")


def inference_pipeline(cfg: Config) -> list[Any]:
    """The test (else validation) pipeline without what loads annotations: un-augmented."""
    for key in ("test_dataloader", "val_dataloader"):
        dataset = (cfg.get(key) or {}).get("dataset")
        while isinstance(dataset, Mapping) and "pipeline" not in dataset:
            inner = dataset.get("dataset") or dataset.get("datasets")
            dataset = inner[0] if isinstance(inner, (list, tuple)) and inner else inner
        if isinstance(dataset, Mapping):
            steps = [
                step for one in dataset["pipeline"] for step in single_view(copy.deepcopy(one))
            ]
            return [step for step in steps if "LoadAnnotations" not in type_name(step)]
    raise ConfigError(
        "the config has no test_dataloader or val_dataloader with a pipeline; prediction needs one"
    )


def single_view(step: Any) -> list[Any]:
    """A transform as it is; of TestTimeAug the transforms of one view, at scale 1 where there is
    one, without a flip."""
    if type_name(step) != "TestTimeAug":
        return [step]
    chosen = []
    for options in step["transforms"]:
        plainest = min(options, key=lambda one: (one.get("scale_factor") or 1) != 1)
        if "Flip" not in type_name(plainest):
            chosen.append(plainest)
    return chosen
