"""Label files that somebody edits after the run has written them, and the index of the files."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_run import play, put_answers, small_data

from regional_al.errors import WorkDirError
from regional_al.report.html import edits
from regional_al.store import indexed, label_index
from regional_al.store import results as records
from regional_al.store.check import check_run
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.store.listing import LABEL, ROUNDS
from regional_al.store.query import read_query
from regional_al.store.repair import accept_labels, repair
from regional_al.store.schema import WRITING
from regional_al.store.work_dir import WorkDir
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import U8, UNLABELED

FOLDER = {"level": "pixel", "heuristic": "Random", "budget": "2%", "seed": 5}


def start(data: Path, work_dir: Path, **more: Any) -> str:
    return play(data, work_dir, {**FOLDER, "rounds": 1, "annotator": "folder", **more}).status


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=3)


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In round 1, which somebody has not answered yet."""
    work_dir = tmp_path_factory.mktemp("runs") / "run"
    assert start(data, work_dir) == "waiting"
    put_answers(work_dir, 0, 2)
    assert start(data, work_dir) == "waiting"
    return work_dir


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def first(run: Path) -> tuple[str, Path]:
    key = read_query(WorkDir(run).query(0)).image_keys()[0]
    return key, run / "labels" / f"{key}.png"


def edit(path: Path, change: Callable[[U8], None] | None = None) -> None:
    """Give one labelled pixel another class of the data set."""
    pixels = read_ids(path)
    if change is None:
        pixels.ravel()[np.flatnonzero(pixels != UNLABELED)[0]] = 4
    else:
        change(pixels)
    write_png(path, pixels)


def rows(run: Path, kind: str = LABEL) -> dict[str, label_index.Entry]:
    with Ledger.open(run, readonly=True) as ledger:
        return ledger.labels(kind)


def content(run: Path, kind: str = LABEL) -> dict[str, tuple[Any, ...]]:
    """The rows without what copying a file changes."""
    return {key: row[3:] for key, row in rows(run, kind).items()}


def kinds(run: Path, thorough: bool = False) -> list[tuple[str, str]]:
    return [(f.kind, f.path.name) for f in check_run(run, thorough=thorough)]


def test_another_class_is_named_at_the_next_start_and_by_check(data: Path, run: Path) -> None:
    _, path = first(run)
    before = path.stat()
    edit(path)
    for thorough in (False, True):
        (found,) = check_run(run, thorough=thorough)
        assert (found.kind, found.path, found.repairable, found.blocks) == (
            "edited",
            path,
            False,
            True,
        )
        assert repair(run, [found]) == []
    with pytest.raises(WorkDirError, match=rf"{path} was edited after the run") as caught:
        start(data, run)
    assert "\n" not in str(caught.value)
    # Even with the size and times of the old file: its inode is another.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kinds(run) == [("edited", path.name)]


def test_labels_that_change_places_are_an_edit(run: Path) -> None:
    """No count changes: only the digest says so."""
    _, path = first(run)

    def one(pixels: U8) -> None:
        pixels.ravel()[np.flatnonzero(pixels != UNLABELED)[0]] = 4

    def other(pixels: U8) -> None:
        pixels[pixels == 4] = 2
        pixels.ravel()[np.flatnonzero(pixels != UNLABELED)[1]] = 4

    edit(path, one)
    assert accept_labels(run, check_run(run)) == [str(path)]
    counts = rows(run)[path.stem].counts
    assert check_run(run) == check_run(run, thorough=True) == []
    edit(path, other)
    assert kinds(run) == kinds(run, thorough=True) == [("edited", path.name)]
    accept_labels(run, check_run(run))
    assert rows(run)[path.stem].counts == counts
    (_, last) = edits(records.load(run))["edits"]
    assert last["what"] == "as many pixels of each class, in other places"


