"""The tables of a comparison as Markdown, by name: `compare.md`, and documents that quote it."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import DataError
from ..store.images import replacing
from . import tables as data
from .stats import Analysis
from .tables import COST_NAMES, Cell, Table

FILE = "compare.md"
_BLOCK = re.compile(r"(<!-- table: (?P<name>[^\n]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def write(out: Path, analysis: Analysis) -> Path:
    """Write `out/compare.md`: every table under its name; returns its path."""
    path = out / FILE
    parts = [f"## {name}\n\n{text}" for name, text in tables(analysis).items()]
    with replacing(path) as temporary:
        text = "\n\n".join([f"# {analysis.comparison.title}", *parts])
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def fill(document: str, analysis: Analysis) -> str:
    """Put tables into a document, between `<!-- table: NAME -->` and `<!-- end -->`.

    Args:
        document: Markdown; NAME is one of `tables`, or `wins, COST: ARM ARM ...` for the matrix of
            these arms alone.
        analysis: What the tables are made of.

    Returns:
        The document with the text between the markers replaced.

    Raises:
        DataError: There is no such table or arm.
    """
    known = tables(analysis)

    def block(found: re.Match[str]) -> str:
        name, _, arms = found["name"].partition(": ")
        if name not in known:
            raise DataError(f"no table {name!r} in this comparison; there are: {', '.join(known)}")
        made = _wins(analysis, name, arms.split()) if arms else known[name]
        return f"{found[1]}{made}\n{found[3]}"

    return _BLOCK.sub(block, document)


def tables(analysis: Analysis) -> dict[str, str]:
    """Name -> table, see `tables.named`."""
    return {name: render(table) for name, table in data.named(analysis).items()}


def _wins(a: Analysis, name: str, arms: list[str]) -> str:
    """The table `wins, COST` of some arms."""
    cost = next((c for c in a.costs if name == f"wins, {COST_NAMES[c]}"), None)
    unknown = [arm for arm in arms if arm not in a.arms]
    if cost is None or unknown or len(arms) < 2:
        what = f"{unknown[0]!r} is not an arm" if unknown else f"{name!r}, {arms}: not a matrix"
        raise DataError(f"{what}; arms: {', '.join(a.arms)}")
    return render(data.wins(a, cost, arms)[""])


def render(table: Table) -> str:
    """A table in GitHub's Markdown."""
    lines = [[table.corner, *map(_cell, table.heads)], ["---", *("---:" for _ in table.heads)]]
    lines += [[_cell(Cell(row.name, row.small)), *map(_cell, row.cells)] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(cell: Cell) -> str:
    first = f"**{cell.text}**" if cell.bold and cell.text else cell.text
    return "<br>".join([first, *filter(None, cell.small.split("\n"))]).replace("|", "\\|")
