"""The tiny config of MMSegmentation 0.x; see mmseg_tiny.py."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg_tiny import EpochLoader, Options, Tiny

from regional_al.store.images import write_png

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


class Tiny0(Tiny):
    name = "mmseg0"
    config = CONFIG
    train_set = "data.train"
    val_set = "data.val"
    train_images = "data.train.img_dir"
    batch_size = "data.samples_per_gpu"
    train_workers = "data.workers_per_gpu"
    val_workers = "data.workers_per_gpu"
    iterations = "runner.max_iters"
    loop = "IterBasedRunner"
    drops_last = True
    checkpoint_keys = {"meta", "state_dict", "optimizer"}  # noqa: RUF012
    checkpoint_files = {"checkpoint.pth", "iter_8.pth", "latest.pth"}  # noqa: RUF012
    saved_rate = -1
    logged_precision = 5e-6
    last_line = "Iter [8/8]"

    def frozen(self) -> Options:
        return {"optimizer.lr": 0.0, "optimizer.weight_decay": 0.0, "lr_config": None}

    def policy(self, policy: str, **more: Any) -> Options:
        return {"lr_config": {"_delete_": True, "policy": policy, "by_epoch": False, **more}}

    def steps(self, milestones: Sequence[int], gamma: float) -> Options:
        return self.policy("step", step=list(milestones), gamma=gamma)

    def warm_up(self, iterations: int) -> Options:
        warm = {"warmup": "linear", "warmup_iters": iterations, "warmup_ratio": 1e-6}
        return self.policy("poly", power=1.0, **warm)

    def epochs(self, count: int) -> Options:
        return {
            "runner": {"_delete_": True, "type": "EpochBasedRunner", "max_epochs": count},
            "lr_config": {"_delete_": True, "policy": "step", "step": [count]},
            "log_config": {"interval": 1, "hooks": [{"type": "TextLoggerHook"}]},
        }

    def finite_sampler(self) -> Options:
        return {}  # there is no other

    def persistent_workers(self) -> Options:
        return {self.train_workers: 1, "data.persistent_workers": True}

    def poly(self, first: float, iterations: int) -> list[float]:
        shares = [(1 - i / iterations) ** 0.9 for i in range(iterations)]
        return [(first - 1e-4) * share + 1e-4 for share in shares]

    def segformer_rates(self, iterations: int) -> list[float]:
        from mmcv import Config
        from mmcv.runner import IterBasedRunner

        class Rates(torch.nn.Linear):
            def train_step(self, *_: Any) -> dict[str, Any]:
                rates.append(optimizer.param_groups[0]["lr"])
                return {}

        policy = self.policy("poly", power=1.0, min_lr=0.0)["lr_config"]
        policy.update(warmup="linear", warmup_iters=1500, warmup_ratio=1e-6)
        policy.pop("_delete_")
        runner = {"type": "IterBasedRunner", "max_iters": 160000}
        cfg = Config({"runner": runner, "lr_config": policy})
        self.part("fit").set_iterations(cfg, iterations)
        assert cfg.runner.max_iters == iterations
        rates: list[float] = []
        model = Rates(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        logger = logging.getLogger("rates")
        run = IterBasedRunner(model, optimizer=optimizer, logger=logger, max_iters=iterations)
        run.register_lr_hook(cfg.lr_config)
        run.run([[None] * iterations], [("train", 1)])
        return rates

    def records(self, folder: Path) -> list[dict[str, Any]]:
        """What TextLoggerHook wrote, one entry an iteration or evaluation."""
        (path,) = folder.glob("*.log.json")
        return [line for line in map(json.loads, path.read_text().splitlines()) if "mode" in line]

    def logged(self, folder: Path) -> list[dict[str, Any]]:
        return [line for line in self.records(folder) if line["mode"] == "train"]

    def saved_classes(self, content: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(content["meta"]["CLASSES"])

    def has_average(self, content: Mapping[str, Any]) -> bool:
        return any(key.startswith("ema_") for key in content["state_dict"])

    def epoch_loader(
        self, engine: Any, images: int, batch: int, drop_last: bool | None
    ) -> EpochLoader:
        cfg = copy.deepcopy(engine.cfg)
        cfg.data.samples_per_gpu = batch
        if drop_last is not None:
            cfg.data.train_dataloader = {"drop_last": drop_last}
        loader = self.part("loaders").train_loader(cfg, list(range(images)), 0, None)
        finite = len(list(loader.batch_sampler)) == len(loader)
        return EpochLoader(len(loader.dataset), loader.drop_last, finite)

    needed = ("model", "data", "optimizer", "runner")
    minimal = "data = dict(samples_per_gpu=2)\nrunner = dict()\n"
    resume = "auto_resume"
    train_list = "data.train.split"
    no_length = "no runner"
    wrong_mode = r"model\.test_cfg\.mode='hole'"
    training_mistakes = {  # noqa: RUF012
        "optimizer": ("optimizer = dict(type='NoOptimizer')", "NoOptimizer"),
        "scheduler": ("lr_config = dict(policy='nothing')", "lr_config.*Nothing"),
        "hooks": ("custom_hooks = ['x']", "custom_hooks holds 'x'"),
    }
    val_masks = "data.val.ann_dir"
    classes_key = "classes"
    half = "fp16"

    def unpadded(self) -> Options:
        views = {
            "type": "MultiScaleFlipAug",
            "img_scale": (101, 75),
            "transforms": [
                {"type": "Resize", "keep_ratio": False},
                {"type": "RandomFlip"},
                {"type": "ImageToTensor", "keys": ["img"]},
                {"type": "Collect", "keys": ["img"]},
            ],
        }
        return {"data.test.pipeline": [{"type": "LoadImageFromFile"}, views]}

    def without_length(self) -> Options:
        return {"runner": {"_delete_": True, "type": "IterBasedRunner"}}

    def classes(self, key: str, names: Sequence[str] | None) -> Options:
        return {f"{key}.classes": names}

    def uses_half(self, cfg: Any) -> bool:
        return cfg.fp16 is not None and cfg.optimizer_config.type == "Fp16OptimizerHook"

    refused_heads = ()
    averages_weighted = True

    def folders(self, images: str, masks: str | None) -> dict[str, Any]:
        return {"img_dir": images, "ann_dir": masks}

    def joined(self, specs: Sequence[Mapping[str, Any]]) -> Options:
        return {self.train_set: list(specs)}

    def step(self, engine: Any, model: Any, samples: Sequence[Any]) -> float:
        from mmcv.runner import build_optimizer

        collate = self.part("loaders").collated
        model = self.part("parallel").wrapped(model)
        optimizer = build_optimizer(model, copy.deepcopy(engine.cfg.optimizer))
        loss = model.train_step(collate(samples, samples_per_gpu=len(samples)), optimizer)["loss"]
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def head_losses(self, head: Any, logits: Any, target: torch.Tensor) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = head.losses(logits, target)
        return found

    def letters(
        self, folder: Path, chosen: Sequence[str] | None, reduce_zero_label: bool
    ) -> tuple[Sequence[Any], np.ndarray]:
        """By hand: the class map first, then `reduce_zero_label`; training and evaluation."""
        from mmseg.datasets import CustomDataset

        class Letters(CustomDataset):  # type: ignore[misc]
            CLASSES = ("a", "b", "c", "d")
            PALETTE = [[i, i, i] for i in range(4)]  # noqa: RUF012

        write_png(folder / "img" / "x.jpg", np.zeros((16, 16, 3), np.uint8))
        load = {"type": "LoadAnnotations", "reduce_zero_label": reduce_zero_label}
        dataset = Letters(
            [{"type": "LoadImageFromFile"}, load],
            img_dir=str(folder / "img"),
            ann_dir="gt",
            reduce_zero_label=reduce_zero_label,
            classes=chosen,
        )
        names = list(chosen or Letters.CLASSES)
        expected = []
        for raw in range(256):
            found = raw
            if chosen and raw < 4:
                letter = Letters.CLASSES[raw]
                found = names.index(letter) if letter in names else 255
            if reduce_zero_label:
                found = 255 if found in (0, 255) else found - 1
            expected.append(found if found < len(names) or found == 255 else -1)
        pool = self.part("pool")
        loads = (pool.loads_annotations(dataset), pool.loads_truth(dataset))
        return [pool.label_space(dataset, load) for load in loads], np.array(expected)

    one_channel = """
