"""The guides to the extension points, followed word for word: their files and commands, in a folder
outside the package, through tools/dist_train.sh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from regional_al.annotators.oracle import dominant_labels
from regional_al.store import LabelStore, WorkDir, read_query
from regional_al.store import results as records
from regional_al.store.images import read_ids
from regional_al.testing import streets
from regional_al.types import LabelSpace

pytest.importorskip("mmcv")
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def used_partition(folder: Path, work_dir: WorkDir) -> None:
    query = read_query(work_dir.query(1))
    assert query.info.partition == "stripes"
    for key in query.image_keys():
        asked = query.asked(key)
        assert (asked == asked[:, :1]).all()  # whole rows
        heights = np.bincount(asked[:, 0])[1:]
        assert heights.max() == 8


def used_annotator(folder: Path, work_dir: WorkDir) -> None:
    space = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
    store, wrong, items = LabelStore(work_dir.labels), 0, 0
    query = read_query(work_dir.query(1))
    assert query.info.answer == "dominant"
    for key in query.image_keys():
        asked, said = query.asked(key), store.read(key)
        truth = read_ids(folder / f"data/streets/annotations/train/{key}.png")
        right = dominant_labels(asked, truth, space)
        assert said is not None
        for item in range(1, asked.max() + 1):
            items += 1
            (answer,) = np.unique(said[asked == item])
            wrong += int((right[asked == item] != answer).any())
    assert 0.1 * items < wrong < 0.9 * items


def used_engine(folder: Path, work_dir: WorkDir) -> None:
    results = records.load(work_dir.root)
    assert results.engine == "colours"
    assert [record.iterations for record in results.records] == [60, 60, 60]
    assert (work_dir.fit(2) / "checkpoint.pth").stat().st_size < 5000  # 33 weights, 11 biases
    assert results.records[-1].miou is not None
    assert results.records[-1].miou > 0.1


def used_heuristic(folder: Path, work_dir: WorkDir) -> None:
    """The config names one that the package does not have."""
    from regional_al.heuristics import HEURISTICS

    assert records.load(work_dir.root).acquisition["heuristic"]["type"] not in HEURISTICS


GUIDES: dict[str, Callable[[Path, WorkDir], None]] = {
    "add_a_heuristic": used_heuristic,
    "add_a_partition": used_partition,
    "add_an_annotator": used_annotator,
    "add_an_engine": used_engine,
}


def fences(guide: str) -> tuple[dict[str, str], list[str]]:
    """(files by name, command lines) of a guide."""
    files: dict[str, str] = {}
    commands: list[str] = []
    for language, title, text in FENCE.findall((ROOT / f"docs/{guide}.md").read_text()):
        if title:
            files[title] = text
        elif language == "bash":
            commands += text.strip().splitlines()
    return files, commands


def test_every_guide_is_followed() -> None:
    assert {path.stem for path in (ROOT / "docs").glob("add_*.md")} == set(GUIDES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "guide",
    [
        # The example of the engine needs neither generation, only a config library.
        name if name == "add_an_engine" else pytest.param(name, marks=pytest.mark.mmseg1)
        for name in GUIDES
    ],
)
def test_a_guide_word_for_word(guide: str, tmp_path: Path) -> None:
    files, commands = fences(guide)
    assert "config.py" in files
    assert len(files) >= 2
    assert len(commands) == 1
    streets.generate(tmp_path / "data/streets", train=6, val=2)
    for name in ("configs", "src", "tools"):  # the reader's folder is a checkout
        (tmp_path / name).symlink_to(ROOT / name)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "PYTHON": sys.executable}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["bash", "-c", commands[0]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (name,) = re.findall(r"--work-dir (\S+)", commands[0])
    work_dir = WorkDir(tmp_path / name)
    results = records.load(work_dir.root)
    rounds = results.acquisition["rounds"]
    assert [record.round for record in results.records] == list(range(rounds + 1))
    assert results.stopped == f"all {rounds} rounds are done"
    assert all(record.asked.pixels > 0 for record in results.records)
    GUIDES[guide](tmp_path, work_dir)
