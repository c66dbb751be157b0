"""The ledger: stages in order, costs, resume, refusals by name."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from regional_al.errors import WorkDirError
from regional_al.store.files import FileStamp
from regional_al.store.label_index import Entry
from regional_al.store.ledger import STAGES, Ledger
from regional_al.store.work_dir import WorkDir
from regional_al.types import Costs

ACQUISITION = {"level": "region", "budget": {"amount": "1%", "unit": "pixel"}, "rounds": 5}
PRINTS = {"config": "c0", "pool": "p0", "acquisition": ACQUISITION}


@pytest.fixture
def ledger(tmp_path):
    with Ledger.create(tmp_path, **PRINTS) as made:
        yield made


def test_position_walks_through_the_stages(ledger, tmp_path):
    seen = []
    for _ in range(9):
        position = ledger.position()
        seen.append(position)
        ledger.mark(*position, {"at": list(position)}, 0.5)
    assert seen == [(n // 4, STAGES[n % 4]) for n in range(9)]
    with Ledger.open(tmp_path) as again:
        assert again.position() == (2, "answers")
        assert again.done(1, "fit") == {"at": [1, "fit"]}
        assert again.done(2, "answers") is None


def test_a_stage_out_of_order_is_refused(ledger):
    for wrong in ((0, "answers"), (1, "query"), (0, "nonsense")):
        with pytest.raises(RuntimeError, match="expected"):
            ledger.mark(*wrong, {}, 0.0)
    ledger.mark(0, "query", {}, 0.0)
    with pytest.raises(RuntimeError, match="expected"):
        ledger.mark(0, "query", {}, 0.0)
    assert ledger.position() == (0, "answers")


def test_costs_and_outstanding(ledger):
    ledger.record_answer(0, "a", 10, 2, True, 1)
    ledger.record_answer(0, "b", 5, 3, False, 2)
    assert ledger.outstanding(0, ["c", "b", "a"]) == ["c", "b"]
    ledger.record_answer(0, "b", 8, 4, True, 3)  # replaces: totals, not differences
    ledger.record_answer(0, "d", 0, 0, True, 0)  # asked, nothing left to answer: not touched
    assert ledger.outstanding(0, ["c", "b", "a", "d"]) == ["c"]
    assert ledger.costs(0) == Costs(images=2, regions=4, pixels=18, clicks=6)
    ledger.record_answer(1, "a", 1, 1, True, 1)
    ledger.record_answer(1, "c", 2, 1, True, 1)
    assert ledger.costs(1) == Costs(2, 2, 3, 2)
    assert ledger.total_costs(0) == ledger.costs(0)
    assert ledger.total_costs(1) == Costs(images=3, regions=6, pixels=21, clicks=8)
    assert ledger.costs(7) == Costs(0, 0, 0, 0)


def test_unknown_clicks_stay_unknown(ledger):
    ledger.record_answer(0, "a", 10, None, True, 1)
    ledger.record_answer(0, "b", 10, 3, True, 1)
    assert ledger.costs(0).clicks is None
    ledger.record_answer(1, "b", 10, 3, True, 1)
    assert ledger.costs(1).clicks == 3
    assert ledger.total_costs(1).clicks is None


def test_records(ledger):
    ledger.record_answer(0, "a", 10, 2, True, 1)
    for stage in STAGES:
        ledger.mark(0, stage, {"x": 1} if stage == "fit" else {}, 1.5)
    ledger.mark(1, "query", {}, 2.0)
    first, second = ledger.records()
    assert (first["round"], first["done"], second["done"]) == (0, True, False)
    assert list(first["stages"]) == list(STAGES)
    assert first["stages"]["fit"]["payload"] == {"x": 1}
    assert first["stages"]["fit"]["seconds"] == 1.5
    assert first["total"] == second["total"] == Costs(1, 1, 10, 2)
    assert second["costs"] == Costs()


def test_transaction_is_all_or_nothing(ledger, tmp_path):
    def fails():
        with ledger.transaction():
            ledger.record_answer(0, "a", 10, 2, True, 1)
            ledger.mark(0, "query", {}, 0.0)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert ledger.position() == (0, "query")
    assert ledger.costs(0) == Costs()


def test_readers_see_committed_stages_only(ledger, tmp_path):
    reader = Ledger.open(tmp_path, readonly=True)
    with ledger.transaction():
        ledger.mark(0, "query", {}, 0.0)
        assert reader.position() == (0, "query")
    assert reader.position() == (0, "answers")
    with pytest.raises(Exception, match="readonly"):
        reader.mark(0, "answers", {}, 0.0)


def test_kill_in_a_transaction_leaves_no_half_stage(ledger, tmp_path):
    """A process killed with written but uncommitted pages; then a reader opens the file."""
    ledger.close()
    script = f"""
        import os, signal, pathlib
        from regional_al.store.ledger import Ledger
        ledger = Ledger.open(pathlib.Path({str(tmp_path)!r}))
        ledger._db.execute("PRAGMA cache_size = 1")  # spill to the file before the commit
        with ledger.transaction():
            for i in range(3000):
                ledger.record_answer(0, "k" * 50 + str(i), 1, 1, True, 1)
            ledger.mark(0, "query", {{}}, 0.0)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert WorkDir(tmp_path).ledger.with_name("ledger.sqlite-journal").stat().st_size > 0
    with Ledger.open(tmp_path, readonly=True) as reader:
        assert reader.position() == (0, "query")
        assert reader.costs(0) == Costs()