model['decode_head'].update(
    num_classes=2, out_channels=1, threshold=0.4,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
model['auxiliary_head'].update(num_classes=2)
for part in ('train', 'val', 'test'):
    data[part].update(classes=('up', 'low'), palette=[[0, 0, 0], [9, 9, 9]])
"""

    def test_input(
        self, engine: Any, width: int = 100, keep_ratio: bool = True, divisor: int = 4
    ) -> Options:
        pipeline = copy.deepcopy(engine.cfg.data.test.pipeline)
        views = pipeline[1]
        views.img_scale = (width, 75)
        views.transforms[0].keep_ratio = keep_ratio
        assert views.transforms[3].type == "Pad"
        views.transforms[3].size_divisor = divisor
        return {"data.test.pipeline": pipeline}

    unscaled = "test_pipeline[1].update(img_scale=None, img_ratios=1.0)\n"

    def validation_workers(self) -> Options:
        return {"data.val_dataloader": {"workers_per_gpu": 2}}

    def mmseg_model(self, engine: Any, checkpoint: Path, **test_cfg: Any) -> Any:
        from mmcv.cnn.utils import revert_sync_batchnorm
        from mmcv.runner import load_checkpoint
        from mmseg.models import build_segmentor

        spec = copy.deepcopy(engine.cfg.model)
        spec.test_cfg.update(test_cfg)
        model = revert_sync_batchnorm(build_segmentor(spec))
        load_checkpoint(model, str(checkpoint), map_location="cpu")
        return model.eval()

    def mmseg_answer(self, engine: Any, model: Any, item: Any) -> torch.Tensor:
        from mmseg.datasets.pipelines import Compose

        sample = Compose(engine.cfg.data.test.pipeline)(
            {"img_prefix": None, "img_info": {"filename": str(item.image)}, "seg_fields": []}
        )
        with torch.no_grad():
            found = model.inference(sample["img"][0][None], [sample["img_metas"][0].data], True)
        return found[0]

    def as_mmseg(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(0)

    def mmseg_counts(self, engine: Any, model: Any) -> tuple[np.ndarray, np.ndarray]:
        """By single_gpu_test and the data set, whose IoU they give."""
        from mmcv.parallel import MMDataParallel
        from mmseg.apis import single_gpu_test
        from mmseg.datasets import build_dataloader, build_dataset

        dataset = build_dataset(copy.deepcopy(engine.cfg.data.val), {"test_mode": True})
        loader = build_dataloader(
            dataset, 1, 0, dist=False, shuffle=False, persistent_workers=False
        )
        results = single_gpu_test(MMDataParallel(model), loader, pre_eval=True)
        inter, union, _, _ = (sum(column).numpy() for column in zip(*results, strict=True))
        told = dataset.evaluate(results, logger="silent")
        expected = [told[f"IoU.{name}"] for name in dataset.CLASSES]
        np.testing.assert_allclose(inter / union, expected, atol=1e-4)  # mmseg rounds
        return inter, union

    evaluating = "\nevaluation = dict(interval=4, metric='mIoU', save_best='mIoU')\n"
    evaluations = 2
    bases = {  # noqa: RUF012
        "fcn": "fcn/fcn_r50-d8_512x1024_40k_cityscapes.py",
        "deeplabv3plus": "deeplabv3plus/deeplabv3plus_r50-d8_512x1024_40k_cityscapes.py",
        "segformer": "segformer/segformer_mit-b0_512x512_160k_ade20k.py",
        "point_rend": "point_rend/pointrend_r50_512x1024_80k_cityscapes.py",
    }
    on_tiny_data = """
crop_size = (64, 64)
norm_img = dict(mean=[120., 120., 120.], std=[60., 60., 60.], to_rgb=True)
folder = dict(
    _delete_=True, type='CustomDataset', data_root='ROOT', img_suffix='_img.png',
    seg_map_suffix='_gt.png', classes=('left', 'right', 'low'),
    palette=[[9, 0, 0], [0, 9, 0], [0, 0, 9]])
images = dict(img_dir='img/val', ann_dir='gt/val', pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(128, 96), flip=False, transforms=[
        dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'),
        dict(type='Normalize', **norm_img), dict(type='ImageToTensor', keys=['img']),
        dict(type='Collect', keys=['img'])])], **folder)
