"""Imports that are refused: one line, and nothing is stored."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchange_run import (
    CLASSES,
    answers,
    start,
    truths,
)
from exchange_tools import Drawn, draw, png, rezip, unzip
from PIL import Image

from regional_al import exchange
from regional_al.errors import DataError, RegionalALError, UnsupportedError, WorkDirError
from regional_al.exchange import manifest as manifests
from regional_al.exchange.base import tags_in
from regional_al.exchange.labels import Labels
from regional_al.exchange.run import waiting_run
from regional_al.store import images
from regional_al.store.images import write_png
from regional_al.store.lock import FolderLock
from regional_al.testing import streets


def refused(run: Path, paths: list[Path], form: str | None = None) -> str:
    before = {k: v.tobytes() for k, v in answers(run).items()}
    with pytest.raises(RegionalALError) as caught:
        exchange.import_answers(run, paths, form)
    assert {k: v.tobytes() for k, v in answers(run).items()} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_is_stored_when_a_later_file_is_wrong(
    data: Path, run: Path, tmp_path: Path
) -> None:
    exported = exchange.export(run, "cvat")
    good = draw("cvat", exported, tmp_path / "good.zip", truths(data, run))
    files = unzip(good)
    text = files["annotations.xml"].decode()
    last = text.rindex('label="')
    files["annotations.xml"] = (text[:last] + 'label="x' + text[last + 7 :]).encode()
    bad = rezip(tmp_path / "bad.zip", files)
    assert "is no class of this run" in refused(run, [good, bad])
    assert "bad.zip: annotations.xml: image" in refused(run, [bad])


@pytest.mark.parametrize("fails", ["write_bytes", "rename", "interrupt"])
def test_all_answers_of_an_import_are_stored_or_none(
    fails: str, data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, a rename fails, or Ctrl-C comes at the third file; one answer was there."""
    drawn = truths(data, run)
    exported = exchange.export(run, "cvat")
    first = next(iter(drawn))
    exchange.import_answers(run, [draw("cvat", exported, tmp_path / "1.zip", {first: [
        ("sky", waiting_run(run).query.asked(first) > 0)]})])  # fmt: skip
    back = draw("cvat", exported, tmp_path / "2.zip", drawn)
    before = sorted((p, p.read_bytes()) for p in (run / "rounds").rglob("*") if p.is_file())
    real, seen = (Path.write_bytes if fails == "write_bytes" else os.replace), []

    def third(*args: Any) -> Any:
        seen.append(args)
        if len(seen) == 3:
            raise KeyboardInterrupt if fails == "interrupt" else OSError(errno.ENOSPC, "full")
        return real(*args)

    with monkeypatch.context() as patch:
        target = (Path, "write_bytes") if fails == "write_bytes" else (images.os, "replace")
        patch.setattr(*target, third)
        expected = KeyboardInterrupt if fails == "interrupt" else WorkDirError
        with pytest.raises(expected):
            exchange.import_answers(run, [back])
    assert len(seen) > 2
    after = sorted((p, p.read_bytes()) for p in (run / "rounds").rglob("*") if p.is_file())
    assert after == before
    assert exchange.import_answers(run, [back]).incomplete == 0


def test_files_of_another_image_query_or_run_are_refused(
    data: Path, run: Path, waiting: Path, tmp_path: Path
) -> None:
    exported = exchange.export(run, "cvat")
    drawn = truths(data, run)
    good = draw("cvat", exported, tmp_path / "good.zip", drawn)
    bare = draw("cvat", exported, tmp_path / "bare.zip", drawn, bare=True)
    files = unzip(good)

    picture = next(n for n in files if n.startswith("images/"))
    other = rezip(tmp_path / "a.zip", {**files, picture: png(np.zeros((40, 56), np.uint8))})
    assert "is another image than the one of" in refused(run, [other])

    xml = files["annotations.xml"].replace(b'width="56" height="40"', b'width="57" height="40"')
    assert xml != files["annotations.xml"]
    size = rezip(tmp_path / "b.zip", {**files, "annotations.xml": xml})
    assert "is 57 x 40 pixels, the exported image 56 x 40" in refused(run, [size])

    content = json.loads(files["manifest.json"])
    for change, message in (
        ({"query": "0" * 64, "round": 7}, "for another query (of round 7)"),
        (
            {"labels": content["labels"][::-1]},
            "with class '__ask__' where this run has",
        ),
        ({"labels": content["labels"][:-1]}, f"with {len(streets.CLASSES) - 1} classes, not"),
        ({"format": 2}, "format 2, this version reads 1"),
        ({"images": {}}, "was exported for another query, run or version"),
        ({"labels": None}, "labels must be a list"),
    ):
        text = json.dumps({**content, **change}).encode()
        changed = rezip(tmp_path / "c.zip", {**files, "manifest.json": text})
        assert message in refused(run, [changed])
    entry = next(iter(content["images"].values()))
    entry["sha256"] = "0" * 64
    forged = {**files, "manifest.json": json.dumps(content).encode()}
    assert "has been changed" in refused(run, [rezip(tmp_path / "d.zip", forged)])

    names = b"".join(files["annotations.xml"].split(b"-" + tags_in(picture)[-1].encode()))
    untagged = rezip(tmp_path / "e.zip", {"annotations.xml": names})
    assert "no tag in the image's name" in refused(run, [untagged])

    # Another run over the same images; and one that has exported nothing.
    fresh = tmp_path / "fresh"
    start(data, fresh, seed=9)
    assert "manifest.json was exported for another query (of round 0)" in refused(fresh, [good])
    assert "nothing of round 0 has been exported" in refused(fresh, [bare])
    exchange.export(fresh, "cvat")
    assert "was exported for another query, run or version" in refused(fresh, [bare])

    # The manifest alone is enough: the work dir may be a copy made before the export.
    copy = tmp_path / "copy"
    shutil.copytree(waiting, copy)
    assert "nothing of round 0 has been exported" in refused(copy, [bare])
    assert exchange.import_answers(copy, [good]).incomplete == 0


