"""What is to be compared: arms (a name and overrides of `acquisition`), seeds, cells.

Beside the arms of the user a grid has *starts* (round 0 alone; every arm of a seed takes its labels
and checkpoint over) and, where asked for, *full* supervision: arms whose names begin with `_`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import engines
from ..config import grammar
from ..errors import ConfigError
from ..heuristics import HEURISTICS
from ..types import JSON
from .wishes import ArmWish, Wishes

START, FULL = "_start", "_full"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
BASELINE = "Random"  # the heuristic that every other is measured against
_WITHOUT_EFFECT = {
    "data_root",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "env_cfg",
    "log_processor",
    "vis_backends",
    "visualizer",
}


@dataclass(frozen=True)
class Recipe:
    """A training config: its file, its `acquisition` as written (overrides merged) and a digest of
    everything else that determines a training."""

    config: Path
    acquisition: JSON
    digest: str


@dataclass(frozen=True)
class Arm:
    """acquisition: as its cells are given it, without seed and what they take over. start: name of
    the arm whose round 0 it takes over, None = it makes its own. labels_of: name of the arm on
    whose labels it is trained; it asks nothing then."""

    name: str
    label: str
    config: Path
    digest: str
    acquisition: JSON
    start: str | None = None
    baseline: str | None = None
    labels_of: str | None = None

    @property
    def rounds(self) -> int:
        queries = self.acquisition.get("queries")
        rounds = self.acquisition.get("rounds", len(queries) if queries else 5)
        return int(rounds)


@dataclass(frozen=True)
class Cell:
    """One run: an arm with a seed, in a work dir below `out`."""

    arm: Arm
    seed: int
    out: Path

    @property
    def name(self) -> str:
        return f"{self.arm.name} seed {self.seed}"

    @property
    def work_dir(self) -> Path:
        return cell_dir(self.out, self.arm.name, self.seed)

    @property
    def needs(self) -> Path | None:
        """Work dir of the run from which round 0, or all labels, are taken over."""
        arm = self.arm.start or self.arm.labels_of
        return None if arm is None else cell_dir(self.out, arm, self.seed)

    def acquisition(self) -> JSON:
        """The whole key for this run: seed, what it takes over and shared cache filled in."""
        full: JSON = dict(self.arm.acquisition)
        if full.get("cache_dir") is None:
            full["cache_dir"] = str((self.out / "cache").resolve())
        if self.needs is not None:
            what = "labels" if self.arm.labels_of else "run"
            full["warm_start"] = {what: str(self.needs.resolve())}
        return {**full, "seed": self.seed}


@dataclass(frozen=True)
class Grid:
    """arms: of the user, in order; extra: starts and full supervision."""

    arms: tuple[Arm, ...]
    extra: tuple[Arm, ...]
    seeds: tuple[int, ...]

    def cells(self, out: Path) -> list[Cell]:
        """Seed by seed, so that a comparison is there early: starts, full supervision, arms."""
        return [Cell(arm, seed, out) for seed in self.seeds for arm in (*self.extra, *self.arms)]


def cell_dir(out: Path, arm: str, seed: int) -> Path:
    return out / "runs" / arm / f"seed{seed}"


def load_recipe(config: Path, options: Mapping[str, Any], amp: bool = False) -> Recipe:
    """Read a training config with overrides; errors as `engines.load`."""
    loaded = engines.load(config, options, None, amp=amp)
    acquisition = json.loads(json.dumps(loaded.acquisition, default=str))
    return Recipe(Path(config), acquisition, digest(json.loads(loaded.text)))


def digest(config: Any) -> str:
    """A short hash of a config without what depends on the machine alone."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: kept(v) for k, v in value.items() if k not in _WITHOUT_EFFECT}
        return [kept(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(kept(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def build(wishes: Wishes, recipes: Mapping[Path, Recipe], base: Path) -> Grid:
    """The grid that was asked for. recipes: by config file; base: the one of the command line.

    Raises ConfigError in one line that names the arm, key and value.
    """
    starts: dict[str, Arm] = {}
    arms = []
    for wish in wishes.arms:
        if wish.labels_of is not None:
            arms.append(afresh(wish, recipes[wish.config or wishes.full_config or base]))
            continue
        recipe = recipes[wish.config or base]
        arm = _arm(wish, recipe)
        if wishes.share_start and shares_start(wish, arm):
            start = start_of(recipe, wishes.start, starts, base)
            arm = replace(arm, start=start.name)
        arms.append(arm)
    full = [full_supervision(recipes[wishes.full_config or base])] if wishes.full else []
    for arm in (*starts.values(), *full, *arms):
        check(arm)
    _check_names(arms)
    return Grid(tuple(arms), (*starts.values(), *full), wishes.seeds)


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> JSON:
    """A key that an arm gives replaces the config's whole key (no merging inside it). An arm at
    another level does not inherit the config's region: it could not be one of that level."""
    out = dict(base)
    if overrides.get("level", base.get("level", "region")) != base.get("level", "region"):
        out.pop("region", None)
    out.update(overrides)
    return out


def _arm(wish: ArmWish, recipe: Recipe, acquisition: JSON | None = None) -> Arm:
    if not NAME.fullmatch(wish.name):
        raise ConfigError(
            f"arm {wish.name!r}: a name starts with a letter or digit and holds letters, digits "
            "and ._+- only, since a folder is named after it; use label= for anything else"
        )
    if acquisition is None:
        acquisition = merged(recipe.acquisition, wish.acquisition)
    return Arm(
        wish.name,
        wish.label or wish.name,
        recipe.config,
        recipe.digest,
        acquisition,
        baseline=wish.baseline,
        labels_of=wish.labels_of,
    )


def afresh(wish: ArmWish, recipe: Recipe) -> Arm:
    """One training of the recipe's own length on the labels of another arm. Of the recipe's
    `acquisition` only what decides a training is kept."""
    kept: JSON = {
        k: recipe.acquisition[k] for k in ("round_init", "iterations") if k in recipe.acquisition
    }
    idle = {"level": "image", "heuristic": BASELINE, "rounds": 0, "previews": 0}
    return _arm(wish, recipe, {**kept, **idle})


def shares_start(wish: ArmWish, arm: Arm) -> bool:
    """Not an arm that says how it starts, starts without labels, or is one continuous run."""
    if "warm_start" in wish.acquisition or arm.acquisition.get("queries"):
        return False
    return "warm_start" not in arm.acquisition or arm.acquisition["warm_start"] is not None


def start_of(
    recipe: Recipe, overrides: Mapping[str, Any], starts: dict[str, Arm], base: Path
) -> Arm:
    """The start arm of a recipe, made once: `_start` for the base config and whatever trains the
    same, `_start-<config>` for others."""
    for arm in starts.values():
        if arm.digest == recipe.digest:
            return arm
    name = START if recipe.config == base else f"{START}-{recipe.config.stem}"
    while name in starts:
        name += "x"
    acquisition = dict(recipe.acquisition)
    if overrides.get("level") not in (None, acquisition.get("level", "region")):
        acquisition.pop("budget", None)  # of no use to a start, and senseless at another level
    acquisition = merged(acquisition, {**overrides, "rounds": 0, "heuristic": BASELINE})
    for key in ("stop", "queries"):
        acquisition.pop(key, None)
    starts[name] = Arm(name, "start", recipe.config, recipe.digest, acquisition)
    return starts[name]


def full_supervision(recipe: Recipe) -> Arm:
    """All images, asked at once: one training of the recipe's own length."""
    everything = {"amount": "100%", "unit": "image"}
    given = {"level": "image", "heuristic": BASELINE, "warm_start": everything, "rounds": 0}
    acquisition = merged(recipe.acquisition, {**given, "budget": everything, "annotator": "oracle"})
    for key in ("region", "queries", "stop"):
        acquisition.pop(key, None)
    return Arm(FULL, "full supervision", recipe.config, recipe.digest, acquisition)


def check(arm: Arm) -> None:
    """Refuse what the grammar refuses before anything is trained, naming the arm."""
    try:
        HEURISTICS.build(grammar.parse({**arm.acquisition, "seed": 0}).heuristic)
    except ConfigError as error:
        raise type(error)(f"arm {arm.name!r}: {error}") from None


def _check_names(arms: Sequence[Arm]) -> None:
    """What an arm names must be one that asks, not one trained on the labels of another."""
    names = [arm.name for arm in arms if arm.labels_of is None]
    for arm in arms:
        for key, name in (("baseline", arm.baseline), ("labels_of", arm.labels_of)):
            if name is not None and name not in names:
                raise ConfigError(
                    f"arm {arm.name!r}: {key}={name!r} is no arm; choose from: {', '.join(names)}"
                )


def heuristic_of(acquisition: Mapping[str, Any]) -> str:
    """The heuristic's name, whether it is written as a name or as dict(type=...)."""
    spec = acquisition.get("heuristic", "RIPU")
    return str(spec.get("type")) if isinstance(spec, Mapping) else str(spec)


def unit_of(acquisition: Mapping[str, Any]) -> tuple[str, str, str]:
    """(level, region, answer): what one question is about."""
    level = str(acquisition.get("level", "region"))
    region = acquisition.get("region", "slic") if level == "region" else None
    annotator = acquisition.get("annotator")
    answer = annotator.get("answer", "full") if isinstance(annotator, Mapping) else "full"
    spec = {"type": region} if isinstance(region, str) else region
    return level, json.dumps(spec, sort_keys=True), str(answer)


def baseline_of(name: str, arms: Mapping[str, tuple[Mapping[str, Any], str | None]]) -> str | None:
    """The Random arm that an arm is measured against: the one it names, else the one whose
    questions are alike (level, region and answer; level and answer; level), else the only one;
    None when there is none. arms: name -> (acquisition, the baseline it names). A Random arm is
    its own."""
    acquisition, named = arms[name]
    if named is not None:
        return named
    if heuristic_of(acquisition) == BASELINE:
        return name
    random = [n for n, (a, _) in arms.items() if heuristic_of(a) == BASELINE]
    level, _, answer = mine = unit_of(acquisition)
    alike: Iterable[Any] = (
        lambda unit: unit == mine,
        lambda unit: (unit[0], unit[2]) == (level, answer),
        lambda unit: unit[0] == level,
    )
    for same in alike:
        found = [n for n in random if same(unit_of(arms[n][0]))]
        if found:
            return found[0]
    return random[0] if len(random) == 1 else None
