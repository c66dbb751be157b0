"""A tiny data set and config for the tests of the mmseg0 engine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regional_al import engines
from regional_al.engines.base import Engine, FitRequest
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.types import ImageAnswer

CLASSES = ("left", "right", "low")
CONFIG = """
import os
crop = (64, 64)
norm_img = dict(mean=[120., 120., 120.], std=[60., 60., 60.], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='Resize', img_scale=(128, 96), ratio_range=(0.75, 1.5)),
    dict(type='RandomCrop', crop_size=crop, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
    dict(type='Normalize', **norm_img),
    dict(type='Pad', size=crop, pad_val=0, seg_pad_val=255),
    dict(type='DefaultFormatBundle'), dict(type='Collect', keys=['img', 'gt_semantic_seg'])]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(100, 75), flip=False, transforms=[
        dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'),
        dict(type='Normalize', **norm_img), dict(type='Pad', size_divisor=4),
        dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]
dataset = dict(
    type='CustomDataset', data_root='ROOT', img_suffix='_img.png', seg_map_suffix='_gt.png',
    classes=('left', 'right', 'low'), palette=[[9, 0, 0], [0, 9, 0], [0, 0, 9]])
data = dict(
    samples_per_gpu=2, workers_per_gpu=0,
    train=dict(pipeline=train_pipeline, img_dir='img/train', ann_dir='gt/train', **dataset),
    val=dict(pipeline=test_pipeline, img_dir='img/val', ann_dir='gt/val', **dataset),
    test=dict(pipeline=test_pipeline, img_dir='img/val', ann_dir='gt/val', **dataset))
norm = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder', pretrained=None,
    backbone=dict(
        type='UNet', in_channels=3, base_channels=8, num_stages=3, strides=(1, 1, 1),
        enc_num_convs=(1, 1, 1), dec_num_convs=(1, 1), downsamples=(True, True),
        enc_dilations=(1, 1, 1), dec_dilations=(1, 1), norm_cfg=norm),
    decode_head=dict(
        type='FCNHead', in_channels=8, in_index=2, channels=8, num_convs=1, concat_input=False,
        dropout_ratio=0.1, num_classes=3, norm_cfg=norm, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(
        type='FCNHead', in_channels=16, in_index=1, channels=8, num_convs=1, concat_input=False,
        num_classes=3, norm_cfg=norm, align_corners=False,
        loss_decode=[dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)]),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
optimizer = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.0005)
optimizer_config = dict()
lr_config = dict(policy='poly', power=0.9, min_lr=1e-4, by_epoch=False)
runner = dict(type='IterBasedRunner', max_iters=8)
checkpoint_config = dict(by_epoch=False, interval=400)
evaluation = dict(interval=400, metric='mIoU', pre_eval=True)
log_config = dict(interval=1, hooks=[dict(type='TextLoggerHook', by_epoch=False)])
dist_params = dict(backend='nccl')
log_level = 'INFO'
load_from = None
resume_from = None
workflow = [('train', 1)]
cudnn_benchmark = True
gpu_ids = range(0, 4)
acquisition = dict(level='region', heuristic='RIPU')
"""


def make_data(root: Path, train: int = 5, val: int = 3) -> None:
    """Images whose colours give their class away; two sizes; a void stripe on top."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            height, width = (96, 128) if i % 2 else (90, 122)
            mask = np.zeros((height, width), np.uint8)
            mask[:, width // 2 :] = 1
            mask[height // 2 :] = 2
            mask[:5] = 255
            noise = rng.integers(0, 40, (height, width, 3))
            image = (np.minimum(mask, 2)[..., None] * 90 + noise).astype(np.uint8)
            write_png(root / "img" / split / "town" / f"{i:02d}_img.png", image)
            write_png(root / "gt" / split / "town" / f"{i:02d}_gt.png", mask)


def write_config(root: Path, more: str = "") -> Path:
    """The tiny config, with lines added at its end."""
    path = root / "tiny.py"
    path.write_text(CONFIG.replace("ROOT", str(root)) + more)
    return path


def make_engine(root: Path, **options: Any) -> Engine:
    """The engine of the tiny config with overrides: `a__b=1` is a.b=1."""
    keys = {key.replace("__", "."): value for key, value in options.items()}
    return engines.load(root / "tiny.py", keys, root / "work").build()


def label_some(store: LabelStore, engine: Engine, images: int, share: float = 0.05) -> None:
    """Label a random share of the pixels of the first images."""
    rng = np.random.default_rng(1)
    for item in engine.pool[:images]:
        assert item.annotation is not None
        truth = read_ids(item.annotation)
        store.write(ImageAnswer(item.key, truth, rng.random(truth.shape) < share), 0)


def fit_once(engine: Engine, store: LabelStore, out: Path, **request: Any) -> Any:
    """engine.fit into a fresh folder."""
    out.mkdir(parents=True, exist_ok=True)
    request.setdefault("round", 0)
    request.setdefault("seed", 3)
    return engine.fit(FitRequest(store=store, out_dir=out, **request))


def logged(folder: Path) -> list[dict[str, Any]]:
    """What TextLoggerHook wrote, one entry an iteration or evaluation."""
    (path,) = folder.glob("*.log.json")
    return [line for line in map(json.loads, path.read_text().splitlines()) if "mode" in line]


def weights_hash(checkpoint: Path) -> str:
    """Hash of all weights and buffers of a checkpoint."""
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].numpy().tobytes())
    return digest.hexdigest()
