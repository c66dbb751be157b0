"""Score the pool and pick within the budget: the middle of a round.

Every rank scores its own share of the pool, one image at a time, and keeps only candidates that
could still be picked; rank 0 merges them. The picks do not depend on how many ranks there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import dist, selection
from .budget import Budget
from .candidates import asked_map, unit_candidates, window_candidates
from .config import Acquisition
from .engines.base import Engine
from .errors import BudgetError, RegionalALError, UnsupportedError
from .heuristics import HEURISTICS, Heuristic
from .labels import LabelStore
from .partitions import PARTITIONS
from .partitions.base import Partition
from .progress import progress
from .query import Query, QueryInfo, read_query, write_query
from .scoring import Scorer
from .timing import Stopwatch
from .types import I32, JSON, PICK_DTYPE, Picks, PoolItem

Taken = dict[int, list[tuple[int, int]]]
NOTHING = np.iinfo(np.int64).max  # costs more than any budget


@dataclass
class Acquirer:
    """Turns a trained model into a query. Built once a run; holds the partition and heuristic."""

    engine: Engine
    config: Acquisition
    store: LabelStore
    work_dir: Path

    def __post_init__(self) -> None:
        self.heuristic = HEURISTICS.build(self.config.heuristic)
        if self.config.level not in self.heuristic.levels:
            raise_level(self.config, self.heuristic)
        self.random = HEURISTICS.build("Random")
        kind = self.config.region["type"]
        self.windowed = kind in ("window", "pixel")
        cache = self.config.cache_dir or self.work_dir / "cache"
        self.partition: Partition | None = (
            None if self.windowed else PARTITIONS.build(self.config.region, cache_dir=cache)
        )
        self.label_radius = int(self.config.region.get("radius", 0)) if self.windowed else None
        self.scorer = Scorer(
            self.engine, self.config.level, self.partition, self.label_radius or 0, self.config.seed
        )

    def prepare(self) -> None:
        """Compute and cache partitions (this rank's share of the pool)."""
        if self.partition is not None:
            self.partition.prepare([self.engine.pool[i] for i in self.share()])

    def share(self) -> range:
        """Pool indices of this rank: every image on exactly one rank."""
        return range(dist.rank(), len(self.engine.pool), dist.world_size())

    def available(self, items: Sequence[PoolItem], budget: Budget) -> int:
        """How many of the budget's unit these images hold in all (what a percentage refers to)."""
        if budget.unit == "image":
            return len(items)
        if budget.unit == "pixel" or self.config.level == "pixel":
            return sum(h * w for h, w in (item.shape for item in items))
        if self.partition is not None:
            return sum(self.partition.count(item) for item in items)
        side = 2 * (self.label_radius or 0) + 1
        return sum(max(1, h * w // side**2) for h, w in (item.shape for item in items))

    def limit(self, budget: Budget) -> int:
        """The pool-wide budget of one round in its own unit. Raises BudgetError above the pool."""
        if budget.scope == "image":
            return sum(self.image_limit(budget, item) for item in self.engine.pool)
        return budget.resolve(self.available(self.engine.pool, budget))

    def image_limit(self, budget: Budget, item: PoolItem) -> int:
        return budget.resolve(self.available([item], budget))

    def query(
        self, round_: int, checkpoint: Path | None, watch: Stopwatch, warm: bool
    ) -> Query | None:
        """Pick for round `round_` and write its query. None on every rank when nothing is left.

        warm: the random warm start; nothing is predicted then.
        """
        budget = self.config.budget
        heuristic = self.heuristic
        if warm:
            assert self.config.warm_start is not None
            budget, heuristic = self.config.warm_start, self.random
        suppress = self.suppress_radius()
        error: RegionalALError | None = None
        mine = np.zeros(0, dtype=PICK_DTYPE)
        with watch("score"):
            try:
                mine = self._candidates(round_, checkpoint, budget, heuristic, suppress)
            except RegionalALError as caught:  # raised on all ranks together, below
                error = caught
            dist.raise_together(error)
        with watch("select"):
            parts = dist.gather_arrays(mine)
            picks = self._merge(parts, budget) if dist.is_main() else mine
            folder = self.round_dir(round_) / "query"
            info = QueryInfo(
                round_, self.config.level, self.config.region["type"], self.config.answer,
                self.label_radius, suppress if self.windowed else None,
            )  # fmt: skip
            if dist.is_main() and len(picks):
                write_query(folder, info, picks, self._asked(picks))
            some = dist.broadcast_bytes(b"1" if dist.is_main() and len(picks) else b"")
        if not some:
            if warm or (round_ == 1 and self.config.warm_start is None):
                self._refuse_unaffordable("warm_start" if warm else "budget", budget)
            return None
        query = read_query(folder)
        with watch("preview"):
            if dist.is_main():
                first = list(dict.fromkeys(query.picks["image"].tolist()))[: self.config.previews]
                preview = self.round_dir(round_) / "preview"
                self.scorer.write_previews(preview, checkpoint, first, heuristic, round_)
        return query

    def suppress_radius(self) -> int:
        """Windows: twice the labelled radius (RIPU); pixels: the heuristic's own, 0 by default."""
        if self.config.level == "pixel":
            return self.heuristic.pixel_suppress_radius
        return 2 * (self.label_radius or 0)

    def round_dir(self, round_: int) -> Path:
        return self.work_dir / "rounds" / f"{round_:03d}"

    def _candidates(
        self, round_: int, checkpoint: Path | None, budget: Budget, heuristic: Heuristic,
        suppress: int,
    ) -> Picks:  # fmt: skip
        """This rank's candidates: those that may be picked, whatever other ranks hold."""
        taken = self._taken(round_)
        self.cheapest = NOTHING
        pooled = None if budget.scope == "image" else self._stream(budget)
        chosen: list[Picks] = []
        share = self.share()
        for index, logits in progress(
            self.scorer.logits(checkpoint, share, heuristic), "scoring", len(share)
        ):
            item = self.engine.pool[index]
            limit = self.image_limit(budget, item) if pooled is None else pooled.budget
            least = -np.inf if pooled is None else pooled.threshold()
            rng = self.scorer.rng(round_, index)
            annotated = self.store.annotated(item.key)
            with naming(item):
                if self.partition is not None:
                    scores, ids = self.scorer.units(item, logits, heuristic, rng)
                    picks = unit_candidates(index, item.key, scores, ids, annotated, least)
                else:
                    picks = window_candidates(
                        index, item.key, self.scorer.dense(logits, heuristic, rng),
                        self.label_radius or 0, suppress, annotated, taken.get(index, []), limit,
                        budget.unit == "pixel", least,
                    )  # fmt: skip
            costs = budget.cost_of(picks)
            self.cheapest = min(self.cheapest, costs.min(initial=NOTHING))
            if pooled is not None:
                pooled.add(picks, costs)
            else:
                chosen.append(picks[selection.select_units(picks["score"], costs, limit)])
        if pooled is not None:
            return pooled.candidates()[0]
        return np.concatenate(chosen) if chosen else np.zeros(0, dtype=PICK_DTYPE)

    def _stream(self, budget: Budget) -> selection.CandidateStream:
        """Selection over the pool. Windows end it when less than a whole one is left: a clipped
        one that would still fit somewhere is not worth walking every image to its last window."""
        whole = (2 * (self.label_radius or 0) + 1) ** 2 if budget.unit == "pixel" else 1
        return selection.CandidateStream(self.limit(budget), slack=whole)

    def _refuse_unaffordable(self, key: str, budget: Budget) -> None:
        """Raise BudgetError when the first query finds units, but none that the budget can pay."""
        cheapest = dist.gather_arrays(np.array([self.cheapest]))

        def check() -> JSON:
            least = int(min(part[0] for part in cheapest))
            if least < NOTHING:
                raise BudgetError(
                    f"acquisition.{key}: {budget} a round is below the cheapest region, which "
                    f"costs {least} {budget.unit}s: raise it, or make regions smaller"
                )
            return {}

        dist.on_main(check)

    def _merge(self, parts: Sequence[Picks], budget: Budget) -> Picks:
        """Rank 0: one best-first array from the candidates of all ranks."""
        if budget.scope == "pool":
            stream = self._stream(budget)
            for part in parts:
                stream.add(part, budget.cost_of(part))
            return stream.result()
        picks = np.concatenate(parts)
        order = np.lexsort((picks["unit"], picks["col"], picks["row"], picks["image"],
                            -picks["score"]))  # fmt: skip
        return picks[order]

    def _asked(self, picks: Picks) -> Iterator[tuple[int, str, I32]]:
        for index in np.unique(picks["image"]).tolist():
            item = self.engine.pool[index]
            ids = None if self.partition is None else self.partition.ids(item)
            of_image = picks[picks["image"] == index]
            annotated = self.store.annotated(item.key)
            yield (
                index,
                item.key,
                asked_map(of_image, item.shape, ids, self.label_radius, annotated),
            )

    def _taken(self, round_: int) -> Taken:
        """Centres picked in earlier rounds, by image (windows and pixels only)."""
        taken: Taken = defaultdict(list)
        if self.windowed:
            for earlier in range(round_):
                folder = self.round_dir(earlier) / "query"
                if folder.exists():
                    for pick in read_query(folder).picks:
                        taken[int(pick["image"])].append((int(pick["row"]), int(pick["col"])))
        return taken


@contextmanager
def naming(item: PoolItem) -> Iterator[None]:
    """Name the image in an error raised inside that does not."""
    try:
        yield
    except RegionalALError as error:
        if item.key in str(error):
            raise
        raise type(error)(f"image {item.key!r}: {error}") from None


def raise_level(config: Acquisition, heuristic: Heuristic) -> None:
    """Refuse a heuristic at a level where it makes no sense, by name."""
    raise UnsupportedError(
        f"heuristic {config.heuristic['type']!r} makes no sense at level={config.level!r}; "
        f"it works at: {', '.join(heuristic.levels)}"
    )
