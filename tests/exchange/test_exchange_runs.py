"""Export from a waiting run, label in a tool, import, resume: the labels are the oracle's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchange_run import (
    IMAGE,
    SPACES,
    TWIN,
    WINDOW,
    answers,
    labels_of,
    lowest,
    start,
    truths,
)
from exchange_tools import FORMATS, Drawn, draw, keys_of, rezip, unzip
from PIL import Image

from regional_al import cli, engines, exchange
from regional_al.engines.loading import Loaded
from regional_al.errors import DataError, WorkDirError
from regional_al.exchange.labels import ASK, VOID
from regional_al.exchange.run import waiting_run
from regional_al.store.images import read_ids
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import PredictRequest


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
