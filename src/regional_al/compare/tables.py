"""The tables of a comparison as data: `html` and `markdown` render the same ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ..report.table import NOT_KNOWN, full, percent, spell
from .curves import SAME_COST, Ratio, Reach, Spread, difference
from .efficiency import Efficiency, EndRatio
from .figures import line_styles
from .stats import Analysis, Win, families, family

COST_NAMES = {
    "pixels": "pixels",
    "clicks": "clicks",
    "regions": "annotation visits",
    "annotation_seconds": "annotation time",
}
FULL_NAME = "full supervision"
_BLUE, _RED = (31, 95, 168), (193, 66, 66)
_SIGNS = {">=": "≥ ", "<=": "≤ ", "~": "~ "}
_BORDERS = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "double"}
_BY_CLASS, _OVERALL = 0.25, 0.06  # differences of mIoU (0..1) that are shaded most


@dataclass(frozen=True)
class Cell:
    """text; small: lines of small print below it; title: tooltip; back: a CSS colour or ''."""

    text: str = ""
    small: str = ""
    title: str = ""
    bold: bool = False
    back: str = ""

    def shaded(self, value: float | None, strongest: float) -> Cell:
        """With a background: blue above 0, red below; white at 0, full at `strongest`."""
        if value is None:
            return self
        share = min(1.0, abs(value) / strongest) ** 0.7 * 0.62
        rgb = (round(255 + (c - 255) * share) for c in (_BLUE if value >= 0 else _RED))
        return replace(self, back="#{:02x}{:02x}{:02x}".format(*rgb))


@dataclass(frozen=True)
class Row:
    """name: of an arm or class; small: print below it; colour, border: how the arm is drawn in the
    figures, as CSS, '' if it is not."""

    name: str
    cells: Sequence[Cell]
    small: str = ""
    colour: str = ""
    border: str = ""


@dataclass(frozen=True)
class Table:
    """corner: head of the first column; heads: of the others."""

    corner: str
    heads: Sequence[Cell]
    rows: Sequence[Row]


def amount(cost: str, value: float) -> str:
    """A cost as text: 2h07m of annotation time, 1,234 of anything else.

    Example:
        >>> amount("clicks", 1234.4), amount("annotation_seconds", 83.0)
        ('1,234', '83.0 s')
    """
    return spell(value) if cost == "annotation_seconds" else full(round(value))


def arms(a: Analysis) -> Table:
    """One row per arm: what its last round cost and reached, and its areas."""
    counted = [cost for cost in COST_NAMES if cost != "pixels" and cost in a.costs]
    heads = ["seeds", "rounds", "pixels %", *(COST_NAMES[c] for c in counted), "mIoU %"]
    heads += ["% of full"] if a.full else []
    heads += [f"area over {COST_NAMES[c]}" for c in a.costs]
    rows = []
    for arm in a.arms:
        last = {cost: means[arm][-1] for cost, means in a.means.items() if means.get(arm)}
        some = next(iter(last.values()), None)
        texts = [
            str(len(a.comparison.finished(arm))),
            str(some.round) if some else NOT_KNOWN,
            _share(a, last["pixels"].cost) if "pixels" in last else NOT_KNOWN,
            *(amount(cost, last[cost].cost) if cost in last else NOT_KNOWN for cost in counted),
            points(some.spread) if some else NOT_KNOWN,
        ]
        if a.full:
            texts.append(f"{100 * some.mean / a.full.miou.mean:.1f}" if some else NOT_KNOWN)
        cells = [*map(Cell, texts), *(_area(a, arm, cost) for cost in a.costs)]
        against = f"vs. {a.label(str(a.baselines[arm]))}" if a.has_baseline(arm) else ""
        rows.append(_arm_row(a, arm, cells, against))
    if a.full:
        known = {"seeds": str(a.full.miou.n), "mIoU %": points(a.full.miou), "% of full": "100"}
        rows.append(Row(FULL_NAME, [Cell(known.get(head, "")) for head in heads]))
    return Table("arm", list(map(Cell, heads)), rows)


def _area(a: Analysis, arm: str, cost: str) -> Cell:
    area = a.areas[cost].get(arm)
    if area is None or area.value is None:
        return Cell(NOT_KNOWN)
    scale = "log cost" if area.log else "cost"
    where = f"{amount(cost, area.low)} to {amount(cost, area.high)}, over {scale}"
    if area.gain is None or not a.has_baseline(arm):
        return Cell(points(area.value), title=where)
    return Cell(signed(area.gain), f"{points(area.value)} vs. {points(area.baseline)}", where)


def rounds(a: Analysis, head: str) -> Table:
    """mIoU by round of a baseline and what is measured against it, and the gain in area."""
    members = families(a.arms, a.baselines)[head]
    means = {arm: a.means["pixels"][arm] for arm in members if a.means.get("pixels", {}).get(arm)}
    longest = max(means.values(), key=len, default=[])
    heads = [Cell(f"round {p.round}", f"{_share(a, p.cost)} %") for p in longest]
    heads += [Cell("area above random", f"over {COST_NAMES[cost]}") for cost in a.costs]
    rows = []
    for arm, line in means.items():
        texts = [points(p.spread) for p in line] + [NOT_KNOWN] * (len(longest) - len(line))
        areas = [a.areas[cost].get(arm) for cost in a.costs]
        texts += [signed(area.gain) if area and arm != head else "" for area in areas]
        rows.append(_arm_row(a, arm, list(map(Cell, texts))))
    return Table("mIoU %", heads, rows)


def retrained(a: Analysis) -> Table | None:
    """One row per training on the labels of an arm."""
    heads = ["seeds", "pixels %", "clicks", "iterations", "mIoU %"]
    heads += ["% of full", "vs. full"] if a.full else []
    heads += ["vs. last round", "vs. random's labels"]
    rows = []
    for arm, found in a.retrained.items():
        cells = [
            Cell(str(len(found.iterations))),
            Cell(NOT_KNOWN if found.pixels is None else _share(a, found.pixels.mean)),
            Cell(NOT_KNOWN if found.clicks is None else full(round(found.clicks.mean))),
            Cell(span(found.iterations)),
            Cell(points(found.miou)),
        ]
        if a.full:
            mean = found.miou and f"{100 * found.miou.mean / a.full.miou.mean:.1f}"
            cells += [Cell(mean or NOT_KNOWN), _difference(found.over_full)]
        cells += [_difference(found.over_rounds), _difference(found.over_baseline)]
        if found.source in a.arms:
            rows.append(_arm_row(a, found.source, cells, _own_label(a, arm)))
        else:
            rows.append(Row(a.label(found.source), cells))
    return Table("labels of", list(map(Cell, heads)), rows) if rows else None


def retrained_classes(a: Analysis) -> Table | None:
    """IoU by class of the trainings on the labels of an arm, and the difference from full."""
    heads = [
        ", ".join(filter(None, (a.label(found.source), _own_label(a, arm))))
        for arm, found in a.retrained.items()
    ]
    rows = []
    for c, name in enumerate(a.comparison.pool.classes):
        cells = [
            Cell(points(found.classes[c]), _vs_full(found.classes_over_full[c])).shaded(
                found.classes_over_full[c], _BY_CLASS
            )
            for found in a.retrained.values()
        ]
        rows.append(Row(name, cells + ([Cell(points(a.full.classes[c]))] if a.full else [])))
    heads += [FULL_NAME] if a.full else []
    return Table("class", list(map(Cell, heads)), rows) if a.retrained else None


def _own_label(a: Analysis, arm: str) -> str:
    """The arm's own label, if it has one or needs one: two on the same labels."""
    alike = [x for x in a.retrained.values() if x.source == a.retrained[arm].source]
    return a.label(arm) if len(alike) > 1 or a.label(arm) != arm else ""


