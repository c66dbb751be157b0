"""Corrections and closed rounds, in runs that people answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from web_run import PIXELS, labels_of, make_data, start

from regional_al.errors import ConfigError, DataError, WorkDirError
from regional_al.loop.closing import close_round
from regional_al.store import results
from regional_al.store.answer_log import AnswerLog, Event
from regional_al.store.check import check_run
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.store.query import query_hash, read_query
from regional_al.store.work_dir import WorkDir


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("people") / "data")


def give(work_dir: Path, round_: int, keys=None, items=None, classes=(0,), kind="class", **more):
    """Log one event about items of images (None: all)."""
    files = WorkDir(work_dir)
    query = read_query(files.query(round_))
    with AnswerLog.open(files.answer_log) as log:
        for key in query.image_keys() if keys is None else keys:
            there = np.unique(query.asked(key))
            about = [int(i) for i in there[there > 0]] if items is None else items
            log.append(
                Event(0, round_, query_hash(query), key, "ada", kind, tuple(about), classes,
                      ms=500, keys=1, clicks=1, **more)
            )  # fmt: skip


@pytest.fixture(scope="module")
def second(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that waits in round 1; round 0 was answered with class 0. Copy it."""
    folder = tmp_path_factory.mktemp("second") / "run"
    start(data, folder)
    give(folder, 0)
    assert start(data, folder).round == 1
    return folder


@pytest.fixture
def run(second: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(second, tmp_path / "run"))


def first_image(run: Path, round_: int = 0) -> str:
    return read_query(WorkDir(run).query(round_)).image_keys()[0]


def test_an_answer_of_an_earlier_round_is_corrected_before_the_next_training(data, run):
    key, store = first_image(run), LabelStore(run / "labels")
    give(run, 0, [key], items=[1], classes=(4,), review=True)
    give(run, 0, [key], items=[2], classes=(), kind="void", review=True)
    before = store.read(key)
    give(run, 1)
    assert start(data, run).round == 2
    asked = read_query(WorkDir(run).query(0)).asked(key)
    after = LabelStore(run / "labels").read(key)
    round_ = LabelStore(run / "labels").annotated(key)
    assert (after[asked == 1] == 4).all()
    assert (after[asked == 2] == 255).all()
    assert (after[asked > 2] == before[asked > 2]).all()
    assert (round_[asked > 0] == 1).all()
    with Ledger.open(run, readonly=True) as ledger:
        (one,) = ledger.corrections()
        assert (one.asked_in, one.round, one.key, one.people) == (0, 1, key, ("ada",))
        pixels = int((asked == 1).sum())
        assert one.changed == ((0, 4, pixels), (0, 255, int((asked == 2).sum())))
        assert (one.clicks, one.seconds) == (2, 1.0)
        assert ledger.costs(1).annotation_seconds == 0.5 * len(read_query(
            WorkDir(run).query(1)).image_keys()) + 1.0  # fmt: skip
    assert check_run(run, thorough=True) == []


def test_a_review_that_confirms_costs_its_time(data, run):
    give(run, 0, [first_image(run)], items=[1], classes=(0,), review=True)
    give(run, 1)
    start(data, run)
    with Ledger.open(run, readonly=True) as ledger:
        (one,) = ledger.corrections()
        assert (one.changed, one.seconds) == ((), 0.5)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("where", ["note", "files", "record"])
def test_a_kill_amid_a_correction_is_resumed(data, run, tmp_path, monkeypatch, where):
    for key in read_query(WorkDir(run).query(0)).image_keys():
        give(run, 0, [key], items=[1], classes=(5,), review=True)
    give(run, 1)
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    start(data, whole)

    correct = LabelStore.correct

    def killed(*_args, **_more):
        raise Killed

    def once_then_killed(store, *args, **more):
        correct(store, *args, **more)
        raise Killed

    with monkeypatch.context() as patch:
        if where == "note":
            patch.setattr(LabelStore, "correct", killed)
        elif where == "files":
            patch.setattr(LabelStore, "correct", once_then_killed)
        else:
            patch.setattr(Ledger, "record_corrections", killed)
        with pytest.raises(Killed):
            start(data, run)
    assert [finding for finding in check_run(run, thorough=True) if finding.blocks] == []
    assert start(data, run).round == 2
    assert labels_of(run) == labels_of(whole)
    with Ledger.open(run, readonly=True) as one, Ledger.open(whole, readonly=True) as other:
        assert [c.changed for c in one.corrections()] == [c.changed for c in other.corrections()]
        assert one.all_costs(1) == other.all_costs(1)
    assert check_run(run, thorough=True) == []


