"""Make the screenshots of docs/annotate.md, from the embedded data.

    python tools/annotate_screenshots.py [--out FOLDER] [--chromium PROGRAM]

Needs the extras `web-test` and `fast`, and a chromium.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from regional_al.annotators.oracle import dominant_labels
from regional_al.config import grammar
from regional_al.loop import runner
from regional_al.store.images import read_ids
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.web.session import Session

SIZE = (192, 256)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
SLIC = {"type": "slic", "n_segments": 120}
RUNS: dict[str, dict[str, Any]] = {
    "pixels": {"level": "pixel", "heuristic": "Entropy", "budget": {"amount": 60, "unit": "pixel"}},
    "regions": {"level": "region", "heuristic": "RIPU", "region": SLIC,
                "budget": {"amount": 24, "unit": "region"},
                "annotator": {"type": "web", "answer": "dominant"}},
    "classes": {"level": "region", "heuristic": "RIPU", "region": SLIC,
                "budget": {"amount": 24, "unit": "region"},
                "annotator": {"type": "web", "answer": "multiclass"}},
    "painting": {"level": "image", "heuristic": "Entropy", "budget": 1},
}  # fmt: skip


def waiting_run(data: Path, work_dir: Path, keys: dict[str, Any]) -> None:
    """A run that waits in round 1, after a person has answered round 0 from the ground truth."""
    acquisition = {"annotator": "web", "rounds": 2, "warm_start": keys["budget"], **keys}
    if isinstance(keys["budget"], int):
        acquisition.pop("warm_start")
    for _ in range(2):
        engine = toy_engine(data, iterations=30)
        runner.run(engine, grammar.parse(acquisition), work_dir, report=False, title=work_dir.name)
        session = Session(work_dir)
        if session.run.round == 0:
            answer_all(session, data, engine.label_space)
        session.close()


def answer_all(session: Session, data: Path, space: Any) -> None:
    """Answer what the round asks: the dominant class of each item."""
    round_ = session.current
    for key in round_.keys:
        image = round_.image(key)
        truth = read_ids(next((data / "annotations/train").glob(f"{key}.png")))
        labels = dominant_labels(image.asked, truth, space)
        for item, (row, col) in zip(image.items, image.centres, strict=True):
            index = int(space.raw_to_train[labels[row, col]])
            void = index == 255
            session.answer(
                {"key": key, "round": round_.number, "query": round_.hash, "person": "Ada",
                 "token": uuid.uuid4().hex, "kind": "void" if void else "class",
                 "items": [int(item)], "classes": [] if void else [index], "ms": 900, "keys": 1}
            )  # fmt: skip


@contextmanager
def served(work_dir: Path, *more: str) -> Iterator[str]:
    """`regional-al annotate` as a process; its address."""
    command = [sys.executable, "-m", "regional_al", "annotate", str(work_dir), "--no-browser"]
    process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line.split()[-1]
    finally:
        process.terminate()
        process.wait(30)


def ready(page: Page, url: str) -> None:
    """Open the page, and wait until an item is shown."""
    page.add_init_script("localStorage.setItem('regional-al person', 'Ada')")
    page.goto(url)
    page.wait_for_selector("#item b")
    page.wait_for_timeout(300)


def press(page: Page, *keys: str) -> None:
    """Press keys as a person would, one after another."""
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(60)


def shoot(page: Page, path: Path) -> None:
    """Keep a screenshot as a small PNG."""
    page.wait_for_timeout(250)
    page.screenshot(path=str(path))
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(
            256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
    small.save(path, optimize=True)
    print(f"{path} {path.stat().st_size // 1024} kB")


def paint(page: Page) -> None:
    """Brush strokes over the middle of the canvas."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.keyboard.press("1")
    for share in np.linspace(0.72, 0.9, 4):
        page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + share * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + share * box["height"], steps=12)
        page.mouse.up()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures/annotate"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        data = streets.generate(root / "data", train=4, val=1, size=SIZE)
        browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
        for name, keys in RUNS.items():
            waiting_run(data, root / name, keys)
            with served(root / name) as url:
                for scheme in ("light", "dark"):
                    context = browser.new_context(
                        viewport={"width": 1280, "height": 800},
                        color_scheme=scheme,  # type: ignore[arg-type]
                    )
                    page = context.new_page()
                    ready(page, url)
                    if name == "painting":
                        page.fill("#size", "14")
                        press(page, "r") if scheme == "dark" else paint(page)
                    elif scheme == "light":
                        press(page, *({"classes": ["1", "3"]}.get(name, ["Space", "1", "Space"])))
                    shoot(page, args.out / f"{name}_{scheme}.png")
                    if name == "regions" and scheme == "dark":
                        press(page, "h")
                        shoot(page, args.out / "keys_dark.png")
                        press(page, "Escape")
                        page.click("#tab-summary")
                        page.wait_for_selector("#summary table")
                        page.select_option("#summary select", "0")
                        page.wait_for_timeout(400)
                        shoot(page, args.out / "summary_dark.png")
                    if name == "regions" and scheme == "light":
                        page.click("#tab-review")
                        page.wait_for_selector("#review table")
                        shoot(page, args.out / "review_light.png")
                    context.close()
                if name == "regions":
                    tablet = browser.new_context(
                        viewport={"width": 820, "height": 1180}, has_touch=True
                    )
                    page = tablet.new_page()
                    ready(page, url)
                    shoot(page, args.out / "tablet.png")
                    tablet.close()
        browser.close()


if __name__ == "__main__":
    main()
