"""The server and its run: it goes on, a training fails, a page asks twice, images are odd."""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image
from web_run import GRID, answer, served, start, truth

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from regional_al.cli import build_parser
from regional_al.errors import DataError, WorkDirError
from regional_al.store.answer_log import AnswerLog, Event
from regional_al.store.check import check_run
from regional_al.store.images import read_rgb
from regional_al.store.labels import LabelStore
from regional_al.store.query import Query
from regional_al.web import pictures, rounds, session, training
from regional_al.web.session import Session


def take(client, person="ada"):
    return client.get("/api/next", params={"person": person}).json()


def look(client, place, person="ada"):
    query = {"key": place["key"], "round": place["round"], "person": person}
    return client.get("/api/image", params=query).json()["items"]


def answer_all(client, person="ada", value=1) -> None:
    while "key" in (place := take(client, person)):
        open_ = [one["i"] for one in look(client, place, person) if one["state"] != "answered"]
        assert answer(client, place, open_, classes=[value], person=person).status_code == 200


def test_a_page_that_sends_again_hears_the_same_though_the_run_has_gone_on(run, data):
    with served(run) as client:
        place = take(client)
        items = [one["i"] for one in look(client, place)]
        first = answer(client, place, items, classes=[1], token="once")
        answer_all(client)
        assert start(data, run, GRID, "dominant").status == "waiting"
        about = client.get("/api/run").json()
        assert (about["round"], about["totals"]["items_done"]) == (1, 0)
        assert [one["round"] for one in about["rounds"]] == [0, 1]
        again = answer(client, place, items, classes=[1], token="once")
        assert (again.status_code, again.json()["items"]) == (200, first.json()["items"])
        late = answer(client, place, items, classes=[2])
        assert (late.status_code, "is over" in late.json()["error"]) == (409, True)
        stolen = answer(client, place, items, classes=[2], token="once", person="bob")
        assert (stolen.status_code, "token" in stolen.json()["error"]) == (409, True)
        assert answer(client, place, items, classes=[2], review=True).status_code == 200
        there = take(client)
        assert there["round"] == 1
        assert client.get("/map/predicted", params=there).status_code == 200
        guess = {one["i"]: one["predicted"] for one in look(client, there)}
        taken = answer(client, there, list(guess), kind="accept").json()
        assert {one["i"]: one["classes"] for one in taken["items"]} == {
            i: [c] for i, c in guess.items()
        }


def test_a_run_that_trains_takes_no_answers(run, data):
    """The ledger says so, whoever has resumed it."""
    with served(run) as client:
        place = take(client)
        items = [one["i"] for one in look(client, place)]
        answer(client, place, items[:1], classes=[1])
        from regional_al.store.ledger import Ledger

        with Ledger.open(run) as ledger:
            ledger.mark(0, "answers", {"outstanding": 0}, seconds=0.0)
        assert client.get("/api/run").json()["state"] == "idle"
        base = {"person": "ada", "round": 0, "query": place["query"]}
        for reply in (
            answer(client, place, items, classes=[1]),
            client.post("/api/undo", json=base),
        ):
            assert (reply.status_code, "does not wait" in reply.json()["error"]) == (409, True)


def test_a_second_server_of_a_run_is_refused(run):
    with served(run), pytest.raises(WorkDirError, match=r"in use by another `regional-al annotate"):
        Session(run)
    Session(run).close()


class Child:
    """A training that ends when it is told to."""

    made: list[Child] = []  # noqa: RUF012

    def __init__(self, command, work_dir):
        self.running, self.failed = True, False
        self.made.append(self)

    def last_line(self):
        return "CUDA out of memory" if self.failed else "round 0: training"

    def stop(self):
        self.running = False


@pytest.fixture
def children(run, monkeypatch) -> list[Child]:
    Child.made = []
    monkeypatch.setattr(session, "Training", Child)
    monkeypatch.setattr(Session, "_command", lambda self: {})
    return Child.made


@pytest.mark.parametrize("fails", [False, True])
def test_a_complete_round_is_trained_on_and_the_page_follows(run, data, children, fails):
    with served(run, train=True) as client:
        place = take(client)
        item = look(client, place)[0]["i"]
        answer(client, place, [item], classes=[1])
        assert client.get("/api/run").json()["state"] == "waiting"
        answer_all(client)
        about = client.get("/api/run").json()
        assert (about["state"], about["message"]) == ("training", "round 0: training")
        assert answer(client, place, [item], classes=[2]).status_code == 409
        if not fails:
            start(data, run, GRID, "dominant")
        children[0].running, children[0].failed = False, fails
        about = client.get("/api/run").json()
        if fails:
            assert (about["state"], about["message"]) == ("failed", "CUDA out of memory")
            assert answer(client, place, [item], classes=[2]).status_code == 200
        else:
            assert (about["state"], about["round"]) == ("waiting", 1)
        assert len(children) == 1