def test_a_later_answer_of_the_same_round_replaces_a_collected_one(data, tmp_path):
    run = tmp_path / "run"
    start(data, run)
    key = first_image(run)
    give(run, 0, [key])
    assert start(data, run).status == "waiting"
    assert set(np.unique(LabelStore(run / "labels").read(key))) == {0, 255}
    give(run, 0, [key], items=[1], classes=(6,))
    assert start(data, run).status == "waiting"
    assert 6 in LabelStore(run / "labels").read(key)
    with Ledger.open(run, readonly=True) as ledger:
        assert ledger.answers()[0][4] == 1.0


def test_answers_to_another_query_are_refused(data, run):
    with AnswerLog.open(WorkDir(run).answer_log) as log:
        log.append(Event(0, 1, "f" * 64, first_image(run, 1), "ada", "void", (1,)))
    with pytest.raises(DataError, match="to another query"):
        start(data, run)


def test_numbers_of_many_annotators(tmp_path):
    from regional_al.types import Source

    with Ledger.create(tmp_path, config="", pool="", acquisition={}) as ledger:
        numbers = [ledger.source_id(Source("person", str(i))) for i in range(254)]
        assert numbers == list(range(1, 255))
        assert ledger.source_id(Source("person", "3")) == 4
        with pytest.raises(WorkDirError, match="254 annotators"):
            ledger.source_id(Source("person", "one more"))
        assert len(ledger.sources()) == 254


@pytest.mark.parametrize(("unspent", "more"), [("keep", 4), ("drop", 0)])
def test_a_closed_round_returns_what_nobody_answered(data, run, unspent, more):
    query = read_query(WorkDir(run).query(1))
    key = max(query.image_keys(), key=lambda key: len(query.items(key)))
    give(run, 1, [key], items=[1])
    give(run, 1, [key], items=[2])
    left = len(query.picks) - 2
    assert left == 4
    said = close_round(run, unspent)
    assert ("added" in said) == (unspent == "keep")
    loop = start(data, run)
    assert (loop.status, loop.round) == ("waiting", 2)
    assert len(read_query(WorkDir(run).query(2)).picks) == 6 + more
    assert results.load(run).records[-1].asked.regions == 2
    with Ledger.open(run, readonly=True) as ledger:
        done = ledger.done(1, "answers")
        assert (done["closed"], done["kept"]) == (unspent, more)
    give(run, 2)
    assert start(data, run).status == "finished"
    assert check_run(run, thorough=True) == []


def test_pixels_of_a_closed_round_can_be_asked_again(data, tmp_path):
    run, all_ = tmp_path / "run", {"amount": "100%", "unit": "pixel"}
    keys = {**PIXELS, "budget": all_, "warm_start": all_}
    start(data, run, keys)
    said = close_round(run)
    assert "each image has a budget of its own" in said
    assert start(data, run, keys).round == 1
    first, then = (read_query(WorkDir(run).query(r)) for r in (0, 1))
    assert len(then.picks) == len(first.picks) == 4 * 32 * 48
    assert LabelStore(run / "labels").keys() == []


def test_what_cannot_be_closed(data, run, tmp_path):
    with pytest.raises(ConfigError, match="unspent"):
        close_round(run, "all")
    with pytest.raises(WorkDirError, match="does not exist"):
        close_round(tmp_path / "nothing")
    WorkDir(run).closed(1).write_text("[]")
    with pytest.raises(DataError, match="close the round again"):
        start(data, run)
    close_round(run)
    assert json.loads(WorkDir(run).closed(1).read_text()) == {"unspent": "keep"}
    give(run, 1)
    assert start(data, run).round == 2
