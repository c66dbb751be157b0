"""The round of `gpu.py`: what acquisition adds to the forward passes over a pool.

The network is a ResNet-18 with an output stride of 8 and a 1x1 head (random weights), as small as
segmentation networks get, so that the share of acquisition is not flattered; the images are in GPU
memory, so that reading them hides nothing. All images have labels from an earlier round. `added`
is the time of a whole query (score, select, write) less that of the forward passes alone.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from bench_kernels import wavy_regions
from torch import Tensor, nn

from regional_al.acquisition import scorer
from regional_al.acquisition.acquirer import Acquirer
from regional_al.config import parse
from regional_al.engines.torch import TorchEngine
from regional_al.runtime.progress import Stopwatch
from regional_al.store.labels import LabelStore
from regional_al.types import ImageAnswer, LabelSpace, PoolItem, PredictRequest

CLASSES = 19
SPACE = LabelSpace.plain(tuple(f"c{i}" for i in range(CLASSES)), ((0, 0, 0),) * CLASSES)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # the CPU for a trial of this script


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride, dilation, dilation, bias=False)
        self.second = nn.Conv2d(out, out, 3, 1, dilation, dilation, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(out), nn.BatchNorm2d(out)])
        change = channels != out or stride != 1
        self.shortcut = nn.Conv2d(channels, out, 1, stride) if change else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = nnf.relu(self.norms[0](self.first(x)))
        return nnf.relu(self.norms[1](self.second(y)) + self.shortcut(x))


class Net(nn.Module):
    """ResNet-18, output stride 8, and a linear head; logits of the image's size."""

    def __init__(self, half: bool) -> None:
        super().__init__()
        stages = [(64, 1, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4)]
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for out, stride, dilation in stages:
            layers += [Block(channels, out, stride, dilation), Block(out, out, 1, dilation)]
            channels = out
        self.body = nn.Sequential(*layers, nn.Conv2d(512, CLASSES, 1))
        self.half_precision = half

    def forward(self, image: Tensor) -> Tensor:
        cast = torch.autocast(DEVICE, torch.bfloat16) if self.half_precision else nullcontext()
        with cast:
            small = self.body(image)
        size = image.shape[-2:]
        return nnf.interpolate(small.float(), size, mode="bilinear", align_corners=False) * 20


@dataclasses.dataclass
class InMemory(TorchEngine):
    """A pool whose images are in GPU memory; the model is built once."""

    images: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    model: nn.Module | None = None

    def _image(self, item: PoolItem) -> Tensor:
        return self.images[item.key].float() / 127.5 - 1

    def _load(self, checkpoint: Path | None) -> nn.Module:
        assert self.model is not None
        return self.model


WAYS: dict[str, dict[str, Any]] = {
    "region, RIPU over superpixels, 1 % of the pool": {
        "heuristic": "RIPU",
        "region": {"type": "precomputed", "folder": "", "suffix": ".npy"},
        "budget": {"amount": "1%", "unit": "pixel", "scope": "pool"},
    },
    "region, RIPU over 3x3 windows, 1 % of every image": {
        "heuristic": "RIPU",
        "region": {"type": "window", "radius": 1},
        "budget": {"amount": "1%", "unit": "pixel", "scope": "image"},
    },
    "pixel, margin, 20 of every image": {
        "level": "pixel",
        "heuristic": "Margin",
        "budget": {"amount": 20, "unit": "pixel", "scope": "image"},
    },
    "image, entropy": {"level": "image", "heuristic": "Entropy", "budget": 2},
}


def engine_of(folder: Path, shape: tuple[int, int], count: int, half: bool) -> InMemory:
    """`count` images of smooth noise, region maps and labels of an earlier round."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    engine = InMemory(nn.Module, [], [], SPACE, device=DEVICE)
    torch.manual_seed(0)
    engine.model = Net(half).to(DEVICE).eval()
    ids, _ = wavy_regions(*shape, 2000)
    store = LabelStore(folder / "labels")
    answered = np.zeros(shape, bool)
    answered[::37, ::11] = True
    (folder / "maps").mkdir(parents=True)
    pool = []
    for number in range(count):
        key = f"image_{number:03d}"
        coarse = torch.rand(
            1, 3, shape[0] // 16, shape[1] // 16, generator=generator, device=DEVICE
        )
        picture = nnf.interpolate(coarse, shape, mode="bicubic")[0].clamp(0, 1) * 255
        engine.images[key] = picture.to(torch.uint8)
        pool.append(PoolItem(key, folder / f"{key}.png", None, shape))
        np.save(folder / "maps" / f"{key}.npy", ids.numpy())
        store.write(ImageAnswer(key, np.zeros(shape, np.uint8), answered), 0)
    engine.pool = pool
    return engine


def round_rows(folder: Path, quick: bool, timed: Callable[..., dict[str, float]]) -> list[Any]:
    """Time of the forward passes and of whole queries, per image."""
    rows = []
    sizes = [((512, 1024), 16)] if quick else [((512, 1024), 32), ((1024, 2048), 16)]
    for shape, count in sizes:
        for half in (False, True):
            place = folder / f"{shape[0]}_{half}"
            engine = engine_of(place, shape, count, half)

            def forward(engine: InMemory = engine, count: int = count) -> None:
                for prediction in engine.predict(None, range(count), PredictRequest()):
                    del prediction

            alone = timed(forward, 5, 2)["median_s"] / count * 1e3
            for what, way in WAYS.items():
                row = {
                    "what": what,
                    "size": f"{shape[0]}x{shape[1]}",
                    "network": "ResNet-18-D8, " + ("bfloat16" if half else "float32"),
                    "forward_ms": alone,
                }
                for name, beside in (("", True), ("serial_", False)):
                    spent = query_ms(engine, place, way, beside, timed) / count
                    row[f"{name}added_ms"] = spent - alone
                    row[f"{name}share_percent"] = 100 * (spent - alone) / alone
                rows.append(row)
            shutil.rmtree(place)
    return rows


def query_ms(
    engine: InMemory, place: Path, way: dict[str, Any], beside: bool, timed: Callable[..., Any]
) -> float:
    """Milliseconds of one query; beside: work on an image during the next forward pass."""
    raw: dict[str, Any] = {"previews": 0, **way}
    if raw.get("region", {}).get("type") == "precomputed":
        raw["region"] = {**raw["region"], "folder": str(place / "maps")}
    acquirer = Acquirer(engine, parse(raw), LabelStore(place / "labels"), place)
    acquirer.prepare()
    usual = scorer.apart
    scorer.apart = usual if beside else lambda prediction: False

    def query() -> None:
        shutil.rmtree(acquirer.files.round(1), ignore_errors=True)
        if acquirer.query(1, None, Stopwatch(), warm=False) is None:
            raise SystemExit("nothing was selected")

    try:
        found: float = timed(query, 3, 1)["median_s"] * 1e3
    finally:
        scorer.apart = usual
    return found
