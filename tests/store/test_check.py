"""Books against files: every loss is found, what a kill leaves is none, repair loses nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_run import play, put_answers, small_data

from regional_al.errors import RegionalALError, WorkDirError
from regional_al.store import results as records
from regional_al.store.check import check_run
from regional_al.store.findings import Finding, leftovers
from regional_al.store.images import read_ids, temporary_name, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.store.query import read_id_png, read_query, write_id_png
from regional_al.store.repair import repair
from regional_al.store.work_dir import WorkDir
from regional_al.testing.toy import toy_engine

PIXELS = {"level": "pixel", "heuristic": "Margin", "budget": "2%", "seed": 5}
ONCE = {"suppress_health_check": [HealthCheck.function_scoped_fixture]}


def start(data: Path, work_dir: Path, **more: Any) -> str:
    return play(data, work_dir, {**PIXELS, "rounds": 2, **more}).status


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=5)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("runs") / "finished"
    assert start(data, work_dir) == "finished"
    return work_dir


@pytest.fixture(scope="module")
def waiting(data: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In round 1, with the answers to a half of its query."""
    work_dir = tmp_path_factory.mktemp("runs") / "waiting"
    more = {
        "warm_start": {"labels": str(finished)},
        "annotator": "folder",
        "round_init": "continue",
    }
    assert start(data, work_dir, **more) == "waiting"
    put_answers(work_dir, 1, 1, read_query(WorkDir(work_dir).query(1)).image_keys()[::2])
    assert start(data, work_dir, **more) == "waiting"
    with Ledger.open(work_dir, readonly=True) as ledger:
        assert ledger.costs(1).pixels > 0
    return work_dir