def test_changes_are_recorded_with_the_place_where_the_run_was_resumed(ledger, tmp_path):
    ledger.mark(0, "query", {}, 0.0)
    new = {**ACQUISITION, "rounds": 9}
    ledger.record_changes([("a.b", 8, None), ("c", [1], {"d": 2})], config="c1", acquisition=new)
    first, second = ledger.changes()
    assert (first["round"], first["stage"], first["name"]) == (0, "answers", "a.b")
    assert (first["old"], first["new"], second["old"], second["new"]) == (8, None, [1], {"d": 2})
    with Ledger.open(tmp_path, readonly=True) as again:
        assert again.meta()["config"] == "c1"
        assert json.loads(again.meta()["acquisition"]) == new


def test_stamps_of_files_are_kept_and_replaced(ledger):
    one, two = FileStamp(3, 2**62, "ab"), FileStamp(4, 1, "cd")
    ledger.record_files({("a", "image"): one, ("a", "annotation"): one})
    ledger.record_files({("a", "annotation"): two})
    assert ledger.files() == {("a", "image"): one, ("a", "annotation"): two}


def test_work_dir_refusals(ledger, tmp_path):
    with pytest.raises(WorkDirError, match="resume"):
        Ledger.create(tmp_path, **PRINTS)
    with pytest.raises(WorkDirError, match="contains no run"):
        Ledger.open(tmp_path / "elsewhere")
    assert Ledger.exists(tmp_path)
    assert not Ledger.exists(tmp_path / "elsewhere")
    (tmp_path / "bad").mkdir()
    WorkDir(tmp_path / "bad").ledger.write_bytes(b"not a database" * 100)
    with pytest.raises(WorkDirError, match="not a readable ledger"):
        Ledger.open(tmp_path / "bad")


@pytest.mark.parametrize("version", ["1", "2", "99", "new"])
def test_the_ledger_of_another_version_is_refused_in_one_line(ledger, tmp_path, version):
    """1: regional_al 0.1.0."""
    ledger._db.execute("UPDATE meta SET value = ? WHERE key = 'format'", (version,))
    with pytest.raises(WorkDirError) as caught:
        Ledger.open(tmp_path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{WorkDir(tmp_path).ledger} was written by another version")
    assert (
        f"(format {version}, this version resumes formats 3 and 4 and 5): choose another work_dir"
        in line
    )
    if version in ("1", "2"):
        Ledger.open(tmp_path, readonly=True).close()
    else:
        with pytest.raises(WorkDirError, match=f"format {version},"):
            Ledger.open(tmp_path, readonly=True)


def earlier(work_dir, version):
    """Make the ledger of a work dir one of an earlier format."""
    db = sqlite3.connect(WorkDir(work_dir).ledger)
    with db:
        db.execute("DROP TABLE labels")
        if version < 3:
            db.executescript("DROP TABLE changes; DROP TABLE files;")
        db.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(version),))
    db.close()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_ledger_of_an_earlier_format_is_read_as_it_is(ledger, tmp_path, version):
    ledger.record_answer(0, "a", 10, 2, True, 1)
    ledger.close()
    earlier(tmp_path, version)
    before = WorkDir(tmp_path).ledger.read_bytes()
    with Ledger.open(tmp_path, readonly=True) as old:
        assert old.costs(0).pixels == 10
        assert (old.changes(), old.files(), old.labels("label")) == ([], {}, {})
        assert old.faults(thorough=True) == []
        with pytest.raises(WorkDirError, match="readonly"):
            old.record_answer(0, "a", 11, 2, True, 1)
        if version < 3:
            with pytest.raises(WorkDirError, match=f"format {version}"):
                old.check_resumable()
    assert WorkDir(tmp_path).ledger.read_bytes() == before


def test_a_ledger_of_format_3_is_upgraded_when_it_is_written(ledger, tmp_path):
    ledger.record_changes([("a", 1, 2)], config="c1", acquisition=ACQUISITION)
    ledger.close()
    earlier(tmp_path, 3)
    row = Entry(1, 2, 3, b"f", b"d", b"c", 0, None)
    with Ledger.open(tmp_path) as new:
        assert new.meta()["format"] == "5"
        assert [change["name"] for change in new.changes()] == ["a"]
        new.record_labels({("label", "a"): row})
    with Ledger.open(tmp_path, readonly=True) as new:
        assert new.labels("label") == {"a": row}
