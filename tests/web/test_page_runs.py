"""Whole runs in a browser: all classes of a region with more classes than keys, painting by the
pointer alone, and rounds that the server itself trains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_driver import (
    CHROMIUM,
    answer_by_keys,
    now,
    opened,
    sent,
    served,
    settled,
    wait_for_item,
)
from web_run import GRID, MANY, PAINTED, labels_of, make_data, oracle, spread, start, truth

from regional_al.store.labels import LabelStore
from regional_al.store.query import read_query
from regional_al.store.work_dir import WorkDir

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
    pytest.mark.slow,
]


ENGINE = """
from pathlib import Path
from regional_al.engines.base import ENGINES, EngineLoader
from regional_al.testing.toy import toy_engine

@ENGINES.register("toy_of_the_page")
class Loader(EngineLoader):
    def build(self, cfg):
        return toy_engine(Path(cfg["data_root"]), iterations=2)
"""


def choose(page: Any, index: int) -> None:
    """A class of `MANY`: by its key, or by a part of its name."""
    if index < 10:
        page.keyboard.press("1234567890"[index])
        return
    page.keyboard.press("/")
    page.keyboard.type(f"{index:03d}")
    page.keyboard.press("Enter")


def sets_of(work_dir: Path) -> dict[str, Any]:
    """Image -> its regions with several classes, and their classes."""
    store = LabelStore(work_dir / "labels")
    keys = store.keys()
    found = {key: store.class_sets(key) for key in keys}
    return {
        key: (sets.regions.tobytes(), sets.classes)
        for key, sets in found.items()
        if sets is not None
    }


def test_all_classes_of_150_by_their_names(browser, tmp_path):
    data = spread(make_data(tmp_path / "data"))
    keys = {**GRID, "rounds": 1}
    oracle(data, tmp_path / "oracle", keys, "multiclass", MANY)
    run = tmp_path / "run"
    loop = start(data, run, keys, "multiclass", MANY)
    while loop.status == "waiting":
        with served(run) as (url, process):
            page = opened(browser, url)
            wait_for_item(page)
            item = now(page)
            while item is not None:
                asked = read_query(WorkDir(run).query(item["round"])).asked(item["key"])
                there = np.unique(truth(data, item["key"])[asked == item["i"]])
                for index in there[there != 255].tolist():
                    choose(page, index)
                page.keyboard.press("v" if there.tolist() == [255] else "Enter")
                item = settled(page, item)
            assert page.errors == []
            page.context.close()
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        loop = start(data, run, keys, "multiclass", MANY)
    assert loop.status == "finished"
    assert labels_of(run) == labels_of(tmp_path / "oracle")
    assert sets_of(run) == sets_of(tmp_path / "oracle") != {}


def test_every_pixel_of_an_image_by_the_pointer(browser, data, tmp_path):
    """Brush strokes of the size of a pixel, row by row."""
    oracle(data, tmp_path / "oracle", PAINTED)
    run = tmp_path / "run"
    start(data, run, PAINTED)
    with served(run) as (url, _):
        page = opened(browser, url)
        wait_for_item(page)
        item, box = now(page), page.locator("#canvas").bounding_box()
        ids = truth(data, item["key"])
        page.fill("#size", "1")
        page.focus("#canvas")
        height, width = ids.shape
        scale = min(box["width"] / width, box["height"] / height)
        left = box["x"] + (box["width"] - scale * width) / 2
        top = box["y"] + (box["height"] - scale * height) / 2
        page.evaluate("document.getElementById('toolbar').style.pointerEvents = 'none'")
        for value in np.unique(ids).tolist():
            page.keyboard.press("v" if value == 255 else "1234567890a"[value])
            for row, line in enumerate(ids == value):
                edges = np.flatnonzero(np.diff(np.pad(line.astype(int), 1)))
                for first, end in edges.reshape(-1, 2).tolist():
                    y = top + scale * (row + 0.5)
                    page.mouse.move(left + scale * (first + 0.5), y)
                    page.mouse.down()
                    page.mouse.move(left + scale * (end - 0.5), y)
                    page.mouse.up()
        page.keyboard.press("Enter")
        assert settled(page, item) is None
        assert page.errors == []
        page.context.close()
    start(data, run, PAINTED)
    first, stored = f"{item['key']}.png", labels_of(run)
    expected = labels_of(tmp_path / "oracle")
    mine = {name for name in stored if name.endswith(first)}
    assert len(mine) > 1
    assert {name: stored[name] for name in mine} == {name: expected[name] for name in mine}


def test_two_people_answer_rounds_that_the_server_trains(browser, data, tmp_path, monkeypatch):
    """Nobody reloads the page, and nobody touches a terminal: the page hears of each next round."""
    pytest.importorskip("mmcv")
    keys = {**GRID, "rounds": 1}
    (tmp_path / "engine_of_the_page.py").write_text(ENGINE)
    config = tmp_path / "config.py"
    annotator = {"type": "web", "answer": "dominant"}
    config.write_text(
        f"engine = 'toy_of_the_page'\ndata_root = {str(data)!r}\n"
        "custom_imports = dict(imports=['engine_of_the_page'])\n"
        f"acquisition = { ({**keys, 'annotator': annotator})!r}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    run = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", "-m", "regional_al", "train", str(config)]
    subprocess.run([*command, "--work-dir", str(run), "--no-report"], check=True, timeout=300)
    oracle(data, tmp_path / "oracle", keys, "dominant")
    with served(run, "--train") as (url, _):
        pages = [opened(browser, url, name) for name in ("ada", "bob")]
        for number in range(keys["rounds"] + 1):
            given = 0
            for page in pages:
                page.wait_for_selector(f"#round:has-text('round {number} ')", timeout=120_000)
                page.wait_for_selector("#item b", timeout=30_000)
            for page in (pages[0], pages[1], pages[0]):
                given += answer_by_keys(page, data, run, "dominant", most=1 if not given else 99)
            assert given == 6
        for page in pages:
            page.wait_for_selector("#panel h2:has-text('finished')", timeout=120_000)
            assert sent(page)
            assert page.errors == []
            page.context.close()
    assert labels_of(run) == labels_of(tmp_path / "oracle")
