"""Runs with a simulated person: seconds in every place that tells costs, kills, processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import play
from warm_ranks import launch

from regional_al.annotators.effort import Seconds, work_of
from regional_al.annotators.oracle import true_answer
from regional_al.cli import status
from regional_al.report import html
from regional_al.store import results
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.store.query import read_query
from regional_al.store.results import Record
from regional_al.store.work_dir import WorkDir
from regional_al.testing.toy import toy_engine

NOISY = {
    "type": "simulated",
    "seconds": {"image": 2.0},
    "errors": {"boundary": 0.3, "wrong_class": 0.2, "void": 0.05},
}
RUN: dict[str, Any] = {
    "region": {"type": "grid", "cell": 8},
    "heuristic": "Entropy",
    "budget": "10%",
    "rounds": 2,
    "annotator": NOISY,
}
LEVELS: dict[str, dict[str, Any]] = {
    "full": {},
    "dominant": {"annotator": {**NOISY, "answer": "dominant"}},
    "multiclass": {"annotator": {**NOISY, "answer": "multiclass"}},
    "windows": {"region": "window"},
    "pixels": {"level": "pixel", "region": None, "budget": {"amount": 20}},
    "images": {"level": "image", "region": None, "budget": {"amount": 1}},
}


def facts(work_dir: Path) -> list[Any]:
    return [(r.round, r.costs, r.asked, r.miou) for r in results.load(work_dir).records]


def labels(work_dir: Path) -> dict[str, bytes]:
    folder = WorkDir(work_dir).labels
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()}


@pytest.mark.parametrize("name", LEVELS)
def test_seconds_of_a_run_are_those_of_its_queries(name: str, data: Path, tmp_path: Path) -> None:
    play(data, tmp_path, {**RUN, **LEVELS[name]})
    engine = toy_engine(data)
    truths = {item.key: read_ids(item.annotation) for item in engine.pool if item.annotation}
    space, total, wrong, answered = engine.label_space, 0.0, 0, 0
    store = LabelStore(WorkDir(tmp_path).labels)
    for record in results.load(tmp_path).records:
        query, spent = read_query(WorkDir(tmp_path).query(record.round)), 0.0
        for key in query.image_keys():
            asked, kind = query.asked(key), query.info.answer
            answer = true_answer(kind, key, asked, truths[key], space)
            found = work_of(kind, asked, truths[key], answer.clicks or 0, space)
            spent += Seconds(image=2.0).of(found)
            given = store.read(key)
            assert given is not None
            wrong += int((given != answer.labels)[asked > 0].sum())
            answered += int((asked > 0).sum())
        total += spent
        assert record.asked.annotation_seconds == pytest.approx(spent, abs=1e-3)
        assert record.costs.annotation_seconds == pytest.approx(total, abs=1e-3)
    assert 0.02 < wrong / answered < 0.6


def test_no_error_trains_on_the_labels_of_the_oracle(data: Path, tmp_path: Path) -> None:
    play(data, tmp_path / "oracle", {**RUN, "annotator": "oracle"})
    play(data, tmp_path / "exact", {**RUN, "annotator": "simulated"})
    assert labels(tmp_path / "exact") == labels(tmp_path / "oracle")

    def apart(record: Record) -> Any:
        return record.costs._replace(annotation_seconds=None), record.miou

    oracle, exact = (results.load(tmp_path / name).records for name in ("oracle", "exact"))
    assert [apart(r) for r in exact] == [apart(r) for r in oracle]
    assert [r.costs.annotation_seconds for r in oracle] == [None] * 3


def test_people_s_time_is_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(data, tmp_path, RUN)
    seconds = results.load(tmp_path).records[-1].costs.annotation_seconds
    assert seconds is not None
    minutes = f"{round(seconds) // 60}m{round(seconds) % 60:02d}s"
    capsys.readouterr()
    status.run(tmp_path, width=200)
    assert f"{minutes} of annotation" in capsys.readouterr().out
    page = html.write_report(tmp_path).read_text()
    assert minutes in page
    assert page.count("<th>annotation</th>") == 2
    assert (tmp_path / "figures" / "curve_seconds.png").is_file()
    play(data, tmp_path / "oracle", {**RUN, "annotator": "oracle", "rounds": 0})
    status.run(tmp_path / "oracle")
    assert "of annotation" not in capsys.readouterr().out
    assert "<th>annotation</th>" not in html.write_report(tmp_path / "oracle").read_text()


def test_a_run_ends_after_so_many_seconds(data: Path, tmp_path: Path) -> None:
    play(data, tmp_path / "all", RUN)
    spent = [r.costs.annotation_seconds or 0.0 for r in results.load(tmp_path / "all").records]
    for limit, last in ((spent[0] - 1, 0), (spent[0] + 1, 1), (spent[1], 1), (spent[1] + 1, 2)):
        work_dir = tmp_path / str(limit)
        loop = play(data, work_dir, {**RUN, "stop": {"max_seconds": limit}})
        assert loop.round == last
        reason = f"seconds spent by people, stop.max_seconds={limit:g}"
        assert (reason in str(results.load(work_dir).stopped)) == (last < 2)


class Killed(BaseException):
    """Stands in for SIGKILL: nothing in the package may catch it."""


@pytest.mark.parametrize(("nth", "when"), [(3, "before"), (3, "after"), (9, "before")])
def test_a_killed_run_ends_with_the_same_errors_and_seconds(
    nth: int, when: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it stores answers: some are given again."""
    play(data, tmp_path / "whole", RUN)
    write, calls = LabelStore.write, 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            raise Killed
        write(*args, **kwargs)
        if calls == nth:
            raise Killed

    monkeypatch.setattr(LabelStore, "write", dying)
    with pytest.raises(Killed):
        play(data, tmp_path / "broken", RUN)
    monkeypatch.setattr(LabelStore, "write", write)
    play(data, tmp_path / "broken", RUN)
    assert labels(tmp_path / "broken") == labels(tmp_path / "whole")
    assert facts(tmp_path / "broken") == facts(tmp_path / "whole")


def test_the_seed_of_the_run_is_that_of_the_errors(data: Path, tmp_path: Path) -> None:
    """Unless the annotator has one: the same items, with other errors or the same."""
    whole = {**RUN, "rounds": 0, "warm_start": {"level": "image", "amount": 7}}
    made = {}
    for name, seed, more in (("1", 1, {}), ("2", 2, {}), ("1 of 2", 2, {"seed": 1})):
        play(data, tmp_path / name, {**whole, "seed": seed, "annotator": {**NOISY, **more}})
        store = LabelStore(WorkDir(tmp_path / name).labels)
        made[name] = np.concatenate([store.read(key).ravel() for key in sorted(store.keys())])
    assert (made["1"] != made["2"]).mean() > 0.02
    assert (made["1"] == made["1 of 2"]).all()


@pytest.mark.slow
def test_processes_and_sigkill_change_nothing(data: Path, tmp_path: Path) -> None:
    """Labels and seconds on two processes, which are killed in their second training, and on one.
    (mIoU is left out: two processes train on other batches.)"""
    few = {**RUN, "heuristic": "Random", "rounds": 1}
    play(data, tmp_path / "1", few)
    launch(2, data, tmp_path / "2", few, "--kill-at-fit", "2", ends=-9)
    launch(2, data, tmp_path / "2", few)
    assert labels(tmp_path / "2") == labels(tmp_path / "1")
    costs = [[(r.costs, r.asked) for r in results.load(tmp_path / n).records] for n in "12"]
    assert costs[0] == costs[1]