def equal_training(a: Analysis) -> Table | None:
    """Label efficiency after equal training, by cost."""
    costs = [cost for cost in a.costs if a.ends[cost]]
    rows = []
    for arm in [x for x in a.arms if any(x in a.ends[cost] for cost in costs)]:
        found = [a.ends[cost].get(arm) for cost in costs]
        against = next(f for f in found if f is not None).baselines
        small = f"vs. {', '.join(map(a.label, against))}"
        rows.append(
            _arm_row(a, arm, [Cell(NOT_KNOWN) if f is None else _end(f) for f in found], small)
        )
    return Table("arm", [Cell(COST_NAMES[cost]) for cost in costs], rows) if rows else None


def _end(found: EndRatio) -> Cell:
    """The ratio of the means; below it that of each seed. Bold if above 1 in every seed."""
    seeds = [_times(r) for r in found.seeds]
    above = all(r.value is not None and r.value > 1 and r.sign != "<=" for r in found.seeds)
    return Cell(_times(found.ratio), ", ".join(seeds) if len(seeds) > 1 else "", bold=above)


def label_efficiency(a: Analysis, cost: str) -> dict[str, Table]:
    """By baseline; columns are levels."""
    found = {}
    for head in dict.fromkeys(family(arm, a.baselines) for arm in a.efficiency[cost]):
        members = [x for x in a.arms if x in a.efficiency[cost] and a.baselines[x] == head]
        levels = a.efficiency[cost][members[0]] if members else []
        if levels:
            heads = [Cell(f"{100 * level.level:.1f} %", level.name) for level in levels]
            cells = {arm: [_ratio(a, cost, e) for e in a.efficiency[cost][arm]] for arm in members}
            rows = [_arm_row(a, arm, cells[arm]) for arm in members]
            found[head] = Table("arm", heads, rows)
    return found


