"""Reading and rewriting configs of MMSegmentation 0.x. Needs mmcv 1.x alone, not mmengine."""

from __future__ import annotations

import copy
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmcv import Config
from mmcv.utils import import_modules_from_strings

from ...checks import integer
from ...errors import ConfigError, EnvironmentProblem, UnsupportedError
from ...runtime import distributed as dist
from ..mmseg import config_file
from ..mmseg.config_file import read_config
from ..mmseg.training import Schedule
from ..specs import dicts, type_name

log = logging.getLogger("regional_al")
COMMANDS = {
    "mmcls": "pip install mmcls==0.25.0",
    "mmdet": "pip install mmdet==2.28.2",
}
"""Package that configs of mmseg import -> how to install it beside mmseg 0.30."""
FP16_HOOKS = {
    "Fp16OptimizerHook": "OptimizerHook",
    "GradientCumulativeFp16OptimizerHook": "GradientCumulativeOptimizerHook",
}


def read(
    path: Path, options: dict[str, Any], change: Callable[[Any], None] | None = None
) -> Config:
    """Config.fromfile, then `change` on its dict, then the overrides; every failure is a
    ConfigError or EnvironmentProblem in one line. `custom_imports` are left to `import_custom`."""

    def load(file: str) -> Config:
        try:
            with tidied():
                return Config.fromfile(file, import_custom_modules=False)
        except FileNotFoundError as error:
            if "::" not in str(error):
                raise
            raise EnvironmentProblem(
                f"{path}: a _base_ like 'mmseg::...' is for MMSegmentation 1.x, but 0.x is "
                "installed: make env, then PYTHON=.venv/bin/python"
            ) from None

    cfg: Config = read_config(path, load, options, change)
    return cfg


@contextmanager
def tidied() -> Iterator[None]:
    """Take away what mmcv leaves behind when a config fails: an open file whose later end would be
    reported as an error of its own, and a folder on `sys.path`."""
    try:
        yield
    except (Exception, SystemExit) as error:  # a config is code
        for frame, _ in traceback.walk_tb(error.__traceback__):
            left, folder = (frame.f_locals.get(f"temp_config_{n}") for n in ("file", "dir"))
            if left is not None:
                with suppress(OSError):
                    left.close()
            if folder in sys.path:
                sys.path.remove(folder)
        raise


def import_custom(cfg: Config, path: Path) -> None:
    """Import what the config's `custom_imports` names. Raises EnvironmentProblem."""
    config_file.import_custom(
        cfg.get("custom_imports"), path, import_modules_from_strings, COMMANDS
    )


def plain(value: Any) -> Any:
    """ConfigDicts and Config as plain dicts, lists and tuples, recursively."""
    if isinstance(value, Config):
        value = value._cfg_dict
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


def use_amp(cfg: Config) -> None:
    """Switch the optimizer hook to mixed precision, unless it is already."""
    hook = cfg.get("optimizer_config", {})
    if not isinstance(hook, Mapping):
        raise ConfigError("--amp needs an optimizer_config=dict(...) in the config")
    kind = hook.get("type", "OptimizerHook")
    if kind not in FP16_HOOKS:
        half = {full: half for half, full in FP16_HOOKS.items()}
        if kind not in half:
            raise ConfigError(f"--amp cannot replace optimizer_config.type={kind!r}")
        kept = {key: item for key, item in hook.items() if key != "detect_anomalous_params"}
        cfg.optimizer_config = {"loss_scale": "dynamic", **kept, "type": half[kind]}
    if cfg.get("fp16") is None:
        cfg.fp16 = {}


def half_precision(cfg: Config) -> bool:
    """True when the config trains or predicts in mixed precision."""
    hook = cfg.get("optimizer_config") or {}
    return cfg.get("fp16") is not None or hook.get("type") in FP16_HOOKS


def fit_to_cpu(cfg: Config) -> None:
    """Replace what needs CUDA: SyncBN by BN, half by full precision. One line each, once."""
    level = logging.WARNING if dist.is_main() else logging.DEBUG
    sync = [spec for spec in dicts(cfg.model) if type_name(spec) in ("SyncBN", "MMSyncBN")]
    for spec in sync:
        spec["type"] = "BN"
    if sync:
        log.log(level, "no CUDA: SyncBN is replaced by BN")
    if half_precision(cfg):
        hook: Any = cfg.get("optimizer_config") or {}
        if hook.get("type") in FP16_HOOKS:
            hook["type"] = FP16_HOOKS[hook["type"]]
            for key in ("loss_scale", "coalesce", "bucket_size_mb", "distributed"):
                hook.pop(key, None)
        cfg.fp16 = None
        log.log(level, "no CUDA: fp16 is left out (full precision)")


def schedule(cfg: Config) -> dict[str, Any]:
    """The `runner` of a config; older ones say `total_iters`. Raises ConfigError without either."""
    runner = cfg.get("runner")
    if isinstance(runner, Mapping) and ("max_iters" in runner or "max_epochs" in runner):
        return dict(runner)
    if runner is None and cfg.get("total_iters"):
        return {"type": "IterBasedRunner", "max_iters": cfg.total_iters}
    raise ConfigError(
        "the config has no runner=dict(type='IterBasedRunner', max_iters=...) or "
        "dict(type='EpochBasedRunner', max_epochs=...)"
    )


