"""Selection by score alone: every image is scored once, and only the best candidates are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import selection
from ..runtime.progress import progress
from ..store.query import read_query
from ..types import PICK_DTYPE, Picks
from .candidates import NOTHING, unit_candidates, window_candidates
from .scorer import Scorer, naming
from .target import SelectionRequest


@dataclass(frozen=True)
class StreamedSelector:
    """For pixel and unit heuristics: each rank keeps what may be picked whatever others hold."""

    request: SelectionRequest
    scorer: Scorer

    def candidates(self, share: Sequence[int]) -> tuple[Picks, int]:
        """See `Selector.candidates`."""
        request, target, budget = self.request, self.request.target, self.request.budget
        stream = None if budget.scope == "image" else self._stream()
        taken = centres_taken(request)
        chosen: list[Picks] = []
        cheapest = NOTHING
        for index, seen in progress(self.scorer.observe(request, share), "scoring", len(share)):
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
            cheapest = min(cheapest, int(costs.min(initial=NOTHING)))
            if stream is not None:
                stream.add(picks, costs)
            else:
                chosen.append(picks[selection.select_units(picks["score"], costs, limit)])
        if stream is not None:
            return stream.candidates()[0], cheapest
        return (np.concatenate(chosen) if chosen else np.zeros(0, dtype=PICK_DTYPE)), cheapest

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
        limit = request.target.limit(request.pool, request.budget)
        return selection.CandidateStream(limit, slack=whole)


def centres_taken(request: SelectionRequest) -> dict[int, list[tuple[int, int]]]:
    """Centres picked in earlier rounds at the same target, by image (windows and pixels only)."""
    taken: dict[int, list[tuple[int, int]]] = defaultdict(list)
    if request.target.partition is None:
        for earlier in request.work_dir.rounds_with_query():
            if earlier >= request.round:
                continue
            query = read_query(request.work_dir.query(earlier))
            if query.info.partition == request.target.region_type:  # a warm start may differ
                for pick in query.picks:
                    taken[int(pick["image"])].append((int(pick["row"]), int(pick["col"])))
    return taken
