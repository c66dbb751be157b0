"""The mmseg1 engine on two processes, and on mmseg's own base configs scaled down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paths import HELPERS

pytest.importorskip("mmseg")
from mmseg1_tiny import TINY
from mmseg_tiny import fit_once, label_some, make_data, make_engine

from regional_al import engines
from regional_al.store.labels import LabelStore
from regional_al.types import PredictRequest

pytestmark = [pytest.mark.mmseg1, pytest.mark.slow]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    TINY.write_config(folder)
    label_some(LabelStore(folder / "labels"), make_engine(folder), 3)
    return folder


def test_two_processes_train_and_share_evaluation(root: Path, tmp_path: Path) -> None:
    """Gloo, 3 validation and 5 pool images on 2 ranks: nothing is padded or counted twice."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(HELPERS / "mmseg1_worker.py"),
        str(root),
        str(tmp_path),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "hash-0").read_text() == (tmp_path / "hash-1").read_text()
    engine = make_engine(root)
    checkpoint = tmp_path / "second" / "checkpoint.pth"
    content = torch.load(checkpoint, weights_only=True)
    assert content["meta"]["iter"] == 8
    assert not any(key.startswith("module.") for key in content["state_dict"])
    assert np.array_equal(np.load(tmp_path / "confusion.npy"), engine.evaluate(checkpoint))
    for prediction in engine.predict(checkpoint, range(5), PredictRequest()):
        saved = np.load(tmp_path / f"logits-{prediction.index}.npy")
        assert np.array_equal(saved, prediction.logits.numpy())
    share, samples = np.load(tmp_path / "share.npy")
    assert samples == 2 * 2 * 6, "both ranks' samples of the second stretch"
    assert 0.1 < share < 1.5


SMALL = """
crop_size = (64, 64)
classes = ('left', 'right', 'low')
palette = [[9, 0, 0], [0, 9, 0], [0, 0, 9]]
folder = dict(_delete_=True, type='BaseSegDataset', data_root='ROOT', img_suffix='_img.png',
              seg_map_suffix='_gt.png', metainfo=dict(classes=classes, palette=palette))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    data_prefix=dict(img_path='img/train', seg_map_path='gt/train'), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='RandomResize', scale=(128, 96), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs')], **folder))
val_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    data_prefix=dict(img_path='img/val', seg_map_path='gt/val'), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 96), keep_ratio=True),
        dict(type='LoadAnnotations'), dict(type='PackSegInputs')], **folder))
test_dataloader = val_dataloader
model = dict(data_preprocessor=dict(size=crop_size))
train_cfg = dict(max_iters=2)
acquisition = dict(level='region', heuristic='RIPU')
"""
BASES: dict[str, tuple[str, str]] = {
    "fcn": (
        "fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py",
        "model.update(pretrained=None, backbone=dict(depth=18, base_channels=8),"
        " decode_head=dict(in_channels=64, channels=8, num_classes=3, in_index=3),"
        " auxiliary_head=dict(in_channels=32, channels=8, num_classes=3))",
    ),
    "deeplabv3plus": (
        "deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py",
        "model.update(pretrained=None, backbone=dict(depth=18, base_channels=8),"
        " decode_head=dict(in_channels=64, channels=8, c1_in_channels=8, c1_channels=4,"
        " num_classes=3), auxiliary_head=dict(in_channels=32, channels=8, num_classes=3),"
        " test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(48, 48)))",
    ),
    "segformer": (
        "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        "model.update(pretrained=None, backbone=dict(init_cfg=None, embed_dims=8,"
        " num_layers=[1, 1, 1, 1]), decode_head=dict(in_channels=[8, 16, 40, 64], channels=16,"
        " num_classes=3))",
    ),
}


@pytest.mark.parametrize("name", list(BASES))
def test_mmseg_base_configs(root: Path, tmp_path: Path, name: str) -> None:
    """FCN, DeepLabV3+ and SegFormer as mmseg writes them, by config alone."""
    base, more = BASES[name]
    path = tmp_path / f"{name}.py"
    text = f"_base_ = 'mmseg::{base}'\n" + SMALL.replace("ROOT", str(root)) + more + "\n"
    path.write_text(text)
    engine: Any = engines.load(path, {}, tmp_path / "work").build()
    engine.preflight()
    for head in (engine.cfg.model.decode_head, engine.cfg.model.get("auxiliary_head")):
        assert head is None or head.loss_decode.avg_non_ignore
    result = fit_once(engine, LabelStore(root / "labels"), tmp_path / "fit")
    assert result.iterations == 2
    (prediction,) = engine.predict(result.checkpoint, [1], PredictRequest(features=True))
    assert prediction.logits.shape == (3, *engine.pool[1].shape)
    assert torch.isfinite(prediction.logits).all()
    assert engine.evaluate(result.checkpoint).sum() > 0
