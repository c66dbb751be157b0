"""The main job on real data: every level and its random baseline on CamVid, 1 and 2 processes.

python benchmarks/camvid_rounds.py RUNS [--collect] [--threads N] [--iterations N] [--gpus 1 2]

Runs `tools/dist_train.sh configs/camvid/NAME.py GPUS` for each name and number of processes into
RUNS/camvid_<GPUS>p_<NAME> (finished ones are skipped, broken ones resumed), then collects their
results.json into benchmarks/results/camvid_rounds.json and prints the table. --collect: only the
latter. One seed: this shows that the chain works on real data, not which strategy is better.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

from _common import print_table, write_result

from regional_al.store import results as records
from regional_al.store.work_dir import WorkDir

ROOT = Path(__file__).parents[1]
NAMES = (
    "region_ripu_slic",
    "region_ripu_window",
    "region_random",
    "pixel_margin",
    "pixel_random",
    "image_entropy",
    "image_random",
)
BATCH = 8  # of all processes together


def options(iterations: int, gpus: int) -> list[str]:
    """Overrides: the length of a round's training, and the same batch on any number of ranks."""
    return [
        f"train_cfg.max_iters={iterations}",
        f"param_scheduler.0.end={iterations}",
        f"train_dataloader.batch_size={BATCH // gpus}",
    ]


def run(name: str, gpus: int, folder: Path, iterations: int, threads: int | None) -> None:
    """One run through the launcher; its output goes to <folder>.log."""
    command = [
        "bash",
        str(ROOT / "tools/dist_train.sh"),
        str(ROOT / f"configs/camvid/{name}.py"),
        str(gpus),
        "--work-dir",
        str(folder),
        "--resume",
        "--cfg-options",
        *options(iterations, gpus),
    ]
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with Path(f"{folder}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env=environment, cwd=ROOT)


def finished(folder: Path) -> bool:
    return WorkDir(folder).results.is_file() and records.load(folder).stopped is not None


def rows_of(name: str, gpus: int, folder: Path) -> list[dict[str, Any]]:
    """One row per round: costs, mIoU in percent, seconds by stage."""
    results = records.load(folder)
    return [
        {
            "config": name,
            "processes": gpus,
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
    """One line per run: mIoU of each round, and the costs up to the last one."""
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault(
            (row["config"], row["processes"]),
            {"config": row["config"], "processes": row["processes"]},
        )
        line[f"mIoU {row['round']}"] = row["miou_percent"]
        line["labelled %"] = row["labelled_percent"]
        line["clicks"] = row["clicks"]
        line["seconds"] = line.get("seconds", 0.0) + sum(row["seconds"].values())
    return list(lines.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--collect", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for gpus in args.gpus:
        for name in NAMES:
            folder = args.runs / f"camvid_{gpus}p_{name}"
            if not args.collect and not finished(folder):
                run(name, gpus, folder, args.iterations, args.threads)
            if finished(folder):
                rows += rows_of(name, gpus, folder)
    print_table(table(rows))
    write_result("camvid_rounds", rows, iterations_a_round=args.iterations, batch=BATCH, seed=0)


if __name__ == "__main__":
    main()
