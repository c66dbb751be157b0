"""What a run reports: each point once and with one value, whatever happens to run and trackers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regional_al.config.grammar import parse
from regional_al.engines import torch as torch_engine
from regional_al.loop import ActiveLearningLoop, runner
from regional_al.runtime import distributed as dist
from regional_al.store import results
from regional_al.store.points import ROUND, TRAIN, Point, PointLog
from regional_al.testing.toy import toy_engine

CONFIG = {"optimizer": {"lr": 0.1}, "train_dataloader": {"batch_size": 8}}
LOSS = torch_engine.masked_cross_entropy
ITERATIONS = 6


class Killed(BaseException):
    """In place of SIGKILL."""


class Recorder:
    """A tracker that keeps what it gets, as a service outside the process would."""

    def __init__(self, name: str = "Recorder") -> None:
        self.name = name
        self.points: list[Point] = []
        self.pictures: dict[tuple[str, int], np.ndarray] = {}
        self.fails: dict[str, Exception] = {}
        self.opened = self.closed = 0

    def open(self) -> None:
        self.opened += 1
        self._fail("open")

    def write(self, point: Point, pictures: Any) -> None:
        torch.rand(3)  # libraries draw ids for their runs
        self._fail("write")
        self.points.append(point)
        self.pictures.update({(key, point.step): picture for key, picture in pictures.items()})

    def picture(self, name: str, picture: Any, step: int) -> None:
        self.pictures[name, step] = picture

    def close(self) -> None:
        self.closed += 1
        self._fail("close")

    def _fail(self, what: str) -> None:
        if what in self.fails:
            raise self.fails[what]

    def steps(self, kind: str) -> list[int]:
        return [point.step for point in self.points if point.kind == kind]

    def losses(self) -> dict[int, float]:
        return {p.step: p.scalars["loss"] for p in self.points if p.kind == TRAIN}


@pytest.fixture(autouse=True)
def every_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "REPORT_EVERY", 1)


def run(
    data: Path,
    work_dir: Path,
    *trackers: Recorder,
    rounds: int = 2,
    config: Any = CONFIG,
    previews: int = 0,
    **more: Any,
) -> None:
    engine = toy_engine(data, iterations=ITERATIONS)
    engine.save_interval = 2
    engine.trackers = lambda folder, title, memory: list(trackers)  # type: ignore[attr-defined]
    acquisition = {"level": "image", "heuristic": "Entropy", "rounds": rounds}
    acquisition |= {"previews": previews, "budget": {"amount": 1, "unit": "image"}, **more}
    runner.run(engine, acquisition, work_dir, text=json.dumps(config), report=False)


def kill(
    monkeypatch: pytest.MonkeyPatch, step: int, data: Path, work_dir: Path, *trackers: Recorder
) -> None:
    """Run until a call of the loss."""
    calls = iter(range(1, 1000))

    def loss(*values: Any) -> torch.Tensor:
        if next(calls) == step:
            raise Killed
        return LOSS(*values)

    with monkeypatch.context() as patched:
        patched.setattr(torch_engine, "masked_cross_entropy", loss)
        with pytest.raises(Killed):
            run(data, work_dir, *trackers)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    folder, recorder = tmp_path_factory.mktemp("whole") / "run", Recorder()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch_engine, "REPORT_EVERY", 1)
        run(data, folder, recorder, previews=2)
    return folder, recorder


def test_trainings_go_on_on_one_axis(whole: tuple[Path, Recorder]) -> None:
    folder, recorder = whole
    assert recorder.steps(TRAIN) == list(range(1, 3 * ITERATIONS + 1))
    train = [point for point in recorder.points if point.kind == TRAIN]
    assert [p.iteration for p in train] == 3 * list(range(1, ITERATIONS + 1))
    assert {p.length for p in train} == {ITERATIONS}
    assert [p.round for p in train] == [0] * 6 + [1] * 6 + [2] * 6
    with PointLog.open(folder, readonly=True) as log:
        assert log.after(0) == recorder.points
    assert (recorder.opened, recorder.closed) == (1, 1)


def test_a_round_reports_what_results_json_has(whole: tuple[Path, Recorder]) -> None:
    folder, recorder = whole
    found = results.load(folder)
    rounds = [point for point in recorder.points if point.kind == ROUND]
    assert [point.step for point in rounds] == [0, 1, 2]
    for point, record in zip(rounds, found.records, strict=True):
        scalars = point.scalars
        assert record.miou is not None
        assert scalars["al/mIoU"] == pytest.approx(100 * record.miou)
        assert scalars["al/labelled_percent"] == pytest.approx(100 * record.labelled_fraction)
        assert scalars["al/labelled_pixels"] == record.costs.pixels
        assert scalars["al/clicks"] == record.costs.clicks
        assert scalars["al/iteration"] == (record.round + 1) * ITERATIONS
        for name, value in zip(found.classes, record.per_class_iou, strict=True):
            assert scalars.get(f"al/IoU/{name}") == (value and pytest.approx(100 * value))
    pictures = [picture for (_, step), picture in recorder.pictures.items() if step == 1]
    assert pictures
    assert all(p.dtype == np.uint8 and p.ndim == 3 for p in pictures)


def test_trackers_change_no_training(
    data: Path, tmp_path: Path, whole: tuple[Path, Recorder]
) -> None:
    """They draw random numbers; a run without any ends the same."""
    run(data, tmp_path / "run")
    for number in range(3):
        name = f"rounds/{number:03d}/fit/checkpoint.pth"
        one, two = (torch.load(f / name, weights_only=True) for f in (whole[0], tmp_path / "run"))
        assert all(torch.equal(one["model"][key], two["model"][key]) for key in one["model"])


def test_a_run_that_is_killed_writes_each_point_once(
    data: Path,
    tmp_path: Path,
    whole: tuple[Path, Recorder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once between two saved states, once before the first, once between two rounds."""
    recorder, folder = Recorder(), tmp_path / "run"
    kill(monkeypatch, 6, data, folder, recorder)  # the state is that of iteration 4
    assert recorder.steps(TRAIN)[-1] == 5
    kill(monkeypatch, 4, data, folder, recorder)  # two to the end of round 0, one of round 1
    run(data, folder, recorder)
    assert recorder.steps(TRAIN) == list(range(1, 3 * ITERATIONS + 1))
    assert recorder.steps(ROUND) == [0, 1, 2]
    assert recorder.losses() == whole[1].losses()


