"""The log of people's answers: append only, and on disk before anybody hears of it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from regional_al.errors import DataError, WorkDirError
from regional_al.store.answer_log import AnswerLog, Event

ONE = Event(0, 1, "q", "a/b", "ada", "class", (3, 1), (7,), None, 1200, 1, 0, token="t1")


def test_what_is_appended_is_read_again(tmp_path):
    path = tmp_path / "answers.sqlite"
    with AnswerLog.open(path) as log:
        one = log.append(ONE)
        two = log.append(ONE._replace(kind="paint", paint=b"\x89PNG", review=True, token="t2"))
    with AnswerLog.open(path, readonly=True) as log:
        assert log.events() == [one, two]
        assert (one.id, two.id, log.last(), log.changes()) == (1, 2, 2, (2, 0))
        assert log.events(after=1) == [two]
        assert log.events(round=2) == log.events(key="a") == []
        assert log.events(round=1, key="a/b") == [one, two]
        with pytest.raises(WorkDirError, match="readonly"):
            log.append(ONE._replace(token="t3"))
    assert one._replace(id=0, time="") == ONE


def test_a_token_counts_once(tmp_path):
    with AnswerLog.open(tmp_path / "a") as log:
        first = log.append(ONE)
        assert log.append(ONE._replace(classes=(1,))) == first
        log.append(ONE._replace(token=""))
        log.append(ONE._replace(token=""))
        assert len(log.events()) == 3


def test_undo_goes_back_one_by_one_for_a_person_and_a_round(tmp_path):
    with AnswerLog.open(tmp_path / "a") as log:
        for token, person, round_ in (("1", "ada", 1), ("2", "bob", 1), ("3", "ada", 2)):
            log.append(ONE._replace(token=token, person=person, round=round_))
        assert log.undo("ada", 1, "other") is None
        assert log.undo("ada", 1, "q", after=1) is None  # collected already
        undone = log.undo("ada", 1, "q")
        assert (undone.id, [event.id for event in log.events()]) == (1, [2, 3])
        assert log.undo("ada", 1, "q") is None
        assert log.changes() == (3, 1)
        log.append(ONE._replace(token="4"))
        assert log.last() == 4  # numbers are never used again


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"kind": "guess"}, "'guess' is no kind"),
        ({"person": ""}, "cannot be a name"),
        ({"person": " ada"}, "cannot be a name"),
        ({"person": "x" * 65}, "cannot be a name"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, change, line):
    with AnswerLog.open(tmp_path / "a") as log, pytest.raises(DataError, match=line):
        log.append(ONE._replace(**change))


def test_other_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(WorkDirError, match="nobody has answered"):
        AnswerLog.open(tmp_path / "a", readonly=True)
    path = tmp_path / "b"
    for damage in (b"", b"no database", b"SQLite format 3\0" + b"?" * 4000):
        path.write_bytes(damage)
        with pytest.raises(WorkDirError) as refused:
            AnswerLog.open(path)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)
    path.unlink()
    with AnswerLog.open(path) as log:
        log.append(ONE)
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE events SET items = '[\"x\"]'")
    with AnswerLog.open(path) as log, pytest.raises(WorkDirError, match="is damaged"):
        log.events()
    with db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(WorkDirError, match="format 9"):
        AnswerLog.open(path)


WRITER = """
import sys
from pathlib import Path
from regional_al.store.answer_log import AnswerLog, Event
log = AnswerLog.open(Path(sys.argv[1]))
number = log.last()
while True:
    number += 1
    log.append(Event(0, 1, "q", "a", "ada", "void", (number,), token=str(number)))
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_has_confirmed(tmp_path: Path) -> None:
    path, confirmed = tmp_path / "answers.sqlite", 0
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _line in range(7):
            confirmed = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        confirmed = int(rest[-1]) if rest else confirmed
        with AnswerLog.open(path, readonly=True) as log:
            items = [event.items[0] for event in log.events()]
        assert items == list(range(1, len(items) + 1))
        assert len(items) >= confirmed
