"""`regional-al init` as it is used: questions, flags, refusals, and configs that run."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import folder, mask, picture
from paths import ROOT

from regional_al import cli
from regional_al.store.images import read_ids
from regional_al.testing import streets


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answers that somebody types; those that are left over fail the test."""
    answers: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: print(question) or answers.pop(0))
    return answers


def init(*arguments: str) -> int:
    return cli.main(["init", *arguments])


def written(name: str = "config.py") -> dict[str, Any]:
    return runpy.run_path(name)


@pytest.mark.parametrize("kind", ["index", "palette", "binary", "rgb", "grey", "grey as rgb"])
def test_defaults_for_every_kind_of_mask(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "d", kind)
    assert init("d", "--yes", "--output", "out/c.py") == 0
    said = capsys.readouterr().out
    assert "masks: " in said
    cfg = written("out/c.py")
    count = 2 if kind == "binary" else 3
    assert len(cfg["classes"]) == count
    data = cfg["train_dataloader"]["dataset"]
    masks = Path(data["data_prefix"]["seg_map_path"])
    assert masks.name == ("masks" if kind in ("index", "palette") else "masks_ids")
    for name in (tmp_path / "out/c_lists/train.txt").read_text().split():
        ids = read_ids(masks / f"{name}{data['seg_map_suffix']}")
        assert set(np.unique(ids)) == set(range(count))
        assert (Path(data["data_prefix"]["img_path"]) / f"{name}.jpg").is_file()


def test_answers_are_checked_and_asked_again(
    terminal: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "d", "rgb")
    terminal += ["sky,sea", "sky,sea,sand", "", "piksel", "pixel", "5 apples", "5", "", "y", "yes"]
    assert init("d") == 0
    assert terminal == []
    out = capsys.readouterr().out
    assert "has 2 names, but the masks have 3 classes" in out
    assert "Did you mean 'pixel'?" in out
    assert "unknown unit" in out


def test_a_whole_dialogue(
    terminal: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "d", "rgb")
    terminal += ["sky,sea,sand", "oracle", "pixel", "5", "effnet_lite0", "yes"]
    assert init("d") == 0
    assert terminal == []
    cfg = written()
    assert cfg["classes"] == ("sky", "sea", "sand")
    assert cfg["acquisition"]["budget"] == {"amount": 5, "unit": "pixel", "scope": "image"}
    assert "#005afa" in capsys.readouterr().out  # a colour of the table


def test_no_to_new_masks_writes_nothing(
    terminal: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "d", "binary")
    terminal += ["", "", "", "", "", "no"]
    assert init("d") == 2
    assert "save them as PNG files of one channel with the ids 0, 1, 2" in capsys.readouterr().err
    assert not (tmp_path / "config.py").exists()
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["images", "masks"]


def test_flags_leave_no_question(terminal: list[str], tmp_path: Path) -> None:
    folder(tmp_path / "d", "palette")
    flags = ["--classes", "a, b,c", "--annotator", "web", "--level", "region", "--budget", "9"]
    assert init("d", *flags, "--model", "segformer_b0", "--output", "mine.py") == 0
    cfg = written("mine.py")
    assert cfg["classes"] == ("a", "b", "c")
    assert cfg["acquisition"]["annotator"]["type"] == "web"
    assert cfg["acquisition"]["warm_start"]["amount"] == 9
    assert cfg["_base_"] == ["mmseg::_base_/models/segformer_mit-b0.py"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["d"], "this is no terminal: add --yes"),
        (["gone", "--yes"], "'gone' does not exist"),
        (["empty", "--yes"], "empty contains no images"),
        (["d", "--yes", "--output", "c.txt"], "ends in .py"),
        (["d", "--yes", "--output", "there.py"], "there.py exists: choose another --output"),
        (["d", "--yes", "--masks", "gone"], "'gone' does not exist"),
        (["d", "--yes", "--classes", "a,b"], "has 2 names, but the masks have 3 classes"),
        (["d", "--yes", "--classes", ""], "empty name"),
        (["d", "--yes", "--ignore", "x"], "--ignore 'x' is no value"),
        (["d", "--yes", "--budget", "x"], "'x' is no amount"),
        (["d", "--yes", "--level", "pixel", "--budget", "3 regions"], "region"),
        (["bare", "--yes"], "--classes road,car,sky"),
        (["bare", "--yes", "--classes", "a,b", "--annotator", "oracle"], "--annotator web"),
        (["cut", "--yes"], "b.jpg cannot be read"),
        (["sizes", "--yes"], "a mask needs the size of its image"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    arguments: list[str], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "d", "index")
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.py").write_text("mine = 1")
    for name in ("a", "b"):
        picture(tmp_path / "bare" / f"{name}.jpg")
        picture(tmp_path / "cut" / f"{name}.jpg")
        mask(tmp_path / "sizes" / f"{name}_mask.png", "index")
        picture(tmp_path / "sizes" / f"{name}.jpg", (3, 3))
    (tmp_path / "cut/b.jpg").write_bytes(b"\xff\xd8")
    before = set(tmp_path.rglob("*"))
    assert init(*arguments) == 2
    error = capsys.readouterr().err
    last = error.splitlines()[-1]
    assert last.startswith("error: ")
    assert match in last
    assert "Traceback" not in error
    assert set(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.py").read_text() == "mine = 1"


def test_force_overwrites_the_config_but_no_mask(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "d" / f"{name}.jpg")
    (tmp_path / "config.py").write_text("mine = 1")
    more = ["--yes", "--classes", "a,b"]
    assert init("d", *more, "--force") == 0
    blank = tmp_path / "config_val_masks/b.png"
    assert set(np.unique(read_ids(blank))) == {255}
    blank.write_bytes(mask(tmp_path / "labelled.png", "index").read_bytes())
    assert init("d", *more, "--force") == 0
    assert set(np.unique(read_ids(blank))) == {0, 1, 2}


def test_names_come_from_a_text_file(tmp_path: Path) -> None:
    folder(tmp_path / "d", "index")
    (tmp_path / "d/classes.txt").write_text("sky\nsea\nsand\n")
    assert init("d", "--yes") == 0
    assert written()["classes"] == ("sky", "sea", "sand")


def train(config: str) -> str:
    """`regional-al train CONFIG --smoke` in a process of its own; what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "regional_al", "train", config, "--smoke", "--work-dir", "run"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.mmseg1
def test_a_written_config_runs(tmp_path: Path) -> None:
    """RGB masks in a flat folder, mixed sizes; and images without masks, for people."""
    pytest.importorskip("mmseg")
    palette = np.array([*streets.PALETTE, *[(224, 224, 192)] * 245], np.uint8)
    from PIL import Image

    for i in range(4):
        image, ids = streets.make_scene("train", i, size=(64, 64), mixed_sizes=True)
        for place in ("flat", "bare"):
            (tmp_path / place).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / place / f"{i}.png")
        Image.fromarray(palette[ids]).save(tmp_path / "flat" / f"{i}_mask.png")
    assert init("flat", "--yes", "--output", "flat.py") == 0
    assert "finished: all 3 rounds are done" in train("flat.py")
    (tmp_path / "run").rename(tmp_path / "first")
    assert init("bare", "--yes", "--output", "bare.py", "--classes", "road,other") == 0
    assert "waiting: " in train("bare.py")
