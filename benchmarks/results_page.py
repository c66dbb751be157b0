"""Fill the tables of docs/results.md from results/camvid_grid.json, and draw its figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from regional_al.compare import figures, markdown, results, stats
from regional_al.report.figures import save

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
RESULTS = ROOT / "benchmarks/results/camvid_grid.json"
PAGE = ROOT / "docs/results.md"


def main() -> None:
    found = stats.analyse(results.read(RESULTS))
    new = markdown.fill(PAGE.read_text(encoding="utf-8"), found)
    PAGE.write_text(new, encoding="utf-8")
    for name, draw in charts(found).items():
        figure = draw() if f"(figures/{name})" in new else None
        if figure is not None:
            save(figure, PAGE.parent / "figures" / name)


def charts(found: stats.Analysis) -> dict[str, Callable[[], Figure | None]]:
    """File name -> function that draws it; only those that the page links to are drawn."""
    drawn: dict[str, Callable[[], Figure | None]] = {}
    for cost in found.costs:
        for head, arms in stats.families(found.arms, found.baselines).items():
            drawn[f"camvid_{head}_{cost}.png"] = partial(figures.curve, found, cost, "auto", arms)
        drawn[f"camvid_kinds_{cost}.png"] = partial(figures.curve, found, cost, "auto", KINDS)
        drawn[f"camvid_gains_{cost}.png"] = partial(figures.gains, found, cost)
    return drawn


if __name__ == "__main__":
    main()
