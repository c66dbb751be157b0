"""docs/heuristics.md from the registry and the docstrings of its classes.

    python -m regional_al.heuristics.catalogue docs/heuristics.md

A docstring is in Google style: a summary of one line; paragraphs; then sections, each a line such
as `Score:` with an indented block below it. `Source`, `Score`, `Cost` and `Deviations` are
required, `Args` where the class takes arguments; `Config` (what `acquisition` may be set to) where
the plain name is not a good example, and `Example`, a doctest.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RegionalALError
from ..store.images import replacing
from .base import HEURISTICS, Heuristic, PoolHeuristic

REQUIRED = ("Source", "Score", "Cost", "Deviations")
SECTIONS = (*REQUIRED, "Args", "Raises", "Config", "Example")
HEAD = """\
# Heuristics

<!-- Written by `python -m regional_al.heuristics.catalogue docs/heuristics.md`: edit the docstrings
in src/regional_al/heuristics/ instead. -->

`heuristic='Name'`, or `heuristic=dict(type='Name', ...)` with arguments, in the
[`acquisition` key](acquisition.md). The classes are importable: `from regional_al.heuristics import
RIPU`. Scores are computed from logits; higher scores are selected first. C is the number of
classes, p = softmax over them, ln the natural logarithm, 0 ln 0 = 0. Equal scores are taken in
the order of images, then row-major, on every device and any number of processes. A heuristic
that does not support a level or region type raises an error before anything is trained. What
differs from papers for all of them is in [deviations](deviations.md); how to write one is in
[adding a heuristic](add_a_heuristic.md).

*Units* are the cells of a partition (`slic`, `grid`, `precomputed`), *windows* the squares of
`region='window'`. *Over the pool*: units are compared with one another, not only scored one by one.
"""
TABLE = """\
| heuristic | summary | image | units | windows | pixel | over the pool | needs |
|---|---|---|---|---|---|---|---|
"""


@dataclass
class Entry:
    """What a docstring says. notes: paragraphs; sections: the text of each of REQUIRED, on one
    line; args: name -> description; config: source text of a dict, or None; example: doctest."""

    summary: str
    notes: list[str] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    config: str | None = None
    example: str | None = None


def parse(docstring: str) -> Entry:
    """Read a class docstring. Raises ValueError naming a section that is missing or there twice."""
    first, *lines = inspect.cleandoc(docstring).splitlines()
    found: dict[str, list[str]] = {}
    paragraphs: list[str] = [""]
    current: list[str] | None = None
    for line in lines:
        head = re.fullmatch(r"(\w+):", line)
        if head:
            if head[1] not in SECTIONS:
                raise ValueError(f"section {head[1]}: is unknown; known: {', '.join(SECTIONS)}")
            if head[1] in found:
                raise ValueError(f"section {head[1]}: is there twice")
            current = found[head[1]] = []
        elif current is not None and (line.startswith("    ") or not line.strip()):
            current.append(line.removeprefix("    "))
        elif line.strip():
            current = None
            paragraphs[-1] = f"{paragraphs[-1]} {line.strip()}".strip()
        else:
            paragraphs.append("")
    entry = Entry(first.strip(), [text for text in paragraphs if text])
    for name in REQUIRED:
        text = " ".join(line.strip() for line in found.get(name, []) if line.strip())
        if not text:
            raise ValueError(f"section {name}: is missing or empty")
        entry.sections[name] = text
    name = ""
    for line in found.get("Args", []):
        argument = re.match(r"(\w+): *(.*)", line)
        if argument:
            name = argument[1]
            entry.args[name] = argument[2]
        elif line.strip():
            entry.args[name] += f" {line.strip()}"
    entry.config, entry.example = (
        "\n".join(found[name]).strip() if name in found else None for name in ("Config", "Example")
    )
    return entry


def example_of(name: str) -> dict[str, Any]:
    """The `acquisition` dict of a heuristic's `Config`."""
    scope: dict[str, Any] = {}
    exec(f"acquisition = {_config(name, parse(_docstring(name)))}", {"dict": dict}, scope)
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


def _config(name: str, entry: Entry) -> str:
    if entry.config is not None:
        return entry.config
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
        "image" in heuristic.levels and "units" in heuristic.regions,
        region and "units" in heuristic.regions,
        region and "windows" in heuristic.regions,
        "pixel" in heuristic.levels,
    ]


def _row(name: str, entry: Entry, heuristic: Heuristic) -> str:
    marks = ["✓" if works else "" for works in _places(heuristic)]
    pooled = "✓" if isinstance(heuristic, PoolHeuristic) else ""
    summary = entry.summary.rstrip(".")
    cells = [f"[`{name}`](#{name.lower()})", summary, *marks, pooled, _needs(heuristic)]
    return f"| {' | '.join(cells)} |\n"


def _section(name: str, entry: Entry, heuristic: Heuristic) -> str:
    names = ("whole images", "units", "windows", "pixels")
    works = [n for n, here in zip(names, _places(heuristic), strict=True) if here]
    lines = [f"## {name}", "", entry.summary, ""]
    lines += [line for note in entry.notes for line in (note, "")]
    lines.append(f"- **Supports:** {', '.join(works)}")
    lines.append(f"- **Needs:** {_needs(heuristic)}")
    lines += [f"- **{label}:** {entry.sections[label]}" for label in REQUIRED]
    given = arguments(HEURISTICS.get(name))
    lines.append("- **Arguments:**" + ("" if given else " none"))
    lines += [f"  - `{text}`: {entry.args.get(key, '')}" for key, text in given.items()]
    lines += ["", "```python", f"acquisition = {_config(name, entry)}", "```", ""]
    if entry.example is not None:
        lines += ["```pycon", entry.example, "```", ""]
    return "\n".join(lines)


def arguments(cls: Callable[..., Any]) -> dict[str, str]:
    """Name -> `name=default` of each argument of the constructor; without a default, `name`."""
    parameters = inspect.signature(cls).parameters.values()
    return {
        p.name: p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters
    }


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
