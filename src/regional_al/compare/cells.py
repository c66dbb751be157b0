"""The tables of the page, as text and shades."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..report.table import NOT_KNOWN, full, percent
from ..types import JSON
from .curves import SAME_COST, Spread
from .figures import styles
from .findings import Analysis, Gain, Win
from .tables import family

COST_NAMES = {"pixels": "pixels", "clicks": "clicks", "regions": "annotation visits"}
_DASH_NAMES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "double"}
_BLUE, _RED = (31, 95, 168), (193, 66, 66)


def arms_table(a: Analysis) -> JSON:
    """One row an arm: what its last round cost and reached, and its areas."""
    heads = ["seeds", "rounds", "pixels %"]
    heads += [COST_NAMES[c] for c in ("clicks", "regions") if c in a.costs]
    heads += ["mIoU %"] + (["of full %"] if a.full else [])
    heads += [f"area over {COST_NAMES[c]}" for c in a.costs]
    rows = [row(a, arm, _arm_cells(a, arm), _against(a, arm)) for arm in a.arms]
    if a.full:
        blank = [text("") for _ in heads]
        blank[0] = text(str(a.full.miou.n))
        blank[heads.index("mIoU %")] = text(points(a.full.miou))
        blank[heads.index("of full %")] = text("100")
        rows.append({"arm": None, "name": "full supervision", "cells": blank})
    return {"corner": "arm", "heads": heads, "rows": rows}


def _against(a: Analysis, arm: str) -> str:
    head = a.baselines[arm]
    return "" if head in (None, arm) else f"against {a.label(str(head))}"


def _arm_cells(a: Analysis, arm: str) -> list[JSON]:
    runs = a.comparison.finished(arm)
    head = a.baselines[arm]
    last = {cost: means[arm][-1] for cost, means in a.means.items() if means.get(arm)}
    some = next(iter(last.values()), None)
    pixels = a.comparison.pool.pool_pixels
    cells = [
        text(str(len(runs))),
        text(NOT_KNOWN if some is None else str(some.round)),
        text(percent(last["pixels"].cost / pixels) if "pixels" in last else NOT_KNOWN),
    ]
    for cost in ("clicks", "regions"):
        if cost in a.costs:
            cells.append(text(full(round(last[cost].cost)) if cost in last else NOT_KNOWN))
    cells.append(text(NOT_KNOWN if some is None else points(some.spread)))
    if a.full:
        cells.append(text(f"{100 * some.mean / a.full.miou.mean:.1f}" if some else NOT_KNOWN))
    for cost in a.costs:
        area = a.areas[cost].get(arm)
        if area is None or area.value is None:
            cells.append(text(NOT_KNOWN))
            continue
        where = f"{area.low:,.0f} to {area.high:,.0f}, over {'log cost' if area.log else 'cost'}"
        if area.gain is None or head in (None, arm):
            cells.append(text(points(area.value), title=where))
            continue
        small = f"{points(area.value)} against {points(area.baseline)}"
        cells.append(text(signed(area.gain), small, title=where))
    return cells


Parts = Callable[[Analysis, str], list[tuple[str, JSON]]]
"""(analysis, cost) -> (baseline, table) of each family; the baseline is '' for one of all arms."""


def groups(
    a: Analysis,
    word: str,
    parts: Parts,
    head: Callable[[str, str], str] = lambda cost, arm: "",
) -> list[JSON]:
    """The tables of every cost that has any. head: (cost, baseline) -> the line above a table."""
    return [
        {
            "name": f"{word} {COST_NAMES[cost]}",
            "parts": [{"head": head(cost, arm), "table": table} for arm, table in found],
        }
        for cost in a.costs
        if (found := parts(a, cost))
    ]


def win_groups(a: Analysis) -> list[JSON]:
    """A matrix a cost: row against column."""
    return groups(a, "At equal", win_parts)


def win_parts(
    a: Analysis, cost: str, only: Collection[str] | None = None
) -> list[tuple[str, JSON]]:
    """One matrix of all arms, or of `only` these; none for fewer than two."""
    wins = a.wins[cost]
    arms = [arm for arm in a.arms if arm in wins and (only is None or arm in only)]
    if len(arms) < 2:
        return []
    rows = [row(a, r, [win(wins[r].get(c), r == c) for c in arms]) for r in arms]
    table = {"corner": "row beats column", "heads": [a.label(c) for c in arms], "rows": rows}
    return [("", table)]


def win(found: Win | None, itself: bool) -> JSON:
    if found is None:
        return text("" if itself else NOT_KNOWN)
    shade = shaded(found.difference.mean, 0.06)
    return {
        **text(f"{found.wins}/{found.total}", signed(found.difference)),
        "bold": found.difference.clear,
        **shade,
    }


def gain_groups(a: Analysis) -> list[JSON]:
    """A group a cost; a row a class: IoU of random, then each arm's points above it."""

    def head_text(cost: str, head: str) -> str:
        against = f"Measured against {a.label(head)}: " if a.baselines[head] else ""
        ends = [g.cost for x, g in a.gains[cost].items() if family(x, a.baselines) == head]
        if max(ends) > (1 + SAME_COST) * min(ends):
            return f"{against}each arm at the last cost that it shares"
        return f"{against}at {full(round(min(ends)))} {COST_NAMES[cost]}"

    return groups(a, "At equal", gain_parts, head_text)


