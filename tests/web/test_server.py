"""The server of the annotation page over runs that really wait."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from web_run import GRID, PIXELS, TOKEN, answer, labels_of, oracle, served, start

from regional_al.annotators.oracle import class_sets, dominant_labels
from regional_al.errors import WorkDirError
from regional_al.store import results
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.testing.toy import toy_engine

pytest.importorskip("starlette")
pytest.importorskip("httpx")


def take(client, person="ada", **more):
    return client.get("/api/next", params={"person": person, **more}).json()


def look(client, place, person="ada"):
    query = {"key": place["key"], "round": place["round"], "person": person}
    return client.get("/api/image", params=query).json()


def truth(data: Path, key: str):
    return read_ids(data / f"annotations/train/{key}.png")


def answer_truth(client, data: Path, kind: str = "full") -> int:
    """Answer all that a person is given, from the ground truth. Returns the number of answers."""
    space, given = toy_engine(data, iterations=1).label_space, 0
    while "key" in (place := take(client)):
        asked = client.session.round(place["round"]).image(place["key"]).asked
        ids = truth(data, place["key"])
        for item in look(client, place)["items"]:
            raw = ids[asked == item["i"]]
            if kind == "dominant":
                raw = dominant_labels(asked, ids, space)[asked == item["i"]]
            classes = sorted({int(c) for c in space.raw_to_train[raw]} - {255})
            how = "classes" if kind == "multiclass" else "class"
            reply = answer(
                client, place, [item["i"]], kind=how if classes else "void", classes=classes
            )
            assert reply.status_code == 200, reply.text
            given += 1
    return given


@pytest.mark.parametrize(
    ("keys", "kind"), [(PIXELS, "full"), (GRID, "dominant"), (GRID, "multiclass")]
)
def test_a_run_answered_on_the_page_has_the_labels_of_the_oracle(data, tmp_path, keys, kind):
    oracle(data, tmp_path / "oracle", keys, kind)
    loop = start(data, tmp_path / "run", keys, kind)
    asked = 0
    while loop.status == "waiting":
        with served(tmp_path / "run") as client:
            asked += answer_truth(client, data, kind)
            assert client.get("/api/run").json()["message"] == "all is answered: resume the run"
        loop = start(data, tmp_path / "run", keys, kind)
    assert loop.status == "finished"
    assert labels_of(tmp_path / "run") == labels_of(tmp_path / "oracle")
    last = results.load(tmp_path / "run").records[-1]
    assert last.costs.annotation_seconds == asked
    assert last.costs.regions == results.load(tmp_path / "oracle").records[-1].costs.regions
    store, key = LabelStore(tmp_path / "run/labels"), LabelStore(tmp_path / "run/labels").keys()[0]
    source = store.source(key)
    assert ((source == 1) == (store.annotated(key) > 0)).all()
    if kind == "multiclass":
        theirs = LabelStore(tmp_path / "oracle/labels")
        keys_there = theirs.keys()
        assert any(theirs.class_sets(key) is not None for key in keys_there)
        for key in keys_there:
            mine, other = store.class_sets(key), theirs.class_sets(key)
            assert (mine is None) == (other is None)
            if mine is not None:
                assert mine.classes == other.classes
                assert (mine.regions == other.regions).all()


def test_the_sets_of_a_region_are_its_classes():
    space = toy_space()
    asked = np.array([[1, 1, 2, 3]], np.int32)
    labels, sets, clicks = class_sets(asked, np.array([[1, 0, 255, 1]], np.uint8), space)
    assert (labels.tolist(), sets.classes, clicks) == ([[255, 255, 255, 1]], ((0, 1),), 4)


def toy_space():
    from regional_al.types import LabelSpace

    return LabelSpace.plain(("a", "b"), ((0, 0, 0), (9, 9, 9)))


def test_what_a_page_is_told(run, data):
    with served(run) as client:
        about = client.get("/api/run").json()
        assert (about["state"], about["round"], about["answer"]) == ("waiting", 0, "dominant")
        assert [one["key"] for one in about["classes"][:11]] == [*"1234567890", "a"]
        assert about["totals"]["items"] == 6
        place = take(client)
        image = look(client, place)
        assert sum(one["pixels"] for one in image["items"]) % 64 == 0
        asked = client.session.current.image(place["key"]).asked
        for name in ("asked", "answer"):
            png = client.get(f"/map/{name}", params={"key": place["key"], "round": 0}).content
            pixels = np.asarray(Image.open(io.BytesIO(png)))
            assert pixels.shape[:2] == asked.shape
            assert (pixels[..., 0] == asked).all() if name == "asked" else (pixels == 255).all()
        reply = client.get("/map/predicted", params={"key": place["key"], "round": 0})
        assert reply.status_code == 422  # nothing has been trained
        picture = client.get("/img", params={"key": place["key"]}).content
        assert picture == next((data / "images/train").glob(f"{place['key']}.*")).read_bytes()
        assert len({one["i"] for one in image["items"]}) == len(image["items"])
        first = image["items"][0]["i"]
        assert (
            answer(client, place, [first], classes=[3], ms=1500).json()["totals"]["items_done"] == 1
        )
        found = client.get("/api/examples", params={"class": 3}).json()["examples"]
        assert [one["item"] for one in found] == [first]
        assert client.get(found[0]["src"]).headers["content-type"] == "image/png"
        summary = client.get("/api/summary").json()
        assert [(c["index"], c["items"], c["seconds"]) for c in summary["classes"]] == [(3, 1, 1.5)]
        units = client.get("/map/units", params={"key": place["key"], "round": 0})
        assert units.status_code == 200


def test_undo_unsure_skip_and_history(run):
    with served(run) as client:
        place = take(client)
        items = [one["i"] for one in look(client, place)["items"]]
        base = {"person": "ada", "round": 0, "query": place["query"]}
        assert client.post("/api/undo", json=base).json() == {"nothing": True}
        answer(client, place, items[:1], classes=[2])
        answer(client, place, items[:1], kind="unsure")
        assert look(client, place)["items"][0]["state"] == "unsure"
        undone = client.post("/api/undo", json=base).json()
        assert (undone["kind"], undone["items"][0]["classes"]) == ("unsure", [2])
        skipped = client.post("/api/skip", json={**base, **place, "token": "s"})
        assert skipped.json()["skipped"] is True
        assert take(client, after=place["key"])["key"] != place["key"]
        assert client.post("/api/undo", json=base).json()["skipped"] is False
        kinds = [one["kind"] for one in client.get("/api/history").json()["events"]]
        assert kinds == ["class"]


def test_the_same_token_is_the_same_answer(run):
    with served(run) as client:
        place = take(client)
        item = look(client, place)["items"][0]["i"]
        for _ in range(3):
            assert answer(client, place, [item], classes=[1], token="t").status_code == 200
        assert len(client.session.log_events()) == 1


def test_two_people_never_get_the_same_image(run):
    now = [0.0]
    from regional_al.web.leases import Leases

    with served(run, leases=Leases(10, lambda: now[0])) as client:
        mine, theirs = take(client, "ada"), take(client, "bob")
        assert mine["key"] != theirs["key"]
        item = look(client, mine)["items"][0]["i"]
        refused = answer(client, mine, [item], classes=[1], person="bob")
        assert (refused.status_code, refused.json()["error"][:22]) == (
            409,
            "ada is working on 'tra",
        )
        now[0] = 11.0  # nothing was heard of ada
        assert take(client, "bob", after=theirs["key"])["key"]
        assert answer(client, mine, [item], classes=[1], person="bob").status_code == 200


def test_overlap_asks_a_second_person_who_does_not_see_the_first_answer(run):
    with served(run, overlap=1.0) as client:
        for person, class_ in (("ada", 1), ("bob", 2)):
            while "key" in (place := take(client, person)):
                for item in look(client, place, person)["items"]:
                    if item["state"] == "open":
                        assert item["classes"] == []
                        answer(client, place, [item["i"]], classes=[class_], person=person)
        assert take(client, "cid") == {"done": True, "others": 0}
        standing = client.session.current.standing(client.session.current.keys[0])
        assert set(standing.item_person.values()) == {"ada"}
        (one,) = client.get("/api/summary").json()["classes"]
        assert (one["index"], one["agreement"], one["pairs"]) == (1, 0.0, 6)


def test_answers_outlive_the_server(run):
    with served(run) as client:
        place = take(client)
        item = look(client, place)["items"][0]["i"]
        answer(client, place, [item], classes=[4])
    with served(run) as client:
        assert client.get("/api/run").json()["totals"]["items_done"] == 1
        assert look(client, place)["items"][0]["classes"] == [4]


def png(array) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(data, "PNG")
    return data.getvalue()


def test_a_painted_answer_is_clipped_to_what_is_asked(data, tmp_path):
    start(data, tmp_path / "run", GRID)
    with served(tmp_path / "run") as client:
        place = take(client)
        asked = client.session.current.image(place["key"]).asked
        query = {**place, "person": "ada", "token": "p", "ms": 2000, "clicks": 3, "keys": 0}
        reply = client.put("/api/paint", params=query, content=png(np.full(asked.shape, 5)))
        assert reply.json()["complete"] is True
        standing = client.session.current.standing(place["key"])
        assert ((standing.answer == 5) == (asked > 0)).all()
        assert (standing.seconds, standing.clicks) == (2.0, 3)
        for body, line in (
            (png(np.full(asked.shape, 77)), "has the value 77"),
            (png([[1]]), "1x1"),
            (b"x", "cannot be read"),
            (b"x" * (asked.size * 2 + 100_000), "longer than"),
        ):
            reply = client.put("/api/paint", params={**query, "token": line}, content=body)
            assert reply.status_code in (413, 422)
            assert line in reply.json()["error"]


@pytest.mark.parametrize(
    ("change", "status", "line"),
    [
        ({"query": "0" * 64}, 409, "another query"),
        ({"round": 7}, 422, "no query of round 7"),
        ({"key": "../../etc/passwd"}, 422, "does not ask about"),
        ({"key": "train_0000\0"}, 422, "does not ask about"),
        ({"items": [999]}, 422, "are not asked"),
        ({"items": []}, 422, "are not asked"),
        ({"items": ["x"]}, 422, "no whole number"),
        ({"items": 3}, 422, "a list is missing"),
        ({"classes": [99]}, 422, "there is no class 99"),
        ({"classes": [0, 1]}, 422, "has one class"),
        ({"kind": "classes"}, 422, "kind 'classes' is not possible"),
        ({"kind": "paint"}, 422, "kind 'paint' is not possible"),
        ({"kind": "accept"}, 422, "no prediction"),
        ({"person": ""}, 422, "person: text is missing"),
        ({"person": "a" * 65}, 422, "cannot be a name"),
        ({"person": "a\nb"}, 422, "cannot be a name"),
        ({"ms": -1}, 422, "ms: '-1'"),
        ({"ms": 1.5}, 422, "ms: '1.5'"),
        ({"token": 3}, 422, "token: text is missing"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(run, change, status, line):
    with served(run) as client:
        place = take(client)
        item = look(client, place)["items"][0]["i"]
        items = change.get("items", [item])
        reply = answer(
            client,
            place,
            items,
            **{"classes": [1], **{k: v for k, v in change.items() if k != "items"}},
        )
        assert (reply.status_code, line in reply.json()["error"]) == (status, True), reply.text
        assert "\n" not in reply.json()["error"]
        assert client.session.log_events() == []


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_request_is_refused(run, body):
    with served(run) as client:
        reply = client.put("/api/answer", content=body)
        assert (reply.status_code, list(reply.json())) == (422, ["error"])


def test_a_body_of_100_megabytes_is_refused(run):
    with served(run) as client:
        assert client.put("/api/answer", content=b" " * 100_000_000).status_code == 413


@pytest.mark.parametrize(
    ("headers", "cookie", "status"),
    [
        ({}, True, 200),
        ({}, False, 401),
        ({"Origin": "http://evil.example"}, True, 403),
        ({"Origin": "http://127.0.0.1:9"}, True, 403),
        ({"Origin": "null"}, True, 403),
        ({"Host": "evil.example:8765"}, True, 403),
        ({"Host": "127.0.0.1:9"}, True, 403),
        ({"Host": "127.0.0.1:8765@evil.example"}, True, 403),
        ({"Host": "localhost:8765", "Origin": "http://localhost:8765"}, True, 200),
    ],
)
def test_who_may_talk_to_the_server(run, headers, cookie, status):
    with served(run) as client:
        if not cookie:
            client.cookies.clear()
        for path in ("/api/run", "/img?key=x", "/static/app.js", "/"):
            got = client.get(path, headers=headers).status_code
            assert got in ((200, 422) if status == 200 else (status,)), path


def test_tokens_and_changes_without_an_origin(run):
    with served(run) as client:
        client.cookies.clear()
        assert client.get("/?token=wrong", follow_redirects=False).status_code == 401
        client.get(f"/?token={TOKEN}")
        del client.headers["Origin"]
        reply = client.post("/api/lease", json={})
        assert (reply.status_code, "Origin" in reply.json()["error"]) == (403, True)
        cookies = client.get(f"/?token={TOKEN}", follow_redirects=False).headers["set-cookie"]
        assert "HttpOnly" in cookies
        assert "SameSite=strict" in cookies.replace("Strict", "strict")
        assert "default-src 'self'" in client.get("/").headers["content-security-policy"]


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "nothing.js", ""])
def test_static_files_are_those_of_the_page(run, name):
    with served(run) as client:
        assert client.get(f"/static/{name}").status_code == 404


def test_events_tell_the_state(run):
    """The stream of a page that has gone ends by itself."""
    import asyncio

    from regional_al.web import app as app_module
    from regional_al.web.session import Session

    session = Session(run)

    class Gone:
        def __init__(self):
            self.app, self.looks = type("A", (), {})(), 0
            self.app.state = type("S", (), {"ending": False})()

        async def is_disconnected(self):
            self.looks += 1
            return self.looks > 1

    async def collect():
        return [part async for part in app_module.stream(Gone(), session)]

    first, second = asyncio.run(collect())
    assert first.startswith(b"event: state\ndata: ")
    assert json.loads(second.split(b"data: ")[1])["totals"]["items"] == 6
    session.close()


def test_runs_that_do_not_ask_people_are_refused(data, tmp_path):
    from regional_al.web.session import Session

    oracle(data, tmp_path / "oracle", GRID)
    with pytest.raises(WorkDirError, match="is not waiting"):
        Session(tmp_path / "oracle")
    with pytest.raises(WorkDirError, match="does not exist"):
        Session(tmp_path / "nothing")
    start(data, tmp_path / "run", GRID)
    with pytest.raises(WorkDirError, match="leave --train out"):
        Session(tmp_path / "run", train=True)
    (tmp_path / "run/answers.sqlite").write_bytes(b"no database")
    with pytest.raises(WorkDirError, match=r"answers\.sqlite"):
        Session(tmp_path / "run")


def test_a_class_that_is_ignored_is_not_offered(data: Path, tmp_path: Path) -> None:
    """It has no key and cannot be answered; a prediction of it that is accepted means void."""
    space = toy_engine(data, iterations=1).label_space
    table = np.where(space.raw_to_train == 0, 255, space.raw_to_train).astype(np.int16)
    ignoring = replace(space, raw_to_train=table)
    start(data, tmp_path / "run", GRID, "dominant", ignoring)
    with served(tmp_path / "run") as client:
        about = client.get("/api/run").json()
        assert [one["offered"] for one in about["classes"][:3]] == [False, True, True]
        assert [one["key"] for one in about["classes"][:3]] == [None, "1", "2"]
        assert [one["name"] for one in about["classes"]] == list(space.class_names)
        place = take(client)
        item = look(client, place)["items"][0]["i"]
        refused = answer(client, place, [item], classes=[0])
        assert refused.status_code == 422
        assert "there is no class 0" in refused.text
        assert answer(client, place, [item], classes=[1]).status_code == 200
