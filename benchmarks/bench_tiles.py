"""Tiles of a large image: the memory of a whole run, and what tiles change.

python benchmarks/bench_tiles.py [--side 20000] [--quick]

A run of `regional-al train` with tiles=1024 (scoring by RIPU over grid cells, the query, oracle
answers for 1 % of the pixels, two training iterations of a small U-Net, evaluation) on one square
image, and the same run on an image of two by two tiles: what the model and a tile need by
themselves. Peak resident memory of each process, its seconds by stage. Before that: an image that
fits is predicted whole and by tiles with more and more context; logits and picks are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import print_table, write_result
from PIL import Image

from regional_al import engines
from regional_al.functional import ripu
from regional_al.kernels import region_mean
from regional_al.partitions import grid
from regional_al.store.images import read_ids, read_rgb, write_png
from regional_al.testing import streets
from regional_al.types import PredictRequest

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/plain_folder/region_ripu_slic.py"
NETWORK = """
_base_ = {base!r}
norm = dict(type="BN", requires_grad=True)
model = dict(
    backbone=dict(
        _delete_=True, type="UNet", in_channels=3, base_channels=8, num_stages=3,
        strides=(1, 1, 1), enc_num_convs=(1, 1, 1), dec_num_convs=(1, 1),
        downsamples=(True, True), enc_dilations=(1, 1, 1), dec_dilations=(1, 1), norm_cfg=norm),
    decode_head=dict(
        _delete_=True, type="FCNHead", in_channels=8, in_index=2, channels=8, num_convs=1,
        concat_input=False, num_classes=11, norm_cfg=norm, align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True)))
