"""The mmseg0 engine on two processes, and on the models of mmseg 0.x scaled down."""

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

pytest.importorskip("mmcv.runner")
from mmseg0_tiny import TINY
from mmseg_tiny import fit_once, label_some, make_data, make_engine

from regional_al import engines
from regional_al.store.labels import LabelStore
from regional_al.types import PredictRequest

pytestmark = [pytest.mark.mmseg0, pytest.mark.slow]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    TINY.write_config(folder)
    label_some(LabelStore(folder / "labels"), make_engine(folder), 3)
    return folder


def run_two(worker_root: Path, out: Path) -> None:
    """The worker on two gloo processes."""
    for name in ("first", "second"):
        (out / name).mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(HELPERS / "mmseg0_worker.py"),
        str(worker_root),
        str(out),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_train_and_share_evaluation(root: Path, tmp_path: Path) -> None:
    """Gloo, 3 validation and 5 pool images on 2 ranks: nothing is padded or counted twice. mmseg's
    own DistEvalHook runs as well, and its `save_best`."""
    TINY.write_config(root, "\nevaluation = dict(interval=4, metric='mIoU', save_best='mIoU')\n")
    run_two(root, tmp_path)
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
    assert sum("mIoU" in line for line in TINY.records(tmp_path / "second")) == 2
    assert list((tmp_path / "second").glob("best_mIoU_iter_*.pth"))


BN = {"type": "SyncBN", "requires_grad": True}
CE = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}
RESNET = {
    "type": "ResNetV1c",
    "depth": 18,
    "base_channels": 8,
    "num_stages": 4,
    "out_indices": (0, 1, 2, 3),
    "dilations": (1, 1, 2, 4),
    "strides": (1, 2, 1, 1),
    "norm_cfg": BN,
    "norm_eval": False,
    "style": "pytorch",
    "contract_dilation": True,
}
HEAD = {
    "dropout_ratio": 0.1,
    "num_classes": 3,
    "norm_cfg": BN,
    "align_corners": False,
    "loss_decode": CE,
}
AUX = {
    "type": "FCNHead",
    "in_channels": 32,
    "in_index": 2,
    "channels": 8,
    "num_convs": 1,
    "concat_input": False,
    **HEAD,
}
MODELS: dict[str, dict[str, Any]] = {
    "fcn": {
        "backbone": RESNET,
        "auxiliary_head": AUX,
        "decode_head": {
            "type": "FCNHead",
            "in_channels": 64,
            "in_index": 3,
            "channels": 8,
            "num_convs": 2,
            "concat_input": True,
            "dilation": 6,
            **HEAD,
        },
    },
    "deeplabv3plus": {
        "backbone": RESNET,
        "auxiliary_head": AUX,
        "decode_head": {
            "type": "DepthwiseSeparableASPPHead",
            "in_channels": 64,
            "in_index": 3,
            "channels": 8,
            "dilations": (1, 12, 24, 36),
            "c1_in_channels": 8,
            "c1_channels": 4,
            **HEAD,
        },
        "test_cfg": {"mode": "slide", "crop_size": (64, 64), "stride": (48, 48)},
    },
    "segformer": {
        "backbone": {
            "type": "MixVisionTransformer",
            "in_channels": 3,
            "embed_dims": 8,
            "num_stages": 4,
            "num_layers": [1, 1, 1, 1],
            "num_heads": [1, 2, 5, 8],
            "patch_sizes": [7, 3, 3, 3],
            "sr_ratios": [8, 4, 2, 1],
            "out_indices": (0, 1, 2, 3),
            "mlp_ratio": 4,
            "qkv_bias": True,
        },
        "decode_head": {
            "type": "SegformerHead",
            "in_channels": [8, 16, 40, 64],
            "in_index": [0, 1, 2, 3],
            "channels": 16,
            **HEAD,
        },
    },
    "point_rend": {
        "type": "CascadeEncoderDecoder",
        "num_stages": 2,
        "backbone": {**RESNET, "dilations": (1, 1, 1, 1), "strides": (1, 2, 2, 2)},
        "neck": {"type": "FPN", "in_channels": [8, 16, 32, 64], "out_channels": 8, "num_outs": 4},
        "decode_head": [
            {
                "type": "FPNHead",
                "in_channels": [8, 8, 8, 8],
                "in_index": [0, 1, 2, 3],
                "feature_strides": [4, 8, 16, 32],
                "channels": 8,
                **{**HEAD, "dropout_ratio": -1},
            },
            {
                "type": "PointHead",
                "in_channels": [8],
                "in_index": [0],
                "channels": 8,
                "num_fcs": 1,
                "coarse_pred_each_layer": True,
                "dropout_ratio": -1,
                "num_classes": 3,
                "align_corners": False,
                "loss_decode": CE,
            },
        ],
        "train_cfg": {"num_points": 64, "oversample_ratio": 3, "importance_sample_ratio": 0.75},
        "test_cfg": {
            "mode": "whole",
            "subdivision_steps": 1,
            "subdivision_num_points": 32,
            "scale_factor": 2,
        },
    },
}


@pytest.mark.parametrize("name", list(MODELS))
def test_models_of_mmseg(root: Path, tmp_path: Path, name: str) -> None:
    """FCN, DeepLabV3+, SegFormer and PointRend (which needs mmcv-full's ops), by config alone."""
    model = {
        "_delete_": True,
        "type": "EncoderDecoder",
        "pretrained": None,
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
        **MODELS[name],
    }
    TINY.write_config(root)
    engine: Any = engines.load(root / "tiny.py", {"model": model}, tmp_path / "work").build()
    engine.preflight()
    result = fit_once(engine, LabelStore(root / "labels"), tmp_path / "fit", iterations=2)
    assert result.iterations == 2
    (prediction,) = engine.predict(result.checkpoint, [1], PredictRequest(features=True))
    assert prediction.logits.shape == (3, *engine.pool[1].shape)
    assert torch.isfinite(prediction.logits).all()
    assert engine.evaluate(result.checkpoint).sum() > 0
