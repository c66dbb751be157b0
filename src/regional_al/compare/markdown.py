"""The tables of a comparison as Markdown, by name: `compare.md`, and documents that quote it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError
from ..report.table import NOT_KNOWN, percent
from ..store.images import replacing
from ..types import JSON
from . import afresh_cells, cells, efficiency_cells
from .cells import COST_NAMES, points, signed, text
from .findings import Analysis
from .tables import families

FILE = "compare.md"
_BLOCK = re.compile(r"(<!-- table: (?P<name>[^\n]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def write(out: Path, analysis: Analysis) -> Path:
    """Write `out/compare.md`: every table under its name."""
    path = out / FILE
    parts = [
        f"# {analysis.comparison.title}",
        *(f"## {n}\n\n{t}" for n, t in tables(analysis).items()),
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def fill(document: str, analysis: Analysis) -> str:
    """A document whose text between `<!-- table: NAME -->` and `<!-- end -->` is made that table.

    `wins, COST: ARM ARM ...` is the matrix of these arms alone. Raises DataError for a name that
    `tables` does not give, or an arm that is none.
    """
    known = tables(analysis)

    def block(found: re.Match[str]) -> str:
        name, _, arms = found["name"].partition(": ")
        if name not in known:
            raise DataError(f"no table {name!r} in this comparison; there are: {', '.join(known)}")
        made = wins_of(analysis, name, arms.split()) if arms else known[name]
        return f"{found[1]}{made}\n{found[3]}"

    return _BLOCK.sub(block, document)


def wins_of(a: Analysis, name: str, arms: list[str]) -> str:
    """The table `wins, COST` of some arms."""
    cost = next((c for c in a.costs if name == f"wins, {COST_NAMES[c]}"), None)
    unknown = [arm for arm in arms if arm not in a.arms]
    if cost is None or unknown or len(arms) < 2:
        what = f"{unknown[0]!r} is no arm" if unknown else f"{name!r}, {arms}: no matrix of arms"
        raise DataError(f"{what}; arms: {', '.join(a.arms)}")
    ((_, table),) = cells.win_parts(a, cost, arms)
    return markdown(table)


def tables(a: Analysis) -> dict[str, str]:
    """Name -> table: 'arms'; 'afresh', 'afresh classes' and 'equal training' where there are any;
    'rounds, B' for each baseline B; 'label efficiency', 'wins', 'classes' by cost and baseline."""
    found = {"arms": markdown(cells.arms_table(a))}
    if a.afresh:
        found["afresh"] = markdown(afresh_cells.table(a))
        found["afresh classes"] = markdown(afresh_cells.class_table(a))
    if any(a.ends.values()):
        found["equal training"] = markdown(efficiency_cells.ends_table(a))
    for head, arms in families(a.arms, a.baselines).items():
        found[f"rounds, {head}"] = markdown(rounds_table(a, head, arms))
    parts: Mapping[str, cells.Parts] = {
        "label efficiency": efficiency_cells.parts,
        "wins": cells.win_parts,
        "classes": cells.gain_parts,
    }
    for cost in a.costs:
        for kind, make in parts.items():
            for head, table in make(a, cost):
                found[", ".join(filter(None, (kind, COST_NAMES[cost], head)))] = markdown(table)
    return found


def rounds_table(a: Analysis, head: str, arms: list[str]) -> JSON:
    """mIoU by round of a baseline and what is measured against it, and the gain in area."""
    means = {arm: a.means["pixels"][arm] for arm in arms if a.means.get("pixels", {}).get(arm)}
    longest = max(means.values(), key=len, default=[])
    total = a.comparison.pool.pool_pixels
    heads = [text(f"round {p.round}", f"{percent(p.cost / total)} %") for p in longest]
    rows = []
    for arm, line in means.items():
        found = [text(points(p.spread)) for p in line]
        found += [text(NOT_KNOWN)] * (len(longest) - len(line))
        for cost in a.costs:
            area = a.areas[cost].get(arm)
            found.append(text(signed(area.gain) if area and arm != head else ""))
        rows.append(cells.row(a, arm, found))
    heads += [text("area above random", f"over {COST_NAMES[cost]}") for cost in a.costs]
    return {"corner": "mIoU %", "heads": heads, "rows": rows}


def markdown(table: JSON) -> str:
    """A table of cells.py in GitHub's Markdown."""
    heads = [h if isinstance(h, str) else _cell(h) for h in table["heads"]]
    lines = [[table["corner"], *heads], ["---", *("---:" for _ in heads)]]
    for row in table["rows"]:
        arm = row["arm"]
        name = _cell(text(arm["label"], arm["small"])) if arm else row["name"]
        lines.append([name, *map(_cell, row["cells"])])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(cell: JSON) -> str:
    """Text, bold where the page has it so, and the small print below it."""
    first = f"**{cell['text']}**" if cell.get("bold") and cell["text"] else cell["text"]
    return "<br>".join([first, *filter(None, cell["small"].split("\n"))]).replace("|", "\\|")
