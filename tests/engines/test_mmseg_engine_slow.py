"""The MMSegmentation engines on two processes, and on mmseg's own configs scaled down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import Tiny, fit_once, label_some, make_data, make_engine
from paths import HELPERS

from regional_al import engines
from regional_al.engines.specs import heads
from regional_al.store.labels import LabelStore
from regional_al.types import PredictRequest

pytestmark = pytest.mark.slow


def test_two_processes_train_and_share_evaluation(tiny: Tiny, tmp_path: Path) -> None:
    """Gloo, 3 validation and 5 pool images on 2 ranks: nothing is padded or counted twice. What the
    config evaluates while it trains is evaluated as well."""
    root, out = tmp_path / "root", tmp_path / "out"
    make_data(root)
    tiny.write_config(root, tiny.evaluating)
    engine: Any = make_engine(root)
    label_some(LabelStore(root / "labels"), engine, 3)
    for name in ("first", "second"):
        (out / name).mkdir(parents=True)
    worker = str(HELPERS / "mmseg_worker.py")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, worker, str(root), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "hash-0").read_text() == (out / "hash-1").read_text()
    checkpoint = out / "second" / "checkpoint.pth"
    content = torch.load(checkpoint, weights_only=True)
    assert content["meta"]["iter"] == 8
    assert not any(key.startswith("module.") for key in content["state_dict"])
    assert np.array_equal(np.load(out / "confusion.npy"), engine.evaluate(checkpoint))
    for prediction in engine.predict(checkpoint, range(5), PredictRequest()):
        saved = np.load(out / f"logits-{prediction.index}.npy")
        assert np.array_equal(saved, prediction.logits.numpy())
    share, samples = np.load(out / "share.npy")
    assert samples == 2 * 2 * 6, "both ranks' samples of the second stretch"
    assert 0.1 < share < 1.5
    assert len(tiny.scores(out / "second")) == tiny.evaluations
    best = list((out / "second").glob("best_mIoU_iter_*.pth"))
    assert bool(best) == bool(tiny.evaluations)


RESNET = "pretrained=None, backbone=dict(depth=18, base_channels=8)"
AUXILIARY = "auxiliary_head=dict(in_channels=32, channels=8, num_classes=3)"
MODELS = {
    "fcn": f"{RESNET}, {AUXILIARY},"
    " decode_head=dict(in_channels=64, channels=8, num_classes=3, in_index=3)",
    "deeplabv3plus": f"{RESNET}, {AUXILIARY},"
    " decode_head=dict(in_channels=64, channels=8, c1_in_channels=8, c1_channels=4,"
    " num_classes=3), test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(48, 48))",
    "segformer": "pretrained=None, backbone=dict(init_cfg=None, embed_dims=8,"
    " num_layers=[1, 1, 1, 1]), decode_head=dict(in_channels=[8, 16, 40, 64], channels=16,"
    " num_classes=3)",
    "point_rend": f"{RESNET}, neck=dict(in_channels=[8, 16, 32, 64], out_channels=8), decode_head=["
    " dict(type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3], channels=8,"
    " feature_strides=[4, 8, 16, 32], dropout_ratio=-1, num_classes=3, align_corners=False,"
    " norm_cfg=dict(type='SyncBN', requires_grad=True), loss_decode=CE),"
    " dict(type='PointHead', in_channels=[8], in_index=[0], channels=8, num_fcs=1,"
    " coarse_pred_each_layer=True, dropout_ratio=-1, num_classes=3, align_corners=False,"
    " loss_decode=CE)], train_cfg=dict(num_points=64),"
    " test_cfg=dict(subdivision_steps=1, subdivision_num_points=32)",
}
CE = "dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)"


@pytest.mark.parametrize("name", ["fcn", "deeplabv3plus", "segformer", "point_rend"])
def test_mmsegs_own_configs(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path, name: str
) -> None:
    """FCN, DeepLabV3+, SegFormer and PointRend as mmseg writes them, by config alone."""
    path = tmp_path / f"{name}.py"
    lines = (
        f"_base_ = {tiny.base(name)!r}",
        tiny.on_tiny_data.replace("ROOT", str(root)),
        f"CE = {CE}",
        f"model.update({MODELS[name]})",
    )
    path.write_text("\n".join(lines) + "\n")
    engine: Any = engines.load(path, {}, tmp_path / "work").build()
    engine.preflight()
    found = [head for _, head in heads(engine.cfg.model)]
    assert len(found) == {"segformer": 1}.get(name, 2)
    assert all(head.loss_decode.avg_non_ignore for head in found)
    result = fit_once(engine, store, tmp_path / "fit")
    assert result.iterations == 2
    (prediction,) = engine.predict(result.checkpoint, [1], PredictRequest(features=True))
    assert prediction.logits.shape == (3, *engine.pool[1].shape)
    assert torch.isfinite(prediction.logits).all()
    assert engine.evaluate(result.checkpoint).sum() > 0