def test_closing_a_round_trains_on_what_is_there(run, children):
    with served(run, train=True) as client:
        assert client.post("/api/close", json={"unspent": "perhaps"}).status_code == 422
        assert client.post("/api/close", json={"unspent": "drop"}).status_code == 200
        assert client.get("/api/run").json()["state"] == "training"
    with served(run, train=True) as client:  # the server was ended meanwhile
        assert client.get("/api/run").json()["state"] == "training"
    assert len(children) == 2


def skip(client, place, person="ada", token="", on=True):
    base = {"key": place["key"], "round": place["round"], "query": place["query"]}
    return client.post(
        "/api/skip", json={**base, "person": person, "token": token or place["key"], "skip": on}
    )


def test_a_round_that_was_skipped_as_a_whole_waits(run, children):
    """Nothing is trained on until somebody closes it, or takes an image up again."""
    with served(run, train=True) as client:
        places = []
        while "key" in (place := take(client)):
            assert skip(client, place).status_code == 200
            places.append(place)
        assert take(client)["done"] is True
        about = client.get("/api/run").json()
        assert about["state"] == "waiting"
        assert about["totals"]["images_skipped"] == about["totals"]["images"] == len(places)
        assert children == []
        assert skip(client, places[0], token="again", on=False).status_code == 200
        assert take(client)["key"] == places[0]["key"]
        assert client.post("/api/close", json={"unspent": "keep"}).status_code == 200
        assert client.get("/api/run").json()["state"] == "training"
    assert len(children) == 1


@pytest.mark.parametrize("what", ["damaged", "edited", "gone", "all gone"])
def test_labels_that_change_beneath_the_server(run, data, what):
    """Answers do not depend on them; the run names the file before it goes on."""
    with served(run) as client:
        answer_all(client)
    assert start(data, run, GRID, "dominant").status == "waiting"
    folder = run / "labels"
    label = LabelStore(folder).path(LabelStore(folder).keys()[0])
    with served(run) as client:
        place = take(client)
        if what == "damaged":
            label.write_bytes(b"no picture")
        elif what == "edited":
            Image.fromarray(np.full_like(np.asarray(Image.open(label)), 3)).save(label)
        elif what == "gone":
            label.unlink()
        else:
            shutil.rmtree(folder)
        for index in range(3):
            reply = client.get("/api/examples", params={"class": index})
            assert reply.status_code < 500, reply.text
        items = [one["i"] for one in look(client, place)]
        assert answer(client, place, items, classes=[1]).status_code == 200
        assert client.get("/api/summary", params={"round": 0}).status_code == 200
        answer_all(client)
        assert client.get("/api/run").json()["totals"]["items_done"] > 0
    with pytest.raises(WorkDirError, match=r"\.png .*(damaged|edited|missing|pixels)"):
        start(data, run, GRID, "dominant")
    with AnswerLog.open(run / "answers.sqlite", readonly=True) as log:
        assert log.keys(1)  # nothing of what was answered is lost


@pytest.mark.parametrize("content", [b"no picture", b""])
@pytest.mark.parametrize("folder", ["_source", "_classes"])
def test_a_damaged_map_of_answers_is_found(data, tmp_path, folder, content):
    run = tmp_path / "several"
    assert start(data, run, GRID, "multiclass").status == "waiting"
    with served(run) as client:
        while "key" in (place := take(client)):
            items = [one["i"] for one in look(client, place)]
            answer(client, place, items, kind="classes", classes=[0, 1])
    assert start(data, run, GRID, "multiclass").status == "waiting"
    assert check_run(run, thorough=True) == []
    path = sorted((run / "labels" / folder).rglob("*.png"))[0]
    path.write_bytes(content)
    (found,) = check_run(run, thorough=True)
    assert (found.path, found.kind, found.blocks) == (path, "label", True)
    assert str(found).startswith(f"{path} is damaged: cannot be read as an image")


def test_a_round_waits_for_its_second_opinions_before_it_is_trained_on(run, children):
    with served(run, train=True, overlap=1.0) as client:
        answer_all(client, "ada")
        assert client.get("/api/run").json()["state"] == "waiting"
        answer_all(client, "bob")
        assert client.get("/api/run").json()["state"] == "training"


