"""Small runs of the toy engine for tests about what a run leaves on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regional_al.loop import runner
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.store.images import write_png
from regional_al.store.query import read_query
from regional_al.store.work_dir import WorkDir
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import UNLABELED


def small_data(
    folder: Path, train: int, val: int = 1, size: tuple[int, int] = (32, 32), seed: int = 3
) -> Path:
    """Street scenes in `folder`/streets."""
    return streets.generate(folder / "streets", train=train, val=val, size=size, seed=seed)


def play(
    data: Path,
    work_dir: Path,
    acquisition: Mapping[str, Any],
    text: str = "",
    iterations: int = 1,
) -> ActiveLearningLoop:
    """Start or resume a run, without previews unless `acquisition` asks for them."""
    engine = toy_engine(data, iterations=iterations)
    return runner.run(engine, {"previews": 0, **acquisition}, work_dir, text, report=False)


def put_answers(work_dir: Path, round_: int, value: int, keys: Iterable[str] | None = None) -> None:
    """What somebody says about the images of a query: everything asked has one raw id."""
    query = read_query(WorkDir(work_dir).query(round_))
    for key in query.image_keys() if keys is None else keys:
        said = np.where(query.asked(key) > 0, np.uint8(value), np.uint8(UNLABELED))
        write_png(WorkDir(work_dir).answers(round_) / f"{key}.png", said.astype(np.uint8))
