"""Export from a waiting run, label in a tool, import, resume: the labels are the oracle's."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchange_tools import FORMATS, Drawn, draw, keys_of, png, rezip, unzip
from PIL import Image

from regional_al import cli, engines, exchange
from regional_al.config import grammar
from regional_al.engines.loading import Loaded
from regional_al.errors import DataError, RegionalALError, UnsupportedError, WorkDirError
from regional_al.exchange import manifest as manifests
from regional_al.exchange.base import tags_in
from regional_al.exchange.labels import ASK, VOID, Labels
from regional_al.exchange.run import waiting_run
from regional_al.loop import runner
from regional_al.loop.loop import ActiveLearningLoop
from regional_al.store import images
from regional_al.store.images import read_ids, write_png
from regional_al.store.lock import FolderLock
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import LabelSpace, PredictRequest

# As with reduce_zero_label; raw ids 1 and TWIN are one class; two classes have the same name.
TWIN = len(streets.CLASSES) + 1
TABLE = np.full(256, -1, np.int16)
TABLE[[0, 255]] = 255
TABLE[1:TWIN], TABLE[TWIN] = range(TWIN - 1), 0
CLASSES = ("same name", "same name", *streets.CLASSES[2:])
SPACES = {
    "plain": LabelSpace.plain(streets.CLASSES, streets.PALETTE),
    "raw": LabelSpace(CLASSES, streets.PALETTE, TABLE),
    "gap": LabelSpace(CLASSES, streets.PALETTE, np.where(len(CLASSES) - 1 == TABLE, 255, TABLE)),
}
REGION = {"level": "region", "region": {"type": "grid", "cell": 9}, "heuristic": "Random"}
WINDOW = {"level": "region", "region": "window", "heuristic": "Random"}
IMAGE = {"level": "image", "region": None, "heuristic": "Random"}
BUDGET = {"budget": {"amount": "6%", "unit": "pixel"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two sizes and with names that tools do not like."""
    root = tmp_path_factory.mktemp("data") / "streets"
    streets.generate(root, train=3, val=1, size=(40, 56), seed=3)
    small = streets.generate(root.with_name("small"), train=2, val=1, size=(33, 47), seed=4)
    for old, new in (("train_0000", "Straße 車 (1)"), ("train_0001", "0123456789ab")):
        for kind in ("images", "annotations"):
            (file,) = (small / kind / "train").glob(f"{old}.*")
            shutil.copy(file, root / kind / "train" / f"{new}{file.suffix}")
    return root


@pytest.fixture(scope="module")
def raw_data(data: Path) -> Path:
    """The same with ids from 1, and TWIN in every other column of class 0."""
    root = data.with_name("raw")
    shutil.copytree(data, root)
    for path in (root / "annotations").rglob("*.png"):
        ids = read_ids(path)
        ids = np.where(ids == 255, 255, ids + 1)
        ids[:, ::2][ids[:, ::2] == 1] = TWIN
        write_png(path, ids.astype(np.uint8))
    return root


def start(data: Path, work_dir: Path, space: str = "plain", **more: Any) -> ActiveLearningLoop:
    acquisition = {**REGION, **BUDGET, "rounds": 1, "warm_start": {"amount": "5%", "unit": "pixel"}}
    acquisition |= {"annotator": {"type": "folder"}, **more}
    engine = toy_engine(data, SPACES[space], iterations=1)
    return runner.run(engine, grammar.parse(acquisition), work_dir, report=False)


def truths(data: Path, work_dir: Path, space: str = "plain") -> dict[str, Drawn]:
    """What a person who knows the ground truth draws where something is asked: the classes."""
    run = waiting_run(work_dir)
    table = SPACES[space].raw_to_train
    drawn: dict[str, Drawn] = {}
    for key in run.query.image_keys():
        (file,) = (data / "annotations/train").glob(f"{key}.png")
        asked, classes = run.query.asked(key) > 0, table[read_ids(file)]
        masks = [
            (run.labels.names[c], asked & (classes == c)) for c in range(len(run.labels.names))
        ]
        drawn[key] = [(VOID, asked & (classes == 255)), *masks]
        drawn[key] = [(label, mask) for label, mask in drawn[key] if mask.any()]
    return drawn


def labels_of(work_dir: Path) -> dict[str, bytes]:
    """Label files and sidecars, byte for byte."""
    root = work_dir / "labels"
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.png"))}


def lowest(labels: dict[str, bytes], work_dir: Path) -> dict[str, Any]:
    """The same files with raw id TWIN as 1."""
    found: dict[str, Any] = {}
    for name in labels:
        ids = read_ids(work_dir / "labels" / name)
        found[name] = np.where((ids == TWIN) & (not name.startswith("_")), 1, ids).tolist()
    return found


