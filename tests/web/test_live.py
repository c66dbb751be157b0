"""The live report of a run that begins, waits, trains, is killed and ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from web_run import GRID, ORIGIN, TOKEN, answer, oracle, served, start

pytest.importorskip("starlette")
pytest.importorskip("httpx")
pytest.importorskip("matplotlib")

from starlette.testclient import TestClient

from regional_al import cli
from regional_al.errors import WorkDirError
from regional_al.store.ledger import Ledger
from regional_al.store.lock import FolderLock
from regional_al.store.points import TRAIN, Point, PointLog
from regional_al.web import live_app, server
from regional_al.web.live import Live
from regional_al.web.session import LOCK

FEW = {**GRID, "previews": 1, "rounds": 1}


@contextmanager
def watched(work_dir: Path, access: bool = True) -> Iterator[Any]:
    """A client of a server of the live report; `client.live` is what it shows."""
    live = Live(work_dir)
    app = live_app.make_live_app(live, TOKEN, "127.0.0.1", 8765)
    with TestClient(app, base_url="http://127.0.0.1:8765", headers=ORIGIN) as client:
        if access:
            client.get(f"/?token={TOKEN}", follow_redirects=False)
        client.live = live  # type: ignore[attr-defined]
        yield client
    live.close()


def now(client: Any) -> Any:
    reply = client.get("/api/now")
    assert reply.status_code == 200, reply.text
    return reply.json()


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def test_the_page_follows_a_run_from_before_its_beginning_to_its_end(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with watched(folder) as client:
        assert now(client)["state"] == "none"
        assert client.get("/report").status_code == 503
        start(data, folder, GRID, "dominant")
        first = now(client)
        assert (first["state"], first["round"], first["rounds"]) == ("waiting", 0, 2)
        assert "regional-al annotate" in first["sentence"]
        assert first["waits"].endswith(" s")
        page = client.get("/report").text
        assert "No round is complete yet." in page
        shutil.rmtree(folder)
        oracle(data, folder, FEW)
        last = now(client)
        assert (last["state"], last["sentence"]) == (
            "finished",
            "Finished: all 1 rounds are done.",
        )
        assert last["version"] != first["version"]
        page = client.get("/report").text
        assert 'id="overlays"' in page
        assert page.count("data:image/png;base64,") >= 3
        assert "No round is complete yet." not in page
        assert [loss[1] for loss in last["losses"]] == [0, 1]


def test_nothing_is_written(run: Path) -> None:
    before = content(run)
    with watched(run) as client:
        now(client)
        assert client.get("/report").status_code == 200
    assert content(run) == before


def test_the_report_is_drawn_when_there_is_something_new(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(
        "regional_al.report.html.render", lambda *_: drawn.append(1) or f"<main>{len(drawn)}"
    )
    with watched(run) as client:
        assert client.get("/report").text == client.get("/report").text == "<main>1"
        with Ledger.open(run) as ledger:
            ledger.mark(0, "answers", {"outstanding": 0}, seconds=0.0)
        assert client.get("/report").text == "<main>2"


def test_what_is_being_done(run: Path) -> None:
    """Held by its process, the run goes on; killed, it does not."""
    with watched(run) as client:
        with Ledger.open(run) as ledger:
            ledger.mark(0, "answers", {"outstanding": 0}, seconds=0.0)
        stopped = now(client)
        assert stopped["state"] == "stopped"
        assert stopped["sentence"] == (
            "The run has stopped. Next: training of round 0. "
            "Run the same command again with --resume."
        )
        with FolderLock(run).holding():
            going = now(client)
        assert (going["state"], going["sentence"]) == ("running", "Round 0: training.")
        assert going["process"].startswith(f"{os.getpid()} on ")
        assert going["training"] is None
        with PointLog.open(run) as log:
            for n in range(1, 6):
                point = Point(TRAIN, 0, 10 * n, 10 * n, 100, 1000.0 + n, {"loss": 5.0 / n})
                log.add(point._replace(scalars={**point.scalars, "lr": 0.5}))
        with FolderLock(run).holding():
            going = now(client)
        assert going["training"] == {
            "iteration": 50,
            "length": 100,
            "loss": 1.0,
            "rate": 0.5,
            "left": "5.00 s",
        }
        assert going["losses"] == [[10 * n, 0, 5.0 / n] for n in range(1, 6)]


def test_points_are_read_on_and_anew_when_the_run_is_another(run: Path) -> None:
    live = Live(run)
    path = run / "tracking.sqlite"

    def add(step: int, loss: float) -> None:
        with PointLog.open(run) as log:
            log.add(Point(TRAIN, 0, step, step, None, 0.0, {"train/loss": loss}))

    add(1, 0.5)
    assert live.now()["losses"] == [[1, 0, 0.5]]
    add(2, float("nan"))
    add(3, 0.25)
    assert live.now()["losses"] == [[1, 0, 0.5], [3, 0, 0.25]]
    path.rename(run / "old.sqlite")
    add(1, 2.0)
    assert live.now()["losses"] == [[1, 0, 2.0]]
    path.write_bytes(b"damaged")
    assert live.now()["state"] == "waiting"
    json.dumps(live.now(), allow_nan=False)


def test_a_run_that_is_written_while_it_is_watched(data: Path, tmp_path: Path) -> None:
    """No reader's lock stops the run, no half-written file the page."""
    folder, states, ended = tmp_path / "run", set(), threading.Event()
    drawn: list[str] = []
    live = Live(folder)

    def look() -> None:
        while not ended.is_set():
            states.add(live.now()["state"])
            if (folder / "results.json").exists() and not drawn:
                drawn.append(live.report())
            time.sleep(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        oracle(data, folder, {**GRID, "previews": 0, "rounds": 1})
    finally:
        ended.set()
        thread.join()
    assert drawn
    assert "unreadable" not in states
    assert live.now()["state"] == "finished"


def test_the_annotation_page_is_linked_while_it_is_served(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(run) as client:
        assert now(client)["annotate"] is None
        with served(run) as annotate:
            server.note_address(annotate.session.files, "0.0.0.0", 8765)
            found = now(client)["annotate"]
            assert (found["url"], found["here"]) == ("http://127.0.0.1:8765/", True)
            monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
            assert now(client)["annotate"]["here"] is False  # the loopback of another machine
            monkeypatch.undo()
            assert TOKEN not in (run / ".annotate.json").read_text()
            place = annotate.get("/api/next", params={"person": "ada"}).json()
            assert answer(annotate, place, [1], classes=[1]).status_code in (200, 422)
        assert now(client)["annotate"] is None  # its server has ended
        (run / ".annotate.json").write_text("[1]")
        with FolderLock(run, name=LOCK).holding():
            assert now(client)["annotate"] is None
        (run / ".annotate.json").write_text('{"url": "javascript:alert(1)"}')
        with FolderLock(run, name=LOCK).holding():
            assert now(client)["annotate"] is None


@pytest.mark.parametrize(
    ("headers", "access", "status"),
    [
        ({}, True, 200),
        ({}, False, 401),
        ({"Origin": "http://evil.example"}, True, 403),
        ({"Host": "evil.example:8765"}, True, 403),
    ],
)
def test_who_may_look(run: Path, headers: Any, access: bool, status: int) -> None:
    with watched(run, access) as client:
        for path in ("/", "/api/now", "/report", "/report.css", "/static/watch.js"):
            reply = client.get(path, headers=headers)
            assert reply.status_code == status, path
        if status == 401:
            assert "regional-al watch" in reply.json()["error"]


def test_nobody_can_change_anything(run: Path) -> None:
    with watched(run) as client:
        for path in ("/api/now", "/report", "/api/answer", "/"):
            for method in ("post", "put", "delete", "patch"):
                assert getattr(client, method)(path).status_code in (404, 405)


def test_events_tell_what_has_changed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_app, "LOOK", 0.01)
    live = Live(run)
    monkeypatch.setattr(live, "_seen", lambda: "")
    monkeypatch.setattr("regional_al.web.live.waits", lambda since: None)
    request = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(ending=False)))

    async def connected() -> bool:
        return False

    request.is_disconnected = connected

    async def collect() -> list[bytes]:
        found = []
        async for part in live_app.stream(request, live):  # type: ignore[arg-type]
            found.append(part)
            if len(found) == 1:
                with Ledger.open(run) as ledger:
                    ledger.mark(0, "answers", {"outstanding": 0}, seconds=0.0)
            else:
                request.app.state.ending = True
        return found

    one, two = asyncio.run(collect())
    assert b'"state": "waiting"' in one
    assert b'"state": "stopped"' in two


