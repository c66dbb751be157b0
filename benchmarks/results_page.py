"""Fill the tables of docs/results.md and docs/noise.md from results/camvid_grid.json and
results/noise.json, and draw their figures."""

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
PAGES = {"camvid": ("camvid_grid", "results"), "noise": ("noise", "noise")}
"""Prefix of the figures -> name of the results, and of the page."""


def main() -> None:
    for prefix, (name, document) in PAGES.items():
        found = stats.analyse(results.read(ROOT / f"benchmarks/results/{name}.json"))
        page = ROOT / f"docs/{document}.md"
        new = markdown.fill(page.read_text(encoding="utf-8"), found)
        page.write_text(new, encoding="utf-8")
        for file, draw in charts(prefix, found).items():
            figure = draw() if f"(figures/{file})" in new else None
            if figure is not None:
                save(figure, page.parent / "figures" / file)


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
