"""The plan of a comparison: arms (an `acquisition` each) x seeds.

`read_spec` reads what the user asked for from the command line and a grid file; `build` turns it
into a `Grid`. Besides the user's arms a grid has shared starts (round 0 only: every arm of a seed
continues from its labels and checkpoint) and, if requested, full supervision. Their names begin
with an underscore.
"""

from __future__ import annotations

import hashlib
import json
import re
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from .. import engines
from ..checks import check_keys
from ..config import grammar
from ..config.auto import AUTO, recommend
from ..errors import ConfigError, DataError
from ..heuristics import HEURISTICS
from ..store.reading import read_json
from ..types import JSON, Level

START, FULL = "_start", "_full"
BASELINE = "Random"  # the heuristic that every other is measured against
SEEDS = (0, 1, 2)
_SPEC_KEYS = ("arms", "start", "seeds", "full", "levels")
_ARM_KEYS = ("acquisition", "config", "label", "baseline", "labels_of")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_LONGEST_NAME = 100
_MACHINE_KEYS = {
    "data_root",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "env_cfg",
    "log_processor",
    "vis_backends",
    "visualizer",
}
"""Keys of a training config that depend on the machine and do not change the result."""


@dataclass(frozen=True)
class ArmSpec:
    """An arm as the user wrote it.

    Args:
        name: Also the name of its folder.
        acquisition: Keys that replace those of the config.
        config: Another training config; None: the one on the command line.
        label: Name in legends and tables; None: `name`.
        baseline: Arm to measure it against; None: see `baseline_of`.
        labels_of: Arm whose final labels this one is trained on; it makes no query itself.
    """

    name: str
    acquisition: JSON = field(default_factory=dict)
    config: Path | None = None
    label: str | None = None
    baseline: str | None = None
    labels_of: str | None = None


