"""Heads that MMSegmentation 1.x alone has: DDRNet and PIDNet, on images of 4:3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmseg")

from mmseg.datasets.transforms import GenerateEdge
from mmseg.registry import TRANSFORMS
from mmseg1_tiny import TINY
from mmseg_tiny import make_data, make_engine

from regional_al.engines.mmseg1 import datasets, preflight
from regional_al.engines.mmseg1.predict import build_model
from regional_al.errors import UnsupportedError

pytestmark = pytest.mark.mmseg1
X = 255
MODELS = """
crop = (48, 64)
ohem = dict(type='OhemCrossEntropy', thres=0.9, min_kept=500, class_weight=[1., 2., 1.])
model['data_preprocessor'].update(size=crop)
del model['auxiliary_head']
train_dataloader['dataset']['pipeline'][3].update(crop_size=crop)
train_dataloader['dataset']['pipeline'].insert(-1, dict(type=EDGES, edge_width=4))
small = dict(in_channels=3, channels=8, ppm_channels=8, norm_cfg=dict(type='BN'))
"""
DDR = """
model.update(backbone=dict(type='DDRNet', align_corners=False, **small), decode_head=dict(
    type='DDRHead', in_channels=32, channels=8, num_classes=3, align_corners=False,
    norm_cfg=dict(type='BN'), loss_decode=[FIRST, ohem]))
"""
PID = """
model.update(backbone=dict(type='PIDNet', num_stem_blocks=1, num_branch_blocks=1, **small),
    decode_head=dict(
        type='PIDHead', in_channels=32, channels=8, num_classes=3, align_corners=True,
        norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU', inplace=True), loss_decode=[
            dict(type='CrossEntropyLoss', class_weight=[1., 2., 1.], loss_weight=0.4), FIRST,
            dict(type='BoundaryLoss', loss_weight=20.0), ohem]))
"""
CE = "dict(type='CrossEntropyLoss', loss_weight=1.0)"


def made(root: Path, lines: str, first: str = "ohem", edges: str = "LabelledGenerateEdge") -> Any:
    """The engine of the tiny config with a DDRNet or PIDNet."""
    make_data(root)
    more = MODELS.replace("EDGES", repr(edges)) + lines.replace("FIRST", first)
    TINY.write_config(root, more)
    return make_engine(root)


@pytest.mark.parametrize("first", ["ohem", CE])
@pytest.mark.parametrize("lines", [DDR, PID], ids=["DDR", "PID"])
def test_heads_that_call_their_losses_bare(tmp_path: Path, lines: str, first: str) -> None:
    """With their own loss, and with the one that a refusal would advise."""
    engine = made(tmp_path, lines, first)
    kinds = [loss["type"] for loss in engine.cfg.model.decode_head.loss_decode]
    assert set(kinds) <= {
        "LabelledOhemCrossEntropy",
        "LabelledCrossEntropyLoss",
        "LabelledBoundaryLoss",
    }
    model = build_model(engine.cfg).train()
    preflight.check_losses(model, engine._pool, True)
    preflight.check_losses(model, engine._pool, False)


def test_edges_against_unlabelled_pixels_are_found(tmp_path: Path) -> None:
    engine = made(tmp_path, PID, edges="GenerateEdge")
    engine.cfg.train_dataloader.dataset.pipeline[-2]["type"] = "GenerateEdge"
    pool = engine._pool
    for step in pool.dataset.pipeline.transforms:
        if isinstance(step, datasets.LabelledGenerateEdge):
            step.__class__ = GenerateEdge
    with pytest.raises(UnsupportedError, match=r"PIDHead\): loss_bd.*LabelledGenerateEdge"):
        preflight.check_losses(build_model(engine.cfg).train(), pool, True)


def made_edges(kind: str, mask: np.ndarray, width: int) -> np.ndarray:
    transform = TRANSFORMS.build({"type": kind, "edge_width": width})
    found: np.ndarray = transform.transform({"img_shape": mask.shape, "gt_seg_map": mask})[
        "gt_edge_map"
    ]
    return found


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_edges_are_known_where_no_label_could_change_them(width: int) -> None:
    """By brute force: 0 exactly where no filling of the unlabelled pixels makes an edge, and
    mmseg's own edges on labelled pixels."""
    engines_scope()
    rng = np.random.default_rng(width)
    for _ in range(20):
        mask = np.kron(rng.integers(0, 3, (4, 5)), np.ones((6, 6))).astype(np.uint8)
        whole = made_edges("GenerateEdge", mask, width)
        assert np.array_equal(made_edges("LabelledGenerateEdge", mask, width), whole)
        part = mask.copy()
        top, left = rng.integers(0, 18), rng.integers(0, 24)
        part[top : top + 5, left : left + 4] = X
        own = made_edges("GenerateEdge", part, width)
        found = made_edges("LabelledGenerateEdge", part, width)
        possible = np.zeros_like(own)
        for filled in range(40):
            part_filled = part.copy()
            hole = part == X
            part_filled[hole] = rng.integers(0, 3, hole.sum()) if filled else 7
            possible |= made_edges("GenerateEdge", part_filled, width)
        labelled = part != X
        assert (found[~labelled] == X).all()
        assert np.array_equal(found[labelled] == 1, own[labelled] == 1)
        assert np.array_equal(found[labelled] == 0, possible[labelled] == 0)


def engines_scope() -> None:
    from mmengine.registry import init_default_scope
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    init_default_scope("mmseg")
