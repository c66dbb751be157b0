"""Where the input of a case goes in, and the folders that cases start from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import compare_runs
import numpy as np
from paths import ROOT

from regional_al import cli
from regional_al.compare import results as archives
from regional_al.errors import RegionalALError
from regional_al.loop import runner
from regional_al.partitions import grid
from regional_al.store.images import read_ids, write_png
from regional_al.store.query import read_query
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine

SIZE = (32, 40)
BASE: dict[str, Any] = {
    "level": "region",
    "heuristic": "Entropy",
    "region": {"type": "grid", "cell": 8},
    "budget": {"amount": 4, "unit": "region"},
    "rounds": 1,
    "previews": 1,
}
BY_FOLDER = {**BASE, "annotator": "folder"}


def _data(folder: Path) -> None:
    streets.generate(folder / "data", train=4, val=2, size=SIZE, seed=1)


def _maps(folder: Path) -> None:
    """`data`, with a map of regions for each image in `maps`, as PNG and as NPY."""
    _data(folder)
    for path in sorted((folder / "data/images/train").iterdir()):
        ids = grid(SIZE, 8)
        write_png(folder / f"maps/{path.stem}.png", ids.astype(np.uint8))
        np.save(folder / f"maps/{path.stem}.npy", ids, allow_pickle=False)


def _finished(folder: Path) -> None:
    """A finished run of the toy engine on `data`."""
    _data(folder)
    _start(folder, "run", BASE)


def _waiting(folder: Path) -> None:
    """A run that waits for the answers of its warm start, in `run/rounds/000/answers`."""
    _data(folder)
    _start(folder, "run", BY_FOLDER)
    answers = folder / "run/rounds/000/answers"
    for key in read_query(folder / "run/rounds/000/query").image_keys():
        write_png(answers / f"{key}.png", read_ids(folder / f"data/annotations/train/{key}.png"))


def _grid(folder: Path) -> None:
    """A finished grid in `out`, with its archive."""
    compare_runs.two(folder / "out")
    archives.write(folder / "out/compare.json", archives.collect(folder / "out"), {})


STARTS: dict[str, Callable[[Path], None]] = {
    "data": _data,
    "maps": _maps,
    "run": _finished,
    "waiting": _waiting,
    "grid": _grid,
}


def _start(folder: Path, name: str, acquisition: Any) -> None:
    engine = toy_engine(folder / "data", iterations=1)
    work_dir = Path(name)  # as a user would write it: below the folder
    before = os.getcwd()
    os.chdir(folder)
    try:
        runner.run(engine, acquisition, work_dir, report=False)
    finally:
        os.chdir(before)


def _said(act: Callable[[], Any]) -> int:
    """As the command line reports an error, but without making one line of several."""
    try:
        act()
    except RegionalALError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _toy(folder: Path, given: Any) -> int:
    """A new run of the toy engine in `w`, with BASE but for the keys that are given."""
    whole = {**BASE, **given} if isinstance(given, Mapping) else given
    return _said(lambda: _start(folder, "w", whole))


def _only(folder: Path, given: Any) -> int:
    """A new run with exactly this `acquisition`."""
    return _said(lambda: _start(folder, "w", given))


def _resume(folder: Path, given: Any) -> int:
    return _said(lambda: _start(folder, "run", {**BASE, **given}))


def _resume_waiting(folder: Path, given: Any) -> int:
    return _said(lambda: _start(folder, "run", {**BY_FOLDER, **given}))


def _command(folder: Path, given: Any) -> int:
    return cli.main(given)


def _train(folder: Path, given: Any) -> int:
    """`train` of the config c.py, with these options."""
    more = ["--cfg-options", *given] if given else []
    return cli.main(["train", str(folder / "c.py"), "--work-dir", str(folder / "w"), *more])


def _dist_train(folder: Path, given: Any) -> int:
    """tools/dist_train.sh in a process of its own."""
    command = ["bash", str(ROOT / "tools/dist_train.sh"), *given]
    environment = {"PYTHON": sys.executable, **os.environ}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    print(done.stdout)
    print(done.stderr, file=sys.stderr)
    return done.returncode


ENTRIES: dict[str, Callable[[Path, Any], int]] = {
    "toy": _toy,
    "only": _only,
    "resume": _resume,
    "resume waiting": _resume_waiting,
    "command": _command,
    "train": _train,
    "dist_train": _dist_train,
}
