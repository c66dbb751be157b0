"""Sparse transforms: the parents' bytes on dense masks, no lost labels on sparse ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmseg")

from mmengine.registry import init_default_scope
from mmseg.registry import TRANSFORMS
from mmseg.utils import register_all_modules

from regional_al.engines.mmseg.pipelines import replace_lossy
from regional_al.engines.mmseg1 import datasets

pytestmark = pytest.mark.mmseg1
X = 255


@pytest.fixture(autouse=True)
def _scope() -> None:
    register_all_modules(init_default_scope=False)
    init_default_scope("mmseg")


def sample(mask: np.ndarray) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (*mask.shape, 3)).astype(np.uint8)
    return {
        "img": image,
        "img_shape": mask.shape,
        "ori_shape": mask.shape,
        "gt_seg_map": mask.copy(),
        "seg_fields": ["gt_seg_map"],
    }


def dense(shape: tuple[int, int] = (60, 90)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, shape).astype(np.uint8)


def sparse(count: int, shape: tuple[int, int] = (60, 90), seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.full(shape, X, np.uint8)
    mask.flat[rng.choice(mask.size, count, replace=False)] = rng.integers(0, 4, count)
    return mask


def run(cfg: dict[str, Any], mask: np.ndarray, seed: int = 0) -> dict[str, Any]:
    transform = TRANSFORMS.build(cfg)
    np.random.seed(seed)  # noqa: NPY002 - what mmengine seeds
    result: dict[str, Any] = transform(sample(mask))
    return result


RESIZES = [
    {"scale": (45, 30)},
    {"scale": (50, 44), "keep_ratio": True},
    {"scale_factor": 0.37},
    {"scale_factor": (0.5, 2.0)},
    {"scale": 64},
    {"scale": (200, 300), "keep_ratio": True, "interpolation": "nearest"},
    {"scale": (37, 21), "backend": "pillow"},
]


@pytest.mark.parametrize("arguments", RESIZES, ids=str)
def test_resize_equals_the_parent_on_dense_masks(arguments: dict[str, Any]) -> None:
    ours = run({"type": "SparseResize", **arguments}, dense())
    parents = run({"type": "Resize", **arguments}, dense())
    assert ours.keys() == parents.keys()
    for key in parents:
        np.testing.assert_array_equal(ours[key], parents[key])


def test_resize_keeps_isolated_labels_that_the_parent_drops() -> None:
    mask = np.full((60, 90), X, np.uint8)
    mask[1::4, 1::4] = 2  # odd places: plain nearest at half size looks at even ones
    arguments = {"scale_factor": 0.5}
    assert not (run({"type": "Resize", **arguments}, mask)["gt_seg_map"] == 2).any()
    ours = run({"type": "SparseResize", **arguments}, mask)["gt_seg_map"]
    assert (ours == 2).sum() == (mask == 2).sum()


def test_resize_with_another_ignore_index_and_no_mask() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 1] = 3
    cfg = {"type": "SparseResize", "scale": (2, 2)}
    assert run(cfg, mask)["gt_seg_map"][0, 0] == 0
    assert run({**cfg, "ignore_index": 0}, mask)["gt_seg_map"][0, 0] == 3
    bare = {"img": np.zeros((4, 4, 3), np.uint8), "img_shape": (4, 4)}
    assert TRANSFORMS.build(cfg)(bare)["img"].shape == (2, 2, 3)


def test_random_resize_draws_as_the_parent_and_keeps_labels() -> None:
    arguments = {"scale": (90, 60), "ratio_range": (0.3, 1.5), "keep_ratio": True}
    for seed in range(5):
        ours = run({"type": "SparseRandomResize", **arguments}, dense(), seed)
        parents = run({"type": "RandomResize", **arguments}, dense(), seed)
        np.testing.assert_array_equal(ours["gt_seg_map"], parents["gt_seg_map"])
        np.testing.assert_array_equal(ours["img"], parents["img"])
    half = {"scale": (90, 60), "ratio_range": (0.5, 0.5), "keep_ratio": True}
    mask = np.full((60, 90), X, np.uint8)
    mask[1::4, 1::4] = 2
    kept = run({"type": "SparseRandomResize", **half}, mask)["gt_seg_map"]
    assert (kept == 2).sum() == (mask == 2).sum()
    plain = run({"type": "SparseRandomResize", "resize_type": "Resize", **half}, mask)
    assert not (plain["gt_seg_map"] == 2).any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"type": "RandomChoiceResize", "scales": [(45, 30)]},
        {"type": "RandomChoiceResize", "scales": [(45, 30), (30, 20)], "keep_ratio": True},
        {
            "type": "RandomChoiceResize",
            "scales": [30, 21],
            "resize_type": "ResizeShortestEdge",
            "max_size": 80,
        },
        {"type": "ResizeShortestEdge", "scale": 30, "max_size": 80},
        {"type": "Resize", "scale": (45, 30)},
        {"type": "RandomResize", "scale": (90, 60), "ratio_range": (0.3, 0.5), "keep_ratio": True},
    ],
    ids=str,
)
def test_every_substitute_keeps_labels(arguments: dict[str, Any]) -> None:
    """By config, as a run replaces them; on dense masks they are the parents."""
    pipeline = [dict(arguments)]
    replace_lossy([{"pipeline": pipeline}], "x", datasets.SUBSTITUTES, datasets.is_stock, False)
    assert all("Sparse" in pipeline[0][key] for key in ("type", "resize_type") if key in arguments)
    mask = np.full((60, 90), X, np.uint8)
    mask[1::6, 1::6] = 2
    for seed in range(3):
        ours, parents = run(pipeline[0], dense(), seed), run(arguments, dense(), seed)
        np.testing.assert_array_equal(ours["gt_seg_map"], parents["gt_seg_map"])
        np.testing.assert_array_equal(ours["img"], parents["img"])
        kept = run(pipeline[0], mask, seed)["gt_seg_map"]
        own = run(arguments, mask, seed)["gt_seg_map"]
        assert (kept != X).sum() > (own != X).sum()


@pytest.mark.parametrize("ratio", [1.0, 0.75, 0.3, 0.2])
@pytest.mark.parametrize("crop", [(20, 30), (60, 90), (100, 30), 25])
def test_crop_equals_the_parent_on_dense_masks(ratio: float, crop: Any) -> None:
    mask = dense()
    mask[:, 40:] = 1
    for seed in range(6):
        arguments = {"crop_size": crop, "cat_max_ratio": ratio}
        ours = run({"type": "LabelledRandomCrop", **arguments}, mask, seed)
        parents = run({"type": "RandomCrop", **arguments}, mask, seed)
        for key in ("img", "gt_seg_map", "img_shape"):
            np.testing.assert_array_equal(ours[key], parents[key])


@pytest.mark.parametrize("ratio", [1.0, 0.75])
@pytest.mark.parametrize("place", [(0, 0), (59, 89), (30, 2), (17, 55)])
def test_crop_always_shows_the_only_label(place: tuple[int, int], ratio: float) -> None:
    mask = np.full((60, 90), X, np.uint8)
    mask[place] = 1
    cfg = {"type": "LabelledRandomCrop", "crop_size": (10, 12), "cat_max_ratio": ratio}
    transform = TRANSFORMS.build(cfg)
    np.random.seed(0)  # noqa: NPY002
    for _ in range(60):
        out = transform(sample(mask))
        assert out["gt_seg_map"].shape == (10, 12) == out["img"].shape[:2] == out["img_shape"]
        assert (out["gt_seg_map"] == 1).sum() == 1


def test_crop_around_a_label_is_uniform_over_the_offsets_that_show_it() -> None:
    """One label, crops that seldom hit it: tops and lefts are uniform over their valid ranges."""
    mask = np.full((40, 200), X, np.uint8)
    mask[3, 100] = 1
    transform = TRANSFORMS.build({"type": "LabelledRandomCrop", "crop_size": (10, 5)})
    np.random.seed(3)  # noqa: NPY002
    boxes = np.array([transform.crop_bbox(sample(mask)) for _ in range(2000)])
    tops = np.bincount(boxes[:, 0], minlength=4)
    lefts = np.bincount(boxes[:, 2] - 96, minlength=5)
    assert len(tops) == 4
    assert len(lefts) == 5
    assert tops.min() > 400
    assert tops.max() < 600
    assert lefts.min() > 310
    assert lefts.max() < 490


def test_windows_are_taken_by_the_labels_in_them() -> None:
    """Three labels at one end and one at the other, never in one crop: of 161 places 31 show the
    three and 30 the one. Of eight places, one is chosen in proportion to its labels."""
    mask = np.full((10, 220), X, np.uint8)
    mask[2:5, 30], mask[4, 190] = 1, 2
    transform = TRANSFORMS.build({"type": "LabelledRandomCrop", "crop_size": (10, 60)})
    np.random.seed(3)  # noqa: NPY002
    boxes = [transform.crop_bbox(sample(mask)) for _ in range(2000)]
    shown = [mask[a:b, c:d] for a, b, c, d in boxes]
    assert all((crop != X).any() for crop in shown)
    many = sum((crop == 1).any() for crop in shown) / 2000
    drawn = np.random.default_rng(0).multinomial(8, [31 / 161, 30 / 161, 100 / 161], 100000)
    three, one, none = drawn.T
    expected = np.where(none < 8, 3 * three / np.maximum(3 * three + one, 1), 0.75).mean()
    assert abs(many - expected) < 0.03


def test_more_labels_arrive_than_by_the_parent() -> None:
    """Regions that lie together: the share of labels in a crop, and crops without any."""
    mask = np.full((90, 180), X, np.uint8)
    mask[10:30, 20:50], mask[40:60, 30:40] = 1, 2
    shares = {}
    for name in ("RandomCrop", "LabelledRandomCrop"):
        transform = TRANSFORMS.build({"type": name, "crop_size": (45, 60), "cat_max_ratio": 0.75})
        np.random.seed(0)  # noqa: NPY002
        found = [(transform(sample(mask))["gt_seg_map"] != X).sum() for _ in range(200)]
        shares[name] = np.mean(found) / (mask != X).sum()
    assert shares["LabelledRandomCrop"] > 1.4 * shares["RandomCrop"]


def test_crop_prefers_two_classes_when_asked() -> None:
    mask = np.full((60, 90), X, np.uint8)
    mask[5, 5:45] = 1  # one class alone on the left, two balanced ones on the right
    mask[50, 70:80:2], mask[50, 71:80:2] = 2, 3
    shows_two = []
    for ratio in (1.0, 0.75):
        cfg = {"type": "LabelledRandomCrop", "crop_size": (15, 15), "cat_max_ratio": ratio}
        transform = TRANSFORMS.build(cfg)
        np.random.seed(1)  # noqa: NPY002
        crops = [transform(sample(mask))["gt_seg_map"] for _ in range(100)]
        shows_two.append(sum(len(np.unique(c[c != X])) > 1 for c in crops))
    assert shows_two[0] < 60
    assert shows_two[1] > 80


def test_crop_without_labels_or_mask_is_the_parents() -> None:
    empty = np.full((60, 90), X, np.uint8)
    cfg = {"crop_size": (20, 30), "cat_max_ratio": 0.75}
    assert (run({"type": "LabelledRandomCrop", **cfg}, empty)["gt_seg_map"] == X).all()
    bare = {"img": np.zeros((60, 90, 3), np.uint8), "img_shape": (60, 90)}
    out = TRANSFORMS.build({"type": "LabelledRandomCrop", **cfg})(bare)
    assert out["img"].shape == (20, 30, 3)


def test_pipeline_of_all_three_loses_no_image() -> None:
    """Five labels an image: after scale and crop every sample still trains on something."""
    steps = [
        TRANSFORMS.build(cfg)
        for cfg in (
            {
                "type": "SparseRandomResize",
                "scale": (90, 60),
                "ratio_range": (0.5, 2.0),
                "keep_ratio": True,
            },
            {"type": "LabelledRandomCrop", "crop_size": (30, 40), "cat_max_ratio": 0.75},
            {"type": "RandomFlip", "prob": 0.5},
        )
    ]
    np.random.seed(7)  # noqa: NPY002
    for seed in range(40):
        results = sample(sparse(5, seed=seed))
        for step in steps:
            results = step(results)
        assert (results["gt_seg_map"] != X).any()