def _ratio(a: Analysis, cost: str, found: Efficiency) -> Cell:
    """2.31x and at which cost, or why not; below it the seeds."""
    spent = _spent(a, cost, found.reach)
    if found.ratio is None:
        return Cell(spent)
    seeds = f"{found.reached} of {found.seeds} seeds"
    if found.over_seeds is not None:
        mean, std, _ = found.over_seeds
        seeds = f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}") + f", {seeds}"
    value = found.ratio.value
    if value is None:
        return Cell(found.ratio.why, seeds)
    return Cell(_times(found.ratio), f"{spent}\n{seeds}", bold=value > 1)


def _spent(a: Analysis, cost: str, found: Reach) -> str:
    """What a level costs an arm."""
    if found.how != "reached":
        return "at the start" if found.how == "start" else "not reached"
    if cost == "pixels":
        return f"at {_share(a, found.cost)} %"
    return f"at {amount(cost, found.cost)}"


def wins(a: Analysis, cost: str, only: Collection[str] | None = None) -> dict[str, Table]:
    """One matrix of all arms, or of `only` these, under the key ''; none for fewer than two."""
    won = a.wins[cost]
    names = [arm for arm in a.arms if arm in won and (only is None or arm in only)]
    if len(names) < 2:
        return {}
    rows = [_arm_row(a, r, [_win(won[r].get(c), r == c) for c in names]) for r in names]
    return {"": Table("row beats column", [Cell(a.label(c)) for c in names], rows)}


def _win(found: Win | None, itself: bool) -> Cell:
    if found is None:
        return Cell("" if itself else NOT_KNOWN)
    text, by = f"{found.wins}/{found.total}", found.difference
    return Cell(text, signed(by), bold=by.clear).shaded(by.mean, _OVERALL)


def classes(a: Analysis, cost: str) -> dict[str, Table]:
    """By baseline; a row per class: IoU of random, of each other arm its gain, and of full."""
    found = {}
    for head, members in families([x for x in a.arms if x in a.gains[cost]], a.baselines).items():
        own, others = a.gains[cost].get(head), [arm for arm in members if arm != head]
        heads = ([f"{a.label(head)}: IoU %"] if own else []) + [a.label(arm) for arm in others]
        gains = [a.gains[cost][arm] for arm in others]
        rows = []
        for c, name in enumerate(("mIoU", *a.comparison.pool.classes), -1):
            top = a.full and (a.full.miou if c < 0 else a.full.classes[c])
            cells = []
            if own:
                value = own.miou if c < 0 else own.classes[c]
                cells.append(Cell(points(value), _vs_full(difference(value, top))))
            for gain in gains:
                value = gain.miou if c < 0 else gain.classes[c]
                over = gain.miou_over_baseline if c < 0 else gain.over_baseline[c]
                cell = Cell(signed(over), _vs_full(difference(value, top)))
                cells.append(cell.shaded(over and over.mean, _BY_CLASS))
            rows.append(Row(name, cells + ([Cell(points(top))] if a.full else [])))
        heads += [FULL_NAME] if a.full else []
        found[head] = Table("class", list(map(Cell, heads)), rows)
    return found


def classes_head(a: Analysis, cost: str, head: str) -> str:
    """Above a table of `classes`: the baseline, and the cost at which arms are compared."""
    against = f"Measured against {a.label(head)}: " if a.baselines[head] else ""
    ends = [g.cost for x, g in a.gains[cost].items() if family(x, a.baselines) == head]
    if max(ends) > (1 + SAME_COST) * min(ends):
        return f"{against}each arm at the last cost it shares with the baseline"
    return f"{against}at {amount(cost, min(ends))} {COST_NAMES[cost]}"


