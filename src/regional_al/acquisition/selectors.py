"""The two ways to select: by score alone, where every image is scored once and only the best
candidates are kept, and by comparing units with one another, in a table of the whole pool."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from .. import selection
from ..heuristics import Observation, PoolHeuristic, ProposesPixels
from ..runtime import distributed as dist
from ..runtime.progress import progress
from ..selection import Basket
from ..selection.pool_table import PoolTable, TableWriter, read_table
from ..store.labels import LabelStore
from ..store.outside import check_folder
from ..store.query import Query, read_query
from ..types import PICK_DTYPE, Bool, Picks
from .candidates import (
    NOTHING,
    fresh_pixels,
    make_picks,
    pixel_rows,
    unit_candidates,
    window_candidates,
)
from .scorer import Scorer, naming
from .target import SelectionRequest

NO_PICKS: Picks = np.zeros(0, dtype=PICK_DTYPE)


@dataclass(frozen=True)
class StreamedSelector:
    """For pixel and unit heuristics: each rank keeps what may be picked whatever others hold."""

    request: SelectionRequest
    scorer: Scorer

    def candidates(self, share: Sequence[int]) -> tuple[Picks, int]:
        """See `Selector.candidates`."""
        request, target, budget = self.request, self.request.target, self.request.budget
        stream = None if budget.scope == "image" else self._stream()
        taken = centres_taken(request, self.scorer.store)
        chosen: list[Picks] = []
        cheapest = NOTHING

        def look(index: int, seen: Observation) -> tuple[Picks, int]:
            item = request.pool[index]
            limit = target.image_limit(item, budget) if stream is None else stream.budget
            least = -np.inf if stream is None else stream.threshold()
            with naming(item):
                if target.partition is not None:
                    scores, ids = self.scorer.unit_scores(
                        item, seen, request.heuristic, request.groups
                    )
                    picks = unit_candidates(index, item.key, scores, ids, seen.annotated, least)
                else:
                    picks = window_candidates(
                        index,
                        item.key,
                        self.scorer.dense(seen, request.heuristic),
                        target.radius,
                        request.suppress_radius,
                        seen.annotated,
                        taken.get(index, []),
                        limit,
                        budget.unit == "pixel",
                        least,
                        request.heuristic.column_major,
                    )
            costs = budget.cost_of(picks)
            least_cost = int(costs.min(initial=NOTHING))
            if stream is not None:
                stream.add(picks, costs)
                return NO_PICKS, least_cost
            return picks[selection.select_units(picks["score"], costs, limit)], least_cost

        with closing(self.scorer.each(request, share, look)) as looked:
            for picks, least_cost in progress(looked, "scoring", len(share)):
                chosen.append(picks)
                cheapest = min(cheapest, least_cost)
        if stream is not None:
            return stream.candidates()[0], cheapest
        return np.concatenate([NO_PICKS, *chosen]), cheapest

    def merge(self, parts: Sequence[Picks]) -> Picks:
        """See `Selector.merge`."""
        if self.request.budget.scope == "pool":
            stream = self._stream()
            for part in parts:
                stream.add(part, self.request.budget.cost_of(part))
            return stream.result()
        picks = np.concatenate(parts)
        keys = (picks["unit"], picks["col"], picks["row"], picks["image"], -picks["score"])
        return picks[np.lexsort(keys)]

    def _stream(self) -> selection.CandidateStream:
        """Selection over the pool. Windows end it when less than a whole one is left: a clipped
        one that would still fit somewhere is not worth walking every image to its last window."""
        request = self.request
        whole = request.target.window_area if request.budget.unit == "pixel" else 1
        return selection.CandidateStream(request.limit, slack=whole)


def centres_taken(request: SelectionRequest, store: LabelStore) -> dict[int, list[tuple[int, int]]]:
    """Centres picked in earlier rounds at the same target, by image (windows and pixels only). Of
    a round that was closed before all was answered, those that were answered."""
    taken: dict[int, list[tuple[int, int]]] = defaultdict(list)
    if request.target.partition is None:
        for earlier in request.work_dir.rounds_with_query():
            if earlier >= request.round:
                continue
            query = read_query(request.work_dir.query(earlier))
            if query.info.partition == request.target.region_type:  # a warm start may differ
                picks = query.picks
                if request.work_dir.closed(earlier).exists():
                    picks = picks[_answered(query, store)]
                for pick in picks:
                    taken[int(pick["image"])].append((int(pick["row"]), int(pick["col"])))
    return taken


def _answered(query: Query, store: LabelStore) -> Bool:
    """bool [n]: picks of windows or pixels whose centre has an answer."""
    picks = query.picks
    answered = np.zeros(len(picks), np.bool_)
    for index, key in query.keys.items():
        sidecar = store.annotated(key)
        if sidecar is not None:
            here = np.flatnonzero(picks["image"] == index)
            answered[here] = sidecar[picks["row"][here], picks["col"][here]] > 0
    return answered


@dataclass(frozen=True)
class PooledSelector:
    """For pool heuristics: each rank writes its part of a table, of all units or of the pixels that
    the heuristic proposes, from which rank 0 chooses."""

    request: SelectionRequest
    scorer: Scorer

    @property
    def heuristic(self) -> PoolHeuristic:
        """The request's heuristic."""
        assert isinstance(self.request.heuristic, PoolHeuristic)
        return self.request.heuristic

    def candidates(self, share: Sequence[int]) -> tuple[Picks, int]:
        """See `Selector.candidates`. There are no picks yet: the table is in files."""
        request = self.request
        writer = TableWriter(request.table, dist.rank())
        cheapest = NOTHING

        def look(index: int, seen: Observation) -> int:
            item = request.pool[index]
            with naming(item):
                picks, columns = self._described(index, seen)
            writer.add(picks, columns, item.key)
            open_ = picks[picks["pixels"] > 0]
            return int(request.budget.cost_of(open_).min(initial=NOTHING))

        try:
            with closing(self.scorer.each(request, share, look)) as looked:
                for least in progress(looked, "scoring", len(share)):
                    cheapest = min(cheapest, least)
        finally:
            writer.close()
        dist.barrier()
        return NO_PICKS, cheapest

    def _described(self, index: int, seen: Observation) -> tuple[Picks, dict[str, torch.Tensor]]:
        """The units of an image, or the pixels that the heuristic proposes, and its columns."""
        request, item = self.request, self.request.pool[index]
        if isinstance(self.heuristic, ProposesPixels) and request.target.partition is None:
            columns, pixels = self.scorer.describe_pixels(seen, self.heuristic)
            return pixel_rows(index, pixels, item.shape, seen.annotated), columns
        columns, ids = self.scorer.describe(item, seen, self.heuristic, request.groups)
        count = len(columns["score"])
        fresh = fresh_pixels(ids, count, seen.annotated)
        units = np.flatnonzero(np.bincount(ids.ravel(), minlength=count))
        return make_picks(index, np.zeros(len(units)), fresh[units], unit=units), columns

    def merge(self, parts: Sequence[Picks]) -> Picks:
        """See `Selector.merge`. The table is deleted."""
        del parts
        request = self.request
        check_folder(request.table)
        table = read_table(request.table, request.round, request.rounds, self.heuristic.vectors)
        picks = NO_PICKS if table is None else self._choose(table)
        shutil.rmtree(request.table, ignore_errors=True)
        return picks

    def _choose(self, table: PoolTable) -> Picks:
        """The heuristic's picks, in its order; `score` is the table's."""
        request = self.request
        costs = request.budget.cost_of(table.units)
        if request.budget.scope == "pool":
            basket = Basket(costs, table.open, request.limit)
        else:
            limits = request.target.image_limits(request.pool, request.budget)
            basket = Basket(costs, table.open, limits, table.image)
        # the last number: no image has it as its index
        rng = np.random.default_rng([self.scorer.seed, request.round, len(request.pool)])
        self.heuristic.choose(table, basket, rng)
        picks = table.units[basket.taken].copy()
        picks["score"] = table["score"][basket.taken]
        if request.target.partition is None:
            picks["unit"] = -1  # a pixel is where it is: its number was that of a row of the table
        return np.asarray(picks)
