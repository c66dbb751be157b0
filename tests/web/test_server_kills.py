"""A server process that is killed while people answer loses nothing that it has acknowledged."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from paths import ROOT
from web_run import make_data, start

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from regional_al.store.answer_log import AnswerLog

PIXELS = {
    "level": "pixel",
    "heuristic": "Random",
    "budget": {"amount": 400, "unit": "pixel"},
    "warm_start": {"amount": 400, "unit": "pixel"},
    "rounds": 1,
}


class Server:
    """`regional-al annotate` as a process, and a browser with its cookie."""

    def __init__(self, work_dir: Path, *more: str) -> None:
        command = [sys.executable, "-m", "regional_al", "annotate", str(work_dir), "--no-browser"]
        self.process = subprocess.Popen(
            [*command, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.said = line
        url = urlsplit(line.split()[-1])
        self.host, self.token = url.netloc, url.query.removeprefix("token=")
        self.cookie = ""
        status, headers, _ = self.call("GET", f"/?token={self.token}")
        assert status == 303
        self.cookie = headers["set-cookie"].split(";")[0]

    def call(self, method: str, path: str, data: Any = None) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            headers = {"Origin": f"http://{self.host}", "Cookie": self.cookie}
            body = None if data is None else json.dumps(data)
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def get(self, path: str, **query: Any) -> Any:
        status, _, content = self.call("GET", f"{path}?{urlencode(query)}")
        assert status == 200, content
        return json.loads(content)

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.said += self.process.stdout.read()
        self.process.stdout.close()
        return code


def answer_until_it_dies(server: Server, person: str, given: dict[str, Any]) -> None:
    """Answer item after item; `given`: token -> (key, item, class) of what was acknowledged."""
    rng = np.random.default_rng(len(given))
    try:
        while "key" in (place := server.get("/api/next", person=person)):
            base = {"key": place["key"], "round": place["round"], "person": person}
            for item in server.get("/api/image", **base)["items"]:
                if item["state"] != "open":
                    continue
                token, value = uuid.uuid4().hex, int(rng.integers(0, 5))
                one = {**base, "query": place["query"], "token": token, "kind": "class"}
                one |= {"items": [item["i"]], "classes": [value], "ms": 400, "keys": 1, "clicks": 0}
                status, _, content = server.call("PUT", "/api/answer", one)
                assert status == 200, content
                given[token] = (place["key"], item["i"], value)
    except (OSError, http.client.HTTPException):
        return


def kill_and_count(work_dir: Path, kills: int) -> None:
    given: dict[str, Any] = {}
    for kill in range(kills):
        server = Server(work_dir)
        before = len(given)
        people = [
            threading.Thread(target=answer_until_it_dies, args=(server, name, given))
            for name in ("ada", "bob")
        ]
        for one in people:
            one.start()
        ends = time.monotonic() + 20
        while len(given) < before + 2 + kill and time.monotonic() < ends:
            time.sleep(0.003)
        server.end()
        for one in people:
            one.join(60)
        assert len(given) > before
        with AnswerLog.open(work_dir / "answers.sqlite", readonly=True) as log:
            there = {e.token: (e.key, e.items[0], e.classes[0]) for e in log.events()}
        assert given.items() <= there.items()
        # What was on its way may have arrived: one answer of each person and kill.
        assert len(there) - len(given) <= 2 * (kill + 1)
        assert len({(key, item) for key, item, _ in there.values()}) == len(there)
    server = Server(work_dir)
    totals = server.get("/api/run")["totals"]
    assert totals["items_done"] == len(there)
    server.end()


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kills")
    data = make_data(root / "data")
    start(data, root / "run", PIXELS)
    return root / "run"


def test_nothing_is_lost_when_the_server_is_killed(waiting: Path) -> None:
    kill_and_count(waiting, kills=2)


@pytest.mark.slow
def test_nothing_is_lost_in_ten_kills(tmp_path: Path) -> None:
    start(make_data(tmp_path / "data"), tmp_path / "run", PIXELS)
    kill_and_count(tmp_path / "run", kills=10)


def test_ctrl_c_ends_the_server_cleanly(waiting: Path) -> None:
    server = Server(waiting, "--host", "127.0.0.1")
    stream = http.client.HTTPConnection(server.host, timeout=30)
    stream.request("GET", "/events", headers={"Cookie": server.cookie})
    assert stream.getresponse().readline() == b"event: state\n"
    began = time.monotonic()
    assert server.end(signal.SIGINT) == 0
    assert time.monotonic() - began < 20
    assert "Traceback" not in server.said
    assert "stop with Ctrl-C" in server.said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port", "{port}"], "--port {port} cannot be used"),
        (["--overlap", "1.5"], "--overlap"),
        (["--lease", "0"], "--lease"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--port", "70000"], "--port 70000"),
        (["--train"], "leave --train out"),
    ],
)
def test_mistakes_are_one_line(
    waiting: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    import socket

    from regional_al import cli

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        given = [word.replace("{port}", port) for word in arguments]
        assert cli.main(["annotate", str(waiting), "--no-browser", *given]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line.replace("{port}", port) in said


def test_a_server_on_a_network_says_what_that_means(waiting: Path) -> None:
    server = Server(waiting, "--host", "0.0.0.0")
    assert server.get("/api/run")["state"] == "waiting"
    server.end(signal.SIGINT)
    assert "whoever can reach this machine" in server.said


def test_without_the_extra_the_command_is_named(
    waiting: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from regional_al import cli

    for name in [*sys.modules]:
        if name.split(".")[0] == "starlette" or name.startswith("regional_al.web"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert cli.main(["annotate", str(waiting)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "pip install 'regional-al[web]'" in said
