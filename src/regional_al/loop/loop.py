"""The active learning loop: query -> answers -> fit -> evaluate, round after round.

Round 0 is the warm start; the model of round r - 1 picks the query of round r. Each stage leaves
its results in files and is then marked in the ledger, so an interrupted run resumes with that stage
and makes the same picks. While answers are missing the run ends as *waiting*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..acquisition.acquirer import Acquirer
from ..annotators import Annotator
from ..config.grammar import Acquisition, parse
from ..engines.base import Engine
from ..runtime import distributed as dist
from ..runtime.progress import Stopwatch
from ..store.labels import LabelStore
from ..store.prelabels import Prelabels, TrainingLabels
from ..store.work_dir import WorkDir
from ..types import JSON, U8
from . import pseudo_labels, stages
from .label_quality import LabelQuality
from .records import RunRecords
from .tracking import Tracking
from .warm_start import build_warm_start


class ActiveLearningLoop:
    """The rounds of one acquisition over an engine, recorded in a work dir.

    Complete on its own: it creates the ledger of the run, or resumes the one that is there, and
    writes results.json. `regional_al.run` adds checks before the first training, the annotator of
    the config, and the report. Every rank constructs the same loop; rank 0 writes.

    Args:
        engine: A training framework behind the `Engine` protocol.
        config: An `Acquisition`, or the dict that `Acquisition.parse` reads.
        annotator: Who answers the queries, see `regional_al.annotators.Annotator`.
        work_dir: Folder of the run; created if necessary.
        text: What else determines the results (the engine's config): another text is refused.
        engine_name: For results.json; default: the name of the engine's class.
        title: For results.json and the report.

    Attributes:
        round: The current round; 0 is the warm start.
        status: 'running', 'waiting' (for answers) or 'finished'.
        reason: Why the run ended, in one line.

    Raises:
        ConfigError: The acquisition is invalid.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.annotators import OracleAnnotator
        >>> from regional_al.testing import streets, toy
        >>> acquisition = {"level": "image", "heuristic": "Entropy", "budget": 1, "rounds": 1}
        >>> with TemporaryDirectory() as folder:
        ...     data = streets.generate(Path(folder) / "data", train=3, val=1, size=(32, 32))
        ...     engine = toy.toy_engine(data, iterations=1)
        ...     oracle = OracleAnnotator(engine.pool, engine.label_space)
        ...     loop = ActiveLearningLoop(engine, acquisition, oracle, Path(folder) / "run")
        ...     status = loop.run()  # doctest: +ELLIPSIS
        round...
        >>> status, loop.reason
        ('finished', 'all 1 rounds are done')
    """

    def __init__(
        self,
        engine: Engine,
        config: Acquisition | Mapping[str, Any],
        annotator: Annotator,
        work_dir: Path | str,
        *,
        text: str = "",
        engine_name: str | None = None,
        title: str = "run",
    ) -> None:
        self.engine = engine
        self.config = parse(config)
        self.annotator = annotator
        self.work_dir = WorkDir(Path(work_dir))
        self.store = LabelStore(self.work_dir.labels)
        self.acquirer = Acquirer(engine, self.config, self.store, self.work_dir.root)
        self.warm_start = build_warm_start(self.config)
        sources: dict[str, Path] = getattr(annotator, "sources", dict)()
        self.records = RunRecords(
            self.work_dir, self.config, engine, text, engine_name, title, sources
        )
        self.tracking = Tracking(self.work_dir, engine, title)
        self.round, self.status, self.reason = 0, "running", ""
        self.watch, self._prepared = Stopwatch(), False
        self._quality: LabelQuality | None = None

    def run(self) -> str:
        """Run rounds until the run is finished or waits for answers. Returns the status."""
        try:
            while self.step():
                pass
        finally:
            self.tracking.close()
            self.records.close()
        return self.status

    def step(self) -> bool:
        """Run the current round from the stage it has reached. True while more rounds follow."""
        self.open()
        first = self.warm_start if self.round == 0 else None
        if not (
            self._stage("query", first.query if first else stages.select)
            and self._stage("answers", first.answers if first else stages.collect)
            and self._stage("fit", first.fit if first else stages.train)
            and self._stage("evaluate", stages.evaluate)
        ):
            return False
        reason = self.records.close_round(self.round)
        self.tracking.close_round(self.round)
        if reason:
            return self.end("finished", reason)
        self.round += 1
        self.watch = Stopwatch()
        return True

    def check(self) -> None:
        """Refuse the work dir of another run, files that disagree with the ledger, and a warm
        start that is not there. Cheap."""
        self.records.check(lambda ledger: self.warm_start.check(self, ledger))

    def open(self) -> None:
        """Lock the work dir, check, prepare the partitions, and open the ledger or create it. Done
        by `step`. `run` unlocks the work dir at its end, `records.close()` does at any time."""
        if self.records.opened:
            return
        try:
            self.records.lock_in()
            self.check()
            self.prepare()
            self.records.open()
            self.tracking.open()
        except BaseException:
            self.records.close()
            raise

    def prepare(self) -> None:
        """Compute and cache the partitions of the pool, every rank its share."""
        if not self._prepared:
            with self.watch("prepare"):
                self.acquirer.prepare()
                pseudo_labels.check(self)
                dist.barrier()
        self._prepared = True

    def training_store(self) -> LabelStore:
        """The labels that a training sees: the answers, with `sieve` those that are left, with
        pseudo labels also these, and where there is none what a machine says, if the config has
        `prelabels`."""
        if self.config.prelabels is None and not self.config.reworks_answers:
            return self.store
        return TrainingLabels(self.work_dir.training_labels)

    @property
    def label_quality(self) -> LabelQuality | None:
        """What compares the labels of a run with `prelabels`, `sieve` or pseudo labels with the
        truth; None where the annotator does not know it of every image."""
        if self._quality is None and isinstance(self.training_store(), TrainingLabels):
            if not getattr(self.annotator, "has_truth", False):
                return None
            truth: Callable[[str], U8] = self.annotator.truth  # type: ignore[attr-defined]
            prelabels, engine = Prelabels(self.work_dir.prelabels), self.engine
            self._quality = LabelQuality(
                self.store, prelabels, truth, engine.pool, engine.label_space
            )
        return self._quality

    def end(self, status: str, reason: str) -> bool:
        """Note why the run ends here. Returns False, for `step`."""
        self.status, self.reason = status, reason
        self.records.stopped(reason if status == "finished" else None)
        return False

    def _stage(self, name: str, work: Callable[[ActiveLearningLoop], JSON | None]) -> bool:
        """Run one stage unless it is done. False when the run ends here (`work` returns None)."""
        if self.records.done(self.round, name) is None:
            result = work(self)
            if result is None:
                return False
            self.records.mark(self.round, name, result, self.watch.take())
        return True
