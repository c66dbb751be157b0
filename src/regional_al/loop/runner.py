"""From a config file to a finished run: `run_training` is `regional-al train`, on every rank."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import engines
from ..annotators import build_annotator
from ..config import grammar
from ..config.budget import Budget
from ..config.grammar import Acquisition
from ..engines.base import Engine, has_source
from ..errors import (
    BudgetError,
    ConfigError,
    RegionalALError,
    UnsupportedError,
    WorkDirError,
)
from ..runtime import distributed as dist
from ..runtime import peers
from ..store.files import overlooked
from ..store.labels import LabelStore
from ..store.ledger import Ledger
from ..store.listing import Listing
from ..store.lock import FolderLock
from ..store.work_dir import WorkDir
from ..types import JSON
from .loop import ActiveLearningLoop

log = logging.getLogger("regional_al")


def run(
    engine: Engine,
    acquisition: Acquisition | Mapping[str, Any],
    work_dir: Path | str,
    text: str = "",
    engine_name: str | None = None,
    title: str = "run",
    report: bool = True,
) -> ActiveLearningLoop:
    """Run an acquisition over an engine, or resume the one in `work_dir`. Call it on every rank.

    Beyond `ActiveLearningLoop` itself: the annotator is built from the config, everything that
    can be checked is checked before the first training, and the report is written at the end.

    Args:
        engine: A training framework behind the `Engine` protocol.
        acquisition: An `Acquisition`, or the dict that `Acquisition.parse` reads.
        work_dir: Folder of the run; created if necessary.
        text: Whatever else determines the results, e.g. the config of the engine.
        engine_name: For results.json; default: the name of the engine's class.
        title: For results.json and the report.
        report: Write report.html and figures when the run ends.

    Returns:
        The loop; its `status` is 'finished' or 'waiting' and `reason` says why.

    Raises:
        RegionalALError: A mistake in config, data or work dir; the same on every rank.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.testing import streets, toy
        >>> acquisition = {"level": "pixel", "heuristic": "Margin", "rounds": 1}
        >>> with TemporaryDirectory() as folder:
        ...     data = streets.generate(Path(folder) / "data", train=3, val=1, size=(32, 32))
        ...     engine = toy.toy_engine(data, iterations=1)
        ...     loop = run(engine, acquisition, Path(folder) / "run", report=False)
        ...     # doctest: +ELLIPSIS
        round...
        finished: all 1 rounds are done
        >>> loop.status
        'finished'
    """
    lock = FolderLock(Path(work_dir))
    return _run(lock, None, engine, acquisition, work_dir, text, engine_name, title, report)


def _run(
    lock: FolderLock,
    listing: Listing | None,
    engine: Engine,
    acquisition: Acquisition | Mapping[str, Any],
    work_dir: Path | str,
    text: str,
    engine_name: str | None,
    title: str,
    report: bool,
    command: JSON | None = None,
) -> ActiveLearningLoop:
    """`run` with the lock of the work dir, which the caller may hold already, and the listing of
    its files, which it may have begun since."""
    config = grammar.parse(acquisition)
    annotator = build_annotator(config.annotator, engine.pool, engine.label_space, config.seed)
    loop = ActiveLearningLoop(
        engine, config, annotator, work_dir, text=text, engine_name=engine_name, title=title
    )
    loop.records.lock, loop.records.command = lock, command
    loop.records.listing = listing
    with peers.watched(), loop.records.holding():
        loop.check()
        preflight(loop)
        loop.run()
        if dist.is_main():
            finish(loop, report)
        dist.barrier()
    return loop


def run_training(
    config: Path,
    work_dir: Path | None = None,
    resume: bool = False,
    cfg_options: dict[str, Any] | None = None,
    amp: bool = False,
    report: bool = True,
    smoke: bool = False,
    command: JSON | None = None,
) -> int:
    """Run, or resume, the acquisition of a config file.

    Args:
        config: A config of MMSegmentation, or of a registered engine, with an `acquisition` key.
        work_dir: Default: the config's `work_dir`, else ./work_dirs/<config stem>.
        resume: Resume the run in the work dir.
        cfg_options: Overrides by dotted key.
        amp: Mixed precision.
        report: Write report.html at the end.
        smoke: Shorten the run to minutes.
        command: How the run was started, for the ledger, see `store.ledger.COMMAND`.

    Returns:
        The exit code: 0 also when the run waits for answers.

    Raises:
        RegionalALError: A user's mistake, the same on every rank.

    Example:
        >>> from regional_al.errors import RegionalALError
        >>> try:
        ...     run_training(Path("missing.py"))
        ... except RegionalALError as error:
        ...     print("missing.py" in str(error))
        True
    """
    loaded = engines.load(config, cfg_options or {}, work_dir, amp=amp, smoke=smoke)
    acquisition = grammar.parse(loaded.acquisition)
    lock, listing = FolderLock(loaded.work_dir), None
    try:
        check_work_dir(loaded.work_dir, resume or loaded.resume, lock)
        if dist.is_main():  # its files are looked up while the engine is built
            listing = LabelStore(WorkDir(loaded.work_dir).labels).listing()
        title = config.stem
        if smoke:
            title = f"SMOKE RUN of {title}: cut down, its numbers mean nothing"
            if dist.is_main():
                print("\n  ".join([title, *loaded.smoke]), flush=True)
        engine = loaded.build()
        where, text = loaded.work_dir, loaded.text
        _run(lock, listing, engine, acquisition, where, text, loaded.name, title, report, command)
    finally:
        if listing is not None:
            listing.close()
        lock.release()
    return 0


def check_work_dir(work_dir: Path, resume: bool, lock: FolderLock) -> None:
    """Lock the folder, creating it; refuse one that already contains a run unless it is to be
    resumed. On every rank, before any of them writes."""

    def look() -> JSON:
        lock.acquire()
        if Ledger.exists(work_dir) and not resume:
            raise WorkDirError(
                f"{work_dir} already contains a run: add --resume to continue it, or choose "
                "another --work-dir"
            )
        return {}

    dist.on_main(look)


def preflight(loop: ActiveLearningLoop) -> None:
    """Every check that is possible before training, cheapest first. Raises RegionalALError."""
    engine, config = loop.engine, loop.config
    if not len(engine.pool):
        raise ConfigError("the training data set has no images: check its data_root and prefixes")
    if dist.is_main():
        tell_overlooked(loop.records.origin.images, len(engine.pool))
        if config.auto is not None:
            print(config.auto, flush=True)
    queries = config.queries
    nothing = config.warm_start is None and not has_source(engine)
    if nothing and queries and queries[0] > 0:
        raise ConfigError(
            f"acquisition.warm_start=None leaves nothing to train on until queries[0]={queries[0]}:"
            " start queries at 0, or give a warm_start or a source_dataloader"
        )
    if config.tiles is not None and not hasattr(engine, "tiling"):
        raise UnsupportedError(
            f"acquisition.tiles: {type(engine).__name__} does not cut images: give it a pool of "
            "tiles, which regional_al.store.tiling.cut_all makes, and leave tiles out"
        )
    check = getattr(engine, "check_acquisition", None)
    if check is not None:
        check(config)
    engine.preflight()

    def check_annotator() -> JSON:
        loop.warm_start.preflight(loop)
        if config.rounds or config.asks_at_first:  # otherwise nobody is ever asked
            loop.annotator.preflight()
        return {}

    dist.on_main(check_annotator)
    loop.prepare()

    def check_budgets() -> JSON:
        check_budget("budget", config.budget, loop)
        warn_of_exhaustion(loop)
        if config.warm_start is not None and config.warm_start.budget is not None:
            check_budget("warm_start", config.warm_start.budget, loop)
        return {}

    dist.on_main(check_budgets)


def tell_overlooked(images: Mapping[str, Mapping[int, str]], many: int) -> None:
    """Say which files beside the images are not in the pool because of their suffix.

    Args:
        images: Folder -> position -> name of the image file.
        many: How many images the pool has.
    """
    found = overlooked({folder: names.values() for folder, names in images.items()})
    if found:
        print(
            f"{len(found)} files are not in the pool of {many} images because of their "
            f"suffix, such as {found[0]}: rename them if they belong to it",
            file=sys.stderr,
        )


def check_budget(key: str, budget: Budget, loop: ActiveLearningLoop) -> None:
    """Raise BudgetError, naming the key, when the pool is smaller than a round's budget."""
    try:
        loop.acquirer.limit(budget, warm=key == "warm_start")
    except BudgetError as error:
        text = str(error)
        named = text if text.startswith("acquisition") else f"acquisition.{key}: {text}"
        raise BudgetError(named) from None


def warn_of_exhaustion(loop: ActiveLearningLoop) -> None:
    """Say in which round the pool will have less than the budget left; the run ends then."""
    config, acquirer = loop.config, loop.acquirer
    pool, budget, warm = loop.engine.pool, config.budget, config.warm_start
    total = acquirer.target.available(pool, budget)
    spent = 0
    if warm is not None and warm.budget is not None and warm.budget.unit == budget.unit:
        spent = acquirer.limit(warm.budget, warm=True)
    short = max(0, total - spent) // acquirer.limit(budget) + 1
    if short <= config.rounds:
        log.warning(
            f"acquisition.budget: {budget} in each of {config.rounds} rounds is more than the pool "
            f"has ({total} {budget.unit}s): round {short} gets what is left, then nothing is left "
            "to ask"
        )


def finish(loop: ActiveLearningLoop, report: bool = True) -> None:
    """Rank 0: say how the run ended and, if `report`, write the report."""
    if loop.status == "waiting":
        print(f"waiting: {loop.reason}. Then run the same command with --resume.")
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
        print(f"report: {write_report(loop.work_dir.root)}")
    except RegionalALError as error:  # the run is complete; drawing needs more packages
        print(f"no report: {error}", file=sys.stderr)