def test_a_kill_between_point_and_note_repeats_the_same_value(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, folder = Recorder(), tmp_path / "run"
    note = PointLog.note

    def killed(self: PointLog, name: str, value: Any) -> None:
        if name == "sent to Recorder" and value["number"] == 9:
            raise Killed
        note(self, name, value)

    with monkeypatch.context() as patched:
        patched.setattr(PointLog, "note", killed)
        with pytest.raises(Killed):
            run(data, folder, recorder)
    run(data, folder, recorder)
    assert len(recorder.points) == len(set(recorder.steps(TRAIN))) + 3 + 1
    twice = [point for point in recorder.points if point.number == 9]
    assert len(twice) == 2
    assert twice[0] == twice[1]


def test_a_training_that_starts_anew_goes_on_behind_the_first(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another batch size its losses are others."""
    recorder, folder = Recorder(), tmp_path / "run"
    kill(monkeypatch, ITERATIONS + 4, data, folder, recorder)
    assert recorder.steps(TRAIN)[-1] == 9  # the third of round 1
    run(data, folder, recorder, config={**CONFIG, "train_dataloader": {"batch_size": 4}})
    steps = recorder.steps(TRAIN)
    assert steps == list(range(1, 9 + 2 * ITERATIONS + 1))
    rounds = [p.scalars["al/iteration"] for p in recorder.points if p.kind == ROUND]
    assert rounds == [6, 15, 21]


def test_a_continuous_run_counts_its_iterations_once(data: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    run(data, tmp_path / "run", recorder, queries=[2, 5])
    assert recorder.steps(TRAIN) == list(range(1, ITERATIONS + 1))


@pytest.mark.parametrize("when", ["open", "write", "close"])
def test_a_tracker_that_fails_stops_nothing_and_gets_all_later(
    data: Path, tmp_path: Path, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder, other = Recorder(), Recorder("Other")
    recorder.fails[when] = ConnectionError("no route to\nhost")
    run(data, tmp_path / "run", recorder, other, rounds=1)
    err = capsys.readouterr().err
    line = "warning: Recorder: no route to host; the run goes on without."
    assert line in err
    assert err.count(line) <= 3  # once in each round
    assert len(results.load(tmp_path / "run").records) == 2
    assert other.steps(TRAIN) == list(range(1, 2 * ITERATIONS + 1))
    if when != "close":
        assert recorder.points == []
    recorder.fails.clear()
    run(data, tmp_path / "run", recorder, other, rounds=2)
    assert recorder.points == other.points
    assert recorder.steps(TRAIN) == list(range(1, 3 * ITERATIONS + 1))
    assert recorder.steps(ROUND) == [0, 1, 2]


def test_a_tracker_that_comes_back_is_tried_after_the_round(data: Path, tmp_path: Path) -> None:
    recorder = Recorder()

    class Back(Exception):
        def __str__(self) -> str:  # told once, when it fails first
            recorder.fails.clear()
            return "lost"

    recorder.fails["write"] = Back()
    run(data, tmp_path / "run", recorder, rounds=1)
    assert recorder.opened == 2
    assert recorder.steps(TRAIN) == list(range(1, 2 * ITERATIONS + 1))


def test_a_tracker_that_is_added_later_gets_the_whole_run(
    data: Path, tmp_path: Path, whole: tuple[Path, Recorder]
) -> None:
    run(data, tmp_path / "run", rounds=1, previews=1)
    recorder = Recorder()
    run(data, tmp_path / "run", recorder, rounds=2, previews=1)
    assert recorder.losses() == whole[1].losses()
    assert recorder.steps(ROUND) == [0, 1, 2]
    assert {step for _, step in recorder.pictures} == {0, 1, 2}


def test_a_run_that_has_lost_the_file_goes_on_behind_its_trainings(
    data: Path, tmp_path: Path
) -> None:
    """As one of an earlier version, which had none; its rounds are known."""
    run(data, tmp_path / "run", rounds=1)
    (tmp_path / "run/tracking.sqlite").unlink()
    recorder = Recorder()
    run(data, tmp_path / "run", recorder, rounds=2)
    assert recorder.steps(TRAIN) == list(range(2 * ITERATIONS + 1, 3 * ITERATIONS + 1))
    assert recorder.steps(ROUND) == [0, 1, 2]


def test_a_damaged_file_stops_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    run(data, folder, rounds=0)
    (folder / "tracking.sqlite").write_bytes(b"no database" * 99)
    run(data, folder, Recorder(), rounds=1)
    err = capsys.readouterr().err
    assert "tracking.sqlite" in err
    assert err.count("warning: ") == 1
    assert len(results.load(folder).records) == 2


def test_a_full_disk_stops_nothing(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(self: PointLog, point: Point) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PointLog, "add", full)
    run(data, tmp_path / "run", Recorder(), rounds=1)
    assert "No space left on device; the run goes on without." in capsys.readouterr().err
    assert len(results.load(tmp_path / "run").records) == 2


def test_only_rank_0_writes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, engine = Recorder(), toy_engine(data, iterations=2)
    engine.trackers = lambda *_: [recorder]  # type: ignore[attr-defined]
    config = parse({"level": "image", "heuristic": "Random", "rounds": 0})
    loop = ActiveLearningLoop(engine, config, None, tmp_path / "run")  # type: ignore[arg-type]
    monkeypatch.setattr(dist, "is_main", lambda: False)
    loop.tracking.open()
    track = loop.tracking.training(0, None, list)
    track.scalars({"loss": 1.0}, 1)
    track.picture("a", np.zeros((2, 2, 3), np.uint8), 1)
    loop.tracking.close_round(0)
    assert (recorder.opened, recorder.points, recorder.pictures) == (0, [], {})
    assert not (tmp_path / "run" / "tracking.sqlite").exists()
