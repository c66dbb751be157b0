"""What a run writes for people while it goes: results.json, the line after each round, the report.

Only rank 0 has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..config.grammar import Acquisition
from ..engines.base import Engine
from ..report import table
from ..store import results as records
from ..store.ledger import STAGES, Ledger
from ..store.results import Record, Results


@dataclass
class Summary:
    """Keeps results.json of one run and prints a table line a round."""

    work_dir: Path
    config: Acquisition
    engine: Engine
    engine_name: str
    title: str
    world_size: int = 1
    say: Callable[[str], None] = print
    printed: bool = False

    def start(self) -> None:
        """Write results.json without rounds, or keep the rounds of a resumed run."""
        space = self.engine.label_space
        fresh = Results(
            title=self.title,
            acquisition=self.config.resolved,
            classes=space.class_names,
            palette=space.palette,
            raw_to_train=tuple(int(v) for v in space.raw_to_train),
            pool_images=len(self.engine.pool),
            pool_pixels=self.pool_pixels(),
            engine=self.engine_name,
            world_size=self.world_size,
        )
        if (self.work_dir / records.FILE).is_file():
            fresh = replace(fresh, records=records.load(self.work_dir).records)
        records.write(self.work_dir, fresh)

    def pool_pixels(self) -> int:
        return sum(h * w for h, w in (item.shape for item in self.engine.pool))

    def close_round(self, ledger: Ledger, round_: int) -> Record:
        """Append the record of a finished round and print its line."""
        fit = ledger.done(round_, "fit") or {}
        scores = ledger.done(round_, "evaluate") or {}
        costs = ledger.total_costs(round_)
        record = Record(
            round=round_,
            costs=costs,
            asked=ledger.costs(round_),
            labelled_fraction=costs.pixels / max(1, self.pool_pixels()),
            miou=scores.get("miou"),
            per_class_iou=tuple(scores.get("per_class_iou") or ()),
            accuracy=scores.get("accuracy"),
            label_share=fit.get("label_share"),
            iterations=fit.get("iterations", 0),
            seconds=seconds_by_stage(ledger, round_),
        )
        records.append_record(self.work_dir, record)
        self.say(table.round_line(record, header=not self.printed))
        self.printed = True
        return record

    def stopped(self, reason: str | None) -> None:
        """Note why the run ended (None: it has not; it waits) and draw the report."""
        results = replace(records.load(self.work_dir), stopped=reason)
        records.write(self.work_dir, results)


def seconds_by_stage(ledger: Ledger, round_: int) -> dict[str, float]:
    """Wall-clock seconds of a round by what they were spent on, summed over its stages."""
    total: dict[str, float] = {}
    for stage in STAGES:
        for name, seconds in ((ledger.done(round_, stage) or {}).get("seconds") or {}).items():
            total[name] = total.get(name, 0.0) + seconds
    return total
