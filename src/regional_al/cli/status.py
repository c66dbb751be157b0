"""`regional-al status WORK_DIR`: the rounds, where the run stands, what it has cost. Reads only."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ..errors import WorkDirError
from ..report import table
from ..report.position import Position, read_position
from ..report.wording import two_keys
from ..store import results as records
from ..store.ledger import Ledger
from ..store.results import STAGES, Record, Results
from ..types import Costs


def run(work_dir: Path, width: int | None = None) -> int:
    """Print the status of a run. Returns 0 whatever state it is in (finished, waiting, under way).

    width: columns to fit, default the terminal's. Raises WorkDirError for a folder that holds no
    run, DataError for a damaged results.json.
    """
    work_dir = Path(work_dir)
    if not (work_dir / records.FILE).is_file() and not Ledger.exists(work_dir):
        what = "holds no run" if work_dir.is_dir() else "does not exist"
        raise WorkDirError(f"{work_dir} {what}: give the --work-dir of a training")
    results = records.load(work_dir) if (work_dir / records.FILE).is_file() else None
    columns = width or shutil.get_terminal_size((table.WIDE, 24)).columns
    print("\n".join(lines(work_dir, results, read_position(work_dir, results), columns)))
    return 0


def lines(work_dir: Path, results: Results | None, position: Position, width: int) -> list[str]:
    """What `status` prints, line by line."""
    out: list[str] = []
    rounds = results.records if results else ()
    if results is not None:
        out += [f"{results.title}: {two_keys(results.acquisition)}", ""]
    if rounds:
        out += [table.rounds_table(rounds, width), ""]
    facts = [("state", position.sentence()[1])]
    if position.stopped is None:
        facts.append(("resume", "the command that started the run, with --resume"))
    spent = position.spent or (rounds[-1].costs if rounds else Costs())
    facts.append(("spent", costs_line(spent, results.pool_pixels if results else None)))
    if any(record.seconds for record in rounds):
        facts.append(("time", seconds_line(rounds)))
    if (work_dir / "report.html").is_file():
        facts.append(("report", str(work_dir / "report.html")))
    for name, text in facts:
        # Paths may be longer than a line; they are never broken.
        out += textwrap.wrap(
            text,
            max(width, 40),
            initial_indent=f"{name:<8}",
            subsequent_indent=" " * 8,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return out


def costs_line(costs: Costs, pool_pixels: int | None) -> str:
    """The four costs in words, and the share of the pool where its size is known."""
    clicks = "clicks not known" if costs.clicks is None else f"{costs.clicks:,} clicks"
    text = f"{costs.images:,} images, {costs.regions:,} regions, {costs.pixels:,} pixels, {clicks}"
    return text if not pool_pixels else f"{text} ({table.percent(costs.pixels / pool_pixels)}%)"


def seconds_line(rounds: Sequence[Record]) -> str:
    """Total wall-clock time, and that of each stage that took part in it."""
    total = sum(record.total_seconds for record in rounds)
    names = [*STAGES, *sorted({k for r in rounds for k in r.seconds} - set(STAGES))]
    by_stage = {name: sum(r.seconds.get(name, 0.0) for r in rounds) for name in names}
    parts = [f"{name} {table.spell(s)}" for name, s in by_stage.items() if s >= 0.005]
    return f"{table.spell(total)}: {', '.join(parts)}"
