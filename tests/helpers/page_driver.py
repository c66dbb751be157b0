"""A browser that answers on the annotation page, and the server behind it as a process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from web_run import truth

from regional_al.annotators.oracle import dominant_labels
from regional_al.store.query import read_query
from regional_al.store.work_dir import WorkDir
from regional_al.testing.toy import toy_engine

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which(
    "google-chrome"
)  # fmt: skip
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@contextmanager
def served(work_dir: Path, *more: str, port: int = 0) -> Iterator[tuple[str, Any]]:
    """`regional-al annotate` as a process: its address and the process."""
    command = [sys.executable, "-W", "ignore", "-m", "regional_al", "annotate", str(work_dir)]
    process = subprocess.Popen(
        [*command, "--no-browser", "--port", str(port), *more], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, line
        yield line.split()[-1], process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def opened(browser: Any, url: str, person: str = "ada", **context: Any) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 800}, **context).new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.add_init_script(f"localStorage.setItem('regional-al person', {json.dumps(person)})")
    page.goto(url)
    return page


def now(page: Any) -> Any:
    """The item that the page shows: key, number, and pixel; None when nothing is left."""
    return page.evaluate(
        "(() => { const s = window.regionalAL.state; if (!s.image) return null;"
        " const i = s.image.items[s.at]; return {key: s.image.key, round: s.image.round, i: i.i,"
        " row: i.row, col: i.col, state: i.state, predicted: i.predicted}; })()"
    )


def wait_for_item(page: Any) -> None:
    page.wait_for_selector("#item b, #panel:not([hidden])")


def settled(page: Any, before: Any) -> Any:
    """The next item, once it is there; None when nothing is left."""
    for _ in range(400):
        item = now(page)
        if item is None and page.is_visible("#panel"):
            return None
        if item is not None and (item["key"], item["i"]) != (before["key"], before["i"]):
            return item
        page.wait_for_timeout(10)
    raise AssertionError(f"still {before}: {page.inner_text('#notice')}")


def class_of(data: Path, work_dir: Path, item: Any, kind: str) -> int:
    """The class of an item by the ground truth; 255 for void."""
    space = toy_engine(data, iterations=1).label_space
    ids = truth(data, item["key"])
    if kind == "dominant":
        asked = read_query(WorkDir(work_dir).query(item["round"])).asked(item["key"])
        ids = dominant_labels(asked, ids, space)
    return int(space.raw_to_train[ids[item["row"], item["col"]]])


KEYS = "1234567890a"


def answer_by_keys(page: Any, data: Path, work_dir: Path, kind: str, most: int = 10_000) -> int:
    """Answer item after item by keys. Returns how many."""
    wait_for_item(page)
    item, given = now(page), 0
    while item is not None and given < most:
        wanted = class_of(data, work_dir, item, kind)
        key = "v" if wanted == 255 else KEYS[wanted]
        if item["predicted"] == wanted:
            key = "Space"
        page.keyboard.press(key)
        given += 1
        item = settled(page, item)
    return given


def sent(page: Any) -> bool:
    """Whether the server has confirmed all answers."""
    return bool(page.evaluate("window.regionalAL.waiting() === 0"))