def test_an_image_of_two_people_gets_both_second_opinions(run):
    """Each has answered a part of it; each is asked about the part of the other, and no third."""
    with served(run, overlap=1.0) as client:
        place = next(p for p in iter(lambda: take(client), None) if len(look(client, p)) > 1)
        items = [one["i"] for one in look(client, place)]
        lease = {"key": place["key"], "round": 0, "person": "ada"}
        answer(client, place, items[:1], classes=[1])
        client.post("/api/lease", json={**lease, "release": True})
        client.post("/api/lease", json={**lease, "person": "bob"})
        answer(client, place, items[1:], classes=[2], person="bob")
        now = client.session.current
        assert [now.wants(place["key"], who) for who in ("ada", "bob")] == ["second", "second"]
        assert answer(client, place, items[1:], classes=[1]).status_code == 409  # bob has it
        for who, left in (("bob", items[:1]), ("ada", items[1:])):
            open_ = [one["i"] for one in look(client, place, who) if one["state"] == "open"]
            assert sorted(open_) == sorted(left)
            assert answer(client, place, open_, classes=[1], person=who).status_code == 200
        assert [now.wants(place["key"], who) for who in ("ada", "bob", "cid")] == [None] * 3
        classes = client.get("/api/summary").json()["classes"]
        assert {c["index"]: c["agreement"] for c in classes} == {1: 1.0, 2: 0.0}


