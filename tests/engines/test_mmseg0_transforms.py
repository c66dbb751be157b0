"""Sparse transforms of mmseg 0.x: the parents' bytes on dense masks, no lost labels on sparse
ones. What a labelled crop is, is tested with the 1.x transforms, which share it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmcv.runner")
from mmcv.utils import build_from_cfg
from mmseg.datasets import PIPELINES

from regional_al.engines.mmseg0 import datasets  # noqa: F401

pytestmark = pytest.mark.mmseg0
X = 255


def sample(mask: np.ndarray) -> dict[str, Any]:
    image = np.random.default_rng(5).integers(0, 256, (*mask.shape, 3)).astype(np.uint8)
    return {"img": image, "gt_semantic_seg": mask.copy(), "seg_fields": ["gt_semantic_seg"]}


def dense(shape: tuple[int, int] = (60, 90)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, shape).astype(np.uint8)


def run(cfg: dict[str, Any], mask: np.ndarray, seed: int = 0) -> dict[str, Any]:
    transform = build_from_cfg(cfg, PIPELINES)
    np.random.seed(seed)  # noqa: NPY002 - what mmcv seeds
    result: dict[str, Any] = transform(sample(mask))
    return result


RESIZES = [
    {"img_scale": (45, 30)},
    {"img_scale": (50, 44), "keep_ratio": False},
    {"ratio_range": (0.3, 1.5)},
    {"img_scale": (90, 60), "ratio_range": (0.3, 1.5)},
    {"img_scale": [(40, 20), (80, 70)], "multiscale_mode": "range"},
    {"img_scale": [(40, 20), (80, 70)], "multiscale_mode": "value"},
    {"img_scale": (40, 20), "min_size": 25},
]


@pytest.mark.parametrize("arguments", RESIZES, ids=str)
def test_resize_equals_the_parent_on_dense_masks(arguments: dict[str, Any]) -> None:
    for seed in range(4):
        ours = run({"type": "SparseResize", **arguments}, dense(), seed)
        parents = run({"type": "Resize", **arguments}, dense(), seed)
        assert ours.keys() == parents.keys()
        for key in parents:
            np.testing.assert_array_equal(ours[key], parents[key])


def test_resize_keeps_isolated_labels_that_the_parent_drops() -> None:
    mask = np.full((60, 90), X, np.uint8)
    mask[1::4, 1::4] = 2  # odd places: plain nearest at half size looks at even ones
    arguments = {"img_scale": (45, 30)}
    assert not (run({"type": "Resize", **arguments}, mask)["gt_semantic_seg"] == 2).any()
    ours = run({"type": "SparseResize", **arguments}, mask)["gt_semantic_seg"]
    assert (ours == 2).sum() == (mask == 2).sum()


def test_resize_with_another_ignore_index_and_no_mask() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 1] = 3
    cfg = {"type": "SparseResize", "img_scale": (2, 2)}
    assert run(cfg, mask)["gt_semantic_seg"][0, 0] == 0
    assert run({**cfg, "ignore_index": 0}, mask)["gt_semantic_seg"][0, 0] == 3
    bare = {"img": np.zeros((4, 4, 3), np.uint8)}
    assert build_from_cfg(cfg, PIPELINES)(bare)["img"].shape == (2, 2, 3)


@pytest.mark.parametrize("ratio", [1.0, 0.75, 0.3])
@pytest.mark.parametrize("crop", [(20, 30), (60, 90), (100, 30)])
def test_crop_equals_the_parent_on_dense_masks(ratio: float, crop: tuple[int, int]) -> None:
    mask = dense()
    mask[:, 40:] = 1
    for seed in range(6):
        arguments = {"crop_size": crop, "cat_max_ratio": ratio}
        ours = run({"type": "LabelledRandomCrop", **arguments}, mask, seed)
        parents = run({"type": "RandomCrop", **arguments}, mask, seed)
        for key in ("img", "gt_semantic_seg", "img_shape"):
            np.testing.assert_array_equal(ours[key], parents[key])


@pytest.mark.parametrize("place", [(0, 0), (59, 89), (17, 55)])
def test_crop_always_shows_the_only_label(place: tuple[int, int]) -> None:
    mask = np.full((60, 90), X, np.uint8)
    mask[place] = 1
    cfg = {"type": "LabelledRandomCrop", "crop_size": (10, 12), "cat_max_ratio": 0.75}
    transform = build_from_cfg(cfg, PIPELINES)
    np.random.seed(0)  # noqa: NPY002
    for _ in range(60):
        out = transform(sample(mask))
        assert out["gt_semantic_seg"].shape == (10, 12) == out["img"].shape[:2]
        assert out["img_shape"] == (10, 12, 3)
        assert (out["gt_semantic_seg"] == 1).sum() == 1
