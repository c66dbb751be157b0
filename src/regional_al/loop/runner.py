"""From a config file to a finished run: what `regional-al train` does, on every rank."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from .. import engines
from ..annotators import ANNOTATORS
from ..annotators.base import Annotator
from ..config import grammar
from ..config.budget import Budget
from ..config.grammar import Acquisition
from ..engines.base import Engine, has_source
from ..errors import BudgetError, ConfigError, RegionalALError, WorkDirError
from ..runtime import distributed as dist
from ..store.ledger import Ledger
from ..types import JSON
from . import shared_start, taken_labels
from .loop import ActiveLearningLoop
from .summary import Summary


def run_training(
    config: Path,
    work_dir: Path | None = None,
    resume: bool = False,
    cfg_options: dict[str, Any] | None = None,
    amp: bool = False,
    report: bool = True,
    smoke: bool = False,
) -> int:
    """Run (or resume) the acquisition that a config describes. Returns the exit code: 0 also when
    the run waits for answers. User mistakes raise RegionalALError, the same on every rank."""
    loaded = engines.load(config, cfg_options or {}, work_dir, amp=amp, smoke=smoke)
    acquisition = grammar.parse(loaded.acquisition)
    check_work_dir(loaded.work_dir, resume or loaded.resume)
    title = config.stem
    if smoke:
        title = f"SMOKE RUN of {title}: cut down, its numbers mean nothing"
        if dist.is_main():
            print("\n  ".join([title, *loaded.smoke]), flush=True)
    engine = loaded.build()
    run(engine, acquisition, loaded.work_dir, loaded.text, loaded.name, title, report)
    return 0


def run(
    engine: Engine,
    acquisition: Acquisition,
    work_dir: Path,
    text: str = "",
    engine_name: str = "torch",
    title: str = "run",
    report: bool = True,
) -> ActiveLearningLoop:
    """Run `acquisition` over an engine in a folder (new, or of the same run), on every rank.

    text: what else determines the results (the engine's config), for the ledger's fingerprint.
    report: draw report.html when the run ends.
    """
    annotator = ANNOTATORS.build(
        acquisition.annotator, pool=engine.pool, label_space=engine.label_space
    )
    loop = ActiveLearningLoop(engine, acquisition, annotator, work_dir)
    prints = fingerprints(engine, text)
    check_taken_over(loop, work_dir, prints)
    preflight(engine, acquisition, annotator, loop)
    if dist.is_main():
        loop.ledger = open_ledger(work_dir, acquisition, prints)
        loop.summary = Summary(work_dir, acquisition, engine, engine_name, title, dist.world_size())
        loop.summary.start()
    dist.barrier()
    loop.run()
    if dist.is_main():
        finish(loop, work_dir, loop.status, report)
    dist.barrier()
    return loop


def check_taken_over(loop: ActiveLearningLoop, work_dir: Path, prints: dict[str, str]) -> None:
    """Before anything is taken over: is there something to take over? Not asked when it was."""

    def look() -> JSON:
        if Ledger.exists(work_dir):
            with Ledger.open(work_dir, readonly=True) as ledger:
                if ledger.done(0, "answers" if loop.shared is None else "fit") is not None:
                    return {}
        if loop.shared is not None:
            shared_start.check(loop.shared, **prints)
        if loop.labels_of is not None:
            taken_labels.check(loop.labels_of, loop.engine.pool)
        return {}

    dist.on_main(look)


def check_work_dir(work_dir: Path, resume: bool) -> None:
    """Refuse to run into a folder that holds a run unless it is to be resumed. On every rank
    before any of them writes."""

    def look() -> JSON:
        if Ledger.exists(work_dir) and not resume:
            raise WorkDirError(
                f"{work_dir} holds a run: add --resume to go on with it, or name another --work-dir"
            )
        work_dir.mkdir(parents=True, exist_ok=True)
        return {}

    dist.on_main(look)


def preflight(
    engine: Engine, acquisition: Acquisition, annotator: Annotator, loop: ActiveLearningLoop
) -> None:
    """Every check that can be made before training, in the order of their cost."""
    if not len(engine.pool):
        raise ConfigError("the training data set holds no image: check its data_root and prefixes")
    queries = acquisition.queries
    nothing = acquisition.warm_start is None and not has_source(engine)
    if nothing and queries and queries[0] > 0:
        raise ConfigError(
            f"acquisition.warm_start=None leaves nothing to train on until queries[0]={queries[0]}:"
            " start queries at 0, or give a warm_start or a source_dataloader"
        )
    engine.preflight()

    def can_answer() -> JSON:
        if acquisition.rounds or acquisition.asks_at_first:  # else nobody is ever asked
            annotator.preflight()
        return {}

    dist.on_main(can_answer)
    loop.prepare()

    def can_pay() -> JSON:
        warm = acquisition.warm_start
        _check_budget("budget", acquisition.budget, loop)
        if warm is not None and warm.budget is not None:
            _check_budget("warm_start", warm.budget, loop)
        return {}

    dist.on_main(can_pay)


def _check_budget(key: str, budget: Budget, loop: ActiveLearningLoop) -> None:
    try:
        loop.acquirer.limit(budget, warm=key == "warm_start")
    except BudgetError as error:
        text = str(error)
        raise BudgetError(
            text if text.startswith("acquisition") else f"acquisition.{key}: {text}"
        ) from None


def fingerprints(engine: Engine, text: str) -> dict[str, str]:
    """config, pool: what must not change between the parts of a run."""
    pool = "\n".join(f"{item.key} {item.shape[0]}x{item.shape[1]}" for item in engine.pool)
    return {
        "config": hashlib.sha256(text.encode()).hexdigest(),
        "pool": hashlib.sha256(pool.encode()).hexdigest(),
    }


def open_ledger(work_dir: Path, acquisition: Acquisition, prints: dict[str, str]) -> Ledger:
    """The run's ledger; raises WorkDirError when the folder holds a run of another config."""
    if not Ledger.exists(work_dir):
        return Ledger.create(work_dir, acquisition=acquisition.resolved, **prints)
    ledger = Ledger.open(work_dir)
    ledger.check_fingerprint(acquisition=acquisition.resolved, **prints)
    return ledger


def finish(loop: ActiveLearningLoop, work_dir: Path, status: str, report: bool = True) -> None:
    """Rank 0: the last lines a person sees, and (if `report`) the report."""
    if status == "waiting":
        print(f"waiting: {loop.reason}. Run the same command with --resume to go on.")
    else:
        print(f"finished: {loop.reason}")
    if not report:
        return
    try:
        from ..report.html import write_report
    except ImportError:
        print("no report: pip install 'regional-al[report]'", file=sys.stderr)
        return
    try:
        print(f"report: {write_report(work_dir)}")
    except RegionalALError as error:  # the run itself is whole; drawing needs more packages
        print(f"no report: {error}", file=sys.stderr)
