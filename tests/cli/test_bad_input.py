"""A user's mistakes through the command line: one clear line, a non-zero exit, no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from regional_al import cli
from regional_al.store.images import read_ids, write_png
from regional_al.testing import streets

pytestmark = pytest.mark.mmseg1
pytest.importorskip("mmseg")
Change = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes") / "streets"
    streets.generate(root, train=6, val=2, size=(64, 64), seed=1)
    return root


def first(data: Path, folder: str) -> Path:
    return sorted((data / folder).iterdir())[0]


def nothing(data: Path, config: Path) -> None:
    pass


def no_train_images(data: Path, config: Path) -> None:
    shutil.rmtree(data / "images/train")


def empty_pool(data: Path, config: Path) -> None:
    for path in (data / "images/train").iterdir():
        path.unlink()


def broken_image(data: Path, config: Path) -> None:
    path = first(data, "images/train")
    path.write_bytes(path.read_bytes()[:40])


def no_mask(data: Path, config: Path) -> None:
    first(data, "annotations/train").unlink()


def small_mask(data: Path, config: Path) -> None:
    write_png(first(data, "annotations/train"), np.zeros((8, 8), np.uint8))


def wrong_id(data: Path, config: Path) -> None:
    path = first(data, "annotations/train")
    ids = read_ids(path)
    ids[3, 4] = 77
    write_png(path, ids)


def wrong_val_id(data: Path, config: Path) -> None:
    path = first(data, "annotations/val")
    write_png(path, np.full_like(read_ids(path), 200))


def no_val_mask(data: Path, config: Path) -> None:
    first(data, "annotations/val").unlink()


def write(text: str) -> Change:
    def change(data: Path, config: Path) -> None:
        config.write_text(text)

    return change


PLAIN = f"_base_ = {str(ROOT / 'configs/streets/_base.py')!r}\n"
MISTAKES: list[tuple[str, Change, list[str], str]] = [
    ("missing image folder", no_train_images, [], "images/train"),
    ("empty pool", empty_pool, [], "no image"),
    ("unreadable image", broken_image, [], r"train_0000"),
    ("missing mask", no_mask, [], r"train_0000.*annotation does not exist"),
    ("wrong-size mask", small_mask, [], r"annotations/train/train_0000\.png.*8x8"),
    ("id out of range", wrong_id, [], r"annotations/train/train_0000\.png.*77"),
    ("validation id out of range", wrong_val_id, [], r"annotations/val/val_0000\.png.*200"),
    ("missing validation mask", no_val_mask, [], r"annotations/val/val_0000\.png"),
    ("unknown heuristic", nothing, ["acquisition.heuristic=RIPPU"], "RIPPU.*mean 'RIPU'"),
    (
        "heuristic argument",
        nothing,
        ["acquisition.heuristic.type=RIPU", "acquisition.heuristic.radios=3"],
        "radios",
    ),
    ("unknown key", nothing, ["acquisition.levle=region"], "levle.*mean 'level'"),
    ("unknown level", nothing, ["acquisition.level=pixels"], "mean 'pixel'"),
    ("budget 0", nothing, ["acquisition.budget.amount=0"], "budget.*0"),
    (
        "budget above the pool",
        nothing,
        ["acquisition.budget.amount=99999999"],
        "exceeds the pool size",
    ),
    ("senseless unit", nothing, ["acquisition.budget.unit=click"], "clicks of a 'full' answer"),
    ("classes do not fit", nothing, ["model.decode_head.num_classes=5"], "num_classes.*5"),
    (
        "loss that cannot",
        nothing,
        [
            "model.decode_head.loss_decode.type=HuasdorffDisstanceLoss",
            "model.decode_head.loss_decode._delete_=True",
        ],
        "HuasdorffDisstanceLoss",
    ),
    ("load_from missing", nothing, ["load_from=nowhere.pth"], "nowhere.pth"),
    ("pretrained without load_from", nothing, ["acquisition.round_init=pretrained"], "load_from"),
    ("queries past the schedule", nothing, ["acquisition.queries=[900]"], "900"),
    ("option without a value", nothing, ["acquisition.rounds"], "KEY=VALUE"),
    ("syntax error", write("model = dict(\n"), [], "run.py"),
    ("no acquisition", write("train_dataloader = {}\ntrain_cfg = {}\n"), [], "no acquisition"),
    ("no _base_", write("_base_ = './gone.py'\n"), [], "gone.py"),
    (
        "0.x config",
        write("data = dict(samples_per_gpu=2)\nrunner = {}\nacquisition = {}\n"),
        [],
        "0.x",
    ),
]


@pytest.mark.parametrize(
    ("change", "options", "match"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_one_line_and_a_bad_exit(
    change: Change,
    options: list[str],
    match: str,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    data, config = tmp_path / "data", tmp_path / "run.py"
    shutil.copytree(scenes, data)
    config.write_text(PLAIN + "acquisition = dict(level='region', heuristic='RIPU')\n")
    monkeypatch.setenv("STREETS_ROOT", str(data))
    change(data, config)
    more = ["--cfg-options", *options] if options else []
    code = cli.main(["train", str(config), "--work-dir", str(tmp_path / "w"), *more])
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert code == 2
    assert len(said) == 1
    import re

    assert re.search(match, said[0]), said[0]
    assert not list((tmp_path / "w").glob("rounds/*"))  # refused before anything is asked


def run(config: Path, work_dir: Path, *more: str) -> int:
    return cli.main(["train", str(config), "--work-dir", str(work_dir), *more])


def test_the_work_dir_of_a_run_is_guarded(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STREETS_ROOT", str(scenes))
    config, work_dir = tmp_path / "run.py", tmp_path / "w"
    config.write_text(
        PLAIN + "acquisition = dict(rounds=0)\ntrain_cfg = dict(max_iters=1)\n"
        "acquisition.update(level='image', heuristic='Random', budget='20%', warm_start='20%')\n"
    )
    assert run(config, work_dir) == 0
    asked = (work_dir / "rounds/000/query/picks.npy").read_bytes()
    capfd.readouterr()
    assert run(config, work_dir) == 2
    assert "--resume" in capfd.readouterr().err
    assert run(config, work_dir, "--resume", "--cfg-options", "acquisition.seed=4") == 2
    assert "acquisition.seed was 0, now it is 4" in capfd.readouterr().err
    depth = "model.decode_head.dropout_ratio=0.25"
    assert run(config, work_dir, "--resume", "--cfg-options", depth) == 2
    assert "model.decode_head.dropout_ratio was 0.1, now it is 0.25" in capfd.readouterr().err
    assert (work_dir / "rounds/000/query/picks.npy").read_bytes() == asked
    free = ["train_dataloader.num_workers=1", "default_hooks.logger.interval=7"]
    other = ["train_dataloader.batch_size=1", "train_cfg.max_iters=2", "crop_size=(9,9)"]
    assert run(config, work_dir, "--resume", "--amp", "--cfg-options", *free, *other) == 0
    said = capfd.readouterr().err
    for words in ("batch_size was", "max_iters was 1, now it is 2", '"AmpOptimWrapper"'):
        assert f"{words}" in said
    assert "num_workers" not in said
    assert "interval" not in said


@pytest.mark.slow
def test_dist_train_prints_one_line_for_two_ranks(scenes: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "STREETS_ROOT": str(tmp_path / "gone"), "PYTHON": "python"}
    import sys

    environment["PYTHON"] = sys.executable
    command = [
        "bash",
        str(ROOT / "tools/dist_train.sh"),
        str(ROOT / "configs/streets/region_ripu_slic.py"),
        "2",
        "--work-dir",
        str(tmp_path / "w"),
    ]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2
    assert len(said) == 1, done.stderr
    assert said[0].startswith("error:")
