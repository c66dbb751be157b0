"""A run that waits for answers, and people who know the ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from exchange_tools import Drawn

from regional_al.config import grammar
from regional_al.exchange.labels import VOID
from regional_al.exchange.run import waiting_run
from regional_al.loop import runner
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.store.images import read_ids
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace

# As with reduce_zero_label; raw ids 1 and TWIN are one class; two classes have the same name.
TWIN = len(streets.CLASSES) + 1
TABLE = np.full(256, -1, np.int16)
TABLE[[0, 255]] = 255
TABLE[1:TWIN], TABLE[TWIN] = range(TWIN - 1), 0
CLASSES = ("same name", "same name", *streets.CLASSES[2:])
SPACES = {
    "plain": LabelSpace.plain(streets.CLASSES, streets.PALETTE),
    "raw": LabelSpace(CLASSES, streets.PALETTE, TABLE),
    "gap": LabelSpace(CLASSES, streets.PALETTE, np.where(len(CLASSES) - 1 == TABLE, 255, TABLE)),
}
REGION = {"level": "region", "region": {"type": "grid", "cell": 9}, "heuristic": "Random"}
WINDOW = {"level": "region", "region": "window", "heuristic": "Random"}
IMAGE = {"level": "image", "region": None, "heuristic": "Random"}
BUDGET = {"budget": {"amount": "6%", "unit": "pixel"}}


def start(data: Path, work_dir: Path, space: str = "plain", **more: Any) -> ActiveLearningLoop:
    acquisition = {**REGION, **BUDGET, "rounds": 1, "warm_start": {"amount": "5%", "unit": "pixel"}}
    acquisition |= {"annotator": {"type": "folder"}, **more}
    engine = toy_engine(data, SPACES[space], iterations=1)
    return runner.run(engine, grammar.parse(acquisition), work_dir, report=False)


def truths(data: Path, work_dir: Path, space: str = "plain") -> dict[str, Drawn]:
    """What a person who knows the ground truth draws where something is asked: the classes."""
    run = waiting_run(work_dir)
    table = SPACES[space].raw_to_train
    drawn: dict[str, Drawn] = {}
    for key in run.query.image_keys():
        (file,) = (data / "annotations/train").glob(f"{key}.png")
        asked, classes = run.query.asked(key) > 0, table[read_ids(file)]
        masks = [
            (run.labels.names[c], asked & (classes == c)) for c in range(len(run.labels.names))
        ]
        drawn[key] = [(VOID, asked & (classes == 255)), *masks]
        drawn[key] = [(label, mask) for label, mask in drawn[key] if mask.any()]
    return drawn


def labels_of(work_dir: Path) -> dict[str, bytes]:
    """Label files and sidecars, byte for byte."""
    root = work_dir / "labels"
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.png"))}


def lowest(labels: dict[str, bytes], work_dir: Path) -> dict[str, Any]:
    """The same files with raw id TWIN as 1."""
    found: dict[str, Any] = {}
    for name in labels:
        ids = read_ids(work_dir / "labels" / name)
        found[name] = np.where((ids == TWIN) & (not name.startswith("_")), 1, ids).tolist()
    return found


def answers(run: Path) -> dict[str, np.ndarray]:
    folder = run / "rounds/000/answers"
    return {p.relative_to(folder).with_suffix("").as_posix(): read_ids(p)
            for p in sorted(folder.rglob("*.png"))}  # fmt: skip
