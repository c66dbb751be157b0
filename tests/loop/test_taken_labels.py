"""Labels of another run as round 0: `warm_start=dict(labels=WORK_DIR)`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import play, small_data

from regional_al.config import grammar as config
from regional_al.engines.mmseg.engine import sparse_labels
from regional_al.errors import ConfigError, DataError, WorkDirError
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.store import results as records
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.ledger import Ledger
from regional_al.testing import streets
from regional_al.types import Costs, LabelSpace

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), train=5, val=2, size=(40, 48), seed=1)


@pytest.fixture(scope="module")
def earlier(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds after pixels at random: three kinds of answers' rounds in each image."""
    folder = tmp_path_factory.mktemp("earlier")
    start(data, folder, rounds=2, warm_start={"level": "pixel", "amount": 7})
    return folder


def start(data: Path, work_dir: Path, text: str = "", **more: Any) -> ActiveLearningLoop:
    raw = {
        "level": "region",
        "heuristic": "Entropy",
        "region": {"type": "grid", "cell": 8},
        "budget": "4%",
        **more,
    }
    work_dir.mkdir(parents=True, exist_ok=True)
    return play(data, work_dir, raw, text, iterations=2)


def test_all_labels_and_costs_become_round_0(data: Path, earlier: Path, tmp_path: Path) -> None:
    before = records.load(earlier).records
    assert len(before) == 3
    # another config (text) and level: only the labels are taken over
    loop = start(
        data,
        tmp_path,
        text="another model",
        level="image",
        heuristic="Random",
        rounds=0,
        region=None,
        budget=None,
        warm_start={"labels": str(earlier)},
    )
    assert loop.status == "finished"
    (record,) = records.load(tmp_path).records
    assert record.costs == record.asked == before[-1].costs
    assert record.costs.clicks is not None
    assert record.costs.regions > before[0].costs.regions
    assert record.iterations == 2
    assert record.miou is not None
    theirs, mine = LabelStore(earlier / "labels"), LabelStore(tmp_path / "labels")
    assert mine.keys() == theirs.keys()
    for key in theirs.keys():  # noqa: SIM118 - not a dict
        assert np.array_equal(mine.read(key), theirs.read(key))
        rounds = theirs.annotated(key)
        assert np.array_equal(mine.annotated(key), (rounds > 0).astype(np.uint8))


def test_it_goes_on_asking_from_there(data: Path, earlier: Path, tmp_path: Path) -> None:
    start(data, tmp_path, rounds=1, warm_start={"labels": str(earlier)})
    first, second = records.load(tmp_path).records
    assert second.asked.pixels > 0
    assert second.costs.pixels == first.costs.pixels + second.asked.pixels
    theirs, mine = LabelStore(earlier / "labels"), LabelStore(tmp_path / "labels")
    for key in mine.keys():  # noqa: SIM118 - not a dict
        old, now = theirs.annotated(key), mine.annotated(key)
        if old is not None:  # nothing is asked twice
            assert (now[old > 0] == 1).all()


