"""The table of docs/reliability.md, from results/trust.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs import ROOT

PAGE = ROOT / "docs/reliability.md"
RESULT = ROOT / "benchmarks/results/trust.json"
NOT_YET = "*Not measured yet: no run as a whole has been committed.*"
START, END = "<!-- trust:", "<!-- end of trust -->"


def table(result: Mapping[str, Any]) -> str:
    """A Markdown table, a line per part, and where and when it was measured."""
    lines = ["| part | tried | failures | |", "|---|---|---|---|"]
    for row in result["rows"]:
        left = {key: value for key, value in row.items() if key not in _SHOWN}
        notes = "; ".join(f"{key}: {text_of(value)}" for key, value in left.items())
        tried = f"{row['tried']:,}" if row["tried"] else "not tried"
        lines.append(f"| {row['part']} | {tried} | {len(row['failures'])} | {notes} |")
    machine = result["machine"]
    where = [
        f"{machine['cores']} cores ({machine['cpu']})",
        f"Python {machine['python']}",
        f"torch {machine['versions']['torch']}",
        f"revision {_each(result, 'revision')}",
        f"seed {_each(result, 'seed')}",
        f"{result['seconds'] / 60:.0f} minutes",
    ]
    lines += ["", f"{result['kills']:,} SIGKILLs in all."]
    lines += ["", f"`benchmarks/results/trust.json`: {', '.join(where)}."]
    return "\n".join(lines)


_SHOWN = ("part", "tried", "failures", "seconds", "seconds_unkilled", "revision", "seed")


def text_of(value: object) -> str:
    """A value of a row as words: numbers with thousands, dicts as 'name value' by commas."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text_of(one)}" for name, one in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def _each(result: Mapping[str, Any], key: str) -> str:
    """What the rows were made with: one value, or several where parts were tried again."""
    return ", ".join(dict.fromkeys(str(row[key]) for row in result["rows"]))


def filled(page: str, text: str) -> str:
    """The page with the table between its markers replaced."""
    start = page.index("\n", page.index(START)) + 1
    return f"{page[:start]}{text}\n{page[page.index(END) :]}"


def write() -> Path:
    """Bring docs/reliability.md up to date."""
    result = json.loads(RESULT.read_text())
    PAGE.write_text(filled(PAGE.read_text(), table(result)))
    return PAGE
