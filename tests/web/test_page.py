"""The annotation page in a real browser: Debian's chromium, driven through its keys and pointer."""

from __future__ import annotations

import os
import signal

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
from web_run import GRID, PAINTED, PIXELS, labels_of, oracle, start, truth

from regional_al.testing.toy import toy_engine

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
    pytest.mark.slow,
]


@pytest.mark.parametrize(("keys", "kind"), [(PIXELS, "full"), (GRID, "dominant")])
def test_three_rounds_by_keys_give_the_labels_of_the_oracle(browser, data, tmp_path, keys, kind):
    oracle(data, tmp_path / "oracle", keys, kind)
    run, kills = tmp_path / "run", 0
    loop = start(data, run, keys, kind)
    while loop.status == "waiting":
        left = True
        while left:  # the server is killed while people answer
            with served(run) as (url, process):
                page = opened(browser, url)
                kill = kills < 10
                answer_by_keys(page, data, run, kind, most=3 if kill else 10_000)
                page.evaluate("new Promise(done => setTimeout(done, 50))")
                for _ in range(200):
                    if not page.evaluate("document.hidden") and sent(page):
                        break
                    page.wait_for_timeout(10)
                left = now(page) is not None
                assert page.errors == []
                if kill:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                    kills += 1
                page.context.close()
        loop = start(data, run, keys, kind)
    assert loop.status == "finished"
    assert kills >= 3
    assert labels_of(run) == labels_of(tmp_path / "oracle")


def test_a_server_that_is_killed_and_comes_back_gets_the_answers(browser, data, tmp_path):
    """The page keeps what it could not send, and sends it once."""
    run = tmp_path / "run"
    start(data, run, PIXELS)
    with served(run) as (url, process):
        port = int(url.split(":")[2].split("/")[0])
        page = opened(browser, url)
        wait_for_item(page)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        page.keyboard.press("1")
        page.keyboard.press("2")
        page.wait_for_selector("#notice:not([hidden])")
        assert "kept here" in page.inner_text("#notice")
    with served(run, port=port) as (again, _):
        page.context.add_cookies([{
            "name": f"regional_al_{port}", "value": again.split("token=")[1],
            "url": f"http://127.0.0.1:{port}",
        }])  # fmt: skip
        for _try in range(1500):
            if sent(page):
                break
            page.wait_for_timeout(10)
        page.wait_for_selector("#notice", state="hidden")
        assert page.inner_text("#numbers").startswith("2 of 48 items")
        page.context.close()


def test_painting_gives_the_labels_of_the_oracle(browser, data, tmp_path):
    """Every pixel of whole images, painted into the page's own canvas values and sent as it is."""
    oracle(data, tmp_path / "oracle", PAINTED)
    run = tmp_path / "run"
    loop = start(data, run, PAINTED)
    space = toy_engine(data, iterations=1).label_space
    while loop.status == "waiting":
        with served(run) as (url, _):
            page = opened(browser, url)
            wait_for_item(page)
            while (item := now(page)) is not None:
                assert page.is_visible("#toolbar")
                ids = space.raw_to_train[truth(data, item["key"])].astype(np.int64)
                ids[ids == 255] = 254
                page.evaluate("values => window.regionalAL.paint(values)", ids.ravel().tolist())
                page.keyboard.press("Enter")
                settled(page, item)
            assert page.errors == []
            page.context.close()
        loop = start(data, run, PAINTED)
    assert labels_of(run) == labels_of(tmp_path / "oracle")


def test_brush_fill_polygon_and_undo_by_the_pointer(browser, data, tmp_path):
    run = tmp_path / "run"
    start(data, run, PAINTED)
    with served(run) as (url, _):
        page = opened(browser, url)
        wait_for_item(page)
        box = page.locator("#canvas").bounding_box()

        def at(x: float, y: float) -> tuple[float, float]:
            return box["x"] + x * box["width"], box["y"] + y * box["height"]

        def painted() -> list[int]:
            values = page.evaluate("Array.from(window.regionalAL.painted())")
            return [values.count(c) for c in (0, 1, 2, 3, 255)]

        total = 32 * 48
        page.keyboard.press("1")
        page.mouse.move(*at(0.3, 0.5))
        page.mouse.down()
        page.mouse.move(*at(0.7, 0.5), steps=5)
        page.mouse.up()
        brushed = painted()
        assert brushed[0] > 50
        assert sum(brushed) == total
        page.keyboard.press("g")  # polygon
        page.keyboard.press("2")
        for x, y in ((0.1, 0.1), (0.3, 0.1), (0.3, 0.3), (0.1, 0.3)):
            page.mouse.click(*at(x, y))
            page.wait_for_timeout(400)  # not a double click
        page.keyboard.press("Enter")
        assert painted()[1] > 50
        page.keyboard.press("f")
        page.keyboard.press("4")
        page.mouse.click(*at(0.9, 0.9))
        full = painted()
        assert full[4] == 0
        page.keyboard.press("z")
        assert painted()[4] > 0
        page.keyboard.press("x")
        page.keyboard.press("3")
        page.mouse.click(*at(0.9, 0.9))
        for _ in range(300):
            if painted()[2]:
                break
            page.wait_for_timeout(20)
        assert painted()[2] > 0
        page.keyboard.press("Enter")
        for _ in range(300):
            if sent(page):
                break
            page.wait_for_timeout(10)
        assert page.errors == []
        page.context.close()


def test_two_browsers_share_a_round(browser, data, tmp_path):
    run = tmp_path / "run"
    start(data, run, PIXELS)
    with served(run) as (url, _):
        ada, bob = opened(browser, url, "ada"), opened(browser, url, "bob")
        wait_for_item(ada)
        wait_for_item(bob)
        assert now(ada)["key"] != now(bob)["key"]
        assert answer_by_keys(ada, data, run, "full") + answer_by_keys(bob, data, run, "full") == 48
        assert ada.is_visible("#panel")
        ada.context.close()
        bob.context.close()
    assert start(data, run, PIXELS).round == 1


def test_unsure_skip_review_and_the_end_of_a_round(browser, data, tmp_path):
    run = tmp_path / "run"
    start(data, run, PIXELS)
    with served(run) as (url, _):
        page = opened(browser, url)
        wait_for_item(page)
        first = now(page)
        page.keyboard.press("u")
        second = settled(page, first)
        page.keyboard.press("1")
        settled(page, second)
        page.keyboard.press("z")
        for _ in range(300):
            if now(page)["i"] == second["i"]:
                break
            page.wait_for_timeout(10)
        assert now(page)["state"] == "open"
        page.keyboard.press("s")
        settled(page, second)
        answer_by_keys(page, data, run, "full")
        assert "not complete" in page.inner_text("#panel")
        page.click("#tab-review")
        page.wait_for_selector("#review table")
        page.click(f"#review table button:has-text('{first['key']}')")
        page.wait_for_selector("#item b")
        page.keyboard.press("5")
        page.click("#tab-summary")
        page.wait_for_selector("#summary table")
        page.click("#tab-annotate")
        page.wait_for_selector("#panel:not([hidden])")
        page.on("dialog", lambda dialog: dialog.accept())
        page.click("#panel button:has-text('drop it')")
        page.wait_for_selector("#panel h2:has-text('Round closed')")
        assert page.errors == []
        page.context.close()
    assert start(data, run, PIXELS).round == 1