"""
"""A small network, so that the size of the image is what takes time."""
SMALL, TILE, CELL = 2048, 1024, 32
SHARE = 0.01


def mosaic(scenes: Path, root: Path, side: int) -> None:
    """A data set of one square image of `side`, made of street scenes, and a small one to
    evaluate."""
    images = sorted((scenes / "images/train").glob("*"))
    masks = sorted((scenes / "annotations/train").glob("*.png"))
    width = int(len(images) ** 0.5)
    for kind, files, suffix in (("images", images, ".jpg"), ("annotations", masks, ".png")):
        read: Any = read_rgb if kind == "images" else read_ids
        rows = [
            np.concatenate([read(path) for path in files[i : i + width]], axis=1)
            for i in range(0, width * width, width)
        ]
        cell = np.concatenate(rows)
        times = -(-side // cell.shape[0])
        whole = np.tile(cell, (times, times, 1)[: cell.ndim])[:side, :side]
        for split, pixels in (("train", whole), ("val", whole[:512, :512])):
            path = root / kind / split / f"a{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "images":
                Image.fromarray(pixels).save(path, quality=90)
            else:
                write_png(path, np.ascontiguousarray(pixels))


def train(root: Path, out: Path) -> dict[str, Any]:
    """A run as a process of its own: its peak resident memory and seconds."""
    acquisition: dict[str, Any] = {
        "level": "region",
        "heuristic": "RIPU",
        "region": {"type": "grid", "cell": CELL},
        "budget": {"amount": f"{SHARE:.0%}", "unit": "pixel", "scope": "pool"},
        "tiles": TILE,
        "warm_start": None,
        "queries": [0],
        "rounds": 1,
        "previews": 0,
    }
    options = [
        f"acquisition.{key}={json.dumps(value) if isinstance(value, (dict, list)) else value}"
        for key, value in acquisition.items()
    ]
    config = root / "config.py"
    config.write_text(NETWORK.format(base=str(CONFIG)))
    code = "import sys; from regional_al.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "train", str(config), "--work-dir", str(out)]
    command += ["--no-report", "--cfg-options", "train_cfg.max_iters=2", *options]
    environment = {**os.environ, "PLAIN_FOLDER_ROOT": str(root)}
    start = time.perf_counter()
    with (out.parent / f"{out.name}.log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"the run failed:\n{Path(f'{out}.log').read_text()[-2000:]}")
    records = json.loads((out / "results.json").read_text())["records"]
    seconds: dict[str, float] = {}
    for record in records:
        for stage, spent in record["seconds"].items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    return {
        "peak_mb": usage.ru_maxrss / 1024,
        "total_s": time.perf_counter() - start,
        **{f"{stage}_s": spent for stage, spent in seconds.items()},
        "tiles": len(list((out / "cache/tiles").rglob("image/*.png"))),
        "disk_mb": sum(p.stat().st_size for p in (out / "cache").rglob("*.png")) / 2**20,
        "answered_pixels": records[-1]["pixels"],
    }


def compared(root: Path, side: int) -> list[dict[str, Any]]:
    """An image predicted whole and by tiles of half its size."""
    os.environ["PLAIN_FOLDER_ROOT"] = str(root)
    whole = built(root, None)
    expected = next(whole.predict(None, [0], PredictRequest())).logits
    found = []
    for context in (0, 64, 128, 256):
        engine = built(root, {"size": side // 2, "context": context})
        logits = np.zeros(tuple(expected.shape), np.float32)
        for seen in engine.predict(None, range(len(engine.pool)), PredictRequest()):
            row, col = engine.pool[seen.index].key.rpartition("/")[2][1:].split("_c")
            height, width = seen.logits.shape[-2:]
            top, left = int(row), int(col)
            logits[:, top : top + height, left : left + width] = seen.logits.numpy()
        tiled = expected.new_tensor(logits)
        differ = (tiled - expected).abs()
        picks = [best(each) for each in (expected, tiled)]
        found.append(
            {
                "side": side,
                "tile": side // 2,
                "context": context,
                "logit_spread": float(expected.std()),
                "median_difference": float(differ.median()),
                "largest_difference": float(differ.max()),
                "same_class": float((tiled.argmax(0) == expected.argmax(0)).float().mean()),
                "same_cells_picked": len(picks[0] & picks[1]) / len(picks[0]),
            }
        )
    return found


def best(logits: Any) -> set[int]:
    """The grid cells that RIPU asks for first, 1 % of all."""
    ids = grid(tuple(logits.shape[1:]), CELL)
    cells = int(ids.max()) + 1
    scores = region_mean(ripu(logits, 1), logits.new_tensor(ids).long(), cells)
    return set(scores.argsort(descending=True)[: max(1, int(cells * SHARE))].tolist())


def built(root: Path, tiles: Any) -> Any:
    options = {"acquisition.tiles": tiles}
    return engines.load(CONFIG, options, root / f"work_{tiles and tiles['context']}").build()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=20000)
    parser.add_argument("--quick", action="store_true", help="an image of 4096 pixels a side")
    args = parser.parse_args()
    side = 4096 if args.quick else args.side
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = streets.generate(folder / "scenes", train=16, val=1, size=(512, 512))
        for length in (1024, SMALL, side):
            code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            code += "from pathlib import Path; from bench_tiles import mosaic\n"
            code += f"mosaic(Path({str(scenes)!r}), Path({str(folder / str(length))!r}), {length})"
            subprocess.run([sys.executable, "-c", code], check=True)  # its memory goes with it
        same = compared(folder / "1024", 1024)
        print_table(same)
        rows = [
            {"side": length, **train(folder / str(length), folder / f"run_{length}")}
            for length in (SMALL, side)
        ]
        rows[1]["above_small_mb"] = rows[1]["peak_mb"] - rows[0]["peak_mb"]
        rows[1]["image_mb"] = side * side * 3 / 2**20
        print_table(rows)
        suffix = "_quick" if args.quick else ""
        write_result(f"tiles{suffix}", rows, compared=same, tile=TILE, cell=CELL, share=SHARE)


if __name__ == "__main__":
    main()