data = dict(
    samples_per_gpu=2, workers_per_gpu=0, val=images, test=images,
    train=dict(img_dir='img/train', ann_dir='gt/train', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='Resize', img_scale=(128, 96), ratio_range=(0.5, 2.0)),
        dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
        dict(type='Normalize', **norm_img),
        dict(type='Pad', size=crop_size, pad_val=0, seg_pad_val=255),
        dict(type='DefaultFormatBundle'), dict(type='Collect', keys=['img', 'gt_semantic_seg'])],
        **folder))
runner = dict(max_iters=2)
model = dict()
acquisition = dict(level='region', heuristic='RIPU')
"""

    def base(self, name: str) -> str:
        (package,) = importlib.util.find_spec("mmseg").submodule_search_locations
        return f"{package}/.mim/configs/{self.bases[name]}"

    def scores(self, folder: Path) -> list[float]:
        return [line["mIoU"] for line in self.records(folder) if "mIoU" in line]

    def validating(self, interval: int) -> Options:
        return {"evaluation.interval": interval, "evaluation.save_best": "mIoU"}

    def validated(self, folder: Path) -> list[dict[str, Any]]:
        found, step = [], 0
        for path in sorted(folder.glob("*.log.json")):
            for line in map(json.loads, path.read_text().splitlines()):
                step = line["iter"] if line.get("mode") == "train" else step
                if "mIoU" in line:  # its own 'iter' is the number of images
                    found.append({**line, "step": step})
        return found

    def best(self, content: Mapping[str, Any]) -> float | None:
        found: float | None = content["meta"].get("hook_msgs", {}).get("best_score")
        return found

    def average(self, content: Mapping[str, Any]) -> torch.Tensor:
        found: torch.Tensor = content["state_dict"]["ema_decode_head_conv_seg_weight"]
        return found

    def weights(self, content: Mapping[str, Any]) -> torch.Tensor:
        found: torch.Tensor = content["state_dict"]["decode_head.conv_seg.weight"]
        return found


TINY = Tiny0()
