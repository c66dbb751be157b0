"""docs/heuristics.md from the registry and the docstrings of its classes.

    python -m regional_al.heuristics.catalogue docs/heuristics.md

A docstring is: a summary of one line; lines that begin with `Source:`, `Score:`, `Cost:` and
`Deviations:`, and perhaps `Example:` (what `acquisition` may be set to), each continued by indented
lines; then anything else worth saying, in paragraphs.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RegionalALError
from ..store.images import replacing
from .base import HEURISTICS, Heuristic

LABELS = ("Source", "Score", "Cost", "Deviations")
HEAD = """\
# Heuristics

<!-- Written by `python -m regional_al.heuristics.catalogue docs/heuristics.md`: edit the docstrings
in src/regional_al/heuristics/ instead. -->

`heuristic='Name'`, or `heuristic=dict(type='Name', ...)` with arguments, in the
[`acquisition` key](acquisition.md). Scores are computed from logits; higher means: ask for it. C is
the number of classes, p = softmax over them, ln the natural logarithm, 0 ln 0 = 0. Equal scores are
taken in the order of images, then row-major, on every device and any number of processes. What
makes no sense at a level or region type is refused by name, before anything is trained. What
differs from papers for all of them is in [deviations](deviations.md); how to write one is in
[adding a heuristic](add_a_heuristic.md).

*Units* are the cells of a partition (`slic`, `grid`, `precomputed`), *windows* the squares of
`region='window'`. *Over the pool*: units are compared with one another, not only scored one by one.
"""
TABLE = """\
| heuristic | asks for | image | units | windows | pixel | over the pool | needs |
|---|---|---|---|---|---|---|---|
"""


@dataclass
class Entry:
    """What a docstring says. sections: text of each of LABELS, on one line; example: source text
    of a dict, or None; notes: paragraphs."""

    summary: str
    sections: dict[str, str] = field(default_factory=dict)
    example: str | None = None
    notes: list[str] = field(default_factory=list)


def parse(docstring: str) -> Entry:
    """Read a class docstring. Raises ValueError naming a section missing or doubled."""
    lines = inspect.cleandoc(docstring).splitlines()
    entry, found = Entry(lines[0].strip()), dict[str, list[str]]()
    current: list[str] | None = None
    for line in lines[1:]:
        label = re.match(rf"({'|'.join((*LABELS, 'Example'))}): *(.*)", line)
        if label:
            if label[1] in found:
                raise ValueError(f"{label[1]}: is there twice")
            current = found[label[1]] = [label[2]]
        elif line.startswith("    ") and current is not None:
            current.append(line)
        elif line.strip():
            if current is not None or not entry.notes:
                entry.notes.append("")
            entry.notes[-1] = f"{entry.notes[-1]} {line.strip()}".strip()
            current = None
        else:
            current = []  # the next line begins a paragraph
    for label_ in LABELS:
        text = " ".join(line.strip() for line in found.get(label_, []))
        if not text:
            raise ValueError(f"no line begins with '{label_}: '")
        entry.sections[label_] = text
    if "Example" in found:
        entry.example = "\n".join(found["Example"])
    return entry


def example_of(name: str) -> dict[str, Any]:
    """The `acquisition` dict of a heuristic's example."""
    scope: dict[str, Any] = {}
    exec(f"acquisition = {_example(name, parse(_docstring(name)))}", {"dict": dict}, scope)
    found: dict[str, Any] = scope["acquisition"]
    return found


def page() -> str:
    """The whole page, for everything that is registered."""
    entries = {name: parse(_docstring(name)) for name in HEURISTICS}
    built = {name: HEURISTICS.build(example_of(name)["heuristic"]) for name in entries}
    rows = "".join(_row(name, entries[name], built[name]) for name in entries)
    sections = [_section(name, entries[name], built[name]) for name in entries]
    return "\n".join([HEAD, TABLE + rows, *sections])


def _docstring(name: str) -> str:
    """Raises ValueError, naming the heuristic, for a class without one."""
    docstring = HEURISTICS.get(name).__doc__
    if not docstring:
        raise ValueError(f"heuristic {name!r} has no docstring")
    return docstring


def _example(name: str, entry: Entry) -> str:
    if entry.example is not None:
        return entry.example
    levels: tuple[str, ...] = getattr(HEURISTICS.get(name), "levels", ("region",))
    level = "region" if "region" in levels else levels[0]
    return f"dict(level={level!r}, heuristic={name!r})"


def _needs(heuristic: Heuristic) -> str:
    parameters = inspect.signature(type(heuristic)).parameters.values()
    if any(p.default is p.empty for p in parameters):
        return "what its parts need"
    request = heuristic.needs
    if request is None:
        return "no model"
    found = []
    if request.passes > 1:
        found.append(f"{request.passes} dropout passes")
    if request.flip:
        found.append("the mirrored image")
    if request.features:
        found.append("features")
    return ", ".join(found) or "one prediction"


def _places(heuristic: Heuristic) -> list[bool]:
    """Whether it works on images, units of partitions, windows, pixels."""
    region = "region" in heuristic.levels
    return [
        "image" in heuristic.levels and heuristic.units,
        region and heuristic.units,
        region and heuristic.windows,
        "pixel" in heuristic.levels,
    ]


def _row(name: str, entry: Entry, heuristic: Heuristic) -> str:
    marks = ["✓" if works else "" for works in _places(heuristic)]
    pooled = "✓" if heuristic.pooled else ""
    asks = entry.summary.rstrip(".")
    cells = [f"[`{name}`](#{name.lower()})", asks, *marks, pooled, _needs(heuristic)]
    return f"| {' | '.join(cells)} |\n"


def _section(name: str, entry: Entry, heuristic: Heuristic) -> str:
    names = ("whole images", "units", "windows", "pixels")
    works = [n for n, here in zip(names, _places(heuristic), strict=True) if here]
    lines = [f"## {name}", "", entry.summary, ""]
    lines.append(f"- **Works on:** {', '.join(works)}")
    lines.append(f"- **Needs:** {_needs(heuristic)}")
    lines.append(f"- **Arguments:** {arguments(type(heuristic)) or 'none'}")
    lines += [f"- **{label}:** {entry.sections[label]}" for label in LABELS]
    lines += [line for note in entry.notes for line in ("", note)]
    lines += ["", "```python", f"acquisition = {_example(name, entry)}", "```", ""]
    return "\n".join(lines)


def arguments(cls: type) -> str:
    """`name=default` of each argument of the constructor; without a default: required."""
    parameters = list(inspect.signature(cls).parameters.values())
    return ", ".join(
        f"`{p.name}` (required)" if p.default is p.empty else f"`{p.name}={p.default!r}`"
        for p in parameters
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page to the file named, or to standard output. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        text = page()
    except (RegionalALError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not given:
        print(text, end="")
        return 0
    with replacing(Path(given[0])) as temporary:
        temporary.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
