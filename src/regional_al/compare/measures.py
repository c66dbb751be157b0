"""What is measured on a single run: its curve over a cost, class by class, and its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..store.results import Record
from .curves import interpolate, tidy
from .reading import Run

COSTS = ("pixels", "clicks", "regions")
"""Costs that curves are drawn over; regions are annotation visits."""


class SeedCurve(NamedTuple):
    """One run over one cost. points: (cost, mIoU) of the evaluated rounds, in their order."""

    seed: int
    rounds: tuple[int, ...]
    points: tuple[tuple[float, float], ...]

    @property
    def tidy(self) -> list[tuple[float, float]]:
        return tidy(self.points)

    @property
    def chosen(self) -> list[tuple[float, float]]:
        """Without round 0."""
        return tidy(p for r, p in zip(self.rounds, self.points, strict=True) if r > 0)


def seed_curve(run: Run, cost: str) -> SeedCurve | None:
    """mIoU over a cost; None when the cost is not known in some round (a person's clicks)."""
    values = [getattr(record.costs, cost) for record in run.evaluated]
    if any(value is None for value in values):
        return None
    points = tuple(
        (float(v), float(r.miou or 0.0)) for v, r in zip(values, run.evaluated, strict=True)
    )
    return SeedCurve(run.seed, tuple(r.round for r in run.evaluated), points)


def class_at(run: Run, cost: str, at: float) -> list[float | None]:
    """IoU of each class at a cost, linear in log cost between rounds; None for a class that is
    absent from the validation set, or outside the costs of the run."""
    count = len(run.results.classes)
    found: list[float | None] = []
    for c in range(count):
        points = []
        for record in run.evaluated:
            value, spent = class_iou(record, c), getattr(record.costs, cost)
            if value is not None and spent is not None:
                points.append((float(spent), value))
        found.append(interpolate(tidy(points), at))
    return found


def class_iou(record: Record, c: int) -> float | None:
    return record.per_class_iou[c] if c < len(record.per_class_iou) else None


def trained(run: Run) -> list[int]:
    """Optimizer iterations behind the weights of each round: of the round alone where every round
    starts anew ('scratch', 'pretrained'), of all rounds up to it where weights are kept
    ('continue', or one continuous run with `queries`)."""
    acquisition = run.results.acquisition
    keeps = acquisition.get("round_init") == "continue" or bool(acquisition.get("queries"))
    total, found = 0, []
    for record in run.results.records:
        total = total + record.iterations if keeps else record.iterations
        found.append(total)
    return found


def stage_seconds(runs: Sequence[Run]) -> dict[str, float]:
    """Mean wall seconds of each stage over all rounds after round 0 (which arms may share)."""
    records = [r for run in runs for r in run.results.records if r.round > 0 and r.seconds]
    names = dict.fromkeys(name for record in records for name in record.seconds)
    return {n: sum(r.seconds.get(n, 0.0) for r in records) / len(records) for n in names}