def training(a: Analysis) -> Table:
    """Iterations behind the points of each arm, by round if they differ."""
    rows = []
    for arm in a.arms:
        by_seed = a.training[arm]
        by_round = [
            span([seed[r] for seed in by_seed if r < len(seed)])
            for r in range(max(map(len, by_seed)))
        ]
        init = a.comparison.finished(arm)[0].results.acquisition.get("round_init", "")
        same = len(set(by_round)) == 1
        text = by_round[0] if same else ", ".join(by_round)
        rows.append(_arm_row(a, arm, [Cell(str(init)), Cell(text)]))
    if a.full:
        rows.append(Row(FULL_NAME, [Cell(), Cell(span(a.full.iterations))]))
    return Table("arm", [Cell("each round starts from"), Cell("iterations")], rows)


BY_COST = {"label efficiency": label_efficiency, "wins": wins, "classes": classes}
"""Name -> function (analysis, cost) -> tables by baseline."""


def named(a: Analysis) -> dict[str, Table]:
    """All tables by name, for documents that quote them.

    Returns:
        'arms'; 'retrained', 'retrained classes' and 'equal training' if there are any;
        'rounds, B' for each baseline B; 'label efficiency', 'wins', 'classes' by cost and baseline.
    """
    optional = {
        "retrained": retrained(a),
        "retrained classes": retrained_classes(a),
        "equal training": equal_training(a),
    }
    found = {"arms": arms(a), **{name: table for name, table in optional.items() if table}}
    found |= {f"rounds, {head}": rounds(a, head) for head in families(a.arms, a.baselines)}
    for cost in a.costs:
        for kind, make in BY_COST.items():
            for head, table in make(a, cost).items():
                found[", ".join(filter(None, (kind, COST_NAMES[cost], head)))] = table
    return found


def summary(a: Analysis) -> list[str]:
    """One line per arm, for the terminal."""
    if not a.arms:
        return ["no run has finished yet"]
    lines = []
    for arm in a.arms:
        cost = next((c for c in a.costs if a.means[c].get(arm)), None)
        if cost is None:
            continue
        last, area = a.means[cost][arm][-1], a.areas[cost].get(arm)
        text = f", {_share(a, last.cost)} % of pixels" if cost == "pixels" else ""
        text += f", n={last.n}"
        if area and area.gain and a.has_baseline(arm):
            text += f", area {signed(area.gain)} vs. random"
        lines.append((a.label(arm), points(last.spread), text))
    for found in a.retrained.values():
        over = f", {signed(found.over_full)} vs. full supervision" if found.over_full else ""
        lines.append((f"retrained: {a.label(found.source)}", points(found.miou), over))
    if a.full:
        lines.append((FULL_NAME, points(a.full.miou), f", n={a.full.miou.n}"))
    width = max(len(name) for name, _, _ in lines)
    return [f"{name:<{width}}  {miou:>12} % mIoU{text}" for name, miou, text in lines]


def points(value: Spread | None) -> str:
    """43.2 ± 0.8, in per cent."""
    if value is None:
        return NOT_KNOWN
    return f"{100 * value.mean:.1f}" + ("" if value.std is None else f" ± {100 * value.std:.1f}")


def signed(value: Spread | None) -> str:
    """+1.2 ± 0.4, in points."""
    if value is None:
        return NOT_KNOWN
    return _plus(value.mean) + ("" if value.std is None else f" ± {100 * value.std:.1f}")


def _plus(value: float) -> str:
    """+1.2; a zero has no minus."""
    return f"{round(100 * value, 1) or 0.0:+.1f}"


def _vs_full(value: float | None) -> str:
    return "" if value is None else f"{_plus(value)} vs. full"


def _difference(value: Spread | None) -> Cell:
    """Points, bold if they exceed their deviation over seeds."""
    if value is None:
        return Cell()
    return Cell(signed(value), bold=value.clear).shaded(value.mean, _OVERALL)


def _times(found: Ratio) -> str:
    sign, value, why = found
    return why if value is None else f"{_SIGNS.get(sign, '')}{value:.2f}x"


def _share(a: Analysis, pixels: float) -> str:
    """Pixels as a percentage of the pool."""
    return percent(pixels / a.comparison.pool.pool_pixels)


def span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _arm_row(a: Analysis, arm: str, cells: Sequence[Cell], small: str = "") -> Row:
    style = line_styles(a)[arm]
    border = _BORDERS.get(style["linestyle"], "solid")
    return Row(a.label(arm), cells, small, style["color"], border)