def test_a_kill_in_the_middle_changes_nothing(
    data: Path, earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    write, calls = LabelStore.write, iter(range(100))

    def dies(self: LabelStore, *args: Any) -> int:
        if next(calls) == 2:
            raise Killed
        return write(self, *args)

    acquisition = {"rounds": 0, "warm_start": {"labels": str(earlier)}}
    with monkeypatch.context() as patch:
        patch.setattr(LabelStore, "write", dies)
        with pytest.raises(Killed):
            start(data, tmp_path, **acquisition)
    with Ledger.open(tmp_path, readonly=True) as ledger:
        assert ledger.position() == (0, "answers")
        assert ledger.costs(0) == Costs(0, 0, 0, 0)
    start(data, tmp_path, **acquisition)
    assert records.load(tmp_path).records[0].costs == records.load(earlier).records[-1].costs


def test_what_the_other_ledger_does_not_know_is_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run killed between its label files and their entry in the ledger."""

    class Killed(BaseException):
        pass

    record = Ledger.record_answers

    def dies(self: Ledger, round: int, *args: Any, **kwargs: Any) -> None:
        if round == 1:
            raise Killed
        record(self, round, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record_answers", dies)
        with pytest.raises(Killed):
            start(data, tmp_path / "a", rounds=1)
    start(data, tmp_path / "b", rounds=0, warm_start={"labels": str(tmp_path / "a")})
    theirs, mine = LabelStore(tmp_path / "a/labels"), LabelStore(tmp_path / "b/labels")
    assert max(theirs.annotated(key).max() for key in theirs.keys()) == 2  # noqa: SIM118
    pixels = records.load(tmp_path / "a").records[0].costs.pixels
    assert records.load(tmp_path / "b").records[0].costs.pixels == pixels
    for key in mine.keys():  # noqa: SIM118 - not a dict
        assert np.array_equal(mine.annotated(key) > 0, theirs.annotated(key) == 1)


def test_unknown_clicks_stay_unknown(data: Path, earlier: Path, tmp_path: Path) -> None:
    start(data, tmp_path / "people", rounds=0)
    with Ledger.open(tmp_path / "people") as ledger:
        _, key, _, regions, _ = ledger.answers()[0]
        ledger.record_answer(0, key, pixels=64, clicks=None, complete=True, regions=regions)
    start(data, tmp_path / "b", rounds=0, warm_start={"labels": str(tmp_path / "people")})
    assert records.load(tmp_path / "b").records[0].costs.clicks is None


def test_labels_that_cannot_be_taken_over_are_refused(
    data: Path, earlier: Path, tmp_path: Path
) -> None:
    def refused(folder: Path, where: Path = data) -> str:
        work_dir = tmp_path / f"new{len(list(tmp_path.iterdir()))}"
        with pytest.raises((WorkDirError, DataError)) as caught:
            start(where, work_dir, rounds=0, warm_start={"labels": str(folder)})
        (line,) = str(caught.value).splitlines()
        assert not (work_dir / "labels").exists()
        return line

    assert "contains no run" in refused(tmp_path / "nothing")
    start(data, tmp_path / "empty", rounds=0, warm_start=None)
    assert "has no labels yet" in refused(tmp_path / "empty")
    streets.generate(tmp_path / "other", train=2, val=1, size=(40, 48), seed=2)
    assert "not in this pool, such as" in refused(earlier, tmp_path / "other")
    start(data, tmp_path / "damaged", rounds=0)
    key = LabelStore(tmp_path / "damaged/labels").keys()[0]
    path = tmp_path / f"damaged/labels/{key}.png"
    ids = read_ids(path)
    ids[0, 0] = 99
    write_png(path, ids)
    assert f"{path} contains id 99 (row 0, column 0)" in refused(tmp_path / "damaged")
    write_png(path, np.zeros((400, 400), np.uint8))
    assert f"{path} is 400x400" in refused(tmp_path / "damaged")
    path.unlink()
    assert f"{path} is gone" in refused(tmp_path / "damaged")
    os.mkfifo(path)
    assert f"{path} is a FIFO" in refused(tmp_path / "damaged")
    path.unlink()
    path.symlink_to(LabelStore(earlier / "labels").path(key))
    assert f"{path} is a link that leads out of" in refused(tmp_path / "damaged")
    path.unlink()
    write_png(path, np.zeros_like(ids))
    sidecar = LabelStore(tmp_path / "damaged/labels").sidecar_path(key)
    write_png(sidecar, np.zeros((400, 400), np.uint8))
    assert f"{sidecar} is not of the size of {path}" in refused(tmp_path / "damaged")
    sidecar.unlink()
    sidecar.symlink_to("/dev/zero")
    assert f"{sidecar} is a link that leads out of" in refused(tmp_path / "damaged")


def test_nobody_needs_to_be_able_to_answer_when_nobody_is_asked(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that people have labelled has no masks for the oracle, the default annotator."""
    start(data, tmp_path / "a", rounds=0)

    def fails(_: Any) -> None:
        raise DataError("no masks")

    monkeypatch.setattr("regional_al.annotators.oracle.OracleAnnotator.preflight", fails)
    warm = {"labels": str(tmp_path / "a")}
    assert start(data, tmp_path / "b", rounds=0, warm_start=warm).status == "finished"
    with pytest.raises(DataError, match="no masks"):
        start(data, tmp_path / "c", rounds=1, warm_start=warm)


def test_a_finished_round_0_needs_the_other_run_no_more(data: Path, tmp_path: Path) -> None:
    start(data, tmp_path / "a", rounds=0)
    warm = {"labels": str(tmp_path / "a")}
    start(data, tmp_path / "b", rounds=0, warm_start=warm)
    (tmp_path / "a/ledger.sqlite").unlink()
    assert start(data, tmp_path / "b", rounds=1, warm_start=warm).status == "finished"
    assert len(records.load(tmp_path / "b").records) == 2


@pytest.mark.parametrize(
    ("warm", "message"),
    [({"labels": ""}, "must be a work dir"), ({"labels": "x", "run": "y"}, "'labels'")],
)
def test_wrong_values_name_the_key(warm: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"acquisition\.warm_start") as caught:
        config.parse({"warm_start": warm})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("acquisition", "sparse"),
    [
        ({}, True),
        ({"level": "image"}, False),
        ({"level": "image", "warm_start": None}, False),
        ({"level": "image", "warm_start": {"amount": 3}}, False),
        ({"level": "image", "warm_start": {"amount": 3, "level": "pixel"}}, True),
        ({"level": "image", "warm_start": {"labels": "nothing there"}}, True),
        ({"level": "pixel", "warm_start": {"amount": 3, "level": "image"}}, True),
    ],
)
def test_where_labels_may_be_parts_of_images(acquisition: dict[str, Any], sparse: bool) -> None:
    assert sparse_labels(acquisition) is sparse
    assert sparse_labels(config.parse(acquisition).resolved) is sparse


def test_whether_labels_are_parts_of_images_is_asked_of_the_run_they_come_from(
    data: Path, earlier: Path, tmp_path: Path
) -> None:
    image = {"level": "image", "region": None, "budget": None, "heuristic": "Random", "rounds": 0}
    start(data, tmp_path / "whole", **image)
    for key in ("run", "labels"):
        whole = {"level": "image", "warm_start": {key: str(tmp_path / "whole")}}
        parts = {"level": "image", "warm_start": {key: str(earlier)}}
        assert not sparse_labels(whole)
        assert sparse_labels(parts)
    start(data, tmp_path / "again", **image, warm_start={"labels": str(earlier)})
    assert sparse_labels({"level": "image", "warm_start": {"labels": str(tmp_path / "again")}})
