"""How many sparse labels reach the loss with mmseg's own training pipelines, and with ours.

    .venv/bin/python benchmarks/label_share.py [--quick]

Pipelines as configs of MMSegmentation 1.x write them, without colours and loading, on street scenes
of which 1 % of the pixels are labelled: single pixels, 3x3 windows on borders of classes, or whole
superpixels. `kept` is acquisition.keep_pipeline=True, `replaced` what a run does without it.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import mmseg
import numpy as np
from _common import print_table, write_result
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import TRANSFORMS
from mmseg.utils import register_all_modules

from regional_al.engines.mmseg.pipelines import replace_lossy
from regional_al.engines.mmseg1 import datasets
from regional_al.engines.specs import type_name
from regional_al.partitions import slic
from regional_al.testing.streets import make_scene
from regional_al.types import U8, UNLABELED

CONFIGS = {
    "cityscapes 512x1024": ("fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py", (1024, 2048)),
    "ade20k 512x512": ("segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py", (512, 683)),
    "choice of sizes, 512x512": (
        "mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
        (512, 683),
    ),
}
SHARE = 0.01
OTHERS = ("Load", "Pack", "PhotoMetric", "RandomFlip")


def labels(truth: U8, image: U8, kind: str, rng: np.random.Generator) -> U8:
    """The scene's labels, of which about 1 % of the pixels are left."""
    shown = np.zeros(truth.shape, bool)
    wanted = SHARE * truth.size
    if kind == "pixels":
        shown.flat[rng.choice(truth.size, int(wanted), replace=False)] = True
    elif kind == "windows":
        border = np.zeros(truth.shape, bool)
        border[:, 1:] |= truth[:, 1:] != truth[:, :-1]
        border[1:] |= truth[1:] != truth[:-1]
        places = np.argwhere(border)
        for y, x in places[rng.permutation(len(places))]:
            if shown.sum() >= wanted:
                break
            shown[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = True
    else:
        ids = slic(image, n_segments=truth.size // 1024)
        for one in rng.permutation(int(ids.max()) + 1):
            if shown.sum() >= wanted:
                break
            shown |= ids == one
    return np.where(shown, truth, UNLABELED).astype(np.uint8)


def share(pipeline: list[Any], scenes: list[tuple[U8, U8]], draws: int) -> tuple[float, float]:
    """(labels after / labels before, samples that show none / samples)."""
    steps = [TRANSFORMS.build(copy.deepcopy(step)) for step in pipeline]
    np.random.seed(0)  # noqa: NPY002 - what mmengine seeds
    before = after = empty = 0
    for image, mask in scenes:
        for _ in range(draws):
            data: Any = {
                "img": image,
                "img_shape": mask.shape,
                "gt_seg_map": mask,
                "seg_fields": ["gt_seg_map"],
            }
            for step in steps:
                data = step(data)
            left = int((data["gt_seg_map"] != UNLABELED).sum())
            before, after = before + int((mask != UNLABELED).sum()), after + left
            empty += left == 0
    return after / before, empty / (draws * len(scenes))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    register_all_modules(init_default_scope=False)
    init_default_scope("mmseg")
    count, draws = (2, 5) if quick else (5, 20)
    rows = []
    for name, (path, size) in CONFIGS.items():
        folder = Path(mmseg.__file__).parent / ".mim" / "configs"
        cfg = Config.fromfile(str(folder / path), import_custom_modules=False)
        stock = [
            step.to_dict()
            for step in cfg.train_dataloader.dataset.pipeline
            if not type_name(step).startswith(OTHERS)
        ]
        ours = copy.deepcopy(stock)
        replace_lossy([{"pipeline": ours}], name, datasets.SUBSTITUTES, datasets.is_stock, False)
        for kind in ("pixels", "windows", "superpixels"):
            rng, scenes = np.random.default_rng(0), []
            for index in range(count):
                image, truth = make_scene("train", index, size)
                scenes.append((image, labels(truth, image, kind, rng)))
            row: dict[str, Any] = {"pipeline": name, "labels": kind}
            for which, pipeline in (("kept", stock), ("replaced", ours)):
                row[which], row[f"{which}_empty"] = share(pipeline, scenes, draws)
            rows.append(row)
    print_table(rows)
    write_result("label_share_quick" if quick else "label_share", rows, draws=draws, scenes=count)


if __name__ == "__main__":
    main()