@dataclass(frozen=True)
class GridSpec:
    """A grid as the user wrote it.

    Args:
        arms: In the order of the tables.
        seeds: Every arm is run with each.
        full: Also train with full supervision, under `full_config` if given.
        start: Keys of `acquisition` for the shared round 0.
        share_start: False: every arm makes its own round 0.
        levels: mIoU levels (0..1) for the label efficiency; empty: derived from the curves.
    """

    arms: tuple[ArmSpec, ...] = ()
    seeds: tuple[int, ...] = SEEDS
    full: bool = False
    full_config: Path | None = None
    start: JSON = field(default_factory=dict)
    share_start: bool = True
    levels: tuple[float, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A training config: its file, its `acquisition` with overrides applied, and a digest of
    everything else that determines a training."""

    config: Path
    acquisition: JSON
    digest: str


@dataclass(frozen=True)
class Arm:
    """An arm of a grid.

    Args:
        acquisition: The key its runs get, except for the seed and what they take over.
        start: Arm whose round 0 it continues from; None: it makes its own.
        labels_of: Arm whose final labels it is trained on, without queries of its own.
    """

    name: str
    label: str
    config: Path
    digest: str
    acquisition: JSON
    start: str | None = None
    baseline: str | None = None
    labels_of: str | None = None

    def definition(self) -> JSON:
        """What `grid.json` and the archive say about it."""
        return {
            "label": self.label,
            "baseline": self.baseline,
            "config": self.config.name,
            "recipe": self.digest,
            "start": self.start,
            "labels_of": self.labels_of,
            "acquisition": self.acquisition,
        }


@dataclass(frozen=True)
class PlannedRun:
    """An arm with a seed, in a work dir below `out`."""

    arm: Arm
    seed: int
    out: Path

    @property
    def name(self) -> str:
        return f"{self.arm.name} seed {self.seed}"

    @property
    def work_dir(self) -> Path:
        return run_dir(self.out, self.arm.name, self.seed)

    @property
    def log(self) -> Path:
        """Output of all attempts."""
        return self.work_dir.with_suffix(".log")

    @property
    def depends_on(self) -> Path | None:
        """Work dir of the run whose round 0, or final labels, it takes over."""
        arm = self.arm.start or self.arm.labels_of
        return None if arm is None else run_dir(self.out, arm, self.seed)

    def acquisition(self) -> JSON:
        """The complete key of this run: seed, shared cache and what it takes over filled in."""
        full: JSON = dict(self.arm.acquisition)
        if full.get("cache_dir") is None:
            full["cache_dir"] = str((self.out / "cache").resolve())
        if self.depends_on is not None:
            source = "labels" if self.arm.labels_of else "run"
            full["warm_start"] = {source: str(self.depends_on.resolve())}
        return {**full, "seed": self.seed}


@dataclass(frozen=True)
class Grid:
    """arms: the user's, in order; extra: shared starts and full supervision."""

    arms: tuple[Arm, ...]
    extra: tuple[Arm, ...]
    seeds: tuple[int, ...]

    def runs(self, out: Path) -> list[PlannedRun]:
        """Seed by seed, so that there is something to compare early: starts, full, arms."""
        every = (*self.extra, *self.arms)
        return [PlannedRun(arm, seed, out) for seed in self.seeds for arm in every]


def run_dir(out: Path, arm: str, seed: int) -> Path:
    return out / "runs" / arm / f"seed{seed}"


def read_spec(
    heuristics: Sequence[str],
    grid: Path | None,
    seeds: Sequence[int] | None,
    full: bool = False,
    own_start: bool = False,
) -> GridSpec:
    """Combine the command line with the grid file; the command line takes precedence.

    Args:
        heuristics: One arm each.
        grid: A `.py` or `.json` file with `arms` and optionally `start`, `seeds`, `full`, `levels`.
        seeds: None: those of the file, else 0, 1, 2.
        full: Also train with full supervision.
        own_start: Every arm makes its own round 0.

    Returns:
        The specification, checked for its form; `build` checks what it means.

    Raises:
        ConfigError: The file cannot be read, has unknown keys, or a name is given twice.
    """
    raw = {} if grid is None else read_grid_file(grid)
    arms = [ArmSpec(name, {"heuristic": name}) for name in heuristics]
    arms += [_arm_spec(name, value, grid) for name, value in raw.get("arms", {}).items()]
    names = [arm.name.lower() for arm in arms]
    repeated = next((arm.name for arm in arms if names.count(arm.name.lower()) > 1), None)
    if repeated is not None:
        raise ConfigError(f"arm {repeated!r} is given twice: every arm needs its own name")
    start = raw.get("start", {})
    if start is not None and not isinstance(start, Mapping):
        raise ConfigError(f"{grid}: start={start!r} must be a dict of acquisition keys, or None")
    given = raw.get("full", False)
    if not isinstance(given, (bool, str)):
        raise ConfigError(f"{grid}: full={given!r} must be True or the path of a config file")
    return GridSpec(
        tuple(arms),
        _parse_seeds(seeds if seeds is not None else raw.get("seeds", SEEDS)),
        full or bool(given),
        grid.parent / given if grid is not None and isinstance(given, str) else None,
        dict(start or {}),
        start is not None and not own_start,
        parse_levels(raw.get("levels", ())),
    )


def read_grid_file(path: Path) -> JSON:
    """`arms`, `start`, `seeds`, `full` and `levels` of a Python or JSON file."""
    if not path.is_file():
        raise ConfigError(f"--grid {path} does not exist: give a .py or .json file with `arms`")
    try:
        if path.suffix == ".json":
            raw = read_json(path)
        else:
            raw = {k: v for k, v in runpy.run_path(str(path)).items() if k in _SPEC_KEYS}
    except SyntaxError as error:
        raise ConfigError(
            f"{path} is not valid Python: {error.msg} (line {error.lineno})"
        ) from None
    except DataError as error:
        raise ConfigError(str(error)) from None
    except (
        Exception,
        SystemExit,
    ) as error:  # the file is code: whatever it raises is the user's to fix
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from None
    check_keys(str(path), raw, _SPEC_KEYS)
    if not isinstance(raw.get("arms", {}), Mapping):
        raise ConfigError(f"{path}: arms must be a dict(name=dict(acquisition=dict(...)))")
    return dict(raw)


def _arm_spec(name: str, raw: Any, grid: Path | None) -> ArmSpec:
    where = f"{grid}: arms[{name!r}]"
    check_keys(where, raw, _ARM_KEYS)
    overrides = raw.get("acquisition", {})
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"{where}: acquisition={overrides!r} must be a dict")
    text: JSON = {key: raw.get(key) or None for key in _ARM_KEYS[1:]}
    for key, value in text.items():
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{where}: {key}={value!r} must be a string")
    unused = [key for key in ("acquisition", "baseline") if raw.get(key)]
    if text["labels_of"] and unused:
        raise ConfigError(
            f"{where}: labels_of={text['labels_of']!r} trains on the labels of that arm without "
            f"queries; remove {unused[0]}"
        )
    if "seed" in overrides:
        raise ConfigError(f"{where}: the grid sets the seed; use seeds= or --seeds")
    try:  # as JSON would return it (tuples become lists): the runs get it as JSON
        acquisition = json.loads(json.dumps(overrides, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: acquisition is not plain data: {error}") from None
    if text["config"] and grid:  # as in `_base_`: relative to the file that names it
        text["config"] = grid.parent / text["config"]
    return ArmSpec(str(name), acquisition, **text)


def _parse_seeds(raw: Any) -> tuple[int, ...]:
    seeds = list(raw) if isinstance(raw, (list, tuple, range)) else [raw]
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"seeds: {seed!r} must be a non-negative integer")
        if seed > grammar.MAX_SEED:
            raise ConfigError(f"seeds: {seed} must be at most {grammar.MAX_SEED}")
    if not seeds:
        raise ConfigError("seeds: give at least one")
    return tuple(dict.fromkeys(seeds))


def parse_levels(raw: Any) -> tuple[float, ...]:
    """mIoU levels. Raises ConfigError for a value outside (0, 1]."""
    found = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    for level in found:
        if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level <= 1:
            raise ConfigError(f"levels: {level!r} is not an mIoU between 0 and 1, such as 0.45")
    return tuple(float(level) for level in found)


def load_recipe(config: Path, options: Mapping[str, Any], amp: bool = False) -> Recipe:
    """Read a training config with overrides; raises what `engines.load` raises."""
    loaded = engines.load(config, options, None, amp=amp)
    acquisition = json.loads(json.dumps(loaded.acquisition, default=str))
    return Recipe(Path(config), acquisition, digest(json.loads(loaded.text)))


def digest(config: Any) -> str:
    """A short hash of a config without what depends on the machine alone."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: kept(v) for k, v in value.items() if k not in _MACHINE_KEYS}
        return [kept(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(kept(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def build(spec: GridSpec, recipes: Mapping[Path, Recipe], base: Path) -> Grid:
    """Turn a specification into a grid, before anything is trained.

    Args:
        spec: See `read_spec`.
        recipes: By config file: `base` and every other config that `spec` names.
        base: The config on the command line.

    Returns:
        The user's arms, shared starts and full supervision.

    Raises:
        ConfigError: One line that names arm, key and value.
    """
    starts: dict[str, Arm] = {}
    arms = []
    for asked in spec.arms:
        if asked.labels_of is not None:
            arms.append(_retrained_arm(asked, recipes[asked.config or spec.full_config or base]))
            continue
        recipe = recipes[asked.config or base]
        arm = _arm(asked, recipe, merged(recipe.acquisition, asked.acquisition))
        if spec.share_start and _shares_start(asked, arm):
            arm = replace(arm, start=_start_arm(recipe, spec.start, starts, base).name)
        arms.append(arm)
    full = [_full_supervision(recipes[spec.full_config or base])] if spec.full else []
    for arm in (*starts.values(), *full, *arms):
        try:
            HEURISTICS.build(grammar.parse({**arm.acquisition, "seed": 0}).heuristic)
        except ConfigError as error:
            raise type(error)(f"arm {arm.name!r}: {error}") from None
    querying = [arm.name for arm in arms if arm.labels_of is None]
    for arm in arms:
        for key, name in (("baseline", arm.baseline), ("labels_of", arm.labels_of)):
            if name is not None and name not in querying:
                raise ConfigError(
                    f"arm {arm.name!r}: {key}={name!r} is not an arm that makes queries; "
                    f"choose from: {', '.join(querying)}"
                )
    return Grid(tuple(arms), (*starts.values(), *full), spec.seeds)


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> JSON:
    """An overriding key replaces the whole key of the config. An arm at another level does not
    inherit the config's region, which cannot apply to it."""
    out = dict(base)
    if level_of({**base, **overrides}) != level_of(base):
        out.pop("region", None)
    out.update(overrides)
    return out


def _arm(spec: ArmSpec, recipe: Recipe, acquisition: JSON) -> Arm:
    if not _NAME.fullmatch(spec.name):
        raise ConfigError(
            f"arm {spec.name!r}: a name starts with a letter or digit and has only letters, digits "
            "and ._+- since it names a folder; use label= for anything else"
        )
    if len(spec.name) > _LONGEST_NAME:
        raise ConfigError(
            f"arm {spec.name[:20]}... has {len(spec.name)} characters: a name names a folder and "
            f"has at most {_LONGEST_NAME}; use label= for anything else"
        )
    label = spec.label or spec.name
    arm = Arm(spec.name, label, recipe.config, recipe.digest, acquisition)
    return replace(arm, baseline=spec.baseline, labels_of=spec.labels_of)


def _retrained_arm(spec: ArmSpec, recipe: Recipe) -> Arm:
    """One training of the recipe's full length on the labels of another arm; of the recipe's
    `acquisition` only what affects the training is kept."""
    keys = ("round_init", "iterations")
    kept = {key: recipe.acquisition[key] for key in keys if key in recipe.acquisition}
    no_query = {"level": "image", "heuristic": BASELINE, "rounds": 0, "previews": 0}
    return _arm(spec, recipe, {**kept, **no_query})


def _shares_start(spec: ArmSpec, arm: Arm) -> bool:
    """Unless the arm defines its own start, starts without labels or with those of a machine, or is
    one continuous run."""
    if "warm_start" in spec.acquisition or arm.acquisition.get("queries"):
        return False
    warm = arm.acquisition.get("warm_start", "default")
    return warm is not None and not (isinstance(warm, Mapping) and "prelabels" in warm)


def _start_arm(
    recipe: Recipe, overrides: Mapping[str, Any], starts: dict[str, Arm], base: Path
) -> Arm:
    """The start of a recipe, made once: `_start` for the base config and whatever trains alike,
    `_start-<config>` for others."""
    for arm in starts.values():
        if arm.digest == recipe.digest:
            return arm
    name = START if recipe.config == base else f"{START}-{recipe.config.stem}"
    while name in starts:
        name += "x"
    acquisition = dict(recipe.acquisition)
    if overrides.get("level") not in (None, level_of(acquisition)):
        acquisition.pop("budget", None)  # unused by a start, and invalid at another level
    acquisition = merged(acquisition, {**overrides, "rounds": 0, "heuristic": BASELINE})
    for key in ("stop", "queries"):
        acquisition.pop(key, None)
    starts[name] = Arm(name, "start", recipe.config, recipe.digest, acquisition)
    return starts[name]


def _full_supervision(recipe: Recipe) -> Arm:
    """All images labelled at once: one training of the recipe's full length."""
    everything = {"amount": "100%", "unit": "image"}
    given = {"level": "image", "heuristic": BASELINE, "warm_start": everything, "rounds": 0}
    acquisition = merged(recipe.acquisition, {**given, "budget": everything, "annotator": "oracle"})
    for key in ("region", "queries", "stop"):
        acquisition.pop(key, None)
    return Arm(FULL, "full supervision", recipe.config, recipe.digest, acquisition)


def level_of(acquisition: Mapping[str, Any]) -> str:
    return str(acquisition.get("level", "region"))


def rounds_of(acquisition: Mapping[str, Any]) -> int:
    """The number of rounds of an `acquisition` as written."""
    queries = acquisition.get("queries")
    return int(acquisition.get("rounds", len(queries) if queries else 5))


def heuristic_of(acquisition: Mapping[str, Any]) -> str:
    """The heuristic's name, whether it is written as a name, as dict(type=...) or as 'auto'."""
    spec = acquisition.get("heuristic", "RIPU")
    name = str(spec.get("type")) if isinstance(spec, Mapping) else str(spec)
    if name != AUTO:
        return name
    level, region, answer = query_type(acquisition)
    kind = (json.loads(region) or {}).get("type", level)
    return str(recommend(cast(Level, level), kind, answer).heuristic["type"])


def query_type(acquisition: Mapping[str, Any]) -> tuple[str, str, str]:
    """(level, region, answer): what one query asks for."""
    level = level_of(acquisition)
    region = acquisition.get("region", "slic") if level == "region" else None
    annotator = acquisition.get("annotator")
    answer = annotator.get("answer", "full") if isinstance(annotator, Mapping) else "full"
    spec = {"type": region} if isinstance(region, str) else region
    return level, json.dumps(spec, sort_keys=True), str(answer)


def baseline_of(name: str, arms: Mapping[str, tuple[Mapping[str, Any], str | None]]) -> str | None:
    """The Random arm that an arm is measured against.

    Args:
        name: The arm.
        arms: By name: its acquisition and the baseline it names, if any.

    Returns:
        The named baseline; else the Random arm with the same query type (level, region and answer;
        level and answer; level); else the only Random arm; else None. A Random arm is its own.
    """
    acquisition, named = arms[name]
    if named is not None:
        return named
    if heuristic_of(acquisition) == BASELINE:
        return name
    random = {n: query_type(a) for n, (a, _) in arms.items() if heuristic_of(a) == BASELINE}
    mine = query_type(acquisition)
    for parts in ((0, 1, 2), (0, 2), (0,)):
        for other, theirs in random.items():
            if all(mine[i] == theirs[i] for i in parts):
                return other
    return next(iter(random)) if len(random) == 1 else None
