"""Score the pool and select within the budget: the middle of a round.

Every rank scores its own share of the pool, one image at a time; rank 0 merges what they keep. The
picks do not depend on the number of ranks.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..config.budget import Budget
from ..config.grammar import Acquisition
from ..config.warm_start import AT_RANDOM
from ..engines.base import Engine, predictions
from ..errors import BudgetError, RegionalALError
from ..heuristics import HEURISTICS, GroupsUnits, MergesUnits, PoolHeuristic, ProposesPixels
from ..runtime import distributed as dist
from ..runtime.progress import Stopwatch
from ..store.images import write_png
from ..store.labels import LabelStore
from ..store.prelabels import Prelabels
from ..store.query import Query, QueryInfo, read_query, write_query
from ..store.work_dir import WorkDir
from ..types import I32, JSON, PICK_DTYPE, Picks, PredictRequest
from .candidates import NOTHING, asked_map
from .scorer import Scorer, read_groups
from .selectors import PooledSelector, StreamedSelector
from .target import SelectionRequest, Target, check_proposals, check_supported

NO_UNIT = "no unlabelled unit is left that the heuristic would select"
"""Also where all scores are -inf, or 0 while scores are drawn in proportion."""


class Selector(Protocol):
    """Selects for one request; the same object on every rank.

    Example:
        >>> sorted(name for name in vars(Selector) if not name.startswith("_"))
        ['candidates', 'merge', 'request', 'scorer']
    """

    @property
    def request(self) -> SelectionRequest:
        """What is asked for."""

    @property
    def scorer(self) -> Scorer:
        """Scores the images."""

    def candidates(self, share: Sequence[int]) -> tuple[Picks, int]:
        """Score this rank's share of the pool.

        Args:
            share: Pool indices, every image on exactly one rank.

        Returns:
            What may still be picked, whatever the other ranks hold; and the cost of the cheapest
            candidate (`candidates.NOTHING`: there is none).
        """

    def merge(self, parts: Sequence[Picks]) -> Picks:
        """The picks, best first, from the candidates of all ranks. Runs on rank 0."""


@dataclass
class Acquirer:
    """Turns a trained model into a query. Built once per run, on every rank.

    Args:
        engine: Predicts; its pool is what is selected from.
        config: The checked `acquisition` key.
        store: What is annotated.
        work_dir: Of the run.

    Raises:
        UnsupportedError: The heuristic does not support the level or the region type.
        ConfigError: An argument of the heuristic or of the region is wrong.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.config import parse
        >>> from regional_al.runtime.progress import Stopwatch
        >>> from regional_al.testing import streets, toy
        >>> config = parse({"level": "image", "heuristic": "Entropy", "budget": 2})
        >>> with TemporaryDirectory() as folder:
        ...     data = streets.generate(Path(folder) / "data", train=3, val=1, size=(32, 32))
        ...     engine = toy.toy_engine(data)
        ...     acquirer = Acquirer(engine, config, LabelStore(Path(folder)), Path(folder))
        ...     query = acquirer.query(0, None, Stopwatch(), warm=True)
        ...     len(query.picks)
        2
    """

    engine: Engine
    config: Acquisition
    store: LabelStore
    work_dir: Path

    def __post_init__(self) -> None:
        config = self.config
        self.files = WorkDir(self.work_dir)
        self.heuristic = HEURISTICS.build(config.heuristic)
        check_supported(config, self.heuristic)
        cache = config.cache_dir or self.files.cache
        self.target = Target.build(config.level, config.region, cache)
        warm = config.warm_start
        self.warm_target = self.target
        self.warm_heuristic = HEURISTICS.build(AT_RANDOM if warm is None else warm.heuristic)
        if warm is not None:
            check_supported(warm, self.warm_heuristic)
        if warm is not None and (warm.level, warm.region) != (config.level, config.region):
            self.warm_target = Target.build(warm.level, warm.region, cache)
        self.nothing_left = ""
        """Why the last `query` returned None."""
        self._limits: dict[tuple[Budget, bool], int] = {}

    def prepare(self) -> None:
        """Check that the model can predict what the heuristic needs, before anything is trained
        (raises RegionalALError on all ranks); compute and cache partitions, this rank's share."""
        dist.raise_together(self._missing_views())
        for target in {id(t): t for t in (self.target, self.warm_target)}.values():
            if target.partition is not None:
                target.partition.prepare([self.engine.pool[i] for i in self.share()])

    def _missing_views(self) -> RegionalALError | None:
        """Why the model cannot predict dropout passes or the ensemble, if so: the engine says it
        when it is asked to predict, here for no image at all."""
        for needs in (self.heuristic.needs, self.warm_heuristic.needs):
            if needs is None or (needs.passes == 1 and not needs.ensemble):
                continue
            try:
                next(self.engine.predict(None, [], needs), None)
            except RegionalALError as error:
                return error
        return None

    def share(self) -> range:
        """Pool indices of this rank: every image on exactly one rank."""
        return range(dist.rank(), len(self.engine.pool), dist.world_size())

    def limit(self, budget: Budget, warm: bool = False) -> int:
        """The budget of one round over the pool in its own unit. Raises BudgetError if it exceeds
        the pool, or the pixels that the heuristic proposes."""
        if (budget, warm) not in self._limits:
            target = self.warm_target if warm else self.target
            limit = target.limit(self.engine.pool, budget)
            heuristic = self.warm_heuristic if warm else self.heuristic
            check_proposals(heuristic, target, self.engine.pool, budget)
            self._limits[budget, warm] = limit
        return self._limits[budget, warm]

    def round_dir(self, round_: int) -> Path:
        """Folder of a round."""
        return self.files.round(round_)

    def selector(
        self, round_: int, checkpoint: Path | None, warm: bool = False, extra: int = 0
    ) -> Selector:
        """What selects in a round: by a table of the pool for units of a pool heuristic and for
        pixels that it proposes, else by a stream of candidates. warm: the warm start; extra: see
        `query`."""
        config = self.config
        target, heuristic, budget, answer = (
            self.target,
            self.heuristic,
            config.budget,
            config.answer,
        )
        if warm:
            assert config.warm_start is not None
            assert config.warm_start.budget is not None
            target, heuristic = self.warm_target, self.warm_heuristic
            budget, answer = config.warm_start.budget, config.warm_start.answer
        request = SelectionRequest(
            pool=self.engine.pool,
            target=target,
            heuristic=heuristic,
            budget=budget,
            answer=answer,
            round=round_,
            rounds=config.rounds,
            checkpoint=checkpoint,
            work_dir=self.files,
            extra=extra if budget.scope == "pool" else 0,
        )
        machine = Prelabels(self.files.prelabels) if heuristic.needs_prelabels else None
        scorer = Scorer(self.engine, self.store, target, config.seed, machine)
        tabled = target.partition is not None or isinstance(heuristic, ProposesPixels)
        if isinstance(heuristic, PoolHeuristic) and tabled:
            return PooledSelector(request, scorer)
        return StreamedSelector(request, scorer)

    def query(
        self,
        round_: int,
        checkpoint: Path | None,
        watch: Stopwatch,
        warm: bool,
        extra: int = 0,
    ) -> Query | None:
        """Select for a round and write its query.

        Args:
            round_: The round; 0 is the warm start.
            checkpoint: Of the model that scores; None: the config's own start.
            watch: Measures the stages.
            warm: The warm start, by its own heuristic and budget.
            extra: Added to the budget of this round if it is over the pool, in its unit.

        Returns:
            The query; None on every rank when nothing can be selected (see `nothing_left`).

        Raises:
            BudgetError: In the first query: the budget pays for nothing.
        """
        selector = self.selector(round_, checkpoint, warm, extra)
        request = selector.request
        dist.on_main(lambda: self._clear_scores(round_))  # of a stopped run, perhaps of more ranks
        error: RegionalALError | None = None
        mine, cheapest = np.zeros(0, dtype=PICK_DTYPE), NOTHING
        with watch("score"):
            try:
                mine, cheapest = selector.candidates(self.share())
            except RegionalALError as caught:  # raised on all ranks together, below
                error = caught
            dist.raise_together(error)
        with watch("select"):
            parts = dist.gather_arrays(mine)
            folder = self.files.query(round_)

            def settle() -> JSON:
                picks = selector.merge(parts)
                if len(picks):
                    asked = self._asked(request, picks)
                    shown = None
                    if request.answer == "correction":
                        shown = Prelabels(self.files.prelabels).read
                    write_query(folder, self._info(request), picks, asked, shown)
                    self._clear_scores(round_)
                return {"picks": len(picks)}

            some = dist.on_main(settle)["picks"]
        if not some:
            costs = dist.gather_arrays(np.array([cheapest]))  # of all ranks, on rank 0 alone

            def explain() -> JSON:
                too_little = unaffordable(request, int(min(part[0] for part in costs)))
                if too_little and (warm or (round_ == 1 and not self.config.asks_at_first)):
                    key = "warm_start" if warm else "budget"
                    raise BudgetError(f"acquisition.{key}: {too_little}")
                return {"reason": too_little or NO_UNIT}

            self.nothing_left = str(dist.on_main(explain)["reason"])
            return None
        query = read_query(folder)
        with watch("preview"):
            if dist.is_main():
                first = list(dict.fromkeys(query.picks["image"].tolist()))[: self.config.previews]
                selector.scorer.write_previews(self.files.previews(round_), request, first)
        return query

    def write_predictions(self, query: Query, checkpoint: Path | None) -> None:
        """Write what a model predicts in the images of a query, as uint8 class indices, into the
        folder of the round: every rank its share. An annotation page shows it.

        Args:
            query: Of a round.
            checkpoint: Of the model; None: nothing has been trained, and nothing is written.
        """
        if checkpoint is None:
            return
        folder = self.files.predictions(query.info.round)
        share = sorted(query.keys)[dist.rank() :: dist.world_size()]
        for seen in predictions(self.engine, checkpoint, share, PredictRequest()):
            classes = seen.logits.argmax(0).to(torch.uint8).cpu().numpy()
            write_png(folder / f"{query.keys[seen.index]}.png", classes)
        dist.barrier()

    def _clear_scores(self, round_: int) -> JSON:
        shutil.rmtree(self.files.scores(round_), ignore_errors=True)
        return {}

    def _info(self, request: SelectionRequest) -> QueryInfo:
        target = request.target
        return QueryInfo(
            request.round,
            target.level,
            target.region_type,
            request.answer,
            target.label_radius,
            request.suppress_radius if target.partition is None else None,
        )

    def _asked(self, request: SelectionRequest, picks: Picks) -> Iterator[tuple[int, str, I32]]:
        target = request.target
        for index in np.unique(picks["image"]).tolist():
            item = self.engine.pool[index]
            ids = None if target.partition is None else target.partition.ids(item)
            if ids is not None and isinstance(request.heuristic, (GroupsUnits, MergesUnits)):
                ids = read_groups(request.groups, item.key)[ids]
            of_image = picks[picks["image"] == index]
            annotated = self.store.annotated(item.key)
            asked = asked_map(of_image, item.shape, ids, target.label_radius, annotated)
            yield index, item.key, asked


def unaffordable(request: SelectionRequest, cheapest: int) -> str:
    """Why the budget pays for nothing, if that is why nothing was picked, else ''.

    Not where the heuristic selects none of what the budget could pay (all scores 0 or -inf).

    Args:
        request: In which nothing was picked.
        cheapest: Cost of the cheapest candidate; NOTHING: there is none.
    """
    target, budget = request.target, request.budget
    if budget.scope == "pool":
        limit = request.limit
    else:
        limit = max(target.image_limits(request.pool, budget))
    if cheapest == NOTHING or cheapest <= limit:
        return ""
    if target.window_area > 1:  # a clipped window elsewhere might cost less
        return (
            f"{budget} per round is less than one window ({target.window_area} pixels), and so is "
            "not enough for the best window of any image: increase amount or reduce region.radius"
        )
    return (
        f"{budget} per round is less than the cheapest region ({cheapest} {budget.unit}s): "
        "increase amount or make regions smaller"
    )