def gain_parts(a: Analysis, cost: str) -> list[tuple[str, JSON]]:
    """(baseline, table) of one cost."""
    found: dict[str, list[str]] = {}
    for arm in a.arms:
        if arm in a.gains[cost]:
            found.setdefault(family(arm, a.baselines), []).append(arm)
    return [(head, _gain_table(a, cost, head, arms)) for head, arms in found.items()]


def _gain_table(a: Analysis, cost: str, head: str, arms: Sequence[str]) -> JSON:
    """Columns: IoU of the family's head (random), of each other arm with its gain, of full."""
    others = [arm for arm in arms if arm != head]
    own = a.gains[cost].get(head)
    heads = ([f"{a.label(head)}: IoU %"] if own else []) + [a.label(arm) for arm in others]
    heads += ["full supervision"] if a.full else []
    rows = [{"arm": None, "name": "mIoU", "cells": _miou_cells(a, cost, own, others)}]
    for c, name in enumerate(a.comparison.pool.classes):
        cells = [text(points(own.classes[c]), above(own.over_full, c))] if own else []
        for arm in others:
            gain = a.gains[cost][arm]
            over = gain.over_baseline[c]
            shade = shaded(over.mean, 0.25) if over is not None else {}
            cells.append({**text(signed(over), above(gain.over_full, c)), **shade})
        if a.full:
            cells.append(text(points(a.full.classes[c])))
        rows.append({"arm": None, "name": name, "cells": cells})
    return {"corner": "class", "heads": heads, "rows": rows}


def _miou_cells(a: Analysis, cost: str, own: Gain | None, others: Sequence[str]) -> list[JSON]:
    """The first row of the table of classes."""

    def on_full(value: Spread | None) -> str:
        return above([value.mean - a.full.miou.mean], 0) if a.full and value else ""

    cells = [text(points(own.miou), on_full(own.miou))] if own else []
    for arm in others:
        gain = a.gains[cost][arm]
        over = gain.miou_over_baseline
        shade = shaded(over.mean, 0.25) if over is not None else {}
        cells.append({**text(signed(over), on_full(gain.miou)), **shade})
    return cells + ([text(points(a.full.miou))] if a.full else [])


def above(over_full: Sequence[float | None], c: int) -> str:
    value = over_full[c] if over_full else None
    return "" if value is None else f"{plus(value)} on full"


def training_table(a: Analysis) -> JSON:
    """Iterations behind the points of each arm, by round where they differ."""
    rows = []
    for arm in a.arms:
        by_seed = a.training[arm]
        init = a.comparison.finished(arm)[0].results.acquisition.get("round_init", "")
        rows.append(row(a, arm, [text(str(init)), text(iterations(by_seed))]))
    if a.full:
        cells = [text(""), text(iterations([(n,) for n in a.full.iterations]))]
        rows.append({"arm": None, "name": "full supervision", "cells": cells})
    return {"corner": "arm", "heads": ["each round starts from", "iterations"], "rows": rows}


def iterations(by_seed: Sequence[Sequence[int]]) -> str:
    """'300' where all points have as many; '300, 600, 900' by round; '280 to 300' over seeds."""
    rounds = [sorted({s[r] for s in by_seed if r < len(s)}) for r in range(max(map(len, by_seed)))]
    texts = [span(r) for r in rounds]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def row(a: Analysis, arm: str, cells: list[JSON], small: str = "") -> JSON:
    style: Mapping[str, Any] = dict(styles(a))[arm]
    dash = _DASH_NAMES.get(style["linestyle"], "solid")
    return {
        "arm": {"label": a.label(arm), "colour": style["color"], "dash": dash, "small": small},
        "name": "",
        "cells": cells,
    }


def text(value: str, small: str = "", title: str = "") -> JSON:
    return {"text": value, "small": small, "title": title, "bold": False, "back": "", "ink": ""}


def points(value: Spread | None) -> str:
    """43.2 ± 0.8, in per cent."""
    if value is None:
        return NOT_KNOWN
    return f"{100 * value.mean:.1f}" + ("" if value.std is None else f" ± {100 * value.std:.1f}")


def signed(value: Spread | None) -> str:
    """+1.2 ± 0.4, in points."""
    if value is None:
        return NOT_KNOWN
    return plus(value.mean) + ("" if value.std is None else f" ± {100 * value.std:.1f}")


def plus(value: float) -> str:
    """+1.2; a zero has no minus."""
    return f"{round(100 * value, 1) or 0.0:+.1f}"


def shaded(value: float, strongest: float) -> JSON:
    """Blue above 0, red below; white at 0, full at `strongest`."""
    share = min(1.0, abs(value) / strongest) ** 0.7 * 0.62
    red, green, blue = (round(255 + (c - 255) * share) for c in (_BLUE if value >= 0 else _RED))
    return {"back": f"#{red:02x}{green:02x}{blue:02x}", "ink": "#1f2933"}
