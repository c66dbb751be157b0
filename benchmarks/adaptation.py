"""Active domain adaptation between two styles of the street scenes: what source and labels gain.

python benchmarks/adaptation.py RUNS [--collect] [--gpus 1 2] [--seeds 0 1 2] [--threads N]

Draws both domains below RUNS/data, runs `tools/dist_train.sh configs/streets/adapt_NAME.py GPUS`
for each name, number of processes and seed (finished runs are skipped, broken ones resumed), then
collects their results.json into benchmarks/results/adaptation.json and prints the table.
--collect: only the latter. A small synthetic pair: it shows that the chain works and how large the
gap is, not which strategy is better on real data.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

from _common import print_table, write_result

from regional_al.store import results as records
from regional_al.store.work_dir import WorkDir
from regional_al.testing import streets

ROOT = Path(__file__).parents[1]
NAMES = ("source_only", "ripu", "random", "source_free", "target_only")  # the first one comes first
SOURCE, TARGET = "game", "dusk"
BATCH = 8  # of all processes together, for each domain


def folder_of(runs: Path, name: str, gpus: int, seed: int) -> Path:
    return runs / f"adapt_{gpus}p_{name}_{seed}"


def run(name: str, gpus: int, seed: int, runs: Path, threads: int | None) -> None:
    """One run through the launcher; its output goes to <folder>.log."""
    folder = folder_of(runs, name, gpus, seed)
    options = [f"acquisition.seed={seed}", f"train_dataloader.batch_size={BATCH // gpus}"]
    if name in ("source_only", "ripu", "random"):
        options.append(f"source_dataloader.batch_size={BATCH // gpus}")
    start = folder_of(runs, NAMES[0], gpus, seed) / "rounds/000/fit/checkpoint.pth"
    environment = {
        **os.environ,
        "STREETS_ROOT": str(runs / "data" / TARGET),
        "STREETS_SOURCE_ROOT": str(runs / "data" / SOURCE),
        "STREETS_SOURCE_CKPT": str(start),
    }
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [
        "bash",
        str(ROOT / "tools/dist_train.sh"),
        str(ROOT / f"configs/streets/adapt_{name}.py"),
        str(gpus),
        "--work-dir",
        str(folder),
        "--resume",
        "--no-report",
        "--cfg-options",
        *options,
    ]
    with Path(f"{folder}.log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env=environment, cwd=ROOT)


def finished(folder: Path) -> bool:
    return WorkDir(folder).results.is_file() and records.load(folder).stopped is not None


def rows_of(name: str, gpus: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    """One row per round: costs, mIoU in percent, seconds by stage."""
    results = records.load(folder)
    return [
        {
            "config": f"adapt_{name}",
            "processes": gpus,
            "seed": seed,
            "round": r.round,
            "images": r.costs.images,
            "regions": r.costs.regions,
            "pixels": r.costs.pixels,
            "clicks": r.costs.clicks,
            "labelled_percent": 100 * r.labelled_fraction,
            "miou_percent": None if r.miou is None else 100 * r.miou,
            "per_class_iou": list(r.per_class_iou),
            "iterations": r.iterations,
            "label_share": r.label_share,
            "seconds": dict(r.seconds),
            "stopped": results.stopped,
        }
        for r in results.records
    ]


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line per config and number of processes: mean mIoU of each round over the seeds."""
    found: dict[tuple[str, int], dict[int, list[dict[str, Any]]]] = defaultdict(dict)
    for row in rows:
        found[row["config"], row["processes"]].setdefault(row["round"], []).append(row)
    lines = []
    for (config, gpus), rounds in found.items():
        line: dict[str, Any] = {"config": config, "processes": gpus, "seeds": len(rounds[0])}
        for round_, group in rounds.items():
            values = [row["miou_percent"] for row in group]
            spread = f" ±{statistics.stdev(values):.1f}" if len(values) > 1 else ""
            line[f"mIoU {round_}"] = f"{statistics.mean(values):.1f}{spread}"
        line["labelled %"] = group[0]["labelled_percent"]
        line["clicks"] = statistics.mean(row["clicks"] or 0 for row in group)
        line["seconds"] = sum(
            sum(row["seconds"].values()) for group in rounds.values() for row in group
        ) / len(rounds[0])
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--collect", action="store_true")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    runs = args.runs.resolve()
    for style in (SOURCE, TARGET):
        streets.generate(runs / "data" / style, style=style)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        for gpus in args.gpus:
            for name in NAMES:
                folder = folder_of(runs, name, gpus, seed)
                if not args.collect and not finished(folder):
                    run(name, gpus, seed, runs, args.threads)
                if finished(folder):
                    rows += rows_of(name, gpus, seed, folder)
    print_table(table(rows))
    write_result("adaptation", rows, source=SOURCE, target=TARGET, batch_of_each_domain=BATCH)


if __name__ == "__main__":
    main()
