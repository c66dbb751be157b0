"""The annotation page in a browser: a thousand single pixels answered by keys.

    python benchmarks/bench_page.py [--quick] [--chromium PROGRAM]

Measures, in the page itself, the time from a key to the next item on the screen (two animation
frames, so that it has been drawn), the memory of page and server before and after, and how long
the server takes to come back with all answers. Needs the extra `web-test` and a chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _common import print_table, write_result
from PIL import Image

from regional_al.config import grammar
from regional_al.loop import runner
from regional_al.store.answer_log import AnswerLog
from regional_al.testing.toy import toy_engine
from regional_al.web.session import Session

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
GOAL_MS = 50.0


def make_run(root: Path, images: int, items: int, size: tuple[int, int]) -> Path:
    """A run that asks about `items` random pixels of some images."""
    height, width = size
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    for split, count in (("train", images), ("val", 1)):
        for kind in ("images", "annotations"):
            (root / "data" / kind / split).mkdir(parents=True)
        for number in range(count):
            rgb = np.stack([np.roll(ramp, 17 * number * c) for c in (0, 1, 2)], -1)
            pixels = np.broadcast_to(rgb, (height, width, 3)).copy()
            pixels[:: 2 + number % 5] //= 2
            ids = np.broadcast_to((np.arange(width) * 11 // width).astype(np.uint8), size).copy()
            for kind, array in (("images", pixels), ("annotations", ids)):
                path = root / "data" / kind / split / f"{number:04d}.png"
                Image.fromarray(array).save(path, compress_level=1)
    budget = {"amount": items, "unit": "pixel", "scope": "pool"}
    keys = {"level": "pixel", "heuristic": "Random", "budget": budget, "warm_start": budget}
    acquisition = grammar.parse({**keys, "rounds": 1, "annotator": "web"})
    runner.run(toy_engine(root / "data", iterations=1), acquisition, root / "run", report=False)
    return root / "run"


@contextmanager
def served(work_dir: Path) -> Iterator[tuple[str, subprocess.Popen[str], float]]:
    """The server: its address, its process, and seconds until it listens."""
    began = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-m", "regional_al", "annotate", str(work_dir)]
    process = subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield line.split()[-1], process, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(60)


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/{pid}/status has no VmRSS")


def heap_mb(page: Any) -> float:
    """The page's JavaScript heap after a collection of garbage, with its array buffers."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")
    session.detach()
    return float(used["usedSize"] + used.get("backingStorageSize", 0)) / 2**20


def answer_all(page: Any, items: int) -> tuple[list[float], list[float]]:
    """Press a key for each item. Returns milliseconds to the next item, and heaps on the way."""
    heaps = [heap_mb(page)]
    for count in range(1, items + 1):
        page.keyboard.press("1234567890"[count % 10])
        for _ in range(3000):  # the key is taken, and what follows is there
            if page.evaluate("!window.regionalAL.state.loading"):
                break
            page.wait_for_timeout(2)
        if count % (items // 4) == 0:
            heaps.append(heap_mb(page))
    for _ in range(6000):
        if page.evaluate("window.regionalAL.waiting() === 0"):
            break
        page.wait_for_timeout(10)
    return [float(ms) for ms in page.evaluate("window.regionalAL.latency")], heaps


def measure(
    browser: Any, root: Path, images: int, items: int, size: tuple[int, int]
) -> dict[str, Any]:
    """One row of the table."""
    work_dir = make_run(root, images, items, size)
    with served(work_dir) as (url, process, empty_s):
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.add_init_script("localStorage.setItem('regional-al person', 'Ada')")
        page.goto(url)
        page.wait_for_selector("#item b")
        server = [resident_mb(process.pid)]
        began = time.perf_counter()
        latencies, heaps = answer_all(page, items)
        seconds = time.perf_counter() - began
        page.wait_for_selector("#panel h2:has-text('complete')")
        server.append(resident_mb(process.pid))
        page.context.close()
    with AnswerLog.open(work_dir / "answers.sqlite", readonly=True) as log:
        answered = len({(e.key, e.items) for e in log.events()})
    assert answered == items, f"{answered} of {items} items have an answer"
    with served(work_dir) as (_, _, again_s):
        pass
    began = time.perf_counter()
    Session(work_dir).close()
    return {
        "images": images,
        "size": f"{size[0]}x{size[1]}",
        "items": items,
        "ms_median": float(np.median(latencies)),
        "ms_95": float(np.percentile(latencies, 95)),
        "ms_max": max(latencies),
        "timed": len(latencies),
        "items_per_s": items / seconds,
        "page_mb": heaps[0],
        "page_mb_end": heaps[-1],
        "page_mb_all": [round(one, 1) for one in heaps],
        "server_mb": server[0],
        "server_mb_end": server[1],
        "start_s": empty_s,
        "restart_s": again_s,
        "restart_read_s": time.perf_counter() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    args = parser.parse_args()
    if shutil.which(args.chromium) is None or find_spec("playwright") is None:
        print("skipped: it needs a chromium and the extra web-test")
        return
    from playwright.sync_api import sync_playwright

    sizes = (
        [(8, 40, (256, 512))]
        if args.quick
        else [(100, 1000, (512, 1024)), (50, 1000, (1024, 2048))]
    )
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
        version = browser.version
        for images, items, size in sizes:
            with TemporaryDirectory() as folder:
                rows.append(measure(browser, Path(folder), images, items, size))
                print(json.dumps(rows[-1]), flush=True)
        browser.close()
    print_table([{k: v for k, v in row.items() if k != "page_mb_all"} for row in rows])
    name = "page_quick" if args.quick else "page"
    print(write_result(name, rows, chromium=version, goal_ms=GOAL_MS))


if __name__ == "__main__":
    main()
