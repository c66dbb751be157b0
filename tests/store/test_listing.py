"""Files that are not as recorded: found by a second process as by this one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import play, small_data

from regional_al.errors import WorkDirError
from regional_al.store import files as files_
from regional_al.store import listing as listing_
from regional_al.store.check import check_run
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.listing import (
    LABEL,
    ROUNDS,
    Listing,
    differences,
    folder_digest,
    folder_status,
)
from regional_al.types import ImageAnswer

KEYS = ["a", "town/b", "town/c", "städte/ü", "new\nline"]
RAW = os.fsdecode(b"raw\xff")


def written(root: Path, keys: list[str]) -> LabelStore:
    store = LabelStore(root)
    for key in keys:
        answer = ImageAnswer(key, np.full((2, 2), 3, np.uint8), np.ones((2, 2), np.bool_))
        store.write(answer, round=0)
    store.save_index()
    return store


def index_of(store: LabelStore) -> Path:
    return store.root / "_annotated" / "index.sqlite"


@settings(max_examples=12)
@given(
    fates=st.lists(
        st.sampled_from(["kept", "gone", "edited", "touched", "half"]), min_size=5, max_size=5
    ),
    new=st.booleans(),
)
def test_both_processes_find_what_was_done(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str], new: bool
) -> None:
    store = written(tmp_path_factory.mktemp("labels"), KEYS)
    expected: dict[str, dict[str, Any]] = {LABEL: {}, ROUNDS: {}}
    for key, fate in zip(KEYS, fates, strict=True):
        path, side = store.path(key), store.sidecar_path(key)
        if fate in ("gone", "half"):
            path.unlink()
            expected[LABEL][key] = None
        if fate == "gone":
            side.unlink()
            expected[ROUNDS][key] = None
        if fate == "touched":
            os.utime(side, (1, 1))
        if fate == "edited":
            path.write_bytes(path.read_bytes() + b"more")
        for kind, file in ((LABEL, path), (ROUNDS, side)):
            if (fate, kind) in (("touched", ROUNDS), ("edited", LABEL)):
                status = file.stat()
                stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
                expected[kind][key] = stamp
    left = store.root / "town" / ".b.png.77.0123abcd.tmp"
    left.parent.mkdir(exist_ok=True)
    left.touch()
    source = store.root / "_source" / "deep" / ".b.png.77.0123abcd.tmp"
    source.parent.mkdir(parents=True)
    source.touch()
    if new:
        (store.root / "_source" / "not.png").touch()
        (store.root / "new.png").touch()
        status = (store.root / "new.png").stat()
        expected[LABEL]["new"] = (status.st_size, status.st_mtime_ns, status.st_ino)
    here = differences(index_of(store), store.root)
    there = Listing(index_of(store), store.root, always=True).labels()
    assert here.changed == there.changed == expected
    assert sorted(here.temporary) == sorted(there.temporary) == sorted([left, source])


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    listing = Listing(tmp_path / "none.sqlite", tmp_path, always=True)
    listing.close()
    (tmp_path / f"{RAW}.png").touch()
    found = Listing(tmp_path / "none.sqlite", tmp_path, always=True).labels()
    assert list(found.changed[LABEL]) == [RAW]


@pytest.mark.parametrize("script", ["raise SystemExit(3)", "print('[1')", "print('7')", ""])
def test_a_process_that_fails_is_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    store = written(tmp_path / "labels", KEYS)
    store.path("a").unlink()
    broken = tmp_path / "broken.py"
    broken.write_text(script)
    monkeypatch.setattr(listing_, "__file__", str(broken))
    listing = Listing(index_of(store), store.root, always=True)
    assert listing.labels().changed == {LABEL: {"a": None}, ROUNDS: {}}
    assert listing.unchanged_folders() == frozenset()


@pytest.mark.usefixtures("large")
def test_no_process_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks, and also where nobody asks for the folders."""
    made: list[Any] = []
    real = listing_.subprocess.Popen

    def start(*args: Any, **how: Any) -> Any:
        made.append(real(*args, **how))
        return made[-1]

    data, work_dir = small_data(tmp_path / "data", train=3), tmp_path / "run"
    opened(data, work_dir, 0)
    monkeypatch.setattr(listing_.subprocess, "Popen", start)
    assert check_run(work_dir) == []
    opened(data, work_dir, 1)
    assert len(made) == 4
    assert all(process.returncode is not None for process in made)


