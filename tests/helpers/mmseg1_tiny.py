"""A tiny data set and config for the tests of the mmseg1 engine."""

from __future__ import annotations

import hashlib
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
default_scope = 'mmseg'
crop = (64, 64)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(128, 96), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(100, 75), keep_ratio=True),
    dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
dataset = dict(
    type='BaseSegDataset', data_root='ROOT', img_suffix='_img.png', seg_map_suffix='_gt.png',
    serialize_data=False,  # each serialisation collects garbage for half a second
    metainfo=dict(classes=('left', 'right', 'low'), palette=[[9, 0, 0], [0, 9, 0], [0, 0, 9]]))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline,
                 data_prefix=dict(img_path='img/train', seg_map_path='gt/train'), **dataset))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(pipeline=test_pipeline,
                 data_prefix=dict(img_path='img/val', seg_map_path='gt/val'), **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
norm = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[120., 120., 120.], std=[60., 60., 60.],
        bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=crop,
        test_cfg=dict(size_divisor=4)),
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
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.0005))
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=8, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=8, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'), param_scheduler=dict(type='ParamSchedulerHook'),
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
               dist_cfg=dict(backend='nccl'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
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


def weights_hash(checkpoint: Path) -> str:
    """Hash of all weights and buffers of a checkpoint."""
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].numpy().tobytes())
    return digest.hexdigest()
