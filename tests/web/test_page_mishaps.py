"""People who are clumsy, and a world that is hostile: the page loses nothing, and answers nothing
that nobody has seen."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

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
from web_run import GRID, PAINTED, PIXELS, start

from regional_al.store.answer_log import AnswerLog, Event

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
    pytest.mark.slow,
]


def events(run: Path) -> list[Event]:
    with AnswerLog.open(run / "answers.sqlite", readonly=True) as log:
        return log.events()


def until(page: Any, true: Any, seconds: float = 20) -> None:
    """Wait; `page` goes on meanwhile."""
    for _ in range(int(seconds * 50)):
        if true():
            return
        page.wait_for_timeout(20)
    raise AssertionError(page.inner_text("body"))


def held_down(page: Any, key: str, times: int = 5) -> None:
    """A key that is held down: the browser repeats it."""
    for _ in range(times):
        page.keyboard.down(key)
    page.keyboard.up(key)


def test_keys_that_nobody_meant(browser, data, tmp_path):
    """Held down, pressed while an image loads, twice by a double click, on another keyboard."""
    run = tmp_path / "run"
    start(data, run, PIXELS)
    with served(run) as (url, _):
        page = opened(browser, url)
        wait_for_item(page)
        first = now(page)
        held_down(page, "1")
        second = settled(page, first)
        until(page, lambda: sent(page))
        assert [e.items for e in events(run)] == [(first["i"],)]
        page.dblclick("#void")  # the second click is about an item that was not seen
        third = settled(page, second)
        page.keyboard.press("2")  # and the button does not keep the keyboard
        settled(page, third)
        until(page, lambda: sent(page))
        assert [(e.kind, e.classes) for e in events(run)[1:]] == [("void", ()), ("class", (1,))]
        page.evaluate(
            "for (const [key, code] of [['м', 'KeyV'], ['&', 'Digit1'], ['l', 'KeyP']])"
            " document.getElementById('canvas').dispatchEvent(new KeyboardEvent('keydown',"
            " {key, code, bubbles: true, cancelable: true}))"
        )
        until(page, lambda: sent(page) and len(events(run)) == 5)
        assert [e.kind for e in events(run)[3:]] == ["void", "class"]
        assert not page.is_visible("#toolbar")
        for _ in range(3):  # three steps, however fast
            page.keyboard.press("z")
        until(page, lambda: sent(page) and len(events(run)) == 2 and now(page) is not None)
        page.wait_for_timeout(500)  # what the steps back have asked for has come
        slow: list[Any] = []
        page.route("**/api/next*", lambda route: slow.append(route))
        held_down(page, "s", 30)
        page.keyboard.press("s")
        until(page, lambda: slow or now(page)["key"] != first["key"])
        page.keyboard.press("3")  # nothing is shown, or the next image
        for route in slow:
            route.continue_()
        page.unroute("**/api/next*")
        until(page, lambda: sent(page) and any(e.kind == "skip" for e in events(run)))
        skipped = [e.key for e in events(run) if e.kind == "skip"]
        assert skipped == [first["key"]] or len(skipped) == 2  # the second S may have come later
        assert skipped[0] == first["key"]
        assert page.errors == []
        page.context.close()


def test_unsure_items_are_asked_again_as_long_as_a_person_likes(browser, data, tmp_path):
    run = tmp_path / "run"
    start(data, run, PIXELS)
    with served(run) as (url, _):
        page = opened(browser, url)
        wait_for_item(page)
        first = now(page)
        page.keyboard.press("u")
        second = settled(page, first)
        page.keyboard.press("u")
        settled(page, second)
        answer_by_keys(page, data, run, "full")
        for _ in range(2):  # nobody is caught in a circle
            page.wait_for_selector("#panel h2:has-text('Only unsure')")
            assert "2 items are open" in page.inner_text("#panel")
            page.keyboard.press("Space")
            for item in (first, second):
                until(page, lambda item=item: (now(page) or {}).get("i") == item["i"])
                page.keyboard.press("u")
        page.wait_for_selector("#panel h2:has-text('Only unsure')")
        page.keyboard.press("Enter")
        page.wait_for_selector("#item b")
        answer_by_keys(page, data, run, "full")
        page.wait_for_selector("#panel h2:has-text('Round complete')")
        assert page.errors == []
        page.context.close()


def brush(page: Any) -> int:
    """Paint a stroke. Returns how many pixels have class 0 then."""
    box = page.locator("#canvas").bounding_box()
    page.keyboard.press("1")
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    page.mouse.up()
    return zeros(page)


def zeros(page: Any) -> int:
    values = page.evaluate("Array.from(window.regionalAL.painted() || [])")
    return values.count(0)


def test_a_painting_survives_what_happens_in_the_middle_of_it(browser, data, tmp_path):
    run = tmp_path / "run"
    start(data, run, {**PAINTED, "warm_start": {"amount": 2, "unit": "image"}})
    with served(run, "--lease", "1.5") as (url, _):
        page = opened(browser, url)
        wait_for_item(page)
        first = now(page)
        painted = brush(page)
        assert painted > 10
        page.keyboard.press("Escape")  # to keys, and back
        assert zeros(page) == 0
        page.keyboard.press("p")
        assert zeros(page) == painted
        page.keyboard.press("n")  # to the next image, and back
        settled(page, first)
        page.keyboard.press("n")
        until(page, lambda: now(page)["key"] == first["key"])
        assert zeros(page) == painted
        page.set_viewport_size({"width": 500, "height": 700})
        page.wait_for_timeout(200)
        assert zeros(page) == painted
        page.set_viewport_size({"width": 1280, "height": 800})
        asked: list[str] = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
        page.evaluate("setTimeout(() => location.reload(), 0)")  # stay: it is not sent
        until(page, lambda: asked == ["beforeunload"])
        assert zeros(page) == painted
        # The lease lasts while somebody is there, however long the painting takes.
        for _ in range(9):  # until that of the next image, which has been shown, has ended
            page.mouse.move(700, 320 + _)
            page.wait_for_timeout(200)
        bob = opened(browser, url, "bob")
        wait_for_item(bob)
        assert now(bob)["key"] != first["key"]
        for _ in range(15):
            page.mouse.move(700, 300 + _)
            page.wait_for_timeout(200)
        bob.keyboard.press("n")
        bob.wait_for_timeout(300)
        assert now(bob)["key"] != first["key"]
        page.keyboard.press("Enter")
        until(page, lambda: sent(page) and len(events(run)) == 1)
        assert (events(run)[0].key, events(run)[0].kind) == (first["key"], "paint")
        assert page.errors == bob.errors == []
        bob.context.close()
        page.context.close()


def test_a_lease_that_has_ended_costs_no_painting(browser, data, tmp_path):
    run = tmp_path / "run"
    start(data, run, PAINTED)
    with served(run, "--lease", "1") as (url, _):
        page = opened(browser, url)
        wait_for_item(page)
        first, painted = now(page), brush(page)
        page.route("**/api/lease", lambda route: route.abort())  # nothing is heard of ada
        page.wait_for_timeout(1200)
        bob = opened(browser, url, "bob")
        wait_for_item(bob)
        assert now(bob)["key"] == first["key"]
        bob.keyboard.press("1")
        page.keyboard.press("Enter")
        page.wait_for_selector("#notice:has-text('bob is working on')")
        assert "What you have painted is kept" in page.inner_text("#notice")
        page.click("#tab-review")
        page.click(f"#review table button:has-text('{first['key']}')")
        page.wait_for_selector("#toolbar:not([hidden])")
        assert zeros(page) == painted
        assert page.errors == bob.errors == []
        bob.context.close()
        page.context.close()


def test_two_tabs_of_one_person_show_different_images(browser, data, tmp_path):
    run = tmp_path / "run"
    start(data, run, PIXELS)
    with served(run) as (url, _):
        one = opened(browser, url)
        wait_for_item(one)
        two = one.context.new_page()
        two.errors = []
        two.goto(url.split("?")[0])
        wait_for_item(two)
        assert now(one)["key"] != now(two)["key"]
        assert answer_by_keys(two, data, run, "full", most=24) == 24
        until(two, lambda: sent(two))
        assert answer_by_keys(one, data, run, "full") == 24  # also what was loaded in advance
        assert len({(e.key, e.items) for e in events(run)}) == len(events(run)) == 48
        assert one.errors == []
        one.context.close()


def test_names_of_people(browser, data, tmp_path):
    run = tmp_path / "run"
    start(data, run, PIXELS)
    names = (
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
        "  Ada   Lovelace ",
        "e\u0301",
        "日本 🎨",
    )
    with served(run) as (url, _):
        page = opened(browser, url, "\x07")  # an older page has stored what cannot be a name
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog[open]")
        for wrong, line in ((" ", "cannot be a name"), ("x" * 65, "xxx"), ("a\u202eb", "u202eb")):
            page.evaluate("document.querySelector('dialog input').maxLength = 500")
            page.fill("dialog input", wrong)
            page.keyboard.press("Enter")
            page.wait_for_selector(f"#wrong-name:has-text('{line}')")
        for count, name in enumerate(names, 1):
            page.fill("dialog input", name)
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog", state="hidden")
            wait_for_item(page)
            before = now(page)
            page.keyboard.press("1")
            settled(page, before)
            until(page, lambda count=count: sent(page) and len(events(run)) == count)
            page.click("#person")
        assert [e.person for e in events(run)] == [names[0], "Ada Lovelace", "é", names[3]]
        # Whoever has another name now leaves nothing taken under the old one.
        assert len({e.key for e in events(run)}) == 1
        assert page.errors == []
        page.context.close()


def test_a_full_disk_and_missing_images(browser, data, tmp_path):
    """What cannot be stored now is kept; an image that cannot be shown holds nobody up."""
    import shutil

    own = Path(shutil.copytree(data, tmp_path / "data"))
    run = tmp_path / "run"
    start(own, run, PIXELS)
    with served(run) as (url, _):
        page = opened(browser, url)
        wait_for_item(page)
        first = now(page)
        until(page, lambda: page.evaluate("Boolean(window.regionalAL.state.ahead)"))
        with sqlite3.connect(run / "answers.sqlite", isolation_level=None) as other:
            other.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN"
                          " SELECT RAISE(ABORT, 'database or disk is full'); END")  # fmt: skip
            page.keyboard.press("1")
            second = settled(page, first)
            page.wait_for_selector("#notice:has-text('disk is full')")
            assert "free some space" in page.inner_text("#notice")
            page.keyboard.press("2")
            settled(page, second)
            assert events(run) == []
            other.execute("DROP TRIGGER full")
        other.close()
        until(page, lambda: sent(page))
        assert [e.items for e in events(run)] == [(first["i"],), (second["i"],)]
        page.wait_for_selector("#notice", state="hidden")
        keys = [
            one["key"]
            for one in page.evaluate("fetch('/api/images').then(r => r.json())")["images"]
        ]
        gone = [key for key in keys if key != first["key"]][1]
        broken = [key for key in keys if key != first["key"]][2]
        next((own / "images/train").glob(f"{gone}.*")).unlink()
        path = next((own / "images/train").glob(f"{broken}.*"))
        path.write_bytes(path.read_bytes()[:200])
        answer_by_keys(page, data, run, "full")
        page.wait_for_selector(f"#panel h2:has-text('{gone} cannot be shown')")
        page.click("#panel button:has-text('Skip this image')")
        page.wait_for_selector(f"#panel h2:has-text('{broken} cannot be shown')")
        page.click("#panel button:has-text('Skip this image')")
        page.wait_for_selector("#panel h2:has-text('Nothing left')")
        assert "2 skipped" in page.inner_text("#panel")
        assert page.errors == []
        page.context.close()


def test_the_page_follows_a_server_that_was_started_again(browser, data, tmp_path):
    """Its news, too: the stream of events is refused first, since the token is another one."""
    run = tmp_path / "run"
    start(data, run, GRID, "dominant")
    with served(run) as (url, process):
        port = int(url.split(":")[2].split("/")[0])
        page = opened(browser, url)
        wait_for_item(page)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with served(run, port=port) as (again, _):
        page.keyboard.press("1")
        page.wait_for_selector("#notice:has-text('started again')")
        page.wait_for_timeout(3500)
        tab = page.context.new_page()
        tab.goto(again)
        until(page, lambda: sent(page))
        tab.reload()  # what it has loaded may be open no more
        wait_for_item(tab)
        tab.keyboard.press("2")
        until(page, lambda: page.inner_text("#numbers").startswith("2 of 6 items"))
        assert page.errors == []
        page.context.close()
