"""What the user asked for: `--heuristics`, `--seeds` and the grid file, checked for its form."""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import check_keys
from ..errors import ConfigError
from ..types import JSON

KEYS = ("arms", "start", "seeds", "full", "levels")
ARM_KEYS = ("acquisition", "config", "label", "baseline", "labels_of")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class ArmWish:
    """One arm as asked for. acquisition: overrides; config: another training config; labels_of: an
    arm on whose labels this one is trained, asking nothing itself."""

    name: str
    acquisition: JSON = field(default_factory=dict)
    config: Path | None = None
    label: str | None = None
    baseline: str | None = None
    labels_of: str | None = None


@dataclass(frozen=True)
class Wishes:
    """full: train full supervision too, under full_config where one is given. start: overrides of
    the shared start; share_start False: every arm makes its own round 0.
    levels: mIoU levels (0..1) for the label-efficiency ratio, () = chosen from the curves."""

    arms: tuple[ArmWish, ...] = ()
    seeds: tuple[int, ...] = SEEDS
    full: bool = False
    full_config: Path | None = None
    start: JSON = field(default_factory=dict)
    share_start: bool = True
    levels: tuple[float, ...] = ()


def gather(
    heuristics: Sequence[str],
    grid: Path | None,
    seeds: Sequence[int] | None,
    full: bool = False,
    own_start: bool = False,
) -> Wishes:
    """The command line and the grid file together; what the command line says wins.

    Raises ConfigError in one line: a file that cannot be read, unknown keys, names given twice.
    """
    raw = {} if grid is None else read_grid(grid)
    arms = [*(ArmWish(name, {"heuristic": name}) for name in heuristics)]
    arms += [_arm(name, value, grid) for name, value in raw.get("arms", {}).items()]
    names = [arm.name.lower() for arm in arms]
    twice = next((arm.name for arm in arms if names.count(arm.name.lower()) > 1), None)
    if twice is not None:
        raise ConfigError(f"arm {twice!r} is given twice: every arm needs a name of its own")
    start = raw.get("start", {})
    if start is not None and not isinstance(start, Mapping):
        raise ConfigError(f"{grid}: start={start!r} must be a dict of acquisition keys, or None")
    wanted = raw.get("full", False)
    if not isinstance(wanted, (bool, str)):
        raise ConfigError(
            f"{grid}: full={wanted!r} must be True, or the config of full supervision"
        )
    full_config = grid.parent / wanted if grid is not None and isinstance(wanted, str) else None
    return Wishes(
        tuple(arms),
        _seeds(seeds if seeds is not None else raw.get("seeds", SEEDS)),
        full or bool(wanted),
        full_config,
        dict(start or {}),
        start is not None and not own_start,
        levels(raw.get("levels", ())),
    )


def read_grid(path: Path) -> JSON:
    """`arms`, `start`, `seeds`, `full` and `levels` of a Python or JSON file."""
    if not path.is_file():
        raise ConfigError(f"--grid {path} does not exist: give a .py or .json file with `arms`")
    try:
        if path.suffix == ".json":
            raw = json.loads(path.read_text(encoding="utf-8"))
        else:
            raw = runpy.run_path(str(path))
            raw = {k: v for k, v in raw.items() if k in KEYS}
    except SyntaxError as error:
        raise ConfigError(
            f"{path} is not valid Python: {error.msg} (line {error.lineno})"
        ) from None
    except Exception as error:  # the file is code: whatever it raises is the user's to mend
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from None
    check_keys(str(path), raw, KEYS)
    if not isinstance(raw.get("arms", {}), Mapping):
        raise ConfigError(f"{path}: arms must be a dict(name=dict(acquisition=dict(...)))")
    return dict(raw)


def _arm(name: str, raw: Any, grid: Path | None) -> ArmWish:
    where = f"{grid}: arms[{name!r}]"
    check_keys(where, raw, ARM_KEYS)
    overrides = raw.get("acquisition", {})
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"{where}: acquisition={overrides!r} must be a dict")
    for key in ("config", "label", "baseline", "labels_of"):
        if raw.get(key) is not None and not isinstance(raw[key], str):
            raise ConfigError(f"{where}: {key}={raw[key]!r} must be text")
    idle = [key for key in ("acquisition", "baseline") if raw.get(key)]
    if raw.get("labels_of") and idle:
        raise ConfigError(
            f"{where}: with labels_of={raw['labels_of']!r} it is trained on the labels of that arm "
            f"and asks nothing: leave {idle[0]} out"
        )
    if "seed" in overrides:
        raise ConfigError(f"{where}: seed is set by the grid; use seeds= or --seeds")
    config = None
    if raw.get("config"):  # as in `_base_`: relative to the file that names it
        assert grid is not None
        config = grid.parent / raw["config"]
    return ArmWish(
        str(name),
        _plain(overrides, where),
        config,
        raw.get("label"),
        raw.get("baseline"),
        raw.get("labels_of"),
    )


def _plain(value: Any, where: str) -> Any:
    """As JSON would give it back (tuples are lists), since it goes to the runs as JSON."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: acquisition holds what no config can: {error}") from None


def _seeds(raw: Any) -> tuple[int, ...]:
    seeds = list(raw) if isinstance(raw, (list, tuple, range)) else [raw]
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"seeds: {seed!r} must be a whole number of at least 0")
    if not seeds:
        raise ConfigError("seeds: give at least one")
    return tuple(dict.fromkeys(seeds))


def levels(raw: Any) -> tuple[float, ...]:
    """mIoU levels as given. Raises ConfigError for what is not in 0..1."""
    found = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    for level in found:
        if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level <= 1:
            raise ConfigError(f"levels: {level!r} is no mIoU between 0 and 1, such as 0.45")
    return tuple(float(level) for level in found)
