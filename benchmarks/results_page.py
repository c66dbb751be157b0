"""Fill the tables of docs/results.md from results/camvid_grid.json, and draw its figures.

python benchmarks/results_page.py            # writes docs/results.md and docs/figures/
python benchmarks/results_page.py --check    # exit code 1 where the tables are not the file's
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from regional_al.compare import archive, figures, markdown, reading, tables
from regional_al.compare.findings import Analysis
from regional_al.compare.tables import families
from regional_al.report.figures import save

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/camvid_grid.json"
PAGE = ROOT / "docs/results.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    found = tables.analyse(reading.merge([(RESULTS.name, archive.read(RESULTS))]))
    old = PAGE.read_text(encoding="utf-8")
    new = markdown.fill(old, found)
    if check:
        if new != old:
            print(f"{PAGE.name} does not have the numbers of {RESULTS.name}: run this script")
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    for name, draw in charts(found).items():
        figure = draw() if f"(figures/{name})" in new else None
        if figure is not None:
            save(figure, PAGE.parent / "figures" / name)
    return 0


def charts(found: Analysis) -> dict[str, Callable[[], Figure | None]]:
    """File name -> the chart; the page has those that it links to."""
    drawn: dict[str, Callable[[], Figure | None]] = {}
    for cost in found.costs:
        for head, arms in families(found.arms, found.baselines).items():
            drawn[f"camvid_{head}_{cost}.png"] = partial(figures.curve, found, cost, "auto", arms)
        drawn[f"camvid_gains_{cost}.png"] = partial(figures.gains, found, cost)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
