"""How many labels of the runs of a comparison are wrong: what annotation errors leave behind.

python benchmarks/wrong_labels.py work_dirs/noise data/streets_noise

Compares the label files of every finished run with the annotation files of the data set (plain ids,
255 = void), without void, and writes results/noise_labels.json.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from _common import print_table, write_result

from regional_al.compare import results
from regional_al.store.images import read_ids
from regional_al.types import UNLABELED


def wrong(labels: Path, annotations: Path) -> float:
    """Share of wrong labels in percent."""
    bad = count = 0
    for path in sorted(labels.glob("*.png")):
        given, truth = read_ids(path), read_ids(annotations / path.name)
        known = (given != UNLABELED) & (truth != UNLABELED)
        bad += int(np.count_nonzero((given != truth) & known))
        count += int(np.count_nonzero(known))
    return 100 * bad / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    found: dict[str, list[float]] = {}
    for run in results.collect(args.out).runs:
        if run.state == "finished":
            folder = args.out / "runs" / run.arm / f"seed{run.seed}" / "labels"
            found.setdefault(run.arm, []).append(wrong(folder, args.data / "annotations/train"))
    rows: list[dict[str, Any]] = [
        {
            "arm": arm,
            "seeds": len(shares),
            "wrong_percent": statistics.mean(shares),
            "deviation": statistics.stdev(shares) if len(shares) > 1 else None,
        }
        for arm, shares in found.items()
    ]
    print_table(rows)
    write_result("noise_labels", rows)


if __name__ == "__main__":
    main()