def test_a_restart_reads_no_map_for_answers_about_whole_items(data, tmp_path, monkeypatch):
    """Images with thousands of answers would take a minute to look at again."""
    windows = {"type": "window", "radius": 2}  # cut off at the edges
    keys = {**GRID, "region": windows, "warm_start": {"amount": 32, "unit": "region"}}
    start(data, tmp_path / "run", keys)
    base = {"person": "ada", "round": 0}
    with served(tmp_path / "run", overlap=1.0) as client:
        place = take(client)
        items = [one["i"] for one in look(client, place)]
        assert len(items) > 3
        answer(client, place, items[:2], classes=[1])
        answer(client, place, items[:1], classes=[2], person="bob", review=True)
        answer(client, place, items[2:3], kind="unsure")
        answer(client, place, items[1:2], kind="clear")
        client.post("/api/skip", json={**base, **place, "token": "s"})
        painted = take(client)  # the other was skipped
        values = np.full(client.session.current.image(painted["key"]).asked.shape, 3, np.uint8)
        values[: len(values) // 2] = 255
        data_ = io.BytesIO()
        Image.fromarray(values).save(data_, "PNG")
        query = {**painted, **base, "token": "p", "ms": 1, "clicks": 1, "keys": 0}
        assert client.put("/api/paint", params=query, content=data_.getvalue()).status_code == 200
        before = dict(client.session.current.progress)
        for key in before:
            client.session.current.update(key)
        assert dict(client.session.current.progress) == before
    looked: list[str] = []
    asked = Query.asked
    monkeypatch.setattr(Query, "asked", lambda q, key: looked.append(key) or asked(q, key))
    with served(tmp_path / "run", overlap=1.0) as client:
        assert looked == [painted["key"]]
        assert dict(client.session.current.progress) == before


def test_totals_are_those_of_a_server_that_begins_anew(run):
    with served(run) as client:
        place = take(client)
        items = [one["i"] for one in look(client, place)]
        base = {"person": "ada", "round": 0, "query": place["query"]}
        answer(client, place, items, classes=[1], ms=3000)
        answer(client, place, items[:1], kind="unsure")
        client.post("/api/undo", json=base)
        answer(client, place, items[-1:], kind="clear")
        client.post("/api/skip", json={**base, **place, "token": "s"})
        before = client.get("/api/run").json()
    with served(run) as client:
        after = client.get("/api/run").json()
    assert (before["totals"], before["pace"]) == (after["totals"], after["pace"])
    totals = before["totals"]
    assert (totals["images_skipped"], totals["items_done"]) == (1, len(items) - 1)
    assert before["pace"]["items_per_minute"] == len(items) * 20


def test_memory_is_bounded_whatever_is_looked_at(run, monkeypatch):
    monkeypatch.setattr(rounds, "KEPT_BYTES", 1)
    with served(run) as client:
        answer_all(client)
        for key in client.session.current.keys:
            client.session.current.standing(key)
        assert len(client.session.current._seen) == 1
        assert client.get("/api/run").json()["totals"]["items_done"] == 6


def test_examples_are_answers_that_stand(run):
    with served(run) as client:
        place = take(client)
        item = look(client, place)[0]["i"]
        for value in (3, 4):
            answer(client, place, [item], classes=[value])
        found = [
            client.get("/api/examples", params={"class": value}).json()["examples"]
            for value in (3, 4)
        ]
        assert [len(one) for one in found] == [0, 1]
        assert client.get("/api/examples", params={"class": 99}).status_code == 422


def test_images_are_shown_as_training_reads_them(tmp_path):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (4, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(small).resize((60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(small).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(small).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(rng.integers(0, 2**16, (4, 6), np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(small).save(tmp_path / "plain.tif")
    for path in sorted(tmp_path.iterdir()):
        content, kind = pictures.picture(path)
        with Image.open(io.BytesIO(content)) as shown:
            assert kind == "image/png"
            assert (np.asarray(shown) == read_rgb(path)).all(), path.name
    Image.fromarray(small).save(tmp_path / "plain.png")
    assert pictures.picture(tmp_path / "plain.png") == (
        (tmp_path / "plain.png").read_bytes(),
        "image/png",
    )
    (tmp_path / "text.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"text\.png"):
        pictures.picture(tmp_path / "text.png")


def test_a_training_outlives_the_thread_that_has_started_it(tmp_path, monkeypatch):
    """Threads of the server that have nothing to do end after ten seconds."""
    code = "from regional_al.cli import train; import sys; train.follow_parent();"
    code += "print('ready', flush=True); sys.stdin.close(); import time; time.sleep(60)"
    monkeypatch.setattr(training, "resume_arguments", lambda *_: [sys.executable, "-c", code])
    made: list[training.Training] = []

    def start_it() -> None:
        made.append(training.Training({}, tmp_path))
        for _ in range(3000):
            if made[0].last_line() == "ready" or not made[0].running:
                return
            time.sleep(0.01)

    thread = threading.Thread(target=start_it)
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert made[0].running
    assert made[0].last_line() == "ready"
    made[0].stop()
    assert made[0].failed
    with pytest.raises(WorkDirError, match="cannot be started"):
        training.Training({}, tmp_path / "no_folder")


@pytest.mark.parametrize("processes", [1, 3])
def test_a_run_is_resumed_the_way_it_was_started(tmp_path, processes):
    config = tmp_path / "config.py"
    config.touch()
    command = {
        "config": str(config),
        "cfg_options": ["a.b=[1,2]", "c=x y"],
        "amp": True,
        "smoke": False,
        "no_report": True,
        "processes": processes,
    }
    _, *module, name = training.resume_arguments(command, tmp_path)[:4]
    assert module == ["-m", "regional_al"]
    arguments = [name, *training.resume_arguments(command, tmp_path)[4:]]
    args = build_parser().parse_args(arguments)
    if processes == 3:
        assert (name, args.gpus) == ("launch", "3")
        args = build_parser().parse_args(["train", str(config), *args.rest])
    assert (args.config, args.work_dir, args.resume) == (config, tmp_path, True)
    assert (args.amp, args.smoke, args.no_report) == (True, False, True)
    assert args.cfg_options == command["cfg_options"]
    config.unlink()
    with pytest.raises(WorkDirError, match="is gone"):
        training.resume_arguments(command, tmp_path)


def test_a_change_right_after_a_look_is_seen(run):
    """Two changes may leave the same time in the file."""
    from regional_al.store.ledger import Ledger
    from regional_al.store.work_dir import WorkDir
    from regional_al.web.watch import Watch

    files = WorkDir(run)
    os.utime(files.ledger)
    watch = Watch(files)
    assert watch.look()
    stamp = files.ledger.stat()
    with Ledger.open(run) as ledger:
        ledger.mark(0, "answers", {}, seconds=0.0)
    os.utime(files.ledger, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert watch.look()
    assert watch.position.stage == "fit"
    time.sleep(0.2)
    assert watch.look()
    assert not watch.look()


def test_recent_events_are_found_without_their_maps(tmp_path):
    with AnswerLog.open(tmp_path / "log") as log:
        for number in range(6):
            kind = "class" if number % 2 else "paint"
            paint = None if number % 2 else b"png"
            event = Event(0, number // 3, "q", f"k{number}", "ada", kind, (), (number,), paint)
            log.append(event._replace(token=str(number)))
        log.undo("ada", 1, "q")
        assert [e.key for e in log.recent(3)] == ["k4", "k3", "k2"]
        assert [e.paint for e in log.recent(3)] == [None] * 3
        assert [e.key for e in log.recent(9, round=0, kinds=("paint",))] == ["k2", "k0"]
        assert [e.key for e in log.recent(9, classes=(3,))] == ["k3"]
        assert log.recent(9, person="bob") == []
        assert log.keys(1) == {"k3", "k4"}
        assert log.find("5").key == "k5"
        assert log.find("6") is None


def test_labels_answered_twice_are_those_of_the_first(run, data):
    """What stands is the first answer, also in the labels of the run."""
    with served(run, overlap=1.0) as client:
        answer_all(client, "ada", 1)
        answer_all(client, "bob", 2)
        keys = client.session.current.keys
    start(data, run, GRID, "dominant")
    from regional_al.store.labels import LabelStore

    for key in keys:
        labels, said = LabelStore(run / "labels").read(key), truth(data, key)
        assert labels.shape == said.shape
        assert set(np.unique(labels).tolist()) <= {1, 255}
