"""`compare.csv`: one row an arm, seed and round, for other people's tools."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from ..store.images import replacing
from ..types import JSON
from .measures import class_iou, trained
from .reading import Comparison, Run

FILE = "compare.csv"
HEAD = (
    "arm",
    "label",
    "seed",
    "state",
    "round",
    "images",
    "regions",
    "pixels",
    "clicks",
    "labelled_fraction",
    "mIoU",
    "accuracy",
    "iterations",
    "iterations_behind",
    "label_share",
)


def write(path: Path, comparison: Comparison) -> None:
    """All runs, those under way too. An unknown value is an empty cell; IoU and shares are 0..1."""
    table = list(rows(comparison))
    columns = list(dict.fromkeys([*HEAD, *(key for row in table for key in row)]))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        out.writeheader()
        out.writerows(table)


def rows(comparison: Comparison) -> Iterator[JSON]:
    """iterations: of the round's own training; iterations_behind: of all trainings that the round's
    weights have gone through (see `measures.trained`)."""
    for run in comparison.runs:
        label = comparison.arms[run.arm].get("label") or run.arm
        yield from _rows_of(run, str(label))


def _rows_of(run: Run, label: str) -> Iterator[JSON]:
    for record, behind in zip(run.results.records, trained(run), strict=True):
        row: JSON = {
            "arm": run.arm,
            "label": label,
            "seed": run.seed,
            "state": run.state,
            "round": record.round,
            **record.costs._asdict(),
            "labelled_fraction": record.labelled_fraction,
            "mIoU": record.miou,
            "accuracy": record.accuracy,
            "iterations": record.iterations,
            "iterations_behind": behind,
            "label_share": record.label_share,
        }
        for name, seconds in record.seconds.items():
            row[f"seconds_{name}"] = seconds
        for c, name in enumerate(run.results.classes):
            row[f"iou_{name}"] = class_iou(record, c)
        yield {key: value for key, value in row.items() if value is not None}
