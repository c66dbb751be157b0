"""Selection by a heuristic that ranks units against one another: a table of the whole pool."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..runtime import distributed as dist
from ..runtime.progress import progress
from ..selection import Basket
from ..selection.pool_table import PoolTable, TableWriter, read_table
from ..types import PICK_DTYPE, Picks
from .candidates import fresh_pixels, make_picks
from .streamed import NOTHING
from .task import Task, naming


def candidates(task: Task, share: Sequence[int]) -> tuple[Picks, int]:
    """Write this rank's part of the table; (no candidates, cheapest cost of an open unit)."""
    partition, scorer, heuristic = task.place.partition, task.scorer, task.heuristic
    assert partition is not None
    expected = sum(partition.count(item) for item in task.pool)
    writer = TableWriter(table_dir(task), dist.rank(), expected, heuristic.vectors)
    cheapest = NOTHING
    try:
        for index, seen in progress(
            scorer.observe(task.checkpoint, share, heuristic, task.round), "scoring", len(share)
        ):
            item = task.pool[index]
            with naming(item):
                columns, ids = scorer.describe(item, seen, heuristic)
            count = len(columns["score"])
            pixels = fresh_pixels(ids, count, seen.annotated)
            units = np.flatnonzero(np.bincount(ids.ravel(), minlength=count))
            picks = make_picks(index, np.zeros(len(units)), pixels[units], unit=units)
            writer.add(picks, columns, item.key)
            open_ = picks[picks["pixels"] > 0]
            cheapest = min(cheapest, int(task.budget.cost_of(open_).min(initial=NOTHING)))
    finally:
        writer.close()
    dist.barrier()
    return np.zeros(0, dtype=PICK_DTYPE), cheapest


def merge(task: Task, parts: Sequence[Picks]) -> Picks:
    """Rank 0: read the table, let the heuristic choose, and forget the table."""
    del parts
    table = read_table(table_dir(task), task.round, task.rounds)
    picks = np.zeros(0, dtype=PICK_DTYPE) if table is None else choose(task, table)
    shutil.rmtree(table_dir(task), ignore_errors=True)
    return picks


def choose(task: Task, table: PoolTable) -> Picks:
    """The heuristic's picks from a table, in its order; `score` is the table's."""
    costs = task.budget.cost_of(table.units)
    if task.budget.scope == "pool":
        basket = Basket(costs, table.open, task.place.limit(task.pool, task.budget))
    else:
        limits = [task.place.image_limit(item, task.budget) for item in task.pool]
        basket = Basket(costs, table.open, limits, table.image)
    seed = [task.scorer.seed, task.round, len(task.pool)]  # the last: no image has this number
    task.heuristic.choose(table, basket, np.random.default_rng(seed))
    picks = table.units[basket.taken].copy()
    picks["score"] = table["score"][basket.taken]
    return np.asarray(picks)


def table_dir(task: Task) -> Path:
    return task.round_dir / "table"
