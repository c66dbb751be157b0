"""`regional-al status WORK_DIR`: rounds, position and costs of a run. Reads only."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ..errors import WorkDirError
from ..report import table
from ..report.status import Position, read_position, two_keys
from ..store import results as records
from ..store.results import STAGES, Record, Results
from ..store.work_dir import WorkDir
from ..types import Costs


def run(work_dir: Path, width: int | None = None) -> int:
    """Print the status of a run, finished, waiting or under way, and return 0.

    width: columns to fit, default the terminal's. Raises WorkDirError for a folder without a run,
    DataError for a damaged results.json.
    """
    folder = WorkDir(Path(work_dir))
    if not folder.results.is_file() and not folder.ledger.is_file():
        what = "does not contain a run" if folder.root.is_dir() else "does not exist"
        raise WorkDirError(f"{work_dir} {what}: give the --work-dir of a training")
    results = records.load(folder.root) if folder.results.is_file() else None
    columns = width or shutil.get_terminal_size((table.WIDE, 24)).columns
    print("\n".join(_lines(folder, results, read_position(folder, results), columns)))
    return 0


def _lines(folder: WorkDir, results: Results | None, position: Position, width: int) -> list[str]:
    out: list[str] = []
    rounds = results.records if results else ()
    if results is not None:
        out += [f"{results.title}: {two_keys(results.acquisition)}", ""]
    if rounds:
        out += [table.rounds_table(rounds, width), ""]
    facts = [("state", position.sentence()[1])]
    if position.stopped is None:
        facts.append(("resume", "run the same command again with --resume"))
    spent = position.spent or (rounds[-1].costs if rounds else Costs())
    facts.append(("spent", _costs_line(spent, results.pool_pixels if results else None)))
    if any(record.seconds for record in rounds):
        facts.append(("time", _seconds_line(rounds)))
    if folder.report.is_file():
        facts.append(("report", str(folder.report)))
    for name, text in facts:
        # A path may be longer than a line; it is never broken.
        out += textwrap.wrap(
            text,
            max(width, 40),
            initial_indent=f"{name:<8}",
            subsequent_indent=" " * 8,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return out


def _costs_line(costs: Costs, pool_pixels: int | None) -> str:
    """The costs in words, with the share of the pool if its size is known, and the time of people
    if it is."""
    clicks = "unknown clicks" if costs.clicks is None else f"{costs.clicks:,} clicks"
    text = f"{costs.images:,} images, {costs.regions:,} regions, {costs.pixels:,} pixels, {clicks}"
    if pool_pixels:
        text += f" ({table.percent(costs.pixels / pool_pixels)}%)"
    people = costs.annotation_seconds
    return text if people is None else f"{text}, {table.spell(people)} of annotation"


def _seconds_line(rounds: Sequence[Record]) -> str:
    """Total wall-clock time, and that of each stage."""
    total = sum(record.total_seconds for record in rounds)
    names = [*STAGES, *sorted({k for r in rounds for k in r.seconds} - set(STAGES))]
    by_stage = {name: sum(r.seconds.get(name, 0.0) for r in rounds) for name in names}
    parts = [f"{name} {table.spell(s)}" for name, s in by_stage.items() if s >= 0.005]
    return f"{table.spell(total)}: {', '.join(parts)}"