def test_a_class_without_an_id_in_the_data_set_is_no_label(raw_data: Path, tmp_path: Path) -> None:
    """Nobody is asked for it, and what names it is refused."""
    work_dir = tmp_path / "run"
    start(raw_data, work_dir, "gap")
    found = waiting_run(work_dir)
    query = found.query
    assert found.labels.num_classes == len(found.space.class_names) - 1
    assert CLASSES[-1] not in found.labels.names
    assert found.raw_ids().tolist() == [255, *found.space.lowest_raw[:-1], found.void, 255]
    drawn: dict[str, Drawn] = {k: [(CLASSES[-1], query.asked(k) > 0)] for k in query.image_keys()}
    back = draw("cvat", exchange.export(work_dir, "cvat"), tmp_path / "x.zip", drawn)
    assert f"label {CLASSES[-1]!r} is no class of this run" in refused(work_dir, [back])


def test_files_of_no_known_format_are_refused(run: Path, tmp_path: Path) -> None:
    exchange.export(run, "cvat")
    (tmp_path / "x.txt").write_text("hello")
    assert "is of no format that is known here (coco, cvat," in refused(run, [tmp_path / "x.txt"])
    assert "Did you mean 'cvat'?" in refused(run, [tmp_path / "x.txt"], "cvatt")
    assert "has neither annotations.xml nor shapes" in refused(run, [tmp_path / "x.txt"], "cvat")


def test_a_damaged_answer_of_before_is_named(data: Path, run: Path, tmp_path: Path) -> None:
    exported = exchange.export(run, "cvat")
    back = draw("cvat", exported, tmp_path / "x.zip", truths(data, run))
    key = waiting_run(run).query.image_keys()[0]
    write_png(run / f"rounds/000/answers/{key}.png", np.zeros((3, 3), np.uint8))
    assert f"{key}.png is 3x3 (height x width)" in refused(run, [back])


def test_runs_that_do_not_wait_or_have_no_folder(data: Path, run: Path, tmp_path: Path) -> None:
    start(data, tmp_path / "oracle", rounds=0, annotator={"type": "oracle"})
    with pytest.raises(WorkDirError, match=r"not waiting for answers \(next: query of round 1\)"):
        exchange.export(tmp_path / "oracle", "cvat")
    with pytest.raises(WorkDirError, match="contains no run"):
        exchange.import_answers(tmp_path, [])
    with pytest.raises(RegionalALError, match="unknown exchange format 'cvad'"):
        exchange.export(run, "cvad")
    import sqlite3

    with sqlite3.connect(run / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE meta SET value = replace(value, '\"folder\"', '\"page\"')")
    with pytest.raises(UnsupportedError, match="annotator 'page' do not come from files"):
        exchange.export(run, "cvat")


def test_images_that_have_moved_changed_or_gone(data: Path, run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(data / "images/train", moved)
    images = run / "rounds/000/images.json"
    content = json.loads(images.read_text())
    assert all(Path(path).is_file() for path in content.values())
    images.write_text(json.dumps({key: f"/nowhere/{key}.png" for key in content}))
    with pytest.raises(DataError, match=r"is not at /nowhere/.*with --images"):
        exchange.export(run, "cvat")
    images.unlink()
    with pytest.raises(DataError, match=r"is not known here.*with --images"):
        exchange.export(run, "cvat")
    exchange.export(run, "cvat", images=moved)
    key = waiting_run(run).query.image_keys()[0]
    (file,) = moved.glob(f"{key}.*")
    Image.new("RGB", (5, 5)).save(file)
    with pytest.raises(DataError, match=r"changed after .* was started"):
        exchange.export(run, "cvat", images=moved)
    file.unlink()
    with pytest.raises(DataError, match=r"is not in .*moved"):
        exchange.export(run, "cvat", images=moved)
    with pytest.raises(DataError, match=r"--images .* is not a folder"):
        exchange.export(run, "cvat", images=file)


def test_one_process_at_a_time(run: Path) -> None:
    with FolderLock(run).holding():
        with pytest.raises(WorkDirError, match="is in use"):
            exchange.export(run, "cvat")
        with pytest.raises(WorkDirError, match="is in use"):
            exchange.import_answers(run, [])


def test_tags_survive_what_tools_do_to_names() -> None:
    labels = Labels.of(["a"], [(1, 2, 3)])
    tag = manifests.tag_of("q", "x", "0")
    entry = manifests.Entry("x", f"x-{tag}.png", (1, 1), "0")
    known = manifests.Manifest("q", labels.names, {tag: entry})
    for name in (
        f"images/x-{tag}.png",
        f"/data/upload/1/9c01ae2f-x-{tag}.png",
        f"/data/local-files/?d=images/Stra%C3%9Fe-{tag}.png",
        f"0123456789ab-{tag}.png.json",
        f"a\\b\\x-{tag}_1.png",
    ):
        assert known.find(name, "here") is entry
    for key in ("a/b c", "..", "x" * 300, "ü" * 200, "-", "a\tb", "CON:", "%41"):
        name = manifests.file_name(key, tag, ".PNG")
        assert tags_in(name)[-1] == tag
        assert name.endswith(f"-{tag}.png")
        assert len(name.encode()) < 120
        assert not set(name) & set('/\\:*?"<>| %&#')
