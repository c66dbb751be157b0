"""Masks of a machine: `warm_start=dict(prelabels=FOLDER)`, on the toy engine."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import play, small_data

from regional_al.config import grammar
from regional_al.engines.mmseg.engine import sparse_labels
from regional_al.errors import ConfigError, DataError, RegionalALError, WorkDirError
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.store import prelabels as prelabels_file
from regional_al.store import results as records
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.store.prelabels import MACHINE, Prelabels, TrainingLabels
from regional_al.store.query import read_query
from regional_al.store.work_dir import WorkDir
from regional_al.testing.toy import toy_engine
from regional_al.types import UNLABELED, ClassSets, Costs, ImageAnswer

CAR, SIZE = 3, (40, 48)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=5, val=2, size=SIZE, seed=1)


def truths(data: Path) -> dict[str, np.ndarray]:
    found = {}
    for item in toy_engine(data).pool:
        assert item.annotation is not None
        found[item.key] = read_ids(item.annotation)
    return found


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """Masks of all images but the last: the truth with a wrong corner, and a strip without."""
    for key, truth in list(truths(data).items())[:-1]:
        mask = truth.copy()
        mask[:16, :16], mask[32:] = CAR, UNLABELED
        write_png(tmp_path / "pre" / f"{key}.png", mask)
    return tmp_path / "pre"


def start(data: Path, work_dir: Path, warm_start: Any, **more: Any) -> ActiveLearningLoop:
    raw = {
        "level": "region",
        "heuristic": "Entropy",
        "region": {"type": "grid", "cell": 8},
        "budget": "6%",
        "rounds": 1,
        "warm_start": warm_start,
        **more,
    }
    return play(data, work_dir, {k: v for k, v in raw.items() if v is not None}, iterations=2)


def told(error: pytest.ExceptionInfo[RegionalALError]) -> str:
    (line,) = str(error.value).splitlines()
    return line


def test_trainings_see_answers_and_machine_labels_and_the_books_answers_alone(
    data: Path, folder: Path, tmp_path: Path
) -> None:
    loop = start(data, tmp_path / "run", {"prelabels": str(folder)}, rounds=2)
    first, *_, last = records.load(tmp_path / "run").records
    assert first.costs == Costs(0, 0, 0, 0)
    assert first.labelled_fraction == 0
    assert first.iterations == 2
    assert first.miou is not None
    asked = sum(
        int((read_query(loop.work_dir.query(r)).asked(key) > 0).sum())
        for r in (1, 2)
        for key in read_query(loop.work_dir.query(r)).image_keys()
    )
    assert last.costs.pixels == asked > 0
    both, answered_machine = TrainingLabels(loop.work_dir.training_labels), 0
    for key in truths(data):
        machine = folder / f"{key}.png"
        expected = read_ids(machine) if machine.exists() else np.full(SIZE, UNLABELED, np.uint8)
        rounds, labels = loop.store.annotated(key), loop.store.read(key)
        human = np.zeros(SIZE, bool) if rounds is None else rounds > 0
        answered_machine += int((human & (expected != UNLABELED)).sum())
        was = np.where(human, 0, np.where(expected != UNLABELED, MACHINE, 0))
        if labels is not None:
            assert (labels[~human] == UNLABELED).all()  # no label of the machine among the answers
            expected = np.where(human, labels, expected)
        found, origin = both.read(key), both.annotated(key)
        if found is None or origin is None:
            assert not human.any()
            assert not machine.exists()
            continue
        assert np.array_equal(found, expected)
        assert np.array_equal(origin, was + np.where(human, 0 if rounds is None else rounds, 0))
    assert answered_machine > 0  # what the machine has labelled is asked for like the rest


def test_machine_labels_train_as_answers_do(data: Path, tmp_path: Path) -> None:
    for key, truth in truths(data).items():
        write_png(tmp_path / "pre" / f"{key}.png", truth)
    machine = start(data, tmp_path / "a", {"prelabels": str(tmp_path / "pre")}, rounds=0)
    people = start(data, tmp_path / "b", {"level": "image", "amount": "100%"}, rounds=0)
    states = [
        torch.load(loop.work_dir.fit(0) / "checkpoint.pth", weights_only=True)["model"]
        for loop in (machine, people)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_amount_is_asked_for_beside_them(data: Path, folder: Path, tmp_path: Path) -> None:
    warm = {"prelabels": str(folder), "level": "pixel", "amount": 3}
    loop = start(data, tmp_path / "run", warm, rounds=0)
    (record,) = records.load(tmp_path / "run").records
    assert record.costs.pixels == 15
    sidecar = TrainingLabels(loop.work_dir.training_labels).annotated(loop.engine.pool[0].key)
    assert sidecar is not None
    assert (sidecar == 1).sum() == 3
    assert (sidecar == MACHINE).any()


def test_nobody_needs_to_answer_when_nothing_is_asked(folder: Path, data: Path) -> None:
    alone = grammar.parse({"warm_start": {"prelabels": str(folder)}, "rounds": 0})
    assert not alone.asks_at_first
    assert alone.prelabels == folder
    assert grammar.parse({"warm_start": {"prelabels": str(folder), "amount": 9}}).asks_at_first
    assert sparse_labels({"level": "image", "warm_start": {"prelabels": "x"}})


@pytest.mark.parametrize("where", ["copy", "copied", "refresh"])
def test_a_kill_changes_nothing(
    data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    warm, calls = {"prelabels": str(folder)}, iter(range(100))
    owner: Any = {"copy": Prelabels, "copied": Prelabels, "refresh": TrainingLabels}[where]
    name = {"copy": "write", "copied": "finish", "refresh": "_put"}[where]
    work = getattr(owner, name)

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = work(self, *args, **kwargs)
        if next(calls) == {"copy": 1, "copied": 0, "refresh": 10}[where]:
            raise Killed
        return found

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        with pytest.raises(Killed):
            start(data, tmp_path / "a", warm)
    if where == "copied":  # between the files and the ledger; what was there then does not stay
        gone = sorted(folder.glob("*.png"))[0]
        gone.unlink()
    start(data, tmp_path / "a", warm)
    start(data, tmp_path / "b", warm)
    ours, theirs = (records.load(tmp_path / run).records for run in ("a", "b"))
    assert [(r.costs, r.miou) for r in ours] == [(r.costs, r.miou) for r in theirs]
    for part in ("prelabels", "training_labels", "labels"):
        files = [
            {p.relative_to(tmp_path / run): p for p in (tmp_path / run / part).rglob("*.png")}
            for run in ("a", "b")
        ]
        assert {p.parts[1:] for p in files[0]} == {p.parts[1:] for p in files[1]} != set()
        for path, file in files[0].items():
            assert np.array_equal(read_ids(file), read_ids(files[1][path]))


def test_a_resumed_run_names_a_mask_that_has_changed(
    data: Path, folder: Path, tmp_path: Path
) -> None:
    warm, run = {"prelabels": str(folder)}, tmp_path / "run"
    start(data, run, warm)
    path = sorted(folder.glob("*.png"))[1]
    before = path.read_bytes()

    def refused() -> str:
        with pytest.raises(WorkDirError) as caught:
            start(data, run, warm, rounds=2)
        return told(caught)

    write_png(path, np.zeros(SIZE, np.uint8))
    assert f"{path} has changed since {run} was started" in refused()
    path.unlink()
    assert f"{path} is gone since {run} was started" in refused()
    path.write_bytes(before)
    os.utime(path, (1, 1))  # the same content at another time
    last = folder / f"{toy_engine(data).pool[-1].key}.png"
    write_png(last, np.zeros(SIZE, np.uint8))
    assert f"{last} is new since {run} was started" in refused()
    last.unlink()
    moved = folder.rename(tmp_path / "elsewhere")
    start(data, run, {"prelabels": str(moved)}, rounds=2)  # the same masks elsewhere
    shutil.rmtree(moved)
    start(data, run, {"prelabels": str(moved)}, rounds=3)  # the run has its copies
    assert len(records.load(run).records) == 4
    copy = WorkDir(run).prelabels / path.name
    before = copy.read_bytes()
    write_png(copy, np.flipud(read_ids(copy)))  # as many pixels of each id
    with pytest.raises(WorkDirError, match=rf"{copy} has changed: restore it"):
        start(data, run, {"prelabels": str(moved)}, rounds=4)
    copy.write_bytes(before)
    (WorkDir(run).prelabels / "summary.json").unlink()
    with pytest.raises(WorkDirError, match=r"summary.json is gone: restore it"):
        start(data, run, {"prelabels": str(moved)}, rounds=4)


def test_prelabels_are_neither_added_to_a_run_nor_taken_from_it(
    data: Path, folder: Path, tmp_path: Path
) -> None:
    warm = {"level": "pixel", "amount": 3}
    start(data, tmp_path / "run", warm)
    with pytest.raises(WorkDirError, match=r"acquisition\.warm_start"):
        start(data, tmp_path / "run", {**warm, "prelabels": str(folder)})
    start(data, tmp_path / "other", {**warm, "prelabels": str(folder)})
    with pytest.raises(WorkDirError, match=r"acquisition\.warm_start"):
        start(data, tmp_path / "other", warm)
    more = {"prelabels": str(folder), "machine_weight": 0.5}
    with pytest.raises(WorkDirError, match=r"machine_weight was 1\.0, now it is 0\.5"):
        start(data, tmp_path / "other", {**warm, **more})


def test_masks_that_cannot_be_used_are_refused_before_anything_starts(
    data: Path, folder: Path, tmp_path: Path
) -> None:
    path = sorted(folder.glob("*.png"))[0]

    def refused(where: Path = folder) -> str:
        run = tmp_path / "refused"
        with pytest.raises(DataError) as caught:
            start(data, run, {"prelabels": str(where)})
        assert not Ledger.exists(run)
        assert not (run / "prelabels").exists()
        return told(caught)

    write_png(path, np.zeros((8, 9), np.uint8))
    assert f"{path} is 8x9 (height x width), its image is 40x48" in refused()
    write_png(path, np.full(SIZE, 77, np.uint8))
    assert f"{path} contains id 77 (row 0, column 0)" in refused()
    path.write_bytes(b"no image")
    assert str(path) in refused()
    path.unlink()
    path.symlink_to("/dev/zero")
    assert f"{path} is a link that leads out of" in refused()
    path.unlink()
    os.mkfifo(path)
    assert f"{path} is a FIFO" in refused()
    path.unlink()
    for one in folder.glob("*.png"):
        write_png(one, np.full(SIZE, UNLABELED, np.uint8))
    assert "no pixel of its masks has a class" in refused()
    assert "is not a folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    first = f"{toy_engine(data).pool[0].key}.png"
    line = refused(tmp_path / "empty")
    assert "holds no mask of the 5 images" in line
    assert line.endswith(first)


@pytest.mark.parametrize(
    ("warm", "message"),
    [
        ({"machine_weight": 0.5}, "give their folder, prelabels=FOLDER"),
        ({"prelabels": ""}, "must be a folder"),
        ({"prelabels": "x", "machine_weight": 0}, "machine_weight=0 must be a number from 1e-06"),
        ({"prelabels": "x", "machine_weight": 1e-15}, "machine_weight=1e-15 must be a number from"),
        ({"prelabels": "x", "machine_weight": 1e300}, r"machine_weight=1e\+300 must be a number"),
        ({"prelabels": "x", "labels": "y"}, "both prelabels and labels: leave out one of them"),
        ({"prelabels": "x", "run": "y"}, "both prelabels and run: leave out one of them"),
        ({"prelabel": "x"}, "Did you mean 'prelabels'"),
    ],
)
def test_mistakes_in_the_config(warm: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grammar.parse({"warm_start": warm})
    with pytest.raises(ConfigError, match=r"not supported with acquisition\.tiles"):
        grammar.parse({"warm_start": {"prelabels": "x"}, "tiles": 512})


@pytest.mark.parametrize("harm", ["gone", "changed", "sidecar", "record"])
def test_a_file_of_training_labels_is_made_again_where_it_is_not_as_made(
    tmp_path: Path, harm: str
) -> None:
    store, prelabels = LabelStore(tmp_path / "labels"), Prelabels(tmp_path / "prelabels")
    prelabels.write("a", np.zeros((2, 2), np.uint8))
    both = TrainingLabels(tmp_path / "both")
    both.refresh(store, prelabels, ["a", "b"])
    if harm == "gone":
        both.path("a").unlink()
    elif harm == "record":
        (tmp_path / "both" / prelabels_file._MADE_FROM).write_text("damaged")
    else:
        path = both.path("a") if harm == "changed" else both.sidecar_path("a")
        write_png(path, np.ones((2, 2), np.uint8))
    again = TrainingLabels(tmp_path / "both")
    again.refresh(store, prelabels, ["a", "b"])
    labels, sidecar = again.read("a"), again.annotated("a")
    assert labels is not None
    assert sidecar is not None
    assert not labels.any()
    assert (sidecar == MACHINE).all()


def test_regions_of_which_only_the_classes_are_known_are_answers(tmp_path: Path) -> None:
    store, prelabels = LabelStore(tmp_path / "labels"), Prelabels(tmp_path / "prelabels")
    prelabels.write("a", np.zeros((1, 3), np.uint8))
    none, where = np.full((1, 3), UNLABELED, np.uint8), np.array([[True, True, False]])
    both = TrainingLabels(tmp_path / "both")
    for classes in ((0, 7), (0, 8)):  # the second corrects the first
        sets = ClassSets(np.array([[1, 1, 0]], np.int32), (classes,))
        store.write(ImageAnswer("a", none, where, sets=sets), 0)
        both.refresh(store, prelabels, ["a"])
        found, labels = both.class_sets("a"), both.read("a")
        assert found is not None
        assert found.classes == (classes,)
        assert labels is not None
        assert labels.tolist() == [[UNLABELED, UNLABELED, 0]]
    store.drop_rounds_from(0)
    both.refresh(store, prelabels, ["a"])
    assert both.class_sets("a") is None


def measured(run: Path, folder: Path, truth: dict[str, np.ndarray]) -> tuple[float, float]:
    """mIoU and accuracy of what a run has, by counting pixels of its files and the masks."""
    store = LabelStore(run / "labels")
    hits, union, right, all_ = Counter[int](), Counter[int](), 0, 0
    for key, true in truth.items():
        mask = folder / f"{key}.png"
        said = read_ids(mask) if mask.exists() else np.full(SIZE, UNLABELED, np.uint8)
        labels, rounds = store.read(key), store.annotated(key)
        if labels is not None and rounds is not None:
            said = np.where(rounds > 0, labels, said)
        for a, b in zip(said.ravel().tolist(), true.ravel().tolist(), strict=True):
            if UNLABELED in (a, b):
                continue
            all_, right = all_ + 1, right + (a == b)
            for c in {a, b}:
                hits[c], union[c] = hits[c] + (a == b), union[c] + 1
    return float(np.mean([hits[c] / union[c] for c in union])), right / all_


CORRECTION: dict[str, Any] = {
    "heuristic": "SIM",
    "annotator": {"type": "oracle", "answer": "correction"},
    "budget": {"amount": 12, "unit": "region"},
    "rounds": 2,
}


def test_corrections_make_the_labels_better(data: Path, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    loop = start(data, run, {"prelabels": str(folder)}, **CORRECTION)
    truth, found = truths(data), records.load(run).records
    assert [r.label_miou is None for r in found] == [False] * 3
    assert found[0].label_accuracy == pytest.approx(measured(tmp_path / "none", folder, truth)[1])
    miou, accuracy = measured(run, folder, truth)
    assert found[2].label_miou == pytest.approx(miou)
    assert found[2].label_accuracy == pytest.approx(accuracy)
    accuracies = [float(r.label_accuracy or 0) for r in found]
    assert accuracies[0] < accuracies[1] < accuracies[2]
    # the books: one click for a class that stays, two for another, one where none was said
    for round_ in (1, 2):
        query, clicks = read_query(loop.work_dir.query(round_)), 0
        for key in query.image_keys():
            asked, mask = query.asked(key), folder / f"{key}.png"
            shown = query.machine(key)
            assert (shown is not None) == mask.exists()
            for item in range(1, int(asked.max()) + 1):
                inside = asked == item
                votes = [np.full(0, 0)] if shown is None else [shown[inside]]
                said = votes[0][votes[0] != UNLABELED]
                best = np.bincount(truth[key][inside][truth[key][inside] != UNLABELED]).argmax()
                clicks += 1 + int(said.size > 0 and np.bincount(said).argmax() != best)
        assert found[round_].asked.clicks == clicks
    again = tmp_path / "again"  # measured anew by a process of its own after each round
    for rounds in (0, 1, 2):
        start(data, again, {"prelabels": str(folder)}, **{**CORRECTION, "rounds": rounds})
    other = records.load(again).records
    assert [(r.costs, r.label_miou, r.miou) for r in other] == [
        (r.costs, r.label_miou, r.miou) for r in found
    ]


def test_labels_are_measured_where_the_truth_is_known_and_a_machine_has_labelled(
    data: Path, folder: Path, tmp_path: Path
) -> None:
    start(data, tmp_path / "a", {"level": "pixel", "amount": 3}, rounds=0)
    assert records.load(tmp_path / "a").records[0].label_miou is None
    warm = {"prelabels": str(folder)}
    start(data, tmp_path / "b", warm, rounds=0, annotator="folder")
    (record,) = records.load(tmp_path / "b").records
    assert record.label_miou is None
    assert "label_mIoU" not in (tmp_path / "b/results.json").read_text()


def test_a_simulated_person_takes_time_for_a_correction(
    data: Path, folder: Path, tmp_path: Path
) -> None:
    person = {"type": "simulated", "answer": "correction", "seconds": {"look": 1.0, "key": 0.5}}
    more = {**CORRECTION, "annotator": person, "rounds": 1}
    start(data, tmp_path / "run", {"prelabels": str(folder)}, **more)
    last = records.load(tmp_path / "run").records[-1]
    assert last.asked.clicks is not None
    expected = last.asked.regions + 0.5 * last.asked.clicks
    assert last.asked.annotation_seconds == pytest.approx(expected)
