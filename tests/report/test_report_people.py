"""What people have spent on the annotation page, in the report: against a table worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regional_al.annotators.replay import VOID
from regional_al.report import people
from regional_al.report.html import write_report
from regional_al.store import results
from regional_al.store.answer_log import AnswerLog, Event
from regional_al.store.images import write_png
from regional_al.store.query import QueryInfo, query_hash, read_query, write_query
from regional_al.store.work_dir import WorkDir
from regional_al.types import PICK_DTYPE

CLASSES = ("road", "<car>")
EMPTY = results.Results(
    "demo", {}, CLASSES, ((128, 64, 128), (9, 9, 9)), (0, 1, *[-1] * 253, 255), 2, 24, "torch"
)
ASKED = np.array([[1, 1, 1, 2], [1, 1, 1, 0]], np.int32)  # 6 pixels and a single one


@pytest.fixture
def run(tmp_path: Path) -> WorkDir:
    """Two rounds about the same image and another; a prediction in the second round."""
    files = WorkDir(tmp_path / "run")
    for number, keys in ((0, ["a"]), (1, ["a", "b"])):
        picks = np.zeros(2 * len(keys), PICK_DTYPE)
        picks["image"], picks["pixels"] = np.repeat(range(len(keys)), 2), [6, 1] * len(keys)
        asked = [(i, key, ASKED) for i, key in enumerate(keys)]
        write_query(files.query(number), QueryInfo(number, "region", "slic"), picks, iter(asked))
    write_png(files.predictions(1) / "b.png", np.zeros(ASKED.shape, np.uint8))
    results.write(files.root, EMPTY)
    return files


def answer(run: WorkDir, round_: int, key: str, person: str, kind: str, item: int,
           classes: tuple[int, ...], ms: int) -> Event:  # fmt: skip
    query = query_hash(read_query(run.query(round_)))
    return Event(0, round_, query, key, person, kind, (item,), classes, ms=ms)


def log(run: WorkDir, events: list[Event]) -> None:
    with AnswerLog.open(run.answer_log) as written:
        for event in events:
            written.append(event)


def test_all_rounds_by_class_and_size(run: WorkDir) -> None:
    log(
        run,
        [
            answer(run, 0, "a", "ada", "class", 1, (1,), 4000),
            answer(run, 0, "a", "ada", "class", 2, (0,), 500),
            answer(run, 1, "b", "ada", "class", 1, (0,), 2000),
            answer(run, 1, "b", "ada", "void", 2, (), 1500),
            answer(run, 1, "b", "bob", "class", 1, (1,), 3000),
            answer(run, 1, "a", "ada", "unsure", 1, (), 9000),
            answer(run, 1, "a", "ada", "class", 2, (1,), 700)._replace(query="another"),
            answer(run, 1, "gone", "ada", "class", 2, (1,), 700),
        ],
    )
    found = people.summary(run, EMPTY)
    assert found is not None
    rows = {
        (kind, row["name"]): (
            row["items"],
            row["seconds"],
            row["agree_with_model"],
            row["agreement"],
            row["pairs"],
        )
        for kind in ("classes", "sizes")
        for row in found[kind]
    }
    # Bob's second opinion differs from what stands; its time counts for the item.
    spent = rows["classes", "road"][1]
    assert rows == {
        ("classes", "road"): (2, spent, 1.0, 0.0, 1),
        ("classes", "<car>"): (1, 4.0, None, None, 0),
        ("classes", "void"): (1, 1.5, 0.0, None, 0),
        ("sizes", "1 pixel"): (2, 2.0, 0.0, None, 0),
        ("sizes", "2 to 99"): (2, spent + 3.5, 1.0, 0.0, 1),
    }
    assert spent == 0.5 + 2.0 + 3.0
    assert [row["index"] for row in found["classes"]] == [0, 1, VOID]
    page = write_report(run.root).read_text()
    assert "Answers of people" in page
    assert "two people agree" in page
    assert "&lt;car&gt;" in page
    assert "The slowest: " in page


def test_one_person_without_a_model(run: WorkDir) -> None:
    log(run, [answer(run, 0, "a", "ada", "class", 1, (1,), 1234)])
    found = people.summary(run, EMPTY)
    assert found is not None
    assert people.tables(found) == {
        "head": ["answers", "seconds", "seconds each", "as predicted"],
        "by": [
            ("class", [("<car>", ["1", "1.2", "1.23", "-"])]),
            ("pixels", [("2 to 99", ["1", "1.2", "1.23", "-"])]),
        ],
        "slowest": ["a, item 1: 1.2 s"],
    }


def test_a_run_without_people_has_no_such_section(run: WorkDir) -> None:
    assert people.summary(run, EMPTY) is None
    assert "Answers of people" not in write_report(run.root).read_text()
    log(run, [])
    assert people.summary(run, EMPTY) is None
