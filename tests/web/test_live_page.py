"""The live report in a browser, while its run goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from page_driver import CHROMIUM
from web_run import GRID, start

pytest.importorskip("starlette")
pytest.importorskip("matplotlib")

from regional_al.store.lock import FolderLock
from regional_al.store.points import TRAIN, Point, PointLog

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
    pytest.mark.slow,
]


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_follows_the_run(browser: Any, data: Path, tmp_path: Path, width: int) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", "-m", "regional_al", "watch", str(folder)]
    process = subprocess.Popen(
        [*command, "--no-browser"], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        assert "there is no run" in process.stdout.readline()
        url = process.stdout.readline().split()[-1]
        page = browser.new_page(viewport={"width": width, "height": 800})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#state.none")
        start(data, folder, {**GRID, "previews": 0}, "dominant")
        page.wait_for_selector("#state.waiting")
        page.wait_for_selector("#report section#costs")
        assert "waiting for" in page.inner_text("#sentence")
        assert page.locator("#chart").is_hidden()
        with PointLog.open(folder) as log:
            for n in range(1, 4):
                log.add(Point(TRAIN, n // 3, n, n, 9, float(n), {"loss": 1.0 / n}))
        page.wait_for_selector("#chart:not([hidden]) polyline")
        assert page.locator("#losses polyline").count() == 2
        assert page.locator("#losses .part").count() == 1
        with FolderLock(folder).holding():
            page.wait_for_selector("#state.running")
        page.wait_for_selector("#state.waiting")
        fits = "document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(f"() => {fits}")
        process.terminate()
        process.wait(60)
        page.wait_for_selector("#notice:not([hidden])")
        assert errors == []
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
