"""The `acquisition` grammar: a plain dict in, a checked frozen dataclass out.

Unknown keys and values are refused with the nearest valid one. Names of region types, annotators
and heuristics are those of the registries, nothing else. Every default is here;
docs/acquisition.md describes the same table.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from ..annotators import ANNOTATORS
from ..checks import (
    check_keys,
    choice,
    file_path,
    flag,
    integer,
    positive,
    registered,
    typed,
    within,
)
from ..errors import ConfigError, UnsupportedError
from ..heuristics import HEURISTICS
from ..types import ANSWERS, JSON, LEVELS, ROUND_INITS, USUAL_ANSWERS, Level, RoundInit, Tiles
from .auto import AUTO, Recommendation, recommend
from .budget import Budget
from .region import parse_region
from .region_classes import Pseudo, RegionClasses
from .schedule import Iterations, parse_iterations
from .sieve import Sieve
from .unlabeled import Unlabeled
from .warm_start import WarmStart, parse_warm_start, warm_values

MIN_TILE = 16
LOSS_AVERAGES = ("pixel", "image", "class", "unit")
MAX_ROUNDS = 253  # a label's round is one byte of the label store's sidecar
# A training's seed is seed * 1000 + round, plus a number for each process and data worker; numpy's
# generators take no more than 2**32 - 1.
MAX_SEED = 4_294_000


@dataclass(frozen=True)
class Stop:
    """When to end before `rounds` is reached.

    Args:
        target_miou: End at this mIoU, 0..1.
        max_pixels: End when so many pixels have been annotated in total.
        max_clicks: End when so many clicks have been spent in total.
        max_seconds: End when people have spent so many seconds in total.
        plateau: End after so many rounds in a row without an improvement.
        plateau_gain: What counts as an improvement: more than this above the best mIoU so far.

    Example:
        >>> Acquisition.parse({"stop": {"target_miou": 0.6}}).stop.target_miou
        0.6
    """

    target_miou: float | None = None
    max_pixels: int | None = None
    max_clicks: int | None = None
    max_seconds: float | None = None
    plateau: int | None = None
    plateau_gain: float = 0.0


@dataclass(frozen=True)
class Acquisition:
    """A checked `acquisition` config; make one with `Acquisition.parse`.

    Args:
        level: 'image', 'region' or 'pixel'.
        heuristic: `type` and arguments of the acquisition function.
        region: `type` and arguments of the partition into regions.
        budget: What one round may spend.
        warm_start: The labels of round 0; None: none, the model starts from `load_from`.
        rounds: Number of queries after the warm start.
        round_init: 'scratch', 'continue' or 'pretrained'.
        queries: Iterations of one continuous run at which to query; None: one training per round.
        annotator: `type` and arguments of the annotator.
        stop: When to end earlier.
        seed: Seed of the run.
        iterations: Length of a round's training; None: the schedule of the config.
        tiles: How large images are cut; None: they are not.
        cache_dir: Folder of cached partitions; None: in the work dir.
        previews: Number of score maps that each round keeps for the report.
        keep_pipeline: Leave transforms of the training pipeline that lose sparse labels as they
            are; otherwise they are replaced below image level.
        unlabeled: How pixels without an answer are trained on; None: they are not.
        loss_average: 'pixel', 'image', 'class' or 'unit': what the loss of a batch averages over.
        region_classes: How regions of which only the classes are known are trained on; None: they
            are not.
        sieve: Which regions that were answered by one class are trained on in part; None: none.
        resolved: Every key with its value in force, JSON-able.
        auto: What `heuristic='auto'` has become, and why; None: a heuristic was named.

    Example:
        >>> acquisition = Acquisition.parse({"level": "region", "heuristic": "RIPU"})
        >>> str(acquisition.budget), acquisition.rounds, acquisition.region
        ('1% of the pixels', 5, {'type': 'slic'})
    """

    level: Level
    heuristic: JSON
    region: JSON
    budget: Budget
    warm_start: WarmStart | None
    rounds: int
    round_init: RoundInit
    queries: tuple[int, ...] | None
    annotator: JSON
    stop: Stop
    seed: int
    iterations: Iterations | None
    tiles: Tiles | None
    cache_dir: Path | None
    previews: int
    keep_pipeline: bool
    unlabeled: Unlabeled | None
    loss_average: str
    region_classes: RegionClasses | None
    sieve: Sieve | None
    resolved: JSON = field(repr=False, compare=False)
    auto: Recommendation | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def parse(raw: Mapping[str, Any] | Acquisition) -> Acquisition:
        """Check an `acquisition` dict and fill in the defaults.

        Args:
            raw: The dict, as in a config file; an `Acquisition` is returned as it is.

        Returns:
            The checked config.

        Raises:
            ConfigError: A key or value is invalid (also BudgetError, UnsupportedError); one line
                that names the key, the value and the fix.

        Example:
            >>> acquisition = Acquisition.parse({"level": "region", "heuristic": "RIPU"})
            >>> acquisition.region, acquisition.rounds, str(acquisition.budget)
            ({'type': 'slic'}, 5, '1% of the pixels')
            >>> Acquisition.parse({"levl": "region"})
            Traceback (most recent call last):
            regional_al.errors.ConfigError: acquisition has no key 'levl'. Did you mean 'level'?
        """
        return raw if isinstance(raw, Acquisition) else _parse(raw)

    @property
    def answer(self) -> str:
        """'full', 'dominant', 'multiclass' or 'correction': what the annotator is asked about each
        unit."""
        return str(self.annotator.get("answer", "full"))

    @property
    def asks_at_first(self) -> bool:
        """Whether round 0 queries anything: not without a warm start, nor on labels taken over, nor
        on those of a machine alone."""
        warm = self.warm_start
        return warm is not None and (warm.budget is not None or warm.run is not None)

    @property
    def prelabels(self) -> Path | None:
        """Folder of masks that a machine has made; None: there are none."""
        return None if self.warm_start is None else self.warm_start.prelabels

    @property
    def pseudo(self) -> Pseudo | None:
        """Which pixels of regions with several classes get pseudo labels; None: none."""
        return None if self.region_classes is None else self.region_classes.pseudo

    @property
    def reworks_answers(self) -> bool:
        """Whether trainings see other labels than the answers, by the model of the round before."""
        return self.sieve is not None or self.pseudo is not None

    def until(self, round_: int) -> int | None:
        """Iteration of the continuous run at which the training of a round ends: queries[round_],
        -1 for the last one (the end of the schedule); None when each round trains on its own."""
        if self.queries is None:
            return None
        return self.queries[round_] if round_ < len(self.queries) else -1


KEYS = (
    "level",
    "heuristic",
    "region",
    "budget",
    "rounds",
    "warm_start",
    "round_init",
    "queries",
    "iterations",
    "annotator",
    "stop",
    "seed",
    "tiles",
    "cache_dir",
    "previews",
    "keep_pipeline",
    "unlabeled",
    "loss_average",
    "region_classes",
    "sieve",
)

parse = Acquisition.parse


def _parse(raw: Mapping[str, Any]) -> Acquisition:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"acquisition must be a dict(level=..., heuristic=...), not {raw!r}")
    check_keys("acquisition", raw, KEYS)
    level = choice("acquisition.level", raw.get("level", "region"), LEVELS)
    region = parse_region(raw.get("region"), level)
    annotator = registered("acquisition.annotator", raw.get("annotator", "oracle"), ANNOTATORS)
    answer = annotator.get("answer", "full")
    choice("acquisition.annotator.answer", answer, ANSWERS)
    given = getattr(ANNOTATORS.get(annotator["type"]), "answer_kinds", USUAL_ANSWERS)
    if answer not in given:
        raise UnsupportedError(
            f"acquisition.annotator.answer={answer!r} is not supported by annotator "
            f"{annotator['type']!r}: use {' or '.join(repr(one) for one in given)}"
        )
    heuristic, auto = _heuristic(raw.get("heuristic", "RIPU"), level, region["type"], answer)
    if answer != "full" and (level != "region" or region["type"] == "window"):
        raise UnsupportedError(
            f"acquisition.annotator.answer={answer!r} is about whole regions of a partition; use "
            f"answer='full' at level={level!r} with region type {region['type']!r}"
        )
    budget = Budget.parse(raw.get("budget"), level, region["type"], answer)
    queries = _queries(raw.get("queries"))
    same = WarmStart(cast(Level, level), region, budget, answer)
    warm_start = parse_warm_start(raw["warm_start"], same, raw) if "warm_start" in raw else same
    if warm_start is not None and warm_start.run is not None and queries:
        raise ConfigError(
            "acquisition.warm_start.run takes over round 0 of another run, which is not supported "
            "in one continuous run: leave out queries, or give another warm_start"
        )
    if warm_start is not None and warm_start.prelabels is not None and raw.get("tiles") is not None:
        raise UnsupportedError(
            "acquisition.warm_start.prelabels is not supported with acquisition.tiles: cut images "
            "and prelabels yourself, and leave tiles out"
        )
    if answer == "correction" and (warm_start is None or warm_start.prelabels is None):
        raise UnsupportedError(
            "acquisition.annotator.answer='correction' asks whether the label of a machine is "
            "right: give its labels, acquisition.warm_start=dict(prelabels=FOLDER), or use "
            "answer='dominant'"
        )
    rounds = integer("acquisition.rounds", raw.get("rounds", len(queries) if queries else 5), 0)
    if queries and rounds != len(queries):
        raise ConfigError(
            f"acquisition.rounds={rounds} does not match queries={list(queries)}: leave out "
            f"rounds, or give {rounds} iterations"
        )
    if rounds > MAX_ROUNDS:
        raise ConfigError(f"acquisition.rounds={rounds} exceeds the maximum of {MAX_ROUNDS}")
    init = choice("acquisition.round_init", raw.get("round_init", "scratch"), ROUND_INITS)
    seed = integer("acquisition.seed", raw.get("seed", 0), 0)
    if seed > MAX_SEED:
        raise ConfigError(f"acquisition.seed={seed} must be at most {MAX_SEED}")
    cache = raw.get("cache_dir")
    region_classes = RegionClasses.parse(raw.get("region_classes"), answer)
    if region_classes is not None:
        region_classes.check_spread(level, region["type"])
    acquisition = Acquisition(
        level=cast(Level, level),
        heuristic=heuristic,
        auto=auto,
        region=region,
        budget=budget,
        warm_start=warm_start,
        rounds=rounds,
        round_init=cast(RoundInit, init),
        queries=queries,
        annotator=annotator,
        stop=_stop(raw.get("stop"), annotator["type"]),
        seed=seed,
        iterations=parse_iterations(raw.get("iterations"), queries),
        tiles=parse_tiles(raw.get("tiles")),
        cache_dir=None if cache is None else file_path("acquisition.cache_dir", cache),
        previews=integer("acquisition.previews", raw.get("previews", 4), 0),
        keep_pipeline=flag("acquisition.keep_pipeline", raw.get("keep_pipeline", False)),
        unlabeled=Unlabeled.parse(raw.get("unlabeled")),
        loss_average=choice(
            "acquisition.loss_average", raw.get("loss_average", "pixel"), LOSS_AVERAGES
        ),
        region_classes=region_classes,
        sieve=Sieve.parse(raw.get("sieve"), answer),
        resolved={},
    )
    acquisition.resolved.update(_resolved(acquisition))
    return acquisition


def _resolved(a: Acquisition) -> JSON:
    """Every key with the value in force, JSON-able, for the ledger, results.json and the report."""
    out = {key: getattr(a, key) for key in KEYS}
    out["budget"] = asdict(a.budget)
    out["warm_start"] = (
        None if a.warm_start is None else warm_values(a.warm_start, a.level, a.region)
    )
    out["stop"] = asdict(a.stop)
    out["iterations"] = None if a.iterations is None else asdict(a.iterations)
    out["tiles"] = None if a.tiles is None else asdict(a.tiles)
    out["queries"] = None if a.queries is None else list(a.queries)
    out["unlabeled"] = None if a.unlabeled is None else a.unlabeled.resolved()
    regions = a.region_classes
    out["region_classes"] = None if regions is None else regions.resolved()
    out["sieve"] = None if a.sieve is None else a.sieve.resolved()
    out["cache_dir"] = None if a.cache_dir is None else str(a.cache_dir)
    return out


def _heuristic(
    raw: Any, level: str, region: str, answer: str
) -> tuple[JSON, Recommendation | None]:
    """The heuristic; with its reason where 'auto' left the choice to this package."""
    where = "acquisition.heuristic"
    given = typed(where, raw)
    if given["type"] == AUTO:
        check_keys(where, given, ("type",))
        found = recommend(cast(Level, level), region, answer)
        return dict(found.heuristic), found
    return registered(where, raw, HEURISTICS, AUTO), None


def _stop(raw: Any, annotator: str) -> Stop:
    """Read `stop=`; None, as a whole or for a key, is never."""
    where = "acquisition.stop"
    given = {} if raw is None else raw
    check_keys(where, given, tuple(Stop.__dataclass_fields__))
    found: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    target = found.get("target_miou")
    if isinstance(target, (int, float)) and not isinstance(target, bool) and 1 < target <= 100:
        raise ConfigError(
            f"{where}.target_miou={target!r} must be from 0 to 1: did you mean {target / 100:.2f}?"
        )
    for key in found:
        if key in ("target_miou", "plateau_gain"):
            found[key] = within(f"{where}.{key}", found[key], 0, 1)
        elif key == "max_seconds":
            found[key] = positive(f"{where}.{key}", found[key])
        else:
            found[key] = integer(f"{where}.{key}", found[key], 1)
    if "max_seconds" in found and not getattr(ANNOTATORS.get(annotator), "takes_time", True):
        raise UnsupportedError(
            f"{where}.max_seconds={raw['max_seconds']!r}: annotator {annotator!r} takes no time; "
            "use annotator='simulated', or max_clicks"
        )
    return Stop(**found)


def parse_tiles(raw: Any) -> Tiles | None:
    """Read `acquisition.tiles`: a size, or a dict with size and context. Raises ConfigError.

    Example:
        >>> parse_tiles(1024)
        Tiles(size=1024, context=256)
    """
    if raw is None:
        return None
    where = "acquisition.tiles"
    given = raw if isinstance(raw, Mapping) else {"size": raw}
    check_keys(where, given, ("size", "context"))
    if "size" not in given:
        raise ConfigError(f"{where}={raw!r} has no size: give e.g. dict(size=1024)")
    name = f"{where}.size" if isinstance(raw, Mapping) else where
    size = integer(name, given["size"], MIN_TILE)
    context = integer(f"{where}.context", given.get("context", size // 4), 0)
    if context > size:
        raise ConfigError(f"{where}.context={context} must be at most the size, {size}")
    return Tiles(size, context)


def _queries(raw: Any) -> tuple[int, ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, (list, tuple)) or not raw:
        raise ConfigError(f"acquisition.queries={raw!r} must be a list of iterations [10000, ...]")
    steps = tuple(integer("acquisition.queries", step, 0) for step in raw)
    if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise ConfigError(f"acquisition.queries={list(steps)} must be strictly increasing")
    return steps
