"""Score the pool and pick within the budget: the middle of a round.

Every rank scores its own share of the pool, one image at a time, and keeps only candidates that
could still be picked (`streamed`), or, for heuristics that rank units against one another, a table
of its units (`pooled`); rank 0 merges them. The picks do not depend on how many ranks there are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config.budget import Budget
from ..config.grammar import Acquisition
from ..engines.base import Engine
from ..errors import BudgetError, RegionalALError
from ..heuristics import HEURISTICS
from ..runtime import distributed as dist
from ..runtime.timing import Stopwatch
from ..store.labels import LabelStore
from ..store.query import Query, QueryInfo, read_query, write_query
from ..types import I32, JSON, PICK_DTYPE, Picks
from . import pooled, streamed
from .candidates import asked_map
from .place import Place
from .scorer import Scorer, read_groups
from .task import Task, refuse_senseless


@dataclass
class Acquirer:
    """Turns a trained model into a query. Built once a run; holds the partition and heuristic."""

    engine: Engine
    config: Acquisition
    store: LabelStore
    work_dir: Path

    def __post_init__(self) -> None:
        config = self.config
        self.heuristic = HEURISTICS.build(config.heuristic)
        self.random = HEURISTICS.build("Random")
        refuse_senseless(config, self.heuristic)
        cache = config.cache_dir or self.work_dir / "cache"
        self.place = Place.build(config.level, config.region, cache)
        warm = config.warm_start
        self.warm_place = self.place
        if warm is not None and (warm.level, warm.region) != (config.level, config.region):
            self.warm_place = Place.build(warm.level, warm.region, cache)

    def prepare(self) -> None:
        """See that the model can give what the heuristic needs, before anything is trained (raises
        RegionalALError on all ranks); compute and cache partitions, this rank's share."""
        dist.raise_together(self._missing_views())
        for place in {id(p): p for p in (self.place, self.warm_place)}.values():
            if place.partition is not None:
                place.partition.prepare([self.engine.pool[i] for i in self.share()])

    def _missing_views(self) -> RegionalALError | None:
        """Why the config's model cannot give dropout passes or the ensemble, if so: the engine
        says it when it is asked to predict, here for no image at all."""
        needs = self.heuristic.needs
        if needs is None or (needs.passes == 1 and not needs.ensemble):
            return None
        try:
            next(self.engine.predict(None, [], needs), None)
        except RegionalALError as error:
            return error
        return None

    def share(self) -> range:
        """Pool indices of this rank: every image on exactly one rank."""
        return range(dist.rank(), len(self.engine.pool), dist.world_size())

    def limit(self, budget: Budget, warm: bool = False) -> int:
        """The pool-wide budget of one round in its own unit. Raises BudgetError above the pool."""
        return (self.warm_place if warm else self.place).limit(self.engine.pool, budget)

    def query(
        self, round_: int, checkpoint: Path | None, watch: Stopwatch, warm: bool
    ) -> Query | None:
        """Pick for round `round_` and write its query. None on every rank when nothing is left.

        warm: the random warm start; nothing is predicted then.
        """
        task = self._task(round_, checkpoint, warm)
        method = pooled if task.pooled else streamed
        error: RegionalALError | None = None
        mine = np.zeros(0, dtype=PICK_DTYPE)
        cheapest = streamed.NOTHING
        with watch("score"):
            try:
                mine, cheapest = method.candidates(task, self.share())
            except RegionalALError as caught:  # raised on all ranks together, below
                error = caught
            dist.raise_together(error)
        with watch("select"):
            parts = dist.gather_arrays(mine)
            folder = self.round_dir(round_) / "query"

            def settle() -> JSON:
                picks = method.merge(task, parts)
                if len(picks):
                    write_query(folder, self._info(task), picks, self._asked(task, picks))
                    shutil.rmtree(task.groups_dir, ignore_errors=True)
                return {"picks": len(picks)}

            some = dist.on_main(settle)["picks"]
        if not some:
            if warm or (round_ == 1 and not self.config.asks_at_first):
                refuse_unaffordable("warm_start" if warm else "budget", task, cheapest)
            return None
        query = read_query(folder)
        with watch("preview"):
            if dist.is_main():
                first = list(dict.fromkeys(query.picks["image"].tolist()))[: self.config.previews]
                preview = self.round_dir(round_) / "preview"
                task.scorer.write_previews(preview, checkpoint, first, task.heuristic, round_)
        return query

    def round_dir(self, round_: int) -> Path:
        return self.work_dir / "rounds" / f"{round_:03d}"

    def _task(self, round_: int, checkpoint: Path | None, warm: bool) -> Task:
        config = self.config
        heuristic, place, budget, answer = self.heuristic, self.place, config.budget, config.answer
        if warm:
            assert config.warm_start is not None
            assert config.warm_start.budget is not None
            heuristic, place, budget = self.random, self.warm_place, config.warm_start.budget
            answer = config.warm_start.answer
        return Task(
            pool=self.engine.pool,
            store=self.store,
            place=place,
            heuristic=heuristic,
            budget=budget,
            answer=answer,
            round=round_,
            rounds=config.rounds,
            checkpoint=checkpoint,
            work_dir=self.work_dir,
            scorer=Scorer(self.engine, self.store, place, config.seed),
        )

    def _info(self, task: Task) -> QueryInfo:
        place = task.place
        suppress = task.suppress_radius if place.partition is None else None
        return QueryInfo(
            task.round, place.level, place.kind, task.answer, place.label_radius, suppress
        )

    def _asked(self, task: Task, picks: Picks) -> Iterator[tuple[int, str, I32]]:
        place = task.place
        for index in np.unique(picks["image"]).tolist():
            item = self.engine.pool[index]
            ids = None if place.partition is None else place.partition.ids(item)
            if ids is not None and task.heuristic.groups:
                ids = read_groups(task.groups_dir, item.key)[ids]
            of_image = picks[picks["image"] == index]
            annotated = self.store.annotated(item.key)
            asked = asked_map(of_image, item.shape, ids, place.label_radius, annotated)
            yield index, item.key, asked


def refuse_unaffordable(key: str, task: Task, mine: int) -> None:
    """Raise BudgetError when the first query finds units, but none that the budget can pay.

    Nothing is raised where units are affordable but the heuristic asks for none of them (all scores
    are 0 or -inf). mine: this rank's cheapest unit. Called on every rank."""
    cheapest = dist.gather_arrays(np.array([mine]))
    budget, place = task.budget, task.place

    def check() -> JSON:
        least = int(min(part[0] for part in cheapest))
        if budget.scope == "pool":
            limit, whole = place.limit(task.pool, budget), streamed.whole_window(task)
        else:
            limit, whole = max(place.image_limit(item, budget) for item in task.pool), 1
        if least < streamed.NOTHING and limit < max(least, whole):
            what = f"the cheapest region ({least} {budget.unit}s)"
            if whole > 1:
                what = f"one window ({whole} pixels)"
            raise BudgetError(
                f"acquisition.{key}: {budget} per round is less than {what}: raise it, or make "
                "regions smaller"
            )
        return {}

    dist.on_main(check)