def length_of(cfg: Config) -> Schedule:
    """How long the config trains."""
    runner = schedule(cfg)
    kind = runner.get("type")
    return Schedule(
        int(runner["max_iters"]) if "max_iters" in runner else None,
        "runner.max_iters",
        "runner=dict(type='IterBasedRunner', max_iters=...)",
        kind == "IterBasedRunner",
    )


def inference_pipeline(cfg: Config, key: str = "test") -> list[Any]:
    """The pipeline of `data.<key>` (test falls back to val) as one un-augmented view, without what
    loads annotations. Raises ConfigError when there is none."""
    for name in (key, "val"):
        dataset = cfg.data.get(name)
        while isinstance(dataset, (list, tuple)) and dataset:
            dataset = dataset[0]
        while isinstance(dataset, Mapping) and "dataset" in dataset:
            dataset = dataset["dataset"]
        if isinstance(dataset, Mapping) and dataset.get("pipeline"):
            steps = copy.deepcopy(list(dataset["pipeline"]))
            return [single_view(step) for step in steps if "LoadAnnotations" not in type_name(step)]
    raise ConfigError("the config has no data.test or data.val with a pipeline to predict by")


def single_view(step: Any) -> Any:
    """MultiScaleFlipAug with its first scale, ratio 1 and no flip; other transforms as they are."""
    if type_name(step) == "MultiScaleFlipAug":
        step["flip"] = False
        step.pop("flip_direction", None)
        if isinstance(step.get("img_scale"), list):
            step["img_scale"] = tuple(step["img_scale"][0])
        if step.get("img_ratios") is not None:
            step["img_ratios"] = 1.0
    return step


def check_keys(cfg: Config) -> None:
    """Refuse, by name and in one line, what is missing or cannot keep its meaning over rounds."""
    for key in ("model", "data", "optimizer"):
        if not isinstance(cfg.get(key), Mapping):
            raise ConfigError(f"the config has no {key}=dict(...)")
    for key in ("train", "val"):
        if not cfg.data.get(key):
            why = "; each round is measured on it" if key == "val" else ""
            raise ConfigError(f"the config has no data.{key}=dict(type=...){why}")
    for key in ("samples_per_gpu", "workers_per_gpu"):
        if key not in cfg.data and key not in cfg.data.get("train_dataloader", {}):
            raise ConfigError(f"the config has no data.{key}")
    for part in (
        cfg.data,
        cfg.data.get("train_dataloader", {}),
        cfg.data.get("val_dataloader", {}),
    ):
        for key, least in (("samples_per_gpu", 1), ("workers_per_gpu", 0)):
            if key in part:
                integer(f"data.{key}", part[key], least)
    runner = schedule(cfg)
    for key in ("max_iters", "max_epochs"):
        if key in runner:
            integer(f"runner.{key}", runner[key], 1)
    for where, has in (("source", cfg), ("data.source", cfg.data)):
        if has.get("source") is not None:
            raise UnsupportedError(
                f"{where}: a labelled source data set is trained on beside the pool by "
                "source_dataloader=dict(samples_per_gpu=..., dataset=dict(type=...))"
            )
    lr = cfg.get("lr_config") or {}
    if "max_iters" in runner and lr.get("by_epoch"):
        raise UnsupportedError(
            "lr_config.by_epoch=True counts passes over the labelled images, which grow with each "
            "query: set lr_config.by_epoch=False beside runner.max_iters"
        )
    for key in ("checkpoint_config", "evaluation"):
        if (cfg.get(key) or {}).get("out_dir"):
            raise UnsupportedError(
                f"{key}.out_dir would be overwritten by each round: leave it out, the files go to "
                "<work_dir>/rounds/<round>/fit"
            )
    phases(cfg)
    acquisition = cfg.get("acquisition") or {}
    if cfg.get("resume_from") and not acquisition.get("queries"):
        raise UnsupportedError(
            "resume_from resumes one schedule, but without acquisition.queries each round has "
            "its own: set load_from and acquisition.round_init='continue', or give queries"
        )


def phases(cfg: Config) -> list[tuple[str, int]]:
    """`workflow` as mmcv's runners take it. Raises UnsupportedError for a phase they lack."""
    flow: list[Any] = [tuple(step) for step in cfg.get("workflow") or [("train", 1)]]
    for step in flow:
        mode = step[0] if len(step) == 2 else step
        if mode not in ("train", "val"):
            raise UnsupportedError(
                f"workflow phase {mode!r}: rounds are no workflow here; leave it at [('train', 1)] "
                "and say when to ask by acquisition=dict(rounds=...) or queries=[...]"
            )
    if [mode for mode, _ in flow] not in (["train"], ["train", "val"]):
        raise UnsupportedError(
            f"workflow={flow}: use [('train', 1)] or [('train', n), ('val', m)]; the model is "
            "evaluated after each round in any case"
        )
    return flow
