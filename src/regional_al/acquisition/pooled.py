"""Selection by a heuristic that compares units with one another: a table of the whole pool."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..heuristics import PoolHeuristic
from ..runtime import distributed as dist
from ..runtime.progress import progress
from ..selection import Basket
from ..selection.pool_table import PoolTable, TableWriter, read_table
from ..types import PICK_DTYPE, Picks
from .candidates import NOTHING, fresh_pixels, make_picks
from .scorer import Scorer, naming
from .target import SelectionRequest


@dataclass(frozen=True)
class PooledSelector:
    """For pool heuristics: each rank writes its part of a table, from which rank 0 chooses."""

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
        try:
            for index, seen in progress(self.scorer.observe(request, share), "scoring", len(share)):
                item = request.pool[index]
                with naming(item):
                    columns, ids = self.scorer.describe(item, seen, self.heuristic)
                count = len(columns["score"])
                pixels = fresh_pixels(ids, count, seen.annotated)
                units = np.flatnonzero(np.bincount(ids.ravel(), minlength=count))
                picks = make_picks(index, np.zeros(len(units)), pixels[units], unit=units)
                writer.add(picks, columns, item.key)
                open_ = picks[picks["pixels"] > 0]
                cheapest = min(cheapest, int(request.budget.cost_of(open_).min(initial=NOTHING)))
        finally:
            writer.close()
        dist.barrier()
        return np.zeros(0, dtype=PICK_DTYPE), cheapest

    def merge(self, parts: Sequence[Picks]) -> Picks:
        """See `Selector.merge`. The table is deleted."""
        del parts
        request = self.request
        table = read_table(request.table, request.round, request.rounds, self.heuristic.vectors)
        picks = np.zeros(0, dtype=PICK_DTYPE) if table is None else self._choose(table)
        shutil.rmtree(request.table, ignore_errors=True)
        return picks

    def _choose(self, table: PoolTable) -> Picks:
        """The heuristic's picks, in its order; `score` is the table's."""
        request = self.request
        costs = request.budget.cost_of(table.units)
        if request.budget.scope == "pool":
            limit = request.target.limit(request.pool, request.budget)
            basket = Basket(costs, table.open, limit)
        else:
            limits = [request.target.image_limit(item, request.budget) for item in request.pool]
            basket = Basket(costs, table.open, limits, table.image)
        # the last number: no image has it as its index
        rng = np.random.default_rng([self.scorer.seed, request.round, len(request.pool)])
        self.heuristic.choose(table, basket, rng)
        picks = table.units[basket.taken].copy()
        picks["score"] = table["score"][basket.taken]
        return np.asarray(picks)
