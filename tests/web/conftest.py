"""A browser, data, and a run that waits, for all tests of the page in a module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_driver import CHROMIUM, FLAGS
from web_run import GRID, make_data, start


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("web") / "data")


@pytest.fixture(scope="module")
def waiting(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("waiting") / "run"
    assert start(data, folder, GRID, "dominant").status == "waiting"
    return folder


@pytest.fixture
def run(waiting: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(waiting, tmp_path / "run"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("starlette")
    playwright = pytest.importorskip("playwright.sync_api", reason="no extra web-test")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