def test_a_copy_with_other_times_passes_and_is_not_read_again(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {key: row.digest for key, row in rows(run).items()}
    for path in (run / "labels").rglob("*.png"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, (1e9, 1e9))
    assert check_run(run) == check_run(run, thorough=True) == []
    assert start(data, run) == "waiting"
    assert {key: row.digest for key, row in rows(run).items()} == digests
    for kind in (LABEL, ROUNDS):
        for key, row in rows(run, kind).items():
            assert row[:3] == label_index.stamp_of(LabelStore(run / "labels").file(kind, key))

    def not_again(*_: Any) -> Any:
        raise AssertionError("a label file was read again")

    monkeypatch.setattr(indexed, "read_ids", not_again)
    monkeypatch.setattr(indexed, "hash_bytes", not_again)
    assert check_run(run) == []


def test_a_file_compressed_anew_passes(data: Path, run: Path) -> None:
    _, path = first(run)
    size = path.stat().st_size
    Image.fromarray(read_ids(path)).save(path, compress_level=0)
    assert path.stat().st_size != size
    assert check_run(run) == check_run(run, thorough=True) == []
    assert start(data, run) == "waiting"


def test_accepted_edits_are_labels_of_the_run_and_on_record(data: Path, run: Path) -> None:
    key, path = first(run)
    trainable = toy_engine(data, iterations=1).label_space.trainable
    hash_before = LabelStore(run / "labels").training_digest(trainable)
    edit(path)
    assert accept_labels(run, check_run(run, thorough=True)) == [str(path)]
    assert check_run(run) == check_run(run, thorough=True) == []
    (change,) = records.load(run).changes
    with Ledger.open(run, readonly=True) as ledger:
        assert ledger.changes() == [change]
    assert (change["name"], change["round"], change["stage"]) == (f"label of {key}", 1, "answers")
    assert change["old"]["digest"] != change["new"]["digest"]
    assert change["new"]["pixels"]["4"] == 1
    assert LabelStore(run / "labels").training_digest(trainable) != hash_before
    (shown,) = edits(records.load(run))["edits"]
    classes = streets.CLASSES
    many = change["old"]["pixels"]["2"]
    assert shown["what"] == f"{classes[2]} {many} → {many - 1}, {classes[4]} 0 → 1"
    put_answers(run, 1, 3)
    assert start(data, run) == "finished"
    assert records.load(run).changes == (change,)
    assert check_run(run, thorough=True) == []


def test_other_damage_is_not_accepted(run: Path) -> None:
    """A sidecar, an id outside the label space, more labels than answers."""
    key, path = first(run)
    side = run / "labels" / "_annotated" / f"{key}.png"
    good = path.read_bytes(), side.read_bytes()

    def moved(pixels: U8) -> None:
        one, other = np.flatnonzero(pixels == 1)[0], np.flatnonzero(pixels == 0)[0]
        pixels.ravel()[[one, other]] = pixels.ravel()[[other, one]]

    def foreign(pixels: U8) -> None:
        pixels.ravel()[np.flatnonzero(pixels != UNLABELED)[0]] = 200

    def more(pixels: U8) -> None:
        pixels.ravel()[np.flatnonzero(pixels == UNLABELED)[0]] = 1

    for spoilt, change in ((side, moved), (path, foreign), (path, more)):
        edit(spoilt, change)
        for thorough in (False, True):
            found = check_run(run, thorough=thorough)
            assert found
            assert accept_labels(run, found) == []
            assert any(f.blocks for f in check_run(run, thorough=thorough))
        path.write_bytes(good[0])
        side.write_bytes(good[1])
        assert check_run(run) == []


# Kills between the label files and their rows.


def killed(action: Callable[[], object]) -> None:
    """Do something in a child that is killed by SIGKILL before it would record its answers."""
    pid = os.fork()
    if pid == 0:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            Ledger.record_answers = (  # type: ignore[method-assign]
                lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
            )
            action()
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_kill_before_the_rows_loses_nothing(data: Path, run: Path) -> None:
    key, _ = first(run)
    put_answers(run, 1, 3)
    before = content(run)
    killed(lambda: start(data, run))
    assert content(run) == before  # of the files as they were
    store = LabelStore(run / "labels")
    assert (store.annotated(key) == 2).any()  # but they contain the answers
    with Ledger.open(run, readonly=True) as ledger:
        assert ledger.noted(WRITING) == {"round": 1}
        assert ledger.costs(1).pixels == 0
    assert not any(f.blocks for f in [*check_run(run), *check_run(run, thorough=True)])
    asked = {k: read_query(WorkDir(run).query(1)).asked(k) > 0 for k in before}
    labels_then = {k: store.read(k) for k in before}
    assert start(data, run) == "finished"
    assert check_run(run) == check_run(run, thorough=True) == []
    for k in before:
        assert np.array_equal(store.read(k), labels_then[k])
        assert (store.read(k)[asked[k]] == 3).all()
        assert rows(run)[k].digest == label_index.hash_pixels(store.read(k))
    with Ledger.open(run, readonly=True) as ledger:
        assert ledger.noted(WRITING) is None
        assert ledger.costs(1).pixels == sum(int(a.sum()) for a in asked.values())


def test_a_correction_that_is_killed_is_no_edit(data: Path, run: Path) -> None:
    """Answers of the round that is going on are corrected: the rows have them already."""
    query, first_row = read_query(WorkDir(run).query(1)), content(run)
    for key in query.image_keys():  # of the 20 pixels that are asked, ten
        asked = query.asked(key)
        said = np.where((asked > 0) & (asked <= 10), np.uint8(3), np.uint8(UNLABELED))
        write_png(WorkDir(run).answers(1) / f"{key}.png", said.astype(np.uint8))
    assert start(data, run) == "waiting"
    for key, (_, digest, _, round_, before) in content(run).items():
        assert (round_, before) == (1, first_row[key][1])
        assert digest != before
    put_answers(run, 1, 4)
    assert kinds(run) == []
    killed(lambda: start(data, run))
    assert not any(f.blocks for f in [*check_run(run), *check_run(run, thorough=True)])
    assert start(data, run) == "finished"
    assert check_run(run) == check_run(run, thorough=True) == []


@pytest.mark.parametrize("thorough", [False, True])
def test_an_edit_of_earlier_labels_is_found_after_a_kill_and_can_be_accepted(
    thorough: bool, data: Path, run: Path
) -> None:
    key, path = first(run)
    put_answers(run, 1, 3)
    killed(lambda: start(data, run))
    said = LabelStore(run / "labels").annotated(key)
    assert said is not None

    def settled(pixels: U8) -> None:
        pixels.ravel()[np.flatnonzero(said == 1)[0]] = 4

    edit(path, settled)
    found = check_run(run, thorough=thorough)
    assert [f.path for f in found if f.kind == "edited"] == [path]
    with pytest.raises(WorkDirError, match="was edited after"):
        start(data, run)
    assert accept_labels(run, found) == [str(path)]
    assert not any(f.blocks for f in check_run(run, thorough=thorough))
    assert start(data, run) == "finished"
    assert check_run(run) == check_run(run, thorough=True) == []
    labels_now, where = read_ids(path), np.flatnonzero(said == 1)
    assert labels_now.ravel()[where[0]] == 4
    assert (labels_now[said == 2] == 3).all()


# Runs of earlier versions.


def earlier(run: Path) -> None:
    """Format 3 had no table of label files."""
    db = sqlite3.connect(run / "ledger.sqlite")
    with db:
        db.execute("DROP TABLE labels")
        db.execute("UPDATE meta SET value = '3' WHERE key = 'format'")
    db.close()


def test_a_run_of_format_3_goes_on_with_rows_made_from_its_files(data: Path, run: Path) -> None:
    before = {kind: content(run, kind) for kind in (LABEL, ROUNDS)}
    earlier(run)
    assert check_run(run) == check_run(run, thorough=True) == []
    assert start(data, run) == "waiting"
    for kind, expected in before.items():
        assert content(run, kind) == expected
    _, path = first(run)
    edit(path)
    assert kinds(run) == [("edited", path.name)]


def test_a_run_of_format_3_that_was_killed_goes_on(data: Path, run: Path) -> None:
    """Files ahead of the ledger get no rows until their answers are recorded."""
    put_answers(run, 1, 3)
    killed(lambda: start(data, run))
    earlier(run)
    with sqlite3.connect(run / "ledger.sqlite") as db:
        db.execute("DELETE FROM meta WHERE key = 'writing'")
    db.close()
    assert not any(f.blocks for f in [*check_run(run), *check_run(run, thorough=True)])
    Ledger.open(run).close()  # with the tables of the new format
    assert not any(f.blocks for f in [*check_run(run), *check_run(run, thorough=True)])
    killed(lambda: start(data, run))  # a second time
    assert rows(run) == {}
    assert not any(f.blocks for f in [*check_run(run), *check_run(run, thorough=True)])
    assert start(data, run) == "finished"
    assert len(rows(run)) == 3
    assert check_run(run) == check_run(run, thorough=True) == []


def test_a_lost_table_is_made_again_from_the_files(data: Path, run: Path) -> None:
    before = content(run)
    with sqlite3.connect(run / "ledger.sqlite") as db:
        db.execute("DELETE FROM labels")
    db.close()
    assert check_run(run) == []
    assert start(data, run) == "waiting"
    assert content(run) == before
