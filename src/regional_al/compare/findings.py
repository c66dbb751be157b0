"""What a comparison found, as typed data: the result of `tables.analyse`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .curves import Point, Ratio, Reach, Spread
from .reading import Comparison


class Area(NamedTuple):
    """Area under the curve of an arm over low..high, the costs that it and its baseline share.
    value: over seeds; baseline: that of the baseline; gain: over the baseline's of the same seed.
    """

    low: float
    high: float
    log: bool
    value: Spread | None
    baseline: Spread | None
    gain: Spread | None


class Efficiency(NamedTuple):
    """Label efficiency at a level: of the mean curves, and over the seeds in which both reach it
    (`reached` of `seeds`). reach: where the arm's own mean curve gets there. A baseline has no
    ratio to itself."""

    name: str
    level: float
    reach: Reach
    ratio: Ratio | None
    seeds: int
    over_seeds: Spread | None

    @property
    def reached(self) -> int:
        return self.over_seeds.n if self.over_seeds else 0


class EndRatio(NamedTuple):
    """Label efficiency after equal training: of the mean ends, and of each seed; baselines: the
    Random arms whose ends it is measured with."""

    baselines: tuple[str, ...]
    ratio: Ratio
    seeds: tuple[Ratio, ...]


class Win(NamedTuple):
    """Row against column: in how many of `total` = seeds x positions the row is better; mean
    difference over the positions, and its spread over seeds."""

    wins: int
    ties: int
    total: int
    difference: Spread


class Gain(NamedTuple):
    """Of an arm at one cost: mIoU and IoU by class; and by how much each exceeds the baseline's of
    the same seed, and the mean of full supervision."""

    cost: float
    miou: Spread | None
    miou_over_baseline: Spread | None
    classes: tuple[Spread | None, ...]
    over_baseline: tuple[Spread | None, ...]
    over_full: tuple[float | None, ...]


class Full(NamedTuple):
    """Full supervision: mIoU and IoU by class over seeds; iterations of a training."""

    miou: Spread
    classes: tuple[Spread | None, ...]
    iterations: tuple[int, ...]


class Afresh(NamedTuple):
    """One training on all labels of the arm `source`. pixels, clicks: what they cost; iterations:
    of each seed's training. mIoU; by how much it exceeds, in the same seed, that of the source's
    last round (where that has the same labels), a training alike on the labels of its baseline,
    and full supervision; IoU by class, and its mean minus that of full supervision."""

    source: str
    pixels: Spread | None
    clicks: Spread | None
    iterations: tuple[int, ...]
    miou: Spread | None
    over_rounds: Spread | None
    over_baseline: Spread | None
    over_full: Spread | None
    classes: tuple[Spread | None, ...]
    classes_over_full: tuple[float | None, ...]


@dataclass(frozen=True)
class Analysis:
    """arms: those drawn, in order; costs: those that differ (same: left-out cost -> its equal);
    unknown: arms by cost that are left out since it is not known. Inner keys: cost, then arm.
    afresh: by arm, those that are trained on the labels of another."""

    comparison: Comparison
    arms: tuple[str, ...]
    baselines: Mapping[str, str | None]
    full: Full | None
    costs: tuple[str, ...]
    same: Mapping[str, str]
    unknown: Mapping[str, tuple[str, ...]]
    means: Mapping[str, Mapping[str, list[Point]]]
    areas: Mapping[str, Mapping[str, Area]]
    efficiency: Mapping[str, Mapping[str, list[Efficiency]]]
    ends: Mapping[str, Mapping[str, EndRatio]]
    wins: Mapping[str, Mapping[str, Mapping[str, Win]]]
    gains: Mapping[str, Mapping[str, Gain]]
    training: Mapping[str, tuple[tuple[int, ...], ...]]
    seconds: Mapping[str, dict[str, float]]
    afresh: Mapping[str, Afresh]

    def label(self, arm: str) -> str:
        return str(self.comparison.arms[arm].get("label") or arm)


def to_json(analysis: Analysis) -> dict[str, Any]:
    """The tables as plain data, for the archive; nothing is read back from it."""
    return {
        "baselines": dict(analysis.baselines),
        "costs": list(analysis.costs),
        "same": dict(analysis.same),
        "full": _plain(analysis.full),
        "curves": _plain(analysis.means),
        "areas": _plain(analysis.areas),
        "efficiency": _plain(analysis.efficiency),
        "ends": _plain(analysis.ends),
        "wins": _plain(analysis.wins),
        "gains": _plain(analysis.gains),
        "training": _plain(analysis.training),
        "seconds": _plain(analysis.seconds),
        "afresh": _plain(analysis.afresh),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: _plain(item) for key, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
