"""One small model with the same weights in either MMSegmentation: fixtures for `test_same_answer`.

    python tests/same_answer.py        makes tests/data/same_answer again, in the environment it is
                                       started in; the tests check it in both

The architecture is written down twice, in the two dialects; its state dict has the same keys in
both. The weights come from a formula, the images lie in the folder (made by the street generator).
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paths import TESTS

from regional_al import engines, functional
from regional_al.acquisition.acquirer import Acquirer
from regional_al.config import grammar
from regional_al.engines.base import Engine
from regional_al.runtime.progress import Stopwatch
from regional_al.store.images import read_ids, read_rgb, write_png
from regional_al.store.labels import LabelStore
from regional_al.testing import streets
from regional_al.types import ImageAnswer, Picks, PredictRequest

FOLDER = TESTS / "data" / "same_answer"
IMAGES = 4
NAMES = "('road', 'building', 'tree', 'car', 'sky')"
CASES: dict[str, dict[str, Any]] = {
    "image_entropy": {
        "level": "image",
        "heuristic": "Entropy",
        "budget": {"amount": 2, "unit": "image"},
    },
    "region_grid_entropy": {
        "level": "region",
        "heuristic": "Entropy",
        "region": {"type": "grid", "cell": 16},
        "budget": {"amount": 12, "unit": "region"},
    },
    "region_grid_ripu": {
        "level": "region",
        "heuristic": "RIPU",
        "region": {"type": "grid", "cell": 16},
        "budget": {"amount": 12, "unit": "region"},
    },
    "region_window_ripu": {
        "level": "region",
        "heuristic": "RIPU",
        "region": {"type": "window", "radius": 2},
        "budget": {"amount": 40, "unit": "region"},
    },
    "pixel_margin": {
        "level": "pixel",
        "heuristic": "Margin",
        "budget": {"amount": 15, "unit": "pixel", "scope": "image"},
    },
}

MODEL = """
norm = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='UNet', in_channels=3, base_channels=8, num_stages=3, strides=(1, 1, 1),
        enc_num_convs=(1, 1, 1), dec_num_convs=(1, 1), downsamples=(True, True),
        enc_dilations=(1, 1, 1), dec_dilations=(1, 1), norm_cfg=norm),
    decode_head=dict(
        type='FCNHead', in_channels=8, in_index=2, channels=8, num_convs=1, concat_input=False,
        dropout_ratio=0.1, num_classes=5, norm_cfg=norm, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
acquisition = dict(level='region', heuristic='RIPU')
"""
ONE = (
    MODEL
    + """
default_scope = 'mmseg'
model['data_preprocessor'] = dict(
    type='SegDataPreProcessor', mean=[110., 115., 120.], std=[60., 58., 56.], bgr_to_rgb=True,
    pad_val=0, seg_pad_val=255, size=(64, 96))
dataset = dict(
    type='BaseSegDataset', data_root='ROOT', img_suffix='.png', seg_map_suffix='.png',
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    metainfo=dict(classes=NAMES, palette=[[i, i, i] for i in range(5)]))
steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(120, 80), keep_ratio=True),
         dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(pipeline=steps, **dataset))
val_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(pipeline=steps, **dataset))
test_dataloader = val_dataloader
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
"""
)
ZERO = (
    MODEL
    + """
pixels = dict(mean=[110., 115., 120.], std=[60., 58., 56.], to_rgb=True)
dataset = dict(
    type='CustomDataset', data_root='ROOT', img_suffix='.png', seg_map_suffix='.png',
    img_dir='images', ann_dir='masks', classes=NAMES, palette=[[i, i, i] for i in range(5)])
test_steps = [dict(type='LoadImageFromFile'), dict(
    type='MultiScaleFlipAug', img_scale=(120, 80), flip=False, transforms=[
        dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'),
        dict(type='Normalize', **pixels), dict(type='ImageToTensor', keys=['img']),
        dict(type='Collect', keys=['img'])])]
steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
         dict(type='Normalize', **pixels), dict(type='DefaultFormatBundle'),
         dict(type='Collect', keys=['img', 'gt_semantic_seg'])]