def test_without_an_interpreter_this_process_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = written(tmp_path / "labels", KEYS)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    listing = Listing(index_of(store), store.root, always=True)
    assert listing.labels().changed == {LABEL: {}, ROUNDS: {}}


def test_the_digest_of_a_folder_changes_with_any_file(tmp_path: Path) -> None:
    def digest() -> str:
        return folder_digest(folder_status(str(tmp_path)))

    for name in ("a", "b", RAW):
        (tmp_path / name).write_bytes(b"1")
    seen = {digest()}
    assert digest() in seen
    changes: list[Callable[[], object]] = [
        lambda: (tmp_path / "a").write_bytes(b"22"),
        lambda: os.utime(tmp_path / "b", ns=(1, 1)),
        lambda: (tmp_path / "b").rename(tmp_path / "c"),
        lambda: (tmp_path / "c").unlink(),
        lambda: (tmp_path / "d").touch(),
    ]
    for change in changes:
        change()
        assert digest() not in seen
        seen.add(digest())


# A run as large ones are: looked up in a second process, folders of images by their digest.


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_, "_LARGE", 0)
    monkeypatch.setattr(files_, "_FEW", 1)


ORACLE = {"level": "pixel", "heuristic": "Random", "budget": "2%", "annotator": "oracle"}


def opened(data: Path, work_dir: Path, rounds: int) -> None:
    assert play(data, work_dir, {**ORACLE, "rounds": rounds}).status == "finished"


@pytest.mark.usefixtures("large")
def test_a_folder_of_images_is_looked_at_file_by_file_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, work_dir = small_data(tmp_path / "data", train=3), tmp_path / "run"
    opened(data, work_dir, 0)
    images = sorted((data / "images" / "train").iterdir())
    looked: list[str] = []
    real = files_._status

    def status(folder: str, *rest: Any) -> Any:
        looked.append(folder)
        return real(folder, *rest)

    monkeypatch.setattr(files_, "_status", status)
    opened(data, work_dir, 1)
    assert looked == []
    os.utime(images[0])  # the same content: nothing is said, and the next start knows it
    opened(data, work_dir, 2)
    assert looked == [str(images[0].parent)]
    opened(data, work_dir, 2)
    assert len(looked) == 1
    content = bytearray(images[1].read_bytes())
    content[-1] ^= 1
    images[1].write_bytes(content)
    for _ in range(2):
        with pytest.raises(WorkDirError, match=f"{images[1]} changed after {work_dir}"):
            opened(data, work_dir, 3)


@pytest.mark.usefixtures("large")
def test_masks_and_labels_of_a_large_run(tmp_path: Path) -> None:
    data, work_dir = small_data(tmp_path / "data", train=3), tmp_path / "run"
    opened(data, work_dir, 0)
    mask = sorted((data / "annotations" / "train").iterdir())[0]
    write_png(mask, np.where(read_ids(mask) == 0, np.uint8(1), np.uint8(0)))
    opened(data, work_dir, 1)
    changes = json.loads((work_dir / "results.json").read_text())["changes"]
    assert [change["name"] for change in changes if "annotation" in change["name"]]
    store = LabelStore(work_dir / "labels")
    key = store.keys()[0]
    pixels = read_ids(store.path(key))
    write_png(store.path(key), np.where(pixels == 255, pixels, np.uint8(4)))
    with pytest.raises(WorkDirError, match=f"{key}.png was edited"):
        opened(data, work_dir, 2)
    store.path(key).unlink()
    assert "is missing" in str(check_run(work_dir)[0])