@pytest.fixture(scope="module")
def waiting(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that waits for the answers of round 0. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("waiting") / "run"
    assert start(data, folder).status == "waiting"
    return folder


@pytest.fixture
def run(waiting: Path, tmp_path: Path) -> Path:
    shutil.copytree(waiting, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("bare", [False, True], ids=["zip", "bare"])
@pytest.mark.parametrize("to", FORMATS)
def test_a_run_by_a_tool_has_the_labels_of_the_oracle(
    to: str, bare: bool, data: Path, run: Path, tmp_path: Path
) -> None:
    """Also from annotations alone, without our manifest."""
    for round_ in (0, 1):
        exported = exchange.export(run, to)
        assert exported == run / f"rounds/00{round_}/exchange/{to}.zip"
        back = draw(to, exported, tmp_path / f"{round_}.zip", truths(data, run), bare)
        done = exchange.import_answers(run, [back])
        assert (done.incomplete, done.ignored) == (0, 0)
        assert done.images == done.asked > 1
        loop = start(data, run)
        assert loop.status == ("waiting" if round_ == 0 else "finished")
    start(data, tmp_path / "oracle", annotator={"type": "oracle"})
    assert labels_of(run) == labels_of(tmp_path / "oracle")


@pytest.mark.parametrize("query", [WINDOW, IMAGE], ids=["windows", "images"])
@pytest.mark.parametrize("to", ["cvat", "label-studio", "labelme"])
def test_windows_and_whole_images(
    to: str, query: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    more: dict[str, Any] = {**query, "rounds": 0}
    if query is IMAGE:
        more |= {key: {"amount": 2, "unit": "image"} for key in ("warm_start", "budget")}
    work_dir = tmp_path / "run"
    start(data, work_dir, **more)
    back = draw(to, exchange.export(work_dir, to), tmp_path / "x.zip", truths(data, work_dir))
    exchange.import_answers(work_dir, [back])
    assert start(data, work_dir, **more).status == "finished"
    start(data, tmp_path / "oracle", **more, annotator={"type": "oracle"})
    assert labels_of(work_dir) == labels_of(tmp_path / "oracle")


def test_raw_ids_equal_names_and_another_void(raw_data: Path, tmp_path: Path) -> None:
    """Answers get the lowest raw id of their class; void the id that the config gives."""
    more = {"rounds": 0, "annotator": {"type": "folder", "void": 0}}
    work_dir = tmp_path / "run"
    start(raw_data, work_dir, "raw", **more)
    drawn = truths(raw_data, work_dir, "raw")
    assert {label for masks in drawn.values() for label, _ in masks} >= {"same name"}
    back = draw("cvat", exchange.export(work_dir, "cvat"), tmp_path / "x.zip", drawn)
    exchange.import_answers(work_dir, [back])
    answered = {v for p in (work_dir / "rounds/000/answers").glob("*.png")
                for v in np.unique(read_ids(p))}  # fmt: skip
    assert answered <= {*range(TWIN), 255}
    assert 1 in answered
    assert start(raw_data, work_dir, "raw", **more).status == "finished"
    start(raw_data, tmp_path / "oracle", "raw", rounds=0, annotator={"type": "oracle"})
    ours = lowest(labels_of(work_dir), work_dir)
    assert ours == lowest(labels_of(tmp_path / "oracle"), tmp_path / "oracle")


# What counts as an answer


def answers(run: Path) -> dict[str, np.ndarray]:
    folder = run / "rounds/000/answers"
    return {p.relative_to(folder).with_suffix("").as_posix(): read_ids(p)
            for p in sorted(folder.rglob("*.png"))}  # fmt: skip


def test_partial_answers_and_several_imports(data: Path, run: Path, tmp_path: Path) -> None:
    drawn = truths(data, run)
    keys = list(drawn)
    exported = exchange.export(run, "cvat")
    asked = {key: waiting_run(run).query.asked(key) > 0 for key in keys}
    half = {
        key: mask.cumsum().reshape(mask.shape) <= mask.sum() // 2 for key, mask in asked.items()
    }
    left = {key: mask & half[key] for key, mask in asked.items()}

    first = draw("cvat", exported, tmp_path / "1.zip", {keys[0]: [("sky", left[keys[0]])]})
    done = exchange.import_answers(run, [first])
    assert (done.images, done.pixels) == (1, int(left[keys[0]].sum()))
    assert done.incomplete == done.asked == len(keys)
    assert start(data, run).status == "waiting"

    # A later import replaces only what it answers, and another export asks only for the rest.
    second = exchange.export(run, "labelme", tmp_path / "second.zip")
    files = unzip(second)
    name = next(n for n, key in keys_of(files).items() if key == keys[0])
    shapes = json.loads(files[Path(name).stem + ".json"])["shapes"]
    assert [shape["label"] for shape in shapes] == ["sky", ASK]
    whole = {key: [("road", mask & ~left[key])] for key, mask in asked.items()}
    exchange.import_answers(run, [draw("labelme", second, tmp_path / "2.zip", whole)])
    sky, road = streets.CLASSES.index("sky"), streets.CLASSES.index("road")
    expected = np.where(left[keys[0]], sky, np.where(asked[keys[0]], road, 255))
    assert np.array_equal(answers(run)[keys[0]], expected)

    # Two files of one import: the second on top.
    third = draw("cvat", exported, tmp_path / "3.zip", {k: [("car", m)] for k, m in asked.items()})
    fourth = draw("cvat", exported, tmp_path / "4.zip", {keys[0]: [(VOID, left[keys[0]])]})
    done = exchange.import_answers(run, [third, fourth])
    assert done.incomplete == 0
    assert done.pixels == sum(int(mask.sum()) for mask in asked.values())
    car = streets.CLASSES.index("car")
    expected = np.where(left[keys[0]], 254, np.where(asked[keys[0]], car, 255))
    assert np.array_equal(answers(run)[keys[0]], expected)
    with pytest.raises(WorkDirError, match="all that round 0 asks is answered"):
        exchange.export(run, "cvat")


@pytest.mark.parametrize("to", FORMATS)
def test_only_what_lies_above_ask_and_in_the_query_is_an_answer(
    to: str, data: Path, run: Path, tmp_path: Path
) -> None:
    exported = exchange.export(run, to)
    before = {k: v.tobytes() for k, v in answers(run).items()}
    done = exchange.import_answers(run, [draw(to, exported, tmp_path / "same.zip", {})])
    assert (done.images, done.pixels) == (0, 0)
    assert {k: v.tobytes() for k, v in answers(run).items()} == before
    key = waiting_run(run).query.image_keys()[0]
    asked = waiting_run(run).query.asked(key) > 0
    top = np.zeros_like(asked)
    top[: asked.shape[0] // 2] = True
    drawn: Drawn = [("car", np.ones_like(asked)), (ASK, top)]
    exchange.import_answers(run, [draw(to, exported, tmp_path / "x.zip", {key: drawn})])
    expected = np.where(asked & ~top, streets.CLASSES.index("car"), 255)
    assert np.array_equal(answers(run)[key], expected)


def test_prelabels_lie_below_and_count_where_ask_is_removed(
    data: Path, run: Path, tmp_path: Path
) -> None:
    """From a folder and from a function; outside of what is asked they are left out."""
    exchange.export(run, "cvat", tmp_path / "1.zip", prelabels=data / "annotations/train")
    exchange.export(
        run,
        "cvat",
        tmp_path / "2.zip",
        prelabels=lambda key: read_ids(data / f"annotations/train/{key}.png"),
    )
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    assert exchange.import_answers(run, [tmp_path / "1.zip"]).pixels == 0
    files = unzip(tmp_path / "1.zip")
    lines = files["annotations.xml"].decode().splitlines()
    files["annotations.xml"] = "\n".join(x for x in lines if ASK not in x).encode()
    exchange.import_answers(run, [rezip(tmp_path / "3.zip", files)])
    query = waiting_run(run).query
    for key, found in answers(run).items():
        truth = read_ids(data / f"annotations/train/{key}.png")
        assert np.array_equal(found, np.where(query.asked(key) > 0, truth, 255))
    with pytest.raises(DataError, match="nowhere is not a folder"):
        exchange.export(run, "cvat", tmp_path / "4.zip", prelabels=Path("nowhere"))
    small = np.zeros((1, 1), np.uint8)
    with pytest.raises(DataError, match=r"pre-labels of .* are uint8"):
        exchange.export(run, "cvat", tmp_path / "5.zip", prelabels=lambda key: small)


def test_prelabels_of_the_model(
    raw_data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--config`: what the checkpoint of the round before predicts, as raw ids, where asked."""
    work_dir, config = tmp_path / "run", tmp_path / "config.py"
    config.touch()
    engine = toy_engine(raw_data, SPACES["raw"], iterations=1)
    loaded = Loaded("torch", {}, work_dir, "", build=lambda: engine)
    monkeypatch.setattr(engines, "load", lambda *args: loaded)
    start(raw_data, work_dir, "raw")
    command = ["export", str(work_dir), "--to", "cvat", "--config", str(config)]
    assert cli.main(command) == 2
    assert "round 0 asks before any training, so there is no model" in capsys.readouterr().err
    drawn = truths(raw_data, work_dir, "raw")
    back = draw("cvat", exchange.export(work_dir, "cvat"), tmp_path / "x.zip", drawn)
    exchange.import_answers(work_dir, [back])
    start(raw_data, work_dir, "raw")

    assert cli.main(command) == 0
    files = unzip(work_dir / "rounds/001/exchange/cvat.zip")
    lines = files["annotations.xml"].decode().splitlines()
    files["annotations.xml"] = "\n".join(x for x in lines if ASK not in x).encode()
    assert exchange.import_answers(work_dir, [rezip(tmp_path / "y.zip", files)]).incomplete == 0
    run = waiting_run(work_dir)
    (checkpoint,) = (work_dir / "rounds/000/fit").glob("*.pth")
    seen: set[int] = set()
    for i, item in enumerate(engine.pool):
        if item.key in run.query.image_keys():
            (prediction,) = engine.predict(checkpoint, [i], PredictRequest())
            ids = prediction.logits.argmax(0).numpy() + 1  # the lowest raw id of each class
            found = read_ids(work_dir / f"rounds/001/answers/{item.key}.png")
            assert np.array_equal(found, np.where(run.query.asked(item.key) > 0, ids, 255))
            seen |= {*np.unique(found)}
    assert len(seen) > 2

    engine.pool = engine.pool[:1]
    assert cli.main(command) == 2
    assert "config.py does not have the image" in capsys.readouterr().err
    checkpoint.unlink()
    assert cli.main(command) == 2
    assert "is gone: export without --config" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*command, "--prelabels", str(tmp_path)])


def test_answers_that_the_run_has_stored_stay(data: Path, run: Path, tmp_path: Path) -> None:
    drawn = truths(data, run)
    first, *rest = drawn
    exported = exchange.export(run, "coco")
    exchange.import_answers(
        run, [draw("coco", exported, tmp_path / "1.zip", {first: drawn[first]})]
    )
    assert start(data, run).status == "waiting"
    done = exchange.import_answers(run, [draw("coco", exported, tmp_path / "2.zip", drawn)])
    assert (done.ignored, done.images) == (1, len(rest))


def test_exports_are_the_same_bytes(run: Path, tmp_path: Path) -> None:
    for to in FORMATS:
        exchange.export(run, to, tmp_path / f"{to}-1.zip")
        exchange.export(run, to, tmp_path / f"{to}-2.zip")
        one, two = ((tmp_path / f"{to}-{i}.zip").read_bytes() for i in (1, 2))
        assert one == two, to


def test_turned_photos_are_exported_upright(data: Path, tmp_path: Path) -> None:
    """Tools disagree about the EXIF orientation."""
    turned = tmp_path / "data"
    shutil.copytree(data, turned)
    for path in (turned / "images/train").iterdir():
        if path.stem.startswith("train"):
            image = Image.open(path).convert("RGB")
            exif = Image.Exif()
            exif[0x0112] = 6
            path.unlink()
            image.rotate(90, expand=True).save(path.with_suffix(".jpg"), exif=exif, quality=95)
    work_dir = tmp_path / "run"
    start(turned, work_dir, rounds=0)
    files = unzip(exchange.export(work_dir, "coco"))
    sizes = {(i["height"], i["width"]) for i in json.loads(files["annotations.json"])["images"]}
    assert sizes == {(40, 56), (33, 47)}
    names = [name for name in files if "train_" in name]
    assert names
    assert all(name.endswith(".png") for name in names)
    back = draw("coco", work_dir / "rounds/000/exchange/coco.zip", tmp_path / "x.zip",
                truths(turned, work_dir))  # fmt: skip
    assert exchange.import_answers(work_dir, [back]).incomplete == 0


# Refusals: one line, and nothing is stored


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


def test_a_class_without_an_id_in_the_data_set_is_refused(raw_data: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    start(raw_data, work_dir, "gap")
    query = waiting_run(work_dir).query
    drawn: dict[str, Drawn] = {k: [(CLASSES[-1], query.asked(k) > 0)] for k in query.image_keys()}
    back = draw("cvat", exchange.export(work_dir, "cvat"), tmp_path / "x.zip", drawn)
    assert f"class {CLASSES[-1]!r} has no id in this data set" in refused(work_dir, [back])


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


# The command line


def test_the_commands(data: Path, run: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "x.zip"
    assert cli.main(["export", str(run), "--to", "cvat", "--out", str(out)]) == 0
    assert f"exported: {out}\n" in capsys.readouterr().out
    assert cli.main(["export", str(run), "--to", "cvat", "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"error: {out} exists: delete it, or give another --out\n"
    assert cli.main(["import", str(run), str(out)]) == 0
    assert "imported: nothing, since no class lies above __ask__" in capsys.readouterr().out
    back = draw("cvat", out, tmp_path / "back.zip", truths(data, run))
    assert cli.main(["import", str(run), str(back), "--from", "cvat"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("imported: ")
    assert text.endswith("complete: run the same training command with --resume\n")
    assert cli.main(["import", str(run), str(tmp_path / "none.zip")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["export", str(run), "--to", "cvad"]) == 2
    assert "Did you mean 'cvat'?" in capsys.readouterr().err
