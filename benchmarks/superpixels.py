"""SLIC against SEEDS superpixels on real images: time, and how well they follow the classes.

    python benchmarks/superpixels.py FOLDER... [--images 100]

Every FOLDER has images/train/*.png and annotations/train/*.png, as tools/prepare_camvid.py makes
them. SEEDS is that of OpenCV's contrib modules (pip install opencv-contrib-python-headless, in an
environment without another OpenCV), with several numbers of levels, weights of its smoothness prior
and iterations. At about equal numbers of superpixels: milliseconds per image; achievable
segmentation accuracy (share of the pixels that are right when every superpixel gets its dominant
class); boundary recall (share of the pixels at a boundary between classes that have a boundary of
superpixels among themselves and their eight neighbours).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import print_table, timed, write_result
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage  # type: ignore[import-untyped]

from regional_al.partitions import slic
from regional_al.types import I32, U8

VOID = 255
SEGMENT = 216
"""Pixels a superpixel: 200 of them at 180x240, as in the grids."""
SETTINGS = [(2, 2, 4), (3, 2, 4), (4, 2, 4), (4, 1, 4), (4, 3, 4), (4, 2, 10), (4, 2, 40)]
"""Levels, prior, iterations of SEEDS."""


def seeds(image: U8, count: int, levels: int, prior: int, iterations: int) -> I32:
    """OpenCV's SEEDS in CIELAB, with its default of 5 bins of a histogram."""
    import cv2

    contrib: Any = cv2
    height, width, channels = image.shape
    made = contrib.ximgproc.createSuperpixelSEEDS(width, height, channels, count, levels, prior, 5)
    made.iterate(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), iterations)
    return np.asarray(made.getLabels(), dtype=np.int32)


def accuracy(ids: I32, labels: U8) -> float:
    """Achievable segmentation accuracy over the pixels that are not void."""
    known = labels != VOID
    counts = np.zeros((int(ids.max()) + 1, VOID), np.int64)
    np.add.at(counts, (ids[known], labels[known]), 1)
    return float(counts.max(axis=1).sum() / known.sum())


def boundaries(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels that differ from the one above or to the left."""
    found = np.zeros(ids.shape, bool)
    found[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    found[1:] |= ids[1:] != ids[:-1]
    return found


def recall(ids: I32, labels: U8) -> float:
    """Boundary recall within one pixel."""
    wanted = boundaries(labels)
    near = ndimage.binary_dilation(boundaries(ids), np.ones((3, 3)))
    return float((wanted & near).sum() / max(1, wanted.sum()))


def all_of(way: Callable[[U8], I32], pairs: list[tuple[U8, U8]]) -> list[I32]:
    """The superpixels of all images."""
    return [way(image) for image, _ in pairs]


def compare(folder: Path, images: int) -> list[dict[str, Any]]:
    """A row for each way, over the same images, spread over the folder."""
    names = sorted(path.name for path in (folder / "images" / "train").glob("*.png"))
    names = names[:: max(1, len(names) // images)][:images]
    pairs = [
        (
            np.asarray(Image.open(folder / "images" / "train" / name).convert("RGB")),
            np.asarray(Image.open(folder / "annotations" / "train" / name)),
        )
        for name in names
    ]
    height, width = pairs[0][1].shape
    count = round(height * width / SEGMENT)
    ways: dict[str, Callable[[U8], I32]] = {"SLIC": partial(slic, n_segments=count)}
    for levels, prior, iterations in SETTINGS:
        ways[f"SEEDS, {levels} levels, prior {prior}, {iterations} iterations"] = partial(
            seeds, count=count, levels=levels, prior=prior, iterations=iterations
        )
    rows: list[dict[str, Any]] = []
    for name, way in ways.items():
        made = all_of(way, pairs)
        assert all(np.array_equal(ids, way(pairs[k][0])) for k, ids in enumerate(made[:3])), name
        took = timed(partial(all_of, way, pairs), repeats=3, warmup=0)
        rows.append(
            {
                "size": f"{height}x{width}",
                "way": name,
                "images": len(pairs),
                "superpixels": float(np.mean([len(np.unique(ids)) for ids in made])),
                "accuracy": float(
                    np.mean([accuracy(i, p[1]) for i, p in zip(made, pairs, strict=True)])
                ),
                "boundary_recall": float(
                    np.mean([recall(i, p[1]) for i, p in zip(made, pairs, strict=True)])
                ),
                "ms_per_image": 1000 * took["median_s"] / len(pairs),
            }
        )
        rows[-1]["times_faster"] = rows[0]["ms_per_image"] / rows[-1]["ms_per_image"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=100)
    given = parser.parse_args()
    import cv2

    cv2.setNumThreads(1)
    rows = [row for folder in given.folders for row in compare(folder, given.images)]
    print_table(rows)
    print(write_result("superpixels", rows, data="CamVid, training images", opencv=cv2.__version__))


if __name__ == "__main__":
    main()
