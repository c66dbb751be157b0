"""`compare.html` and its charts, from a comparison alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .. import __version__
from ..report.html import Tile, page_template, save_and_embed
from ..report.status import plain
from ..report.table import full
from ..store.images import replacing
from ..types import JSON
from . import figures, tables
from .results import Comparison, without_paths
from .stats import Analysis, families
from .tables import COST_NAMES, Table, points, signed

FILE = "compare.html"
CROWDED = 8  # more arms than this on one chart are also drawn apart, baseline by baseline


def write(out: Path, analysis: Analysis, scale: str = "auto") -> Path:
    """Write `out/compare.html` and `out/figures/`.

    Args:
        out: Output folder.
        analysis: What to show.
        scale: Of the cost axes: 'auto', 'log' or 'linear'.

    Returns:
        The path of the page.

    Raises:
        EnvironmentProblem: matplotlib or jinja2 is missing.
    """
    page = render(analysis, out / "figures", scale)
    path = out / FILE
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(a: Analysis, folder: Path, scale: str = "auto") -> str:
    """The page as text; writes the charts to `folder` on the way."""
    runs = a.comparison
    page: str = page_template("compare.html.j2", "compare").render(
        version=__version__,
        title=runs.title,
        subtitle=_subtitle(runs),
        state=state(runs),
        notes=notes(a),
        tiles=_tiles(a),
        curve_note=_full_note(a),
        arms=tables.arms(a),
        full=a.full is not None,
        retrained=tables.retrained(a),
        retrained_classes=tables.retrained_classes(a),
        ends=tables.equal_training(a),
        efficiency=_groups(a, "In", tables.label_efficiency, _measured_against),
        wins=_groups(a, "At equal", tables.wins),
        gains=_groups(a, "At equal", tables.classes, tables.classes_head),
        training=tables.training(a),
        how=_how(runs),
        configs=[
            {"name": a.label(arm), "facts": [(k, plain(v)) for k, v in _config(runs, arm).items()]}
            for arm in runs.arms
        ],
        **_charts(a, folder, scale),
    )
    return page


def _groups(
    a: Analysis,
    preposition: str,
    make: Callable[[Analysis, str], dict[str, Table]],
    head: Callable[[Analysis, str, str], str] = lambda a, cost, baseline: "",
) -> list[JSON]:
    """The tables of every cost that has any, by baseline, with a line above each."""
    return [
        {
            "name": f"{preposition} {COST_NAMES[cost]}",
            "parts": [{"head": head(a, cost, b), "table": table} for b, table in made.items()],
        }
        for cost in a.costs
        if (made := make(a, cost))
    ]


def _measured_against(a: Analysis, cost: str, baseline: str) -> str:
    return f"Measured against {a.label(baseline)}"


def _charts(a: Analysis, folder: Path, scale: str) -> JSON:
    """Draw, save and embed; curves of an earlier call that are not drawn now are deleted."""
    first = a.costs[0] if a.costs else "pixels"
    apart = families(a.arms, a.baselines)
    if len(apart) < 2 or len(a.arms) <= CROWDED:
        apart = {}
    drawn = {
        "seconds": (figures.seconds(a), "Mean wall-clock time of a round after round 0, by stage"),
        "gains": (
            figures.gains(a, first),
            f"IoU points above random at equal {COST_NAMES[first]}, by class",
        ),
    }
    for cost in a.costs:
        alt = f"mIoU over {COST_NAMES[cost]}"
        drawn[f"curve_{cost}"] = (figures.curve(a, cost, scale), alt)
        for head, arms in apart.items():
            drawn[f"curve_{cost}_{head}"] = (figures.curve(a, cost, scale, arms), alt)
    for path in folder.glob("curve_*.png"):
        if path.stem not in drawn:
            path.unlink()
    made = save_and_embed(drawn, folder)
    return {
        "curves": [made[name] for c in a.costs if (name := f"curve_{c}") in made],
        "apart": [
            {
                "head": f"Measured against {a.label(head)}",
                "curves": [made[name] for c in a.costs if (name := f"curve_{c}_{head}") in made],
            }
            for head in apart
        ],
        "seconds": made.get("seconds"),
        "heat": made.get("gains"),
    }


def _subtitle(runs: Comparison) -> str:
    head = runs.pool
    seeds = ", ".join(map(str, sorted({run.seed for run in runs.runs})))
    several = "es" if runs.processes != 1 else ""
    return (
        f"{len(runs.querying)} arms, seeds {seeds} · pool of {full(head.pool_images)} images, "
        f"{full(head.pool_pixels)} pixels · {len(head.classes)} classes · engine {head.engine}, "
        f"{runs.processes} process{several} per run"
    )


def state(runs: Comparison) -> str:
    done = sum(run.state == "finished" for run in runs.runs)
    total = len(runs.runs) + len(runs.missing)
    return (
        f"{done} of {total} runs have finished."
        if done < total
        else f"All {total} runs have finished."
    )


def notes(a: Analysis) -> list[str]:
    """What a reader must know before trusting the curves, and what these leave out."""
    runs = a.comparison
    found = []
    arms = {name: runs.arms[name] for name in runs.querying}
    recipes = len({arm.get("recipe") for arm in arms.values()})
    if recipes > 1:
        found.append(
            f"The arms were trained under {recipes} different training configs; differences "
            "between them are not due to the labels alone."
        )
    own = [name for name, arm in arms.items() if not arm.get("start")]
    if own and len(own) < len(arms):
        found.append(f"With their own round 0 instead of the shared one: {', '.join(own)}.")
    for status in ("under way", "failed"):
        left_out = [r for r in runs.runs if r.state == status]
        if left_out:
            names = [f"{r.arm} seed {r.seed}" + (r.why and f" ({r.why})") for r in left_out]
            found.append(f"Not included, {status}: {', '.join(names)}.")
    if runs.missing:
        found.append(f"No results yet: {', '.join(runs.missing)}.")
    for cost, other in a.same.items():
        found.append(
            f"Curves over {COST_NAMES[cost]} are the same as those over {COST_NAMES[other]}."
        )
    for cost, unknown in a.unknown.items():
        if unknown:
            names = [a.label(arm) for arm in unknown]
            found.append(
                f"Not in the curves over {COST_NAMES[cost]}, which are not known: "
                f"{', '.join(names)}."
            )
    behind = sorted({seed[-1] for arm in a.arms for seed in a.training[arm]})
    if a.full and behind != sorted(set(a.full.iterations)):
        found.append(
            f"Full supervision was trained for {tables.span(a.full.iterations)} iterations, the "
            f"last rounds of the arms for {tables.span(behind)}."
        )
    alone = [a.label(arm) for arm in a.arms if a.baselines[arm] is None]
    if alone:
        found.append(f"There is no random baseline for {', '.join(alone)}.")
    return found


def _full_note(a: Analysis) -> str:
    if a.full is None:
        return "Full supervision was not trained (--full)."
    n = a.full.miou.n
    return (
        f"Dashed: full supervision under the same recipe, {points(a.full.miou)} % "
        f"({n} seed{'s' * (n != 1)})."
    )


def _tiles(a: Analysis) -> list[Tile]:
    """The few numbers that tell whether it pays."""
    found = []
    if a.full:
        found.append(Tile("full supervision", f"{points(a.full.miou)} %", "mIoU, all labels"))
    for cost in a.costs:
        gains = {
            arm: area.gain
            for arm, area in a.areas[cost].items()
            if area.gain and a.has_baseline(arm)
        }
        if gains:
            best = max(gains, key=lambda arm: gains[arm].mean)
            note = f"points of area above random: {a.label(best)}"
            found.append(Tile(f"best over {COST_NAMES[cost]}", signed(gains[best]), note))
    if a.costs:
        cost = a.costs[0]
        ratios = [
            (e.ratio.value, f"{a.label(arm)}, {COST_NAMES[cost]} for {100 * e.level:.1f} % mIoU")
            for arm, rows in a.efficiency[cost].items()
            for e in rows
            if e.ratio and e.ratio.sign == "=" and e.ratio.value is not None
        ]
        if ratios:
            value, note = max(ratios, key=lambda item: item[0])
            found.append(Tile("highest label efficiency", f"{value:.2f}x", note))
    return found


def _how(runs: Comparison) -> list[tuple[str, str]]:
    """Options, machines and versions."""
    facts = [("--cfg-options", " ".join(runs.options))] if runs.options else []
    machines = Counter(_machine(run.machine) for run in runs.runs)
    return facts + [(f"machine of {count} runs", text) for text, count in machines.items() if text]


def _machine(found: JSON) -> str:
    """cpu, cores, device, versions, revision in one line."""
    if not found:
        return ""
    versions = ", ".join(f"{k} {v}" for k, v in (found.get("versions") or {}).items())
    parts = [found.get("cpu"), f"{found.get('cores')} cores", found.get("device"), versions]
    parts.append(f"revision {found['revision']}" if found.get("revision") else None)
    return " · ".join(str(part) for part in parts if part)


def _config(runs: Comparison, arm: str) -> JSON:
    """The acquisition of an arm with every default, of any of its runs, without the seed."""
    found = next((r.results.acquisition for r in runs.runs if r.arm == arm), None)
    found = runs.arms[arm]["acquisition"] if found is None else found
    return {key: value for key, value in without_paths(found).items() if key != "seed"}