data = dict(samples_per_gpu=2, workers_per_gpu=0, train=dict(pipeline=steps, **dataset),
            val=dict(pipeline=test_steps, **dataset), test=dict(pipeline=test_steps, **dataset))
optimizer = dict(type='SGD', lr=0.01)
optimizer_config = dict()
runner = dict(type='IterBasedRunner', max_iters=1)
"""
)


def weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight of a name: sines with a phase of the name's own, of a layer's usual size."""
    count = int(np.prod(shape, dtype=np.int64))
    phase = zlib.crc32(key.encode()) % 10007
    wave = np.sin(np.arange(1, count + 1) * 12.9898 + phase).reshape(shape)
    if key.endswith("conv_seg.weight"):
        wave = wave * 1.5
    elif len(shape) == 4:
        wave = wave * np.sqrt(4.0 / np.prod(shape[1:]))
    elif key.endswith("running_var"):
        wave = 1.0 + 0.3 * wave
    elif key.endswith("weight"):
        wave = 1.0 + 0.2 * wave
    else:
        wave = 0.2 * wave
    return torch.from_numpy(wave.astype(np.float32))


def make_engine(root: Path) -> Engine:
    """The engine of whichever MMSegmentation is installed, over the images of the fixture."""
    text = ZERO if engines.generation() == "mmseg0" else ONE
    config = root / "same.py"
    config.write_text(text.replace("ROOT", str(FOLDER)).replace("NAMES", NAMES))
    return engines.load(config, {}, root / "work").build()


def make_checkpoint(engine: Any, path: Path) -> Path:
    """The formula's weights for every weight of the engine's model."""
    state = engine.network(None).state_dict()
    torch.save(
        {
            "state_dict": {
                key: value
                if key.endswith("num_batches_tracked")
                else weight(key, tuple(value.shape))
                for key, value in state.items()
            }
        },
        path,
    )
    return path


def pixel_scores(engine: Engine, checkpoint: Path) -> np.ndarray:
    """Entropy of every pixel, float32 [images, H, W], nats."""
    found = engine.predict(checkpoint, range(len(engine.pool)), PredictRequest())
    return np.stack([functional.entropy(p.logits).numpy() for p in found]).astype(np.float32)


def picks(engine: Engine, checkpoint: Path, acquisition: dict[str, Any], work_dir: Path) -> Picks:
    """What a round asks for, with two labelled squares in the first image to stay clear of."""
    store = LabelStore(work_dir / "labels")
    height, width = engine.pool[0].shape
    answered = np.zeros((height, width), dtype=np.bool_)
    answered[:16, :16] = answered[32:48, 48:64] = True
    store.write(ImageAnswer(engine.pool[0].key, answered.astype(np.uint8), answered), 0)
    config = grammar.parse({**acquisition, "previews": 0})
    acquirer = Acquirer(engine, config, store, work_dir)
    acquirer.prepare()
    query = acquirer.query(1, checkpoint, Stopwatch(), warm=False)
    assert query is not None
    return query.picks


def make_images(folder: Path) -> None:
    """Street scenes as PNG, and masks of the first five of their classes."""
    with tempfile.TemporaryDirectory() as made:
        streets.generate(Path(made) / "s", train=IMAGES, val=1, size=(64, 96), seed=7)
        for index in range(IMAGES):
            name = f"train_{index:04d}"
            write_png(
                folder / "images" / f"{name}.png",
                read_rgb(Path(made) / "s" / "images" / "train" / f"{name}.jpg"),
            )
            ids = read_ids(Path(made) / "s" / "annotations" / "train" / f"{name}.png")
            write_png(folder / "masks" / f"{name}.png", np.minimum(ids, 4))


def main() -> int:
    """Write images, scores and picks."""
    make_images(FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        engine = make_engine(root)
        checkpoint = make_checkpoint(engine, root / "weights.pth")
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        (FOLDER / "keys.txt").write_text("\n".join(sorted(state)) + "\n")
        np.save(FOLDER / "entropy.npy", pixel_scores(engine, checkpoint), allow_pickle=False)
        for name, acquisition in CASES.items():
            found = picks(engine, checkpoint, acquisition, root / name)
            np.save(FOLDER / f"picks_{name}.npy", found, allow_pickle=False)
            print(name, len(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
