"""`regional-al suspects`: likely label errors of a run, for a second look."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ..checks import integer
from ..errors import WorkDirError
from ..store.ledger import COMMAND, Ledger
from ..types import JSON

COLUMNS = (
    "rank", "image", "round", "item", "row", "col", "pixels", "label", "predicted",
    "label_probability", "predicted_probability", "score", "unseen",
)  # fmt: skip


def run(
    work_dir: Path, config: Path | None, cfg_options: Sequence[str], top: int, out: Path | None
) -> int:
    """Judge the labels of a run, write the table and the page, print the first lines. Returns 0.

    Args:
        work_dir: Of the run.
        config: Of its training; None: the one that it was started with.
        cfg_options: KEY=VALUE, as for the training; with the config that the run was started with,
            added to those that it was started with.
        top: Suspects on the page.
        out: The table; None: `suspects.csv` in the work dir. The page lies beside it.

    Raises:
        RegionalALError: There is no run, no model, or the config is not that of the run.
    """
    from .. import engines
    from ..review import find_suspects
    from ..review.page import render
    from ..runtime.progress import progress
    from ..store.images import replacing
    from .options import parse_options
    from .train import check_config

    integer("--top", top, 0)
    started = {} if config is not None else command_of(work_dir)
    where = config or Path(str(started["config"]))
    check_config(where)
    given = parse_options([*started.get("cfg_options", ()), *cfg_options])
    amp, smoke = bool(started.get("amp")), bool(started.get("smoke"))
    engine = engines.load(where, given, work_dir, amp=amp, smoke=smoke).build()
    found = find_suspects(work_dir, engine, lambda rounds: progress(rounds, "rounds"))
    table = out or work_dir / "suspects.csv"
    page = table.with_suffix(".html")
    text = io.StringIO()
    names = engine.label_space.class_names
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, one in enumerate(found.found, 1):
        writer.writerow(
            [rank, one.key, one.round, one.item, one.row, one.col, one.pixels, names[one.label],
             names[one.predicted], f"{one.label_probability:.4f}",
             f"{one.predicted_probability:.4f}", f"{one.score:.4f}", int(one.unseen)]
        )  # fmt: skip
    with replacing(table) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    with replacing(page) as temporary:
        temporary.write_text(render(work_dir, engine, found, top), encoding="utf-8")
    for rank, one in enumerate(found.found[:10], 1):
        print(
            f"{rank:>3}  {one.key}  round {one.round}, row {one.row}, col {one.col}: "
            f"{names[one.label]} ({one.label_probability:.2f}), or "
            f"{names[one.predicted]} ({one.predicted_probability:.2f})?"
        )
    print(
        f"{len(found.found):,} of {found.judged:,} answers ({found.pixels:,} pixels) are suspect; "
        f"{found.seen:,} were judged by a model that was trained on them\n{table}, {page}"
    )
    return 0


def command_of(work_dir: Path) -> JSON:
    """How a run was started, see `store.ledger.COMMAND`. Raises WorkDirError if it is not known, or
    the config is gone."""
    with Ledger.open(work_dir, readonly=True) as ledger:
        command = ledger.noted(COMMAND)
    if command is None:
        raise WorkDirError(f"{work_dir} does not say how it was started: add --config CONFIG")
    if not Path(str(command["config"])).is_file():
        raise WorkDirError(
            f"{command['config']}, the config of {work_dir}, is gone: restore it, or add --config "
            "CONFIG"
        )
    return command
