"""The keys of `acquisition.warm_start`: the labels of round 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ..checks import check_keys, choice, file_path, registered, within
from ..errors import ConfigError
from ..heuristics import HEURISTICS
from ..types import JSON, LEVELS, Level
from .budget import Budget
from .region import parse_region

AT_RANDOM: JSON = {"type": "Random"}
MACHINE_WEIGHTS = 1e-6, 1e6  # sums of what is beyond are lost in 32 bits


@dataclass(frozen=True)
class WarmStart:
    """The labels of round 0.

    Args:
        level: 'image', 'region' or 'pixel'.
        region: Region type and its arguments, as in `Acquisition`.
        budget: Units within this budget, random ones by default; None: nothing is asked, as with
            `run`, with `labels` and with `prelabels` alone.
        answer: 'full', 'dominant', 'multiclass' or 'correction'.
        run: Work dir of another run whose round 0 is taken over, checkpoint included.
        labels: Work dir of another run whose labels are all taken over; round 0 trains on them.
        heuristic: `type` and arguments of what chooses the units, by the config's own start.
        prelabels: Folder of masks that a machine has made; trainings see them where nobody has
            answered.
        machine_weight: Of a pixel with a machine's label in the loss, relative to one with an
            answer, above 0.

    Example:
        >>> asked = {"warm_start": {"level": "image", "amount": 4}}
        >>> from regional_al.config import parse
        >>> warm_start = parse(asked).warm_start
        >>> warm_start.level, str(warm_start.budget)
        ('image', '4 images')
    """

    level: Level
    region: JSON
    budget: Budget | None
    answer: str
    run: Path | None = None
    labels: Path | None = None
    heuristic: JSON = field(default_factory=lambda: dict(AT_RANDOM))
    prelabels: Path | None = None
    machine_weight: float = 1.0


def parse_warm_start(raw: Any, same: WarmStart, whole: Mapping[str, Any]) -> WarmStart | None:
    """Read `warm_start=`: None, an amount, or a dict with amount, unit, scope, level, region,
    heuristic, prelabels, machine_weight; or dict(run=WORK_DIR), dict(labels=WORK_DIR). same: what
    is left out."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        budget = Budget.parse(raw, same.level, same.region["type"], same.answer, key="warm_start")
        return replace(same, budget=budget)
    for key in ("run", "labels"):
        if key in raw:
            if "prelabels" in raw:
                raise ConfigError(
                    f"acquisition.warm_start has both prelabels and {key}: leave out one of them"
                )
            check_keys("acquisition.warm_start", raw, (key,))
            folder = file_path(f"acquisition.warm_start.{key}", raw[key], "work dir")
            if key == "run":
                return replace(same, budget=None, run=folder)
            return replace(same, budget=None, labels=folder)
    others, machine = ("level", "region", "heuristic"), ("prelabels", "machine_weight")
    check_keys("acquisition.warm_start", raw, ("amount", "unit", "scope", *others, *machine))
    if "prelabels" in raw or "machine_weight" in raw:
        same = _prelabelled(raw, same)
        if not any(key not in machine for key in raw):
            return replace(same, budget=None)
    amounts = {key: value for key, value in raw.items() if key not in (*others, *machine)}
    asked = raw.get("heuristic", AT_RANDOM)
    heuristic = registered("acquisition.warm_start.heuristic", asked, HEURISTICS)
    level = choice("acquisition.warm_start.level", raw.get("level", same.level), LEVELS)
    if level == same.level and "region" not in raw:
        region, answer = same.region, same.answer
    else:
        default = whole.get("region") if level == same.level else None
        key = "acquisition.warm_start.region"
        region, answer = parse_region(raw.get("region", default), level, key), "full"
    budget = Budget.parse(amounts, level, region["type"], answer, key="warm_start")
    return replace(
        same,
        level=cast(Level, level),
        region=region,
        budget=budget,
        answer=answer,
        heuristic=heuristic,
    )


def _prelabelled(raw: Mapping[str, Any], same: WarmStart) -> WarmStart:
    """`same` with the machine labels of `warm_start=dict(prelabels=..., machine_weight=...)`."""
    key = "acquisition.warm_start"
    weight = within(f"{key}.machine_weight", raw.get("machine_weight", 1.0), *MACHINE_WEIGHTS)
    if "prelabels" not in raw:
        raise ConfigError(
            f"{key}.machine_weight={weight:g} weighs the labels of a machine: give their folder, "
            "prelabels=FOLDER, or leave it out"
        )
    folder = file_path(f"{key}.prelabels", raw["prelabels"], "folder")
    return replace(same, prelabels=folder, machine_weight=weight)


def warm_values(warm: WarmStart, level: Level, region: JSON) -> JSON:
    """The resolved warm start; level and region only where they differ from those given."""
    if warm.run is not None or warm.labels is not None:
        return {"labels": str(warm.labels)} if warm.run is None else {"run": str(warm.run)}
    out: JSON = {} if warm.budget is None else asdict(warm.budget)
    if warm.prelabels is not None:
        out.update(prelabels=str(warm.prelabels), machine_weight=warm.machine_weight)
    if warm.budget is None:
        return out
    if (warm.level, warm.region) != (level, region):
        out.update(level=warm.level, region=warm.region)
    if warm.heuristic != AT_RANDOM:
        out["heuristic"] = warm.heuristic
    return out
