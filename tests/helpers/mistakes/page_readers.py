"""What is read of answers: log of the page, painted maps, class sets, closed rounds."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regional_al.annotators.replay import decode
from regional_al.loop.closing import closed
from regional_al.store.answer_log import AnswerLog, Event
from regional_al.store.label_maps import read_sets, write_sets
from regional_al.store.pseudo_labels import PseudoLabels
from regional_al.store.sieved import SievedPixels
from regional_al.store.work_dir import WorkDir
from regional_al.types import ClassSets

SHAPE = (6, 8)


def painted(folder: Path) -> Path:
    data = io.BytesIO()
    pixels = np.arange(48, dtype=np.uint8).reshape(SHAPE)
    Image.fromarray(pixels).save(data, "PNG")
    (folder / "painted.png").write_bytes(data.getvalue())
    return folder / "painted.png"


def read_painted(folder: Path) -> Any:
    return decode((folder / "painted.png").read_bytes(), SHAPE)


def sets(folder: Path) -> Path:
    regions = np.zeros(SHAPE, np.int32)
    regions[:2], regions[4:, 3:] = 1, 2
    write_sets(folder / "sets.png", ClassSets(regions, ((0, 3), (1, 2, 7))))
    return folder / "sets.png"


def read_class_sets(folder: Path) -> Any:
    return read_sets(folder / "sets.png")


def sieved(folder: Path) -> Path:
    SievedPixels(folder).write("a", np.eye(6, 8) > 0, "answers")
    return folder / "a.png"


def read_sieved(folder: Path) -> Any:
    return SievedPixels(folder).read("a"), SievedPixels(folder).made_from("a")


def pseudo(folder: Path) -> Path:
    PseudoLabels(folder).write("a", np.eye(6, 8, dtype=np.uint8), "answers")
    return folder / "a.png"


def read_pseudo(folder: Path) -> Any:
    return PseudoLabels(folder).read("a"), PseudoLabels(folder).made_from("a")


def log(folder: Path) -> Path:
    path = folder / "answers.sqlite"
    with AnswerLog.open(path) as opened:
        for number in range(3):
            opened.append(Event(0, 1, "q", "a", "ada", "class", (number,), (1,), token=str(number)))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("VACUUM")
    return path


def read_log(folder: Path) -> Any:
    with AnswerLog.open(folder / "answers.sqlite", readonly=True) as opened:
        return opened.events(), opened.changes()


def closed_round(folder: Path) -> Path:
    path = WorkDir(folder).closed(1)
    path.parent.mkdir(parents=True)
    path.write_text('{"unspent": "keep"}')
    return path


def read_closed(folder: Path) -> Any:
    return closed(WorkDir(folder), 1)
