"""Speed of superpixels by library, with threads or processes, and from the cache.

    python benchmarks/bench_slic.py [--quick]

Three questions, one table each: (1) scikit-image against OpenCV's SLIC (only where OpenCV has its
contrib modules), time per image and achievable segmentation accuracy (share of pixels that are
right when every unit gets its dominant true class); (2) a pool of images one after another, by
threads and by spawned processes; (3) the disk cache: computing, reading, and a second round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _common import print_table, timed, write_result

from regional_al.partitions import SlicPartition, slic
from regional_al.partitions.superpixels import default_segments, default_workers
from regional_al.store.images import write_png
from regional_al.testing.streets import make_scene
from regional_al.types import I32, U8, PoolItem

Row = dict[str, Any]


def opencv(image: U8, algorithm: str) -> I32:
    """OpenCV's SLIC or SLICO at the same segment size, in CIELAB, 10 iterations."""
    import cv2

    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    made = cv2.ximgproc.createSuperpixelSLIC(lab, getattr(cv2.ximgproc, algorithm), 32, 10.0)
    made.iterate(10)
    made.enforceLabelConnectivity(25)
    return np.asarray(made.getLabels(), dtype=np.int32)


def has_ximgproc() -> bool:
    try:
        import cv2
    except ImportError:
        return False
    cv2.setNumThreads(1)
    return hasattr(cv2, "ximgproc")


def accuracy(ids: I32, labels: U8) -> float:
    """Achievable segmentation accuracy over the pixels that are not void."""
    known = labels != 255
    counts = np.bincount(ids[known].astype(np.int64) * 256 + labels[known])
    counts = np.pad(counts, (0, -counts.size % 256)).reshape(-1, 256)
    return float(counts.max(axis=1).sum() / known.sum())


def libraries(sizes: list[tuple[int, int]]) -> list[Row]:
    """Question 1."""
    ways: dict[str, Callable[[U8], I32]] = {
        "scikit-image": lambda image: slic(image, default_segments(image.shape[:2]))
    }
    if has_ximgproc():
        ways["OpenCV SLIC"] = lambda image: opencv(image, "SLIC")
        ways["OpenCV SLICO"] = lambda image: opencv(image, "SLICO")
    rows: list[Row] = []
    for size in sizes:
        image, labels = make_scene("val", 3, size)
        for name, way in ways.items():
            ids = way(image)
            assert ids.shape == size
            assert np.array_equal(ids, way(image)), f"{name} is not deterministic"
            took = timed(lambda way=way, image=image: way(image), repeats=3, warmup=0)
            rows.append(
                {
                    "question": "library",
                    "size": f"{size[0]}x{size[1]}",
                    "way": name,
                    "units": int(ids.max()) + 1,
                    "accuracy": accuracy(ids, labels),
                    **took,
                }
            )
    return rows


def _one(index: int) -> I32:
    image = np.asarray(np.load(f"{_FOLDER}/{index}.npy"))
    return slic(image, default_segments(image.shape[:2]))


_FOLDER = ""


def _start(folder: str) -> None:
    global _FOLDER
    _FOLDER = folder


def parallel(count: int, size: tuple[int, int]) -> list[Row]:
    """Question 2. Processes load their images from disk, as they would have to; threads too."""
    workers = default_workers()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            np.save(f"{folder}/{index}.npy", make_scene("train", index, size)[0])
        _start(folder)
        spawn = multiprocessing.get_context("spawn")
        ways: dict[str, Callable[[], Executor | None]] = {
            "one after another": lambda: None,
            f"{workers} threads": lambda: ThreadPoolExecutor(workers),
            f"{workers} processes": lambda: ProcessPoolExecutor(
                workers, spawn, initializer=_start, initargs=(folder,)
            ),
        }
        rows, first = [], None
        for name, make in ways.items():
            seconds = []
            for _ in range(3):
                start, pool = time.perf_counter(), make()
                if pool is None:
                    out = [_one(index) for index in range(count)]
                else:
                    with pool:
                        out = list(pool.map(_one, range(count)))
                seconds.append(time.perf_counter() - start)
                first = first or out
                assert all(map(np.array_equal, out, first)), f"{name} gives other units"
            median = float(np.median(seconds))
            rows.append(
                {
                    "question": "parallel",
                    "size": f"{size[0]}x{size[1]}",
                    "way": name,
                    "images": count,
                    "median_s": median,
                    "images_per_s": count / median,
                }
            )
    return rows


def cached(count: int, size: tuple[int, int]) -> list[Row]:
    """Question 3."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = []
        for index in range(count):
            path = folder / "images" / f"{index}.png"
            write_png(path, make_scene("train", index, size)[0])
            items.append(PoolItem(str(index), path, None, size))
        first = SlicPartition(cache_dir=folder)
        start = time.perf_counter()
        first.prepare(items)
        compute = time.perf_counter() - start
        start = time.perf_counter()
        first.prepare(items)
        again = time.perf_counter() - start
        new = SlicPartition(cache_dir=folder)
        start = time.perf_counter()
        new.prepare(items)
        hashed = time.perf_counter() - start
        for item in items[:2]:
            fresh = SlicPartition(cache_dir=folder / "other").ids(item)
            assert np.array_equal(new.ids(item), fresh), "the cache gives other units"
        start = time.perf_counter()
        for item in items:
            new.ids(item)
        read = time.perf_counter() - start
        stored = sum(p.stat().st_size for p in first.folder.iterdir())
    stages = {
        "prepare, nothing cached": compute,
        "prepare, new process": hashed,
        "prepare, next round": again,
        "read a map": read,
    }
    return [
        {
            "question": "cache",
            "size": f"{size[0]}x{size[1]}",
            "way": stage,
            "images": count,
            "ms_per_image": 1000 * seconds / count,
            "kB_per_map": stored / count / 1000,
        }
        for stage, seconds in stages.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    quick = parser.parse_args().quick
    sizes = [(180, 240), (360, 480)] if quick else [(180, 240), (512, 1024), (1024, 2048)]
    tables = [
        libraries(sizes),
        parallel(4 if quick else 16, (360, 480)),
        cached(4 if quick else 12, (180, 240) if quick else (512, 1024)),
    ]
    for rows in tables:
        print_table(rows)
        print()
    if not quick:
        print(write_result("slic", [row for rows in tables for row in rows]))


if __name__ == "__main__":
    main()
