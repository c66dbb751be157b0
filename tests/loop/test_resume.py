"""Resuming with another config or other data: what is refused, recorded and free."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regional_al.errors import DataError, WorkDirError
from regional_al.loop import runner
from regional_al.store import results
from regional_al.store.files import FileStamp, by_folder, same, stamp
from regional_al.store.images import read_ids, write_png
from regional_al.store.ledger import Ledger
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
CONFIG = {"model": {"depth": 1}, "optimizer": {"lr": 0.1}, "train_dataloader": {"batch_size": 8}}


ACQUISITION = {"level": "region", "heuristic": "RIPU", "budget": "30%", "previews": 0}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return streets.generate(tmp_path / "data", train=5, val=2, size=(32, 48))


def start(data: Path, work_dir: Path, rounds: int, config: Any = CONFIG, **more: Any) -> None:
    runner.run(
        toy_engine(data, SPACE, iterations=2),
        {**ACQUISITION, "rounds": rounds, **more},
        work_dir,
        text=json.dumps(config),
        report=False,
    )


def images_of(data: Path) -> list[Path]:
    return sorted(item.image for item in toy_engine(data, SPACE).pool)


def test_a_change_is_recorded_once_and_shown(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work_dir = tmp_path / "run"
    start(data, work_dir, 0)
    smaller = {**CONFIG, "train_dataloader": {"batch_size": 4}}
    capsys.readouterr()
    start(data, work_dir, 1, smaller)
    said = "resumed with a change: train_dataloader.batch_size was 8, now it is 4"
    assert capsys.readouterr().err.count(said) == 1
    start(data, work_dir, 2, smaller)  # compared with the last config, not the first
    assert "resumed with a change" not in capsys.readouterr().err
    with Ledger.open(work_dir, readonly=True) as ledger:
        (change,) = [c for c in ledger.changes() if "rounds" not in c["name"]]
    assert (change["round"], change["stage"]) == (1, "query")
    assert (change["name"], change["old"], change["new"]) == ("train_dataloader.batch_size", 8, 4)
    assert results.load(work_dir).changes == (change,)


def test_a_refusal_names_key_old_and_new_and_changes_nothing(data: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    start(data, work_dir, 0)
    before = {p: p.read_bytes() for p in work_dir.rglob("*") if p.is_file()}
    for config, words in (
        ({**CONFIG, "model": {"depth": 2}}, "model.depth was 1, now it is 2; choose another"),
        ({**CONFIG, "optimizer": {"lr": 0.2}}, "optimizer.lr was 0.1, now it is 0.2"),
    ):
        with pytest.raises(WorkDirError, match=words):
            start(data, work_dir, 1, config)
    assert {p: p.read_bytes() for p in work_dir.rglob("*") if p.is_file()} == before


def test_what_made_the_first_training_fail_can_be_mended(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_dir = tmp_path / "run"
    engine = type(toy_engine(data, SPACE))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "fit", lambda self, request: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            start(data, work_dir, 0)
    start(data, work_dir, 0, {**CONFIG, "optimizer": {"lr": 0.2}})
    assert [c["name"] for c in results.load(work_dir).changes] == ["optimizer.lr"]


def test_data_can_be_moved_if_it_is_the_same(data: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    start(data, work_dir, 0)
    moved = tmp_path / "elsewhere"
    shutil.copytree(data, moved)  # with other times
    for path in moved.rglob("*.*"):
        os.utime(path)
    start(moved, work_dir, 1)
    image = images_of(moved)[2]
    image.write_bytes(image.read_bytes() + b"x")
    with pytest.raises(WorkDirError, match=f"{image} changed after {work_dir} was started"):
        start(moved, work_dir, 2)


def test_an_image_of_the_same_size_is_noticed(data: Path, tmp_path: Path) -> None:
    work_dir, image = tmp_path / "run", images_of(data)[0]
    start(data, work_dir, 0)
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    with pytest.raises(WorkDirError, match=f"{image} changed"):
        start(data, work_dir, 1)


def test_another_mask_is_recorded(data: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    start(data, work_dir, 0)
    item = toy_engine(data, SPACE).pool[3]
    assert item.annotation is not None
    mask = read_ids(item.annotation)
    write_png(item.annotation, np.where(mask == 0, np.uint8(1), np.uint8(0)))
    start(data, work_dir, 1)
    assert [c["name"] for c in results.load(work_dir).changes] == [f"annotation of {item.key}"]


def test_images_that_are_gone_or_new_are_named(data: Path, tmp_path: Path) -> None:
    work_dir, image = tmp_path / "run", images_of(data)[1]
    start(data, work_dir, 0)
    engine = toy_engine(data, SPACE)
    engine.pool = [item for item in engine.pool if item.image != image]
    config = {**ACQUISITION, "rounds": 1}
    with pytest.raises(WorkDirError, match=f"1 images are missing, such as '{image.stem}"):
        runner.run(engine, config, work_dir, text=json.dumps(CONFIG), report=False)
    other = streets.generate(tmp_path / "more", train=6, val=2, size=(32, 48))
    with pytest.raises(WorkDirError, match="1 images are new"):
        start(other, work_dir, 1)


def test_stamps(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * (3 << 20))
    first = stamp(file)
    assert first is not None
    assert same(first, first)
    assert not same(first, None)
    assert not same(None, None)
    with open(file, "r+b") as handle:  # in the part that is hashed of a large file
        handle.seek(3 << 19)
        handle.write(b"y")
    os.utime(file, ns=(first.mtime, first.mtime))
    assert stamp(file, first) == first  # size and time are trusted
    assert not same(stamp(file), first)
    assert same(FileStamp(1, 2, "a"), FileStamp(1, 3, "a"))
    assert stamp(tmp_path) is None
    assert stamp("a\0b") is None


def test_weights_can_be_moved_if_they_are_the_same(data: Path, tmp_path: Path) -> None:
    work_dir, weights, moved = (tmp_path / name for name in ("run", "a.pth", "b.pth"))
    weights.write_bytes(b"weights")
    start(data, work_dir, 0, {**CONFIG, "load_from": str(weights)})
    weights.rename(moved)
    start(data, work_dir, 1, {**CONFIG, "load_from": str(moved)})
    assert results.load(work_dir).changes == ()
    moved.write_bytes(b"others!")
    other = moved.rename(tmp_path / "c.pth")
    with pytest.raises(WorkDirError, match=r"load_from was .*b\.pth\", now it is .*c\.pth"):
        start(data, work_dir, 2, {**CONFIG, "load_from": str(other)})


def test_images_with_another_spelling_of_the_suffix_are_mentioned(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(data, tmp_path / "a", 0)
    assert "suffix" not in capsys.readouterr().err
    first = images_of(data)[0]
    for name in ("x" + first.suffix.upper(), "y.jpeg", "z.txt"):
        shutil.copyfile(first, first.with_name(name))
    assert first.suffix == ".jpg"
    engine = toy_engine(data, SPACE)
    engine.pool = [item for item in engine.pool if item.image.suffix == ".jpg"]
    images = by_folder(enumerate(item.image for item in engine.pool))
    runner.tell_overlooked(images, len(engine.pool))
    said = capsys.readouterr().err
    assert said.startswith(f"2 files are not in the pool of {len(engine.pool)} images")
    assert str(first.with_name("x.JPG")) in said


def test_an_image_whose_label_file_cannot_be_named_is_refused_first(
    data: Path, tmp_path: Path
) -> None:
    engine = toy_engine(data, SPACE)
    engine.pool = [*engine.pool, replace(engine.pool[0], key="n" * 260)]
    with pytest.raises(DataError, match="has 264 bytes"):
        runner.run(engine, ACQUISITION, tmp_path / "run", report=False)
    assert not (tmp_path / "run" / "ledger.sqlite").exists()
