"""Fill the tables of docs/results.md, docs/noise.md, docs/training_results.md and
docs/which_strategy.md from files of results/, and draw the figures of the first two."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from regional_al.compare import figures, markdown, results, stats
from regional_al.compare.tables import COST_NAMES, Cell, Row, Table, amount, points, signed
from regional_al.report.figures import save
from regional_al.report.table import percent

KINDS = (
    "slic_real",
    "slic_clasp",
    "window_random",
    "window_class_ripu",
    "pixel_random",
    "pixel_margin",
    "click_class_balance",
)
ROOT = Path(__file__).parents[1]
PAGES = {
    "camvid": ("camvid_grid", "results"),
    "noise": ("noise", "noise"),
    "training": ("training", "training_results"),
}
"""Prefix of the figures -> name of the results, and of the page."""

ADVICE = ROOT / "docs/which_strategy.md"
BRIEF = re.compile(
    r"(<!-- brief: (?P<name>\w+): (?P<arms>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL
)
"""In ADVICE: file of results and arms of a table."""


def main() -> None:
    for prefix, (name, document) in PAGES.items():
        found = analysis(name)
        page = ROOT / f"docs/{document}.md"
        new = markdown.fill(page.read_text(encoding="utf-8"), found)
        page.write_text(new, encoding="utf-8")
        for file, draw in charts(prefix, found).items():
            figure = draw() if f"(figures/{file})" in new else None
            if figure is not None:
                save(figure, page.parent / "figures" / file)
    ADVICE.write_text(advice(ADVICE.read_text(encoding="utf-8")), encoding="utf-8")


def analysis(name: str) -> stats.Analysis:
    return stats.analyse(results.read(ROOT / f"benchmarks/results/{name}.json"))


def advice(page: str) -> str:
    """The page with its tables filled."""
    found = {match["name"]: analysis(match["name"]) for match in BRIEF.finditer(page)}

    def block(match: re.Match[str]) -> str:
        table = brief(found[match["name"]], match["arms"].split())
        return f"{match[1]}{markdown.render(table)}\n{match[4]}"

    return BRIEF.sub(block, page)


def brief(a: stats.Analysis, arms: Sequence[str]) -> Table:
    """What arms cost and reach at the end, and their gain over random at equal cost: mIoU of the
    same seed at the last cost that both have reached."""
    timed = "annotation_seconds" in a.costs
    costs = ["pixels", "annotation_seconds" if timed else "clicks"]
    heads = ["seeds", "pixels %", "clicks", *(["annotation time"] if timed else []), "mIoU %"]
    heads += [f"over random<br>at equal {COST_NAMES[c].removeprefix('annotation ')}" for c in costs]
    rows = []
    for arm in arms:
        last = {cost: a.means[cost][arm][-1] for cost in ("pixels", "clicks", *costs)}
        texts = [
            str(last["pixels"].n),
            percent(last["pixels"].cost / a.comparison.pool.pool_pixels),
            *(amount(c, last[c].cost) for c in ("clicks", *costs[1:])[: 1 + timed]),
            points(last["pixels"].spread),
        ]
        gains = [a.gains[cost].get(arm) if a.has_baseline(arm) else None for cost in costs]
        texts += [signed(gain.miou_over_baseline) if gain else "" for gain in gains]
        rows.append(Row(a.label(arm), list(map(Cell, texts))))
    return Table("asked by", list(map(Cell, heads)), rows)


def charts(prefix: str, found: stats.Analysis) -> dict[str, Callable[[], Figure | None]]:
    """File name -> function that draws it; only those that the page links to are drawn."""
    drawn: dict[str, Callable[[], Figure | None]] = {}
    for cost in found.costs:
        for head, arms in stats.families(found.arms, found.baselines).items():
            drawn[f"{prefix}_{head}_{cost}.png"] = partial(figures.curve, found, cost, "auto", arms)
        drawn[f"{prefix}_kinds_{cost}.png"] = partial(figures.curve, found, cost, "auto", KINDS)
        drawn[f"{prefix}_all_{cost}.png"] = partial(figures.curve, found, cost, "auto")
        drawn[f"{prefix}_gains_{cost}.png"] = partial(figures.gains, found, cost)
    return drawn


if __name__ == "__main__":
    main()
