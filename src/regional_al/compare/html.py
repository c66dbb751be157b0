"""`compare.html` and its charts, from a comparison alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..report.figures import save
from ..report.html import embed, jinja_environment
from ..report.page import STYLE as REPORT_STYLE
from ..report.table import full, percent
from ..report.wording import plain
from ..store.images import replacing
from ..types import JSON
from . import afresh_cells, cells, efficiency_cells, figures
from .archive import without_paths
from .cells import COST_NAMES, points, signed
from .curves import Spread
from .findings import Analysis
from .page import DEFINITIONS, PAGE, STYLE
from .reading import Comparison, notes
from .tables import families

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "compare.html"
CROWD = 8  # more arms than this on one chart are also drawn apart, baseline by baseline


def write(out: Path, analysis: Analysis, scale: str = "auto") -> Path:
    """Write `out/compare.html` and `out/figures/`; returns the path of the page.

    Raises EnvironmentProblem without matplotlib or jinja2.
    """
    page = render(analysis, out / "figures", scale)
    path = out / FILE
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(a: Analysis, folder: Path, scale: str) -> str:
    """The page as text; writes the charts on the way."""
    template = jinja_environment().from_string(PAGE)
    there = a.comparison
    page: str = template.render(
        style=REPORT_STYLE + STYLE,
        version=__version__,
        title=there.title,
        subtitle=subtitle(there),
        state=state(there),
        notes=[*notes(there), *cost_notes(a)],
        tiles=tiles(a),
        curve_note=full_note(a),
        arms=cells.arms_table(a),
        full=a.full is not None,
        afresh=afresh_cells.table(a),
        afresh_classes=afresh_cells.class_table(a),
        efficiency=efficiency_cells.by_cost(a),
        ends=efficiency_cells.ends_table(a),
        wins=cells.win_groups(a),
        gains=cells.gain_groups(a),
        training=cells.training_table(a),
        definitions=DEFINITIONS,
        how=how(there),
        configs=[
            {"name": a.label(arm), "facts": [(k, plain(v)) for k, v in config(there, arm).items()]}
            for arm in there.arms
        ],
        **charts(a, folder, scale),
    )
    return page


def charts(a: Analysis, folder: Path, scale: str) -> dict[str, Any]:
    """Draw, save and embed; the curves of an earlier call that this one does not draw go."""
    first = a.costs[0] if a.costs else "pixels"
    drawn: dict[str, tuple[Figure | None, str]] = {
        f"curve_{cost}": (figures.curve(a, cost, scale), f"mIoU over {COST_NAMES[cost]}")
        for cost in a.costs
    }
    groups = families(a.arms, a.baselines)
    if len(groups) < 2 or len(a.arms) <= CROWD:
        groups = {}
    for head, arms in groups.items():
        for cost in a.costs:
            figure = figures.curve(a, cost, scale, arms)
            drawn[f"curve_{cost}_{head}"] = (figure, f"mIoU over {COST_NAMES[cost]}")
    drawn["seconds"] = (
        figures.seconds(a),
        "Mean wall-clock time of a round after round 0, by stage",
    )
    drawn["gains"] = (
        figures.gains(a, first),
        f"IoU points above random at equal {COST_NAMES[first]}, by class",
    )
    made = {
        name: embed(save(figure, folder / f"{name}.png"), alt)
        for name, (figure, alt) in drawn.items()
        if figure is not None
    }
    for path in folder.glob("*.png"):
        if path.stem not in made and (path.stem in drawn or path.stem.startswith("curve_")):
            path.unlink()
    apart = [
        {
            "head": f"{a.label(head)} and what is measured against it",
            "curves": [made[n] for c in a.costs if (n := f"curve_{c}_{head}") in made],
        }
        for head in groups
    ]
    curves = [made[n] for c in a.costs if (n := f"curve_{c}") in made]
    return {
        "curves": curves,
        "apart": apart,
        "seconds": made.get("seconds"),
        "heat": made.get("gains"),
    }


def subtitle(there: Comparison) -> str:
    head = there.pool
    seeds = sorted({run.seed for run in there.runs})
    several = "es" if there.processes != 1 else ""
    return (
        f"{len(there.asking)} arms, seeds {', '.join(map(str, seeds))} · pool of "
        f"{full(head.pool_images)} images, {full(head.pool_pixels)} pixels · "
        f"{len(head.classes)} classes · engine {head.engine}, {there.processes} process{several} "
        "a run"
    )


def state(there: Comparison) -> str:
    done = sum(run.state == "finished" for run in there.runs)
    total = len(there.runs) + len(there.missing)
    return (
        f"{done} of {total} runs are finished."
        if done < total
        else f"All {total} runs are finished."
    )


def cost_notes(a: Analysis) -> list[str]:
    """What the curves leave out, and why."""
    found = [
        f"Curves over {COST_NAMES[cost]} are those over {COST_NAMES[other]}."
        for cost, other in a.same.items()
    ]
    for cost, arms in a.unknown.items():
        if arms:
            names = ", ".join(a.label(arm) for arm in arms)
            found.append(
                f"Not in the curves over {COST_NAMES[cost]}, which are not known: {names}."
            )
    behind = sorted({seed[-1] for arm in a.arms for seed in a.training[arm]})
    if a.full and behind != sorted(set(a.full.iterations)):
        found.append(
            f"Full supervision was trained for {cells.span(a.full.iterations)} iterations; behind "
            f"the last points of the arms are {cells.span(behind)}."
        )
    alone = [a.label(arm) for arm in a.arms if a.baselines[arm] is None]
    if alone:
        found.append(f"No random baseline for {', '.join(alone)}: nothing to measure against.")
    return found


def full_note(a: Analysis) -> str:
    if a.full is None:
        return "Full supervision was not trained (--full)."
    n = a.full.miou.n
    return (
        f"Dashed: full supervision under the same recipe, {points(a.full.miou)} % "
        f"({n} seed{'s' * (n != 1)})."
    )


def tiles(a: Analysis) -> list[JSON]:
    """The few numbers that answer: does it pay?"""
    found = []
    if a.full:
        found.append(_tile("full supervision", f"{points(a.full.miou)} %", "mIoU, all labels"))
    for cost in a.costs:
        gains = a.areas[cost]
        own = [
            x for x in a.arms if x in gains and a.baselines[x] not in (None, x) and gains[x].gain
        ]
        if not own:
            continue
        best = max(own, key=lambda x: _mean(gains[x].gain))
        note = f"points of area above random: {a.label(best)}"
        found.append(_tile(f"best over {COST_NAMES[cost]}", signed(gains[best].gain), note))
    if a.costs:
        cost = a.costs[0]
        ratios = [
            (e.ratio.value, a.label(arm), e)
            for arm, rows in a.efficiency[cost].items()
            for e in rows
            if e.ratio and e.ratio.sign == "=" and e.ratio.value is not None
        ]
        if ratios:
            value, label, e = max(ratios, key=lambda item: item[0])
            note = f"{label}, {COST_NAMES[cost]} for {100 * e.level:.1f} % mIoU"
            found.append(_tile("largest label efficiency", f"{value:.2f}x", note))
    return found


def _tile(name: str, value: str, note: str) -> JSON:
    return {"name": name, "value": value, "note": note}


def _mean(value: Spread | None) -> float:
    return value.mean if value else float("-inf")


def how(there: Comparison) -> list[tuple[str, str]]:
    """Options, machines and versions."""
    facts = [("--cfg-options", " ".join(there.options))] if there.options else []
    machines: dict[str, int] = {}
    for run in there.runs:
        machines[machine(run.machine)] = machines.get(machine(run.machine), 0) + 1
    facts += [(f"machine of {count} runs", name) for name, count in machines.items() if name]
    return facts


def machine(found: JSON) -> str:
    """cpu, cores, device, versions, revision in one line."""
    if not found:
        return ""
    versions = ", ".join(f"{k} {v}" for k, v in (found.get("versions") or {}).items())
    parts = [found.get("cpu"), f"{found.get('cores')} cores", found.get("device"), versions]
    parts.append(f"revision {found['revision']}" if found.get("revision") else None)
    return " · ".join(str(part) for part in parts if part)


def config(there: Comparison, arm: str) -> JSON:
    """The acquisition of an arm with every default, of any of its runs, without the seed."""
    runs = [run for run in there.runs if run.arm == arm]
    found = runs[0].results.acquisition if runs else there.arms[arm]["acquisition"]
    return {key: value for key, value in without_paths(found).items() if key != "seed"}


def summary(a: Analysis) -> Sequence[str]:
    """Lines for the terminal: an arm a line."""
    if not a.arms:
        return ["no run is finished yet"]
    sources = [f"afresh: {a.label(found.source)}" for found in a.afresh.values()]
    width = max(len(name) for name in (*map(a.label, a.arms), *sources, "full supervision"))
    lines = []
    for arm in a.arms:
        cost = next((c for c in a.costs if a.means[c].get(arm)), None)
        if cost is None:
            continue
        last = a.means[cost][arm][-1]
        area = a.areas[cost].get(arm)
        gain = area.gain if area and a.baselines[arm] not in (None, arm) else None
        share = percent(last.cost / a.comparison.pool.pool_pixels) if cost == "pixels" else ""
        text = f"{points(last.spread):>12} % mIoU, {share} % of pixels, n={last.n}"
        lines.append(
            f"{a.label(arm):<{width}}  {text}"
            + (f", area {signed(gain)} on random" if gain else "")
        )
    for name, found in zip(sources, a.afresh.values(), strict=True):
        over = f", {signed(found.over_full)} on full supervision" if found.over_full else ""
        lines.append(f"{name:<{width}}  {points(found.miou):>12} % mIoU{over}")
    if a.full:
        lines.append(
            f"{'full supervision':<{width}}  {points(a.full.miou):>12} % mIoU, n={a.full.miou.n}"
        )
    return lines
