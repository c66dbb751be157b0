"""How a config file becomes an engine.

The registry `ENGINES` decides which engines exist. A config selects one by `engine='name'`, or is
recognised by its keys. Config files are read by the config library of the engine that is installed
here (mmengine or mmcv 1.x); modules named in `custom_imports` may register further engines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, EnvironmentProblem
from ..registry import nearest
from ..runtime import distributed as dist
from ..types import JSON
from .base import ENGINES, Engine
from .quiet import quiet_imports
from .smoke import shrink

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
    """A config that has been read.

    Args:
        name: Of the engine.
        acquisition: The key of the config, as plain data.
        work_dir: Folder of the run.
        text: What of the config determines the result, for a fingerprint.
        build: Makes the engine; imports its framework.
        resume: The config itself asks to resume its work dir (`auto_resume` of 0.x).
        smoke: What a smoke run has changed, one line each.

    Example:
        >>> loaded = Loaded("torch", {"level": "image"}, Path("run"), "", build=lambda: None)
        >>> loaded.name, loaded.resume
        ('torch', False)
    """

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
    """Read a config file with overrides; joins the process group under torchrun.

    Args:
        config: A file for mmengine or, in the environment of MMSegmentation 0.x, for mmcv.
        cfg_options: Overrides by dotted key.
        work_dir: Default: the config's `work_dir`, else ./work_dirs/<config stem>.
        amp: Mixed precision.
        smoke: Shorten the run before the overrides, see `smoke.shrink`.

    Returns:
        The config, and how to build its engine.

    Raises:
        ConfigError: A mistake in the file, a missing `_base_` or no `acquisition`.
        UnsupportedError: An engine that has no config files.
        EnvironmentProblem: Packages are missing or do not import.

    Example:
        >>> from regional_al.errors import RegionalALError
        >>> try:
        ...     load(Path("missing.py"))
        ... except RegionalALError as error:
        ...     print("missing.py" in str(error))
        True
    """
    config = Path(config)
    here = generation()
    if here is None:
        install = {name: ENGINES.build(name).install for name in ENGINES}
        hints = [f"{install[name]} for engine {name}" for name in ENGINES if install[name]]
        raise EnvironmentProblem(
            f"{config} needs MMSegmentation, which is not installed: {', '.join(hints)}"
        )
    changes: list[str] = []
    try:
        with quiet_imports():
            reader = ENGINES.build(here).reader()
    except ImportError as error:
        raise EnvironmentProblem(
            f"the packages of engine {here} do not import ({error}): run regional-al doctor"
        ) from None
    with quiet_imports():  # a config is Python and may import anything
        change = (lambda tree: changes.extend(shrink(tree))) if smoke else None
        cfg = reader.read(config, dict(cfg_options or {}), change)
        if cfg.get("engine") not in (None, *ENGINES):
            reader.import_custom(cfg, config)  # may register it
    name = dialect(cfg, config)
    loader = ENGINES.build(name)
    loader.check(config)
    if not isinstance(cfg.get("acquisition"), Mapping):
        raise ConfigError(
            f"{config} has no acquisition key; add acquisition=dict(level='region', "
            "heuristic='RIPU')"
        )
    with quiet_imports():  # they may import mmseg, and register heuristics
        reader.import_custom(cfg, config)
    if amp:
        loader.use_amp(cfg)
    plain: JSON = reader.plain(cfg)
    folder = Path(work_dir or plain.get("work_dir") or Path("work_dirs") / config.stem)
    text = config_text(plain, loader.reads, smoke)
    plain["work_dir"] = cfg.work_dir = str(folder)
    settings = (plain.get("env_cfg") or {}).get("dist_cfg") or plain.get("dist_params") or {}
    dist.join_process_group(settings.get("backend"), settings.get("timeout"))
    return Loaded(
        name,
        plain["acquisition"],
        folder,
        text,
        lambda: loader.build(cfg if loader.has_reader() else plain),
        resume=loader.resumes(plain),
        smoke=tuple(changes),
    )


def generation() -> str | None:
    """The engine whose config library is installed. Imports nothing.

    Returns:
        Its name in `ENGINES`; None: none is installed.

    Example:
        >>> generation() in {*ENGINES, None}
        True
    """
    return next((name for name in ENGINES if ENGINES.build(name).has_reader()), None)


def dialect(cfg: Mapping[str, Any], source: Path) -> str:
    """The engine that a config is written for.

    Args:
        cfg: The config; its `engine` decides, otherwise the keys that it has.
        source: Its file, for messages.

    Returns:
        The name of the engine in `ENGINES`.

    Raises:
        ConfigError: No engine recognises the config.

    Example:
        >>> dialect({"train_dataloader": {}, "train_cfg": {}}, Path("config.py"))
        'mmseg1'
    """
    named = cfg.get("engine")
    if named is not None:
        if named not in ENGINES:
            raise ConfigError(f"{source}: unknown engine={named!r}.{nearest(str(named), ENGINES)}")
        return str(named)
    for name in ENGINES:
        if ENGINES.build(name).recognises(cfg):
            return name
    absent = next(key for key in ("train_dataloader", "train_cfg") if key not in cfg)
    raise ConfigError(
        f"{source} has no {absent}, so it is no MMSegmentation config: inherit one by "
        "_base_=[...], e.g. 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'; a config for "
        "another engine names it by engine=..."
    )


def config_text(
    plain: Mapping[str, Any], reads: Callable[[str], bool] = lambda key: True, smoke: bool = False
) -> str:
    """What of a config determines the results, as sorted JSON.

    Args:
        plain: The config.
        reads: Whether the engine reads a key. Others are variables of the file, whose values have
            been substituted already; they stand below 'variables'.
        smoke: Whether it is a smoke run.
    """
    kept: JSON = {"variables": {}}
    for key, value in plain.items():
        if key not in _NO_EFFECT:
            (kept if reads(key) else kept["variables"])[key] = value
    if smoke:
        kept["smoke"] = True
    return json.dumps(kept, indent=1, sort_keys=True, default=repr)
