"""Mistakes in configs and data: one line that names the file or key, before any training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmseg0_tiny
import mmseg1_tiny
import numpy as np
import pytest
import torch
from mmseg_tiny import Options, Tiny, make_engine
from refusals import preflight, refused

from regional_al import engines
from regional_al.errors import (
    ConfigError,
    DataError,
    EnvironmentProblem,
    RegionalALError,
    UnsupportedError,
)
from regional_al.runtime import shared_memory
from regional_al.store.images import write_png

LOADING = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]
CROP = {"type": "RandomCrop", "crop_size": (64, 64)}
OTHER = {"mmseg0": mmseg1_tiny.TINY, "mmseg1": mmseg0_tiny.TINY}
RELEASE = {"mmseg0": "0.x", "mmseg1": "1.x"}


def test_a_good_config_passes(root: Path) -> None:
    preflight(root)()


# (error, what its line holds, overrides of the tiny config)
MISTAKES: list[tuple[type[RegionalALError], str, Callable[[Tiny], Options]]] = [
    (
        ConfigError,
        r"decode_head.num_classes=19.*3 classes",
        lambda t: {"model.decode_head.num_classes": 19},
    ),
    (
        ConfigError,
        r"auxiliary_head.num_classes=4",
        lambda t: {"model.auxiliary_head.num_classes": 4},
    ),
    (
        ConfigError,
        "a training batch of .* fails",
        lambda t: {f"{t.train_set}.pipeline": [*LOADING, CROP]},
    ),
    (ConfigError, "cannot predict .*divisible", lambda t: t.unpadded()),
    (ConfigError, "NoBackbone", lambda t: {"model.backbone.type": "NoBackbone"}),
    (ConfigError, "UNet.*depths", lambda t: {"model.backbone.depths": 3}),
    (ConfigError, r"load_from='none\.pth' does not exist", lambda t: {"load_from": "none.pth"}),
    (
        ConfigError,
        "round_init='pretrained' needs load_from",
        lambda t: {"acquisition.round_init": "pretrained"},
    ),
    (
        ConfigError,
        "queries holds 9, but .*max_iters=8",
        lambda t: {"acquisition.queries": [2, 9]},
    ),
    (
        UnsupportedError,
        "queries counts iterations",
        lambda t: {"acquisition.queries": [2], **t.epochs(2)},
    ),
    (
        UnsupportedError,
        "OHEMPixelSampler",
        lambda t: {
            "model.decode_head.sampler": {"type": "OHEMPixelSampler", "min_kept": 30},
            "model.decode_head.loss_decode.use_sigmoid": True,
        },
    ),
    (
        ConfigError,
        r"pretrained weights .*none\.pth",
        lambda t: {"model.backbone.init_cfg": {"type": "Pretrained", "checkpoint": "none.pth"}},
    ),
    (
        ConfigError,
        "NoTransform",
        lambda t: {f"{t.train_set}.pipeline": [{"type": "NoTransform"}]},
    ),
    (ConfigError, "{t.no_length}", lambda t: t.without_length()),
    (DataError, "img/nowhere.* does not exist", lambda t: {t.train_images: "img/nowhere"}),
    (DataError, r"nowhere\.txt", lambda t: {t.train_list: "nowhere.txt"}),
    (
        DataError,
        r"gt/nowhere/town/00_gt\.png does not exist",
        lambda t: {t.val_masks: "gt/nowhere"},
    ),
    (DataError, "{t.val_set} holds no image", lambda t: {f"{t.val_set}.img_suffix": ".gif"}),
    (ConfigError, "no classes: add {t.classes_key}", lambda t: t.classes(t.train_set, None)),
    (ConfigError, "must be the same", lambda t: t.classes(t.val_set, ("left", "right", "up"))),
    (ConfigError, "NoDataset", lambda t: {f"{t.train_set}.type": "NoDataset"}),
    (ConfigError, "{t.wrong_mode}", lambda t: {"model.test_cfg.mode": "hole"}),
]


@pytest.mark.parametrize(("kind", "match", "changes"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_config_mistakes(
    tiny: Tiny,
    root: Path,
    kind: type[RegionalALError],
    match: str,
    changes: Callable[[Tiny], Options],
) -> None:
    refused(kind, match.format(t=tiny), preflight(root, changes(tiny)))


def test_missing_keys(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    text = (root / "tiny.py").read_text()
    for key in tiny.needed:
        (tmp_path / "tiny.py").write_text(f"{text}\n{key} = None\n")
        refused(ConfigError, f"no {key}", preflight(tmp_path))


@pytest.mark.parametrize("part", ["optimizer", "scheduler", "hooks"])
def test_training_mistakes(tiny: Tiny, root: Path, tmp_path: Path, part: str) -> None:
    text, match = tiny.training_mistakes[part]
    (tmp_path / "tiny.py").write_text((root / "tiny.py").read_text() + f"\n{text}\n")
    refused(ConfigError, match, make_engine(tmp_path).preflight)


def broken(
    tiny: Tiny, root: Path, tmp_path: Path, name: str, change: Callable[[Path], None]
) -> Path:
    """A copy of the data with one file changed."""
    shutil.copytree(root / "img", tmp_path / "img")
    shutil.copytree(root / "gt", tmp_path / "gt")
    change(tmp_path / name)
    tiny.write_config(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        (
            "gt/val/town/01_gt.png",
            lambda p: write_png(p, np.zeros((5, 7), np.uint8)),
            r"01_gt\.png is 5x7, its image 96x128",
        ),
        (
            "gt/val/town/01_gt.png",
            lambda p: write_png(p, np.full((96, 128), 77, np.uint8)),
            r"01_gt\.png holds id 77",
        ),
        (
            "gt/val/town/01_gt.png",
            lambda p: write_png(p, np.zeros((96, 128, 3), np.uint8)),
            r"01_gt\.png has colours",
        ),
        ("gt/val/town/01_gt.png", lambda p: p.write_bytes(b"no image"), r"01_gt\.png cannot be"),
        ("img/train/town/02_img.png", lambda p: p.write_bytes(b""), r"02_img\.png cannot be"),
    ],
)
def test_broken_files_are_named(
    tiny: Tiny, root: Path, tmp_path: Path, name: str, change: Callable[[Path], None], match: str
) -> None:
    refused(DataError, match, preflight(broken(tiny, root, tmp_path, name, change)))


def test_pool_annotations_stay_shut(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    name = "gt/train/town/00_gt.png"
    preflight(broken(tiny, root, tmp_path, name, lambda p: p.write_bytes(b"secret")))()


@pytest.mark.parametrize(
    ("kind", "text", "match"),
    [
        (ConfigError, "x = = 1", r"config\.py is not valid Python"),
        (ConfigError, "a = (", r"config\.py is not valid Python"),
        (ConfigError, "x = 1 / 0", "ZeroDivisionError"),
        (ConfigError, "raise ValueError('mine')", "mine"),
        (ConfigError, "_base_ = 'none.py'", r"none\.py"),
        (ConfigError, "x = 1", "no train_dataloader"),
        (ConfigError, "engine = 'mmseg2'", "mmseg1"),
        (UnsupportedError, "engine = 'torch'", "TorchEngine"),
        (ConfigError, "{t.minimal}", "no acquisition"),
        (
            EnvironmentProblem,
            "{t.minimal}acquisition = dict()\ncustom_imports = dict(imports=['nothing_here'])",
            "nothing_here",
        ),
        (
            EnvironmentProblem,
            "{other.minimal}acquisition = dict()",
            "{theirs} config .*{ours} is installed: make env",
        ),
        (EnvironmentProblem, "{other.minimal}", "{theirs} config.*make"),
    ],
)
def test_config_files(
    tiny: Tiny, tmp_path: Path, kind: type[RegionalALError], text: str, match: str
) -> None:
    other = OTHER[tiny.name]
    names = {"t": tiny, "other": other, "ours": RELEASE[tiny.name], "theirs": RELEASE[other.name]}
    path = tmp_path / "config.py"
    path.write_text(text.format(**names) + "\n")
    refused(kind, match.format(**names), lambda: engines.load(path))


def test_config_file_missing(tiny: Tiny, tmp_path: Path) -> None:
    refused(ConfigError, r"none\.py does not exist", lambda: engines.load(tmp_path / "none.py"))


def test_inherited_config_and_options(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        f"_base_ = {str(root / 'tiny.py')!r}\n"
        "acquisition = dict(level='pixel', budget=dict(amount='1%'), heuristic='Entropy')\n"
    )
    loaded = engines.load(path, {"acquisition.rounds": 3, "work_dir": "there"})
    assert loaded.name == tiny.name
    assert loaded.acquisition == {
        "level": "pixel",
        "heuristic": "Entropy",
        "budget": {"amount": "1%"},
        "rounds": 3,
    }
    assert type(loaded.acquisition["budget"]) is dict
    assert loaded.work_dir == Path("there")
    assert engines.load(path).work_dir == Path("work_dirs/mine")
    assert engines.load(path, work_dir=tmp_path).work_dir == tmp_path


def test_text_is_what_determines_results(tiny: Tiny, root: Path) -> None:
    text = engines.load(root / "tiny.py").text
    assert engines.load(root / "tiny.py", {tiny.resume: True}, root / "other").text == text
    assert engines.load(root / "tiny.py", {tiny.iterations: 9}).text != text


def test_without_cuda_sync_bn_and_half_precision_are_left_out(
    tiny: Tiny, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine: Any = engines.load(root / "tiny.py", {}, root / "work", amp=True).build()
    cuda = torch.cuda.is_available()
    assert tiny.uses_half(engine.cfg) == cuda
    assert engine.cfg.model.backbone.norm_cfg.type == ("SyncBN" if cuda else "BN")
    assert caplog.text.count("no CUDA: SyncBN") == (0 if cuda else 1)
    assert caplog.text.count(f"no CUDA: {tiny.half}") == (0 if cuda else 1)


@pytest.mark.parametrize("loader", ["train_workers", "val_workers"])
def test_shared_memory_that_is_too_small_for_the_workers_is_refused(
    root: Path, tiny: Tiny, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of 122x90 and crops of 64x64 need well above 20 kB for two workers."""
    key = getattr(tiny, loader)
    both = {tiny.train_workers: 0, tiny.val_workers: 0}
    make = preflight(root, {**both, key: 2})
    monkeypatch.setattr(shared_memory, "free", lambda: 20_000)
    fix = rf"{key}=2: /dev/shm has 0 MiB free.* need about 1 MiB.* set {key}=0, .*--shm-size=1g"
    refused(EnvironmentProblem, fix, make)
    preflight(root, both)()
    monkeypatch.setattr(shared_memory, "free", lambda: 1 << 30)
    make()


def test_workers_that_have_batches_at_the_same_time(root: Path, tiny: Tiny) -> None:
    """In a training that validates itself both; between epochs those of the training have ended."""
    both = {tiny.train_workers: 1, tiny.val_workers: 2}
    found = []
    for options in ({**both, **tiny.validating(2)}, {**both, **tiny.epochs(2)}):
        engine: Any = make_engine(root, options)
        groups = tiny.part("preflight").worker_loads(engine.cfg, engine._pool, None)
        found.append([[load.workers for load in group] for group in groups])
    assert [len(loads) for loads in found[0]] == [2, 1]
    assert [len(loads) for loads in found[1]] == [1, 1]
