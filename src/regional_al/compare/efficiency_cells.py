"""The tables of label efficiency, as text."""

from __future__ import annotations

from ..report.table import NOT_KNOWN, full, percent
from ..types import JSON
from .cells import COST_NAMES, groups, row, text
from .curves import Ratio, Reach
from .findings import Analysis, Efficiency, EndRatio
from .tables import family

_SIGNS = {">=": "≥ ", "<=": "≤ ", "~": "~ "}


def by_cost(a: Analysis) -> list[JSON]:
    """A group a cost, a table a family; columns are levels."""
    return groups(a, "In", parts, lambda cost, arm: f"Measured against {a.label(arm)}")


def parts(a: Analysis, cost: str) -> list[tuple[str, JSON]]:
    """(baseline, table) of one cost."""
    found = []
    for head in dict.fromkeys(family(arm, a.baselines) for arm in a.efficiency[cost]):
        arms = [x for x in a.arms if x in a.efficiency[cost] and a.baselines[x] == head]
        levels = a.efficiency[cost][arms[0]] if arms else []
        if not levels:
            continue
        heads = [text(f"{100 * level.level:.1f} %", level.name) for level in levels]
        rows = [row(a, arm, [ratio(a, cost, e) for e in a.efficiency[cost][arm]]) for arm in arms]
        found.append((head, {"corner": "arm", "heads": heads, "rows": rows}))
    return found


def ratio(a: Analysis, cost: str, found: Efficiency) -> JSON:
    """2.31x and at which cost, or why not; below it the seeds."""
    spent = _spent(a, cost, found.reach)
    if found.ratio is None:
        return text(spent)
    _, value, why = found.ratio
    seeds = f"{found.reached} of {found.seeds} seeds"
    if found.over_seeds is not None:
        mean, std, _ = found.over_seeds
        seeds = f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}") + f", {seeds}"
    if value is None:
        return text(why, seeds)
    return {
        **text(times(found.ratio), f"{spent}\n{seeds}"),
        "bold": value > 1,
    }


def ends_table(a: Analysis) -> JSON:
    """Label efficiency after equal training, by cost; no rows: no baseline has several budgets."""
    costs = [cost for cost in a.costs if a.ends[cost]]
    rows = []
    for arm in [x for x in a.arms if any(x in a.ends[cost] for cost in costs)]:
        found = [a.ends[cost].get(arm) for cost in costs]
        against = next(f for f in found if f is not None).baselines
        small = f"against {', '.join(map(a.label, against))}"
        rows.append(row(a, arm, [text(NOT_KNOWN) if f is None else _end(f) for f in found], small))
    return {"corner": "arm", "heads": [COST_NAMES[cost] for cost in costs], "rows": rows}


def _end(found: EndRatio) -> JSON:
    """The ratio of the means; below it that of each seed. Bold where every seed is above 1."""
    told = [times(r) for r in found.seeds]
    clear = all(r.value is not None and r.value > 1 and r.sign != "<=" for r in found.seeds)
    return {**text(times(found.ratio), ", ".join(told) if len(told) > 1 else ""), "bold": clear}


def times(found: Ratio) -> str:
    sign, value, why = found
    return why if value is None else f"{_SIGNS.get(sign, '')}{value:.2f}x"


def _spent(a: Analysis, cost: str, found: Reach) -> str:
    """What a level costs an arm."""
    if found.how != "reached":
        return "at the start" if found.how == "start" else "not reached"
    if cost == "pixels":
        return f"at {percent(found.cost / a.comparison.pool.pool_pixels)} %"
    return f"at {full(round(found.cost))}"
