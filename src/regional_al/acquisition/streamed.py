"""Selection by score alone: every image is scored once, and only the best candidates are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from .. import selection
from ..runtime.progress import progress
from ..store.query import read_query
from ..types import PICK_DTYPE, Picks
from .candidates import unit_candidates, window_candidates
from .task import Task, naming

Taken = dict[int, list[tuple[int, int]]]
NOTHING = int(np.iinfo(np.int64).max)  # costs more than any budget


def candidates(task: Task, share: Sequence[int]) -> tuple[Picks, int]:
    """(candidates of these images that may be picked whatever other ranks hold, cheapest cost)."""
    place, budget, heuristic, scorer = task.place, task.budget, task.heuristic, task.scorer
    taken = centres_taken(task)
    cheapest = NOTHING
    stream = None if budget.scope == "image" else candidate_stream(task)
    chosen: list[Picks] = []
    for index, seen in progress(
        scorer.observe(task.checkpoint, share, heuristic, task.round), "scoring", len(share)
    ):
        item = task.pool[index]
        limit = place.image_limit(item, budget) if stream is None else stream.budget
        least = -np.inf if stream is None else stream.threshold()
        with naming(item):
            if place.partition is not None:
                scores, ids = scorer.units(item, seen, heuristic, task.groups_dir)
                picks = unit_candidates(index, item.key, scores, ids, seen.annotated, least)
            else:
                picks = window_candidates(
                    index,
                    item.key,
                    scorer.dense(seen, heuristic),
                    place.radius,
                    task.suppress_radius,
                    seen.annotated,
                    taken.get(index, []),
                    limit,
                    budget.unit == "pixel",
                    least,
                    heuristic.column_major,
                )
        costs = budget.cost_of(picks)
        cheapest = min(cheapest, int(costs.min(initial=NOTHING)))
        if stream is not None:
            stream.add(picks, costs)
        else:
            chosen.append(picks[selection.select_units(picks["score"], costs, limit)])
    if stream is not None:
        return stream.candidates()[0], cheapest
    return (np.concatenate(chosen) if chosen else np.zeros(0, dtype=PICK_DTYPE)), cheapest


def merge(task: Task, parts: Sequence[Picks]) -> Picks:
    """Rank 0: one best-first array from the candidates of all ranks."""
    if task.budget.scope == "pool":
        stream = candidate_stream(task)
        for part in parts:
            stream.add(part, task.budget.cost_of(part))
        return stream.result()
    picks = np.concatenate(parts)
    order = np.lexsort((picks["unit"], picks["col"], picks["row"], picks["image"], -picks["score"]))
    return picks[order]


def candidate_stream(task: Task) -> selection.CandidateStream:
    """Selection over the pool. Windows end it when less than a whole one is left: a clipped
    one that would still fit somewhere is not worth walking every image to its last window."""
    limit = task.place.limit(task.pool, task.budget)
    return selection.CandidateStream(limit, slack=whole_window(task))


def whole_window(task: Task) -> int:
    """Cost of a window that is not clipped, in the unit of the budget; 1 for pixels and units."""
    return (2 * task.place.radius + 1) ** 2 if task.budget.unit == "pixel" else 1


def centres_taken(task: Task) -> Taken:
    """Centres picked in earlier rounds at the same place, by image (windows and pixels only)."""
    taken: Taken = defaultdict(list)
    if task.place.partition is None:
        for earlier in range(task.round):
            folder = task.work_dir / "rounds" / f"{earlier:03d}" / "query"
            if not folder.exists():
                continue
            query = read_query(folder)
            if query.info.partition == task.place.kind:  # a warm start may be of another level
                for pick in query.picks:
                    taken[int(pick["image"])].append((int(pick["row"]), int(pick["col"])))
    return taken
