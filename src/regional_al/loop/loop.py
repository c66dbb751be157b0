"""The order of a round.

    while step():            # one round: query -> answers -> fit -> evaluate
        pass

Round 0 asks for the random warm start; round r > 0 is picked by the model of round r-1. Every
stage leaves its result in files and is then marked in the ledger, so a run killed anywhere goes on
with the stage that was under way and ends with the same picks. A round whose answers are not all
there is *waiting*: the run ends with exit code 0 and goes on when it is started again.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .. import metrics
from ..acquisition.acquirer import Acquirer
from ..annotators.base import Annotator
from ..annotators.collect import collect_answers
from ..config.grammar import Acquisition
from ..engines.base import Engine, FitRequest, has_source
from ..runtime import distributed as dist
from ..runtime.timing import Stopwatch
from ..store.labels import LabelStore
from ..store.ledger import STAGES, Ledger
from ..store.query import read_query
from ..types import JSON
from . import shared_start, taken_labels
from .stopping import stop_reason
from .summary import Summary


@dataclass
class ActiveLearningLoop:
    """Runs rounds over an engine. The same object on every rank; rank 0 keeps the books.

    ledger: rank 0's open ledger, None elsewhere. `status` is 'running', 'waiting' or 'finished'
    and `reason` says why in one line.
    """

    engine: Engine
    config: Acquisition
    annotator: Annotator
    work_dir: Path
    ledger: Ledger | None = None
    summary: Summary | None = None
    status: str = "running"
    reason: str = ""
    round: int = 0
    watch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        self.store = LabelStore(self.work_dir / "labels")
        self.acquirer = Acquirer(self.engine, self.config, self.store, self.work_dir)
        warm = self.config.warm_start
        self.shared = None if warm is None else warm.run  # whose round 0 is taken over
        self.labels_of = None if warm is None else warm.labels

    def prepare(self) -> None:
        """Partitions of the pool, cached; every rank its share, before anybody asks for a count."""
        with self.watch("prepare"):
            self.acquirer.prepare()
            dist.barrier()

    def run(self) -> str:
        """Step until the run is finished or has to wait for answers. Returns the status."""
        while self.step():
            pass
        return self.status

    def step(self) -> bool:
        """One round, from where it stands. True while more rounds are to come."""
        for stage in STAGES:
            if self._done(self.round, stage) is None:
                payload = getattr(self, f"_{stage}")(self.round)
                if payload is None:
                    return False
                self._mark(self.round, stage, payload)
        reason = dist.on_main(self._close_round)["reason"]
        if reason:
            return self._end("finished", str(reason))
        self.round += 1
        self.watch = Stopwatch()
        return True

    def _query(self, round_: int) -> JSON | None:
        if round_ == 0 and not self.config.asks_at_first:
            return {"picks": 0}
        shared = self.shared
        if round_ == 0 and shared is not None:
            with self.watch("select"):
                target = self.acquirer.round_dir(0) / "query"
                return dist.on_main(
                    lambda: shared_start.copy_query(shared, target, self.engine.pool)
                )
        query = self.acquirer.query(
            round_, self._checkpoint(round_ - 1), self.watch, warm=round_ == 0
        )
        if query is None:
            if self.config.queries is None:
                self._end(
                    "finished",
                    "nothing is left to ask for: no region that the heuristic would select fits "
                    "the budget",
                )
                return None
            return {"picks": 0}
        return {"picks": len(query.picks)}

    def _answers(self, round_: int) -> JSON | None:
        if round_ == 0 and self.labels_of is not None:
            with self.watch("annotate"):
                return dist.on_main(self._take_labels)
        if not (self._done(round_, "query") or {})["picks"]:
            return {"outstanding": 0}
        with self.watch("annotate"):
            query = read_query(self.acquirer.round_dir(round_) / "query")
            left = dist.on_main(
                lambda: collect_answers(query, self.annotator, self.store, self.ledger)
            )
        if left["outstanding"]:
            where = f"{left['outstanding']} of {left['images']} images of round {round_} wait for "
            self._end("waiting", f"{where}answers in {left['where']}")
            return None
        return left

    def _take_labels(self) -> JSON:
        """Rank 0: round 0 is all that another run has been answered."""
        assert self.ledger is not None
        assert self.labels_of is not None
        pool, space = self.engine.pool, self.engine.label_space
        return taken_labels.copy(self.labels_of, self.store, self.ledger, pool, space)

    def _fit(self, round_: int) -> JSON | None:
        previous = self._checkpoint(round_ - 1)
        trainable = self.engine.label_space.trainable
        some = dist.on_main(lambda: {"keys": len(self.store.trainable_keys(trainable))})["keys"]
        until = self.config.until(round_)
        alone = has_source(self.engine) and until != 0  # the source can be trained on alone
        if not some and not alone:  # the model is the config's own start
            return {"checkpoint": None, "iterations": 0, "label_share": None}
        out_dir = self.acquirer.round_dir(round_) / "fit"
        if dist.is_main():
            shutil.rmtree(out_dir, ignore_errors=True)
            out_dir.mkdir(parents=True)
        dist.barrier()
        shared = self.shared
        if round_ == 0 and shared is not None:
            with self.watch("fit"):
                return dist.on_main(lambda: shared_start.copy_fit(shared, out_dir, self.work_dir))
        request = FitRequest(
            round=round_,
            seed=self.config.seed * 1000 + round_,
            store=self.store,
            out_dir=out_dir,
            init=self.config.round_init,
            previous=previous,
            until=until,
            iterations=self._iterations(round_),
        )
        with self.watch("fit"):
            result = self.engine.fit(request)
            dist.barrier()
        return {
            "checkpoint": str(result.checkpoint.relative_to(self.work_dir)),
            "iterations": result.iterations,
            "label_share": known(result.label_share),
        }

    def _iterations(self, round_: int) -> int | None:
        """How long this round trains; None: as the engine's config says."""
        rule = self.config.iterations
        if rule is None:
            return None

        def count() -> JSON:
            assert self.ledger is not None
            return {"iterations": rule.of(self.ledger.total_costs(round_))}

        return int(dist.on_main(count)["iterations"])

    def _evaluate(self, round_: int) -> JSON | None:
        with self.watch("evaluate"):
            confusion = self.engine.evaluate(self._checkpoint(round_))
        return {
            "miou": known(metrics.mean_iou(confusion)),
            "per_class_iou": [known(value) for value in metrics.iou(confusion).tolist()],
            "accuracy": known(metrics.accuracy(confusion)),
        }

    def _close_round(self) -> JSON:
        """Rank 0: write the record, show the line, and say whether the run ends here."""
        assert self.ledger is not None
        if self.summary is not None:
            self.summary.close_round(self.ledger, self.round)
        costs = self.ledger.total_costs(self.round)
        mious = [(self.ledger.done(r, "evaluate") or {}).get("miou") for r in range(self.round + 1)]
        return {"reason": stop_reason(self.config, self.round, costs, mious)}

    def _end(self, status: str, reason: str) -> bool:
        self.status, self.reason = status, reason
        if dist.is_main() and self.summary is not None:
            self.summary.stopped(reason if status == "finished" else None)
        return False

    def _checkpoint(self, round_: int) -> Path | None:
        """Checkpoint that the fit of a round left; None = the config's own start."""
        if round_ < 0:
            return None
        name = (self._done(round_, "fit") or {}).get("checkpoint")
        return None if name is None else self.work_dir / name

    def _done(self, round_: int, stage: str) -> JSON | None:
        """What a finished stage left, the same on every rank; None while it is not finished."""
        found = dist.on_main(
            lambda: {"payload": self.ledger.done(round_, stage) if self.ledger else None}
        )
        payload: JSON | None = found["payload"]
        return payload

    def _mark(self, round_: int, stage: str, payload: JSON) -> None:
        if self.ledger is not None:
            seconds = self.watch.take()
            self.ledger.mark(round_, stage, {**payload, "seconds": seconds}, sum(seconds.values()))
        dist.barrier()


def known(value: float) -> float | None:
    """NaN as None: what JSON can hold."""
    return None if math.isnan(value) else float(value)