@pytest.mark.parametrize("file", ["ledger.sqlite", "results.json"])
def test_a_damaged_file_is_told_on_the_page(run: Path, file: str) -> None:
    (run / file).write_bytes(b"damaged" * 100)
    with watched(run) as client:
        found = now(client)
        assert found["state"] == "unreadable"
        assert file in found["sentence"]
        reply = client.get("/report")
        assert reply.status_code in (422, 503)
        assert "\n" not in reply.json()["error"]


def test_a_work_dir_that_cannot_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / "file", "is a file"), (tmp_path / "a/b", "does not exist")):
        assert cli.main(["watch", str(path), "--no-browser"]) != 0
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert str(path) in line
        assert why in line
    with pytest.raises(WorkDirError):
        Live(tmp_path / "file")


def test_watch_serves_until_it_is_stopped(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(self: Any, sockets: Any) -> None:
        assert sockets[0].getsockname()[0] == "127.0.0.1"
        raise KeyboardInterrupt

    monkeypatch.setattr(server._Server, "run", stop)
    assert cli.main(["watch", str(run), "--no-browser"]) == 0
    out = capsys.readouterr().out
    assert f"watch {run}: http://127.0.0.1:" in out
    assert "?token=" in out


def test_a_wait_is_as_long_as_it_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 3 * 3600
    monkeypatch.setattr("regional_al.web.live.time", SimpleNamespace(time=lambda: later))
    assert Live(run).now()["waits"].startswith("3h00m")