@pytest.fixture(params=["finished", "waiting"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a run that may be spoilt."""
    return copied(request.getfixturevalue(request.param), tmp_path / "run")


def copied(run: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(run, target)
    return target


def state(work_dir: Path) -> dict[str, bytes]:
    found = (path for path in work_dir.rglob("*") if path.is_file())
    return {str(path.relative_to(work_dir)): path.read_bytes() for path in found}


def blocking(work_dir: Path, thorough: bool = False) -> list[Finding]:
    return [f for f in check_run(work_dir, thorough=thorough) if f.blocks]


def test_a_sound_run_has_no_findings(run: Path, data: Path) -> None:
    engine = toy_engine(data, iterations=1)
    assert check_run(run, engine.label_space, engine.pool, 2) == []
    before = state(run)
    assert check_run(run, thorough=True) == []
    assert state(run) == before  # it only reads


# What may happen to a file. Each returns False where it does not apply.


def delete(path: Path, rng: random.Random) -> bool:
    path.unlink()
    return True


def cut(path: Path, rng: random.Random) -> bool:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) * 3 // 4)])
    return True


def overwrite(path: Path, rng: random.Random) -> bool:
    path.write_bytes(rng.randbytes(len(path.read_bytes())))
    return True


def flip(path: Path, rng: random.Random) -> bool:
    """Change one byte; the end of a PNG file contains no information."""
    if path.suffix != ".png":
        return False
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content) - 12)] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))
    return True


def edit(path: Path, rng: random.Random) -> bool:
    """Change the content to something that can be read and is wrong."""
    name, parts = path.name, path.parts
    if name == "ledger.sqlite":
        edit_ledger(path, rng)
    elif name == "results.json":
        data = json.loads(path.read_text())
        edit_results(data, rng)
        path.write_text(json.dumps(data))
    elif name == "query.json":
        data = json.loads(path.read_text())
        rng.choice([lambda: data["info"].update(round=9), data["keys"].popitem])()
        path.write_text(json.dumps(data))
    elif name == "picks.npy":
        picks = np.load(path, allow_pickle=False)
        np.save(path, rng.choice([picks[:-1], picks["score"]]), allow_pickle=False)
    elif "asked" in parts:
        if "waiting" in str(path):
            return False
        asked = read_id_png(path)
        asked.ravel()[rng.choice(np.flatnonzero(asked).tolist())] = rng.choice([0, 60000])
        write_id_png(path, asked)
    elif "_annotated" in parts or "labels" in parts:
        pixels = read_ids(path)
        if "_annotated" in parts:
            where = rng.randrange(pixels.size)
            pixels.ravel()[where] = (int(pixels.ravel()[where]) + rng.choice([1, 2, 250])) % 256
        else:
            pixels.ravel()[rng.randrange(pixels.size)] = 200
        if rng.random() < 0.2:
            pixels = pixels[:-1]
        write_png(path, pixels)
    else:
        return False
    return True


def edit_ledger(path: Path, rng: random.Random) -> None:
    last = "(SELECT MAX(rowid) FROM stages)"
    change = rng.choice(
        [
            "UPDATE answers SET pixels = pixels + 1 WHERE rowid = 1",
            "UPDATE answers SET pixels = pixels - 1 WHERE rowid = 2",
            "DELETE FROM answers WHERE rowid = 1",
            "UPDATE answers SET key = 'other' WHERE rowid = 2",
            "INSERT INTO answers VALUES (9, 'train_0000', 4, 4, 1, 1)",
            "UPDATE answers SET pixels = 'many' WHERE rowid = 1",
            "DELETE FROM stages WHERE rowid = 2",
            f"DELETE FROM stages WHERE rowid > {last} - 2",
            "UPDATE stages SET payload = '{' WHERE rowid = 3",
            "UPDATE stages SET payload = '[]' WHERE rowid = 1",
            "UPDATE stages SET stage = 'other' WHERE rowid = 1",
            "DELETE FROM meta WHERE key = 'format'",
            "DELETE FROM meta WHERE key = 'acquisition'",
            "DROP TABLE answers",
        ]
    )
    db = sqlite3.connect(path)
    with db:
        assert db.execute(change).rowcount
    db.close()


def edit_results(data: dict[str, Any], rng: random.Random) -> None:
    record = data["records"][0]
    changes: list[Callable[[], Any]] = [
        lambda: record.update(pixels=record["pixels"] + 1),
        lambda: record["asked"].update(images=99),
        lambda: record.update(mIoU=0.123),
        lambda: record["seconds"].clear(),
        lambda: data["records"].pop(0),
        lambda: data["records"].append({**record, "round": 7}),
        lambda: data.update(classes=[], palette=[], raw_to_train=[255] * 256),
        lambda: data["acquisition"].update(seed=77),
        lambda: data.pop("engine"),
    ]
    rng.choice(changes)()


def files_that_matter(work_dir: Path) -> list[Path]:
    """All but logs, locks, the answers of people, caches and checkpoints that nobody needs."""
    run = WorkDir(work_dir)
    found = [run.ledger, run.results, *run.labels.rglob("*.*")]
    found += [path for path in run.root.glob("rounds/*/query/**/*") if path.is_file()]
    if run.answers(1).exists():
        found += run.fit(0).glob("*.pt*")
    return sorted(path for path in found if path.is_file())


@settings(max_examples=60, **ONCE)  # type: ignore[arg-type]
@given(number=st.integers(0, 2**32), what=st.sampled_from([delete, cut, overwrite, flip, edit]))
@pytest.mark.parametrize("name", ["finished", "waiting"])
def test_whatever_happens_to_a_file_is_found(
    name: str,
    number: int,
    what: Callable[[Path, random.Random], bool],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    run = copied(request.getfixturevalue(name), tmp_path / name)
    rng = random.Random(number)
    path = rng.choice(files_that_matter(run))
    if what is overwrite and path.suffix == ".pth":
        return  # might be the checkpoint of another framework
    if not what(path, rng):
        return
    found = check_run(run, thorough=True)
    assert found, path
    assert all("\n" not in str(finding) for finding in found)
    assert any(finding.blocks for finding in found), (path, found)


@settings(max_examples=30, **ONCE)  # type: ignore[arg-type]
@given(number=st.integers(0, 2**32), what=st.sampled_from([delete, cut, edit]))
def test_a_run_that_has_lost_something_is_not_resumed(
    number: int,
    what: Callable[[Path, random.Random], bool],
    data: Path,
    finished: Path,
    tmp_path: Path,
) -> None:
    """By the quick check of every start; nothing is changed by the refusal."""
    run = copied(finished, tmp_path / "run")
    rng = random.Random(number)
    path = rng.choice(files_that_matter(run))
    if "asked" in path.parts or not what(path, rng):
        return
    before = state(run)
    with pytest.raises(RegionalALError) as caught:
        start(data, run)
    assert "\n" not in str(caught.value)
    assert state(run) == before


def test_the_refusal_names_the_first_file_and_what_to_do(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path / "run")
    sides = sorted((run / "labels" / "_annotated").glob("*.png"))
    sides[0].unlink()
    sides[2].unlink()
    with pytest.raises(WorkDirError) as caught:
        start(data, run)
    line = str(caught.value)
    assert line.startswith(f"{sides[0]} is missing: the ledger has ")
    assert line.endswith(f" (and 1 more): run `regional-al check {run}`")


def test_a_missing_ledger_is_not_a_new_run(data: Path, finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    (run / "ledger.sqlite").unlink()
    pixels = records.load(run).records[-1].costs.pixels
    with pytest.raises(WorkDirError) as caught:
        start(data, run)
    line = f"ledger.sqlite is missing, but labels/ contains {pixels} annotated pixels of 5 images"
    assert line in str(caught.value)
    shutil.rmtree(run / "labels")
    with pytest.raises(WorkDirError, match="rounds/ contains 3 queries"):
        start(data, run)
    shutil.rmtree(run / "rounds")
    assert start(data, run) == "finished"  # a results.json alone is no run


def test_labels_that_nobody_answered_are_found_and_kept(finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    path = run / "labels" / "train_0000.png"
    label, said = read_ids(path), read_ids(run / "labels" / "_annotated" / "train_0000.png")
    label[said == 0] = 1
    write_png(path, label)
    shutil.copy(path, run / "labels" / "foreign.png")
    found = check_run(run)
    assert [(f.kind, f.path.name, f.repairable) for f in found] == [
        ("unanswered", "foreign.png", False),
        ("unanswered", "train_0000.png", False),
    ]
    before = state(run)
    assert repair(run, found) == []
    assert state(run) == before


def test_pruned_checkpoints_are_not_missed(data: Path, finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path / "run")
    for round_ in (0, 1):
        shutil.rmtree(WorkDir(run).fit(round_))
    assert check_run(run, thorough=True) == []
    assert check_run(run, rounds=3) == []
    (last,) = WorkDir(run).fit(2).glob("*.pt*")
    whole = last.read_bytes()
    for content in (None, b"", whole[:-100]):
        last.unlink() if content is None else last.write_bytes(content)
        assert check_run(run, rounds=2) == []  # nobody needs it
        assert [f.kind for f in check_run(run, rounds=3)] == ["checkpoint"]
    with pytest.raises(WorkDirError, match=r"damaged: the run needs the checkpoint of round 2"):
        start(data, run, rounds=3)
    last.write_bytes(whole[: len(whole) // 2] + b"????" + whole[len(whole) // 2 + 4 :])
    assert [f.kind for f in check_run(run, rounds=3, thorough=True)] == ["checkpoint"]


def test_an_annotator_that_answers_more_than_was_asked(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was asked for is stored, so that files and ledger agree."""
    from regional_al.annotators import OracleAnnotator

    collect = OracleAnnotator.collect

    def generous(self: OracleAnnotator, query: Any, keys: Any) -> Any:
        for answer in collect(self, query, keys):
            yield replace(answer, answered=np.ones_like(answer.answered))

    monkeypatch.setattr(OracleAnnotator, "collect", generous)
    assert start(data, tmp_path) == "finished"
    assert check_run(tmp_path, thorough=True) == []
    query = read_query(WorkDir(tmp_path).query(0))
    key = query.image_keys()[0]
    said = LabelStore(tmp_path / "labels").annotated(key)
    assert np.array_equal(said == 1, query.asked(key) > 0)


def test_a_wrong_index_is_rebuilt(data: Path, tmp_path: Path) -> None:
    assert start(data, tmp_path, rounds=0) == "finished"
    for change in ("counts = x'0001000000'", "digest = x'00'"):
        db = sqlite3.connect(tmp_path / "ledger.sqlite")
        with db:
            db.execute(f"UPDATE labels SET {change} WHERE key = 'train_0000'")
        db.close()
        found = check_run(tmp_path, thorough=True)
        assert [(f.kind, f.repairable, f.blocks) for f in found] == [("index", True, False)]
        assert "counted the pixels" in repair(tmp_path, found)[0]
        assert check_run(tmp_path, thorough=True) == check_run(tmp_path) == []


def test_temporaries_are_found_and_swept_at_the_next_start(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path / "run")
    mine = [
        temporary_name(run / "labels" / "a.png"),
        temporary_name(run / "labels" / "_annotated" / "town" / "a.png"),
        temporary_name(run / "ledger.sqlite"),
        run / ".ledger.sqlite.new",
        temporary_name(run / "results.json"),
        WorkDir(run).fit(1) / "checkpoint.pth.tmp",
        WorkDir(run).query(1).with_name("query.tmp") / "query.json",
        temporary_name(WorkDir(run).answers(1) / "README.txt"),
    ]
    others = [
        WorkDir(run).answers(1) / "notes.tmp",
        run / "mine.tmp",
        temporary_name(run / "cache" / "a.png"),
    ]
    for path in (*mine, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half a fi")
    found = check_run(run)
    assert len(found) == len(mine)
    assert {f.kind for f in found} == {"temporary"}
    assert not any(f.blocks for f in found)
    assert start(data, run) == "finished"
    assert not any(path.exists() for path in mine)
    assert all(path.exists() for path in others)
    yesterday = time.time() - 86400
    os.utime(others[2], (yesterday, yesterday))
    assert leftovers(WorkDir(run), everywhere=True) == [others[2]]


@pytest.mark.parametrize("spoil", ["missing", "damaged", "short"])
def test_results_are_written_again_from_the_ledger(
    spoil: str, finished: Path, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path / "run")
    path, before = run / "results.json", records.load(run)
    if spoil == "missing":
        path.unlink()
    elif spoil == "damaged":
        path.write_text(path.read_text()[:500])
    else:
        records.write(run, records.Results(**{**vars(before), "records": before.records[1:]}))
    found = check_run(run, thorough=True)
    assert [(f.kind, f.repairable, f.blocks) for f in found] == [("results", True, True)]
    assert "wrote it again from the ledger" in repair(run, found)[0]
    assert check_run(run, thorough=True) == []
    after = records.load(run)
    empty = {"title": "", "engine": "", "world_size": 0}
    assert vars(after) | empty == vars(before) | empty
    assert (path.with_name("results.json.damaged").exists()) == (spoil != "missing")
