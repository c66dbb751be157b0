"""The tiny config of MMSegmentation 1.x; see mmseg_tiny.py."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg_tiny import EpochLoader, Options, Tiny

from regional_al.store.images import write_png

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


class Tiny1(Tiny):
    name = "mmseg1"
    config = CONFIG
    train_set = "train_dataloader.dataset"
    val_set = "val_dataloader.dataset"
    train_images = "train_dataloader.dataset.data_prefix.img_path"
    batch_size = "train_dataloader.batch_size"
    train_workers = "train_dataloader.num_workers"
    val_workers = "val_dataloader.num_workers"
    iterations = "train_cfg.max_iters"
    loop = "IterBasedTrainLoop"
    drops_last = False
    checkpoint_keys = {  # noqa: RUF012
        "meta",
        "state_dict",
        "message_hub",
        "optimizer",
        "param_schedulers",
    }
    checkpoint_files = {"checkpoint.pth"}  # noqa: RUF012
    saved_rate = 0
    logged_precision = 5e-11
    last_line = "Iter(train) [8/8]"

    def frozen(self) -> Options:
        return {"optim_wrapper.optimizer.lr": 0.0, "param_scheduler": []}

    def steps(self, milestones: Sequence[int], gamma: float) -> Options:
        spec = {"type": "MultiStepLR", "milestones": list(milestones), "gamma": gamma}
        return {"param_scheduler": [{**spec, "by_epoch": False}]}

    def warm_up(self, iterations: int) -> Options:
        warm = {"type": "LinearLR", "start_factor": 1e-6, "begin": 0, "end": iterations}
        poly = {"type": "PolyLR", "power": 1.0, "begin": iterations, "end": 2 * iterations}
        return {"param_scheduler": [{**spec, "by_epoch": False} for spec in (warm, poly)]}

    def epochs(self, count: int) -> Options:
        return {
            "train_cfg": {"_delete_": True, "by_epoch": True, "max_epochs": count},
            "param_scheduler": [],
            "train_dataloader.drop_last": True,
            "log_processor": {"by_epoch": True},
        }

    def finite_sampler(self) -> Options:
        sampler = {"_delete_": True, "type": "DefaultSampler", "shuffle": True}
        return {"train_dataloader.sampler": sampler}

    def persistent_workers(self) -> Options:
        return {self.train_workers: 1, "train_dataloader.persistent_workers": True}

    def poly(self, first: float, iterations: int) -> list[float]:
        shares = [(1 - i / (iterations - 1)) ** 0.9 for i in range(iterations)]
        return [(first - 1e-4) * share + 1e-4 for share in shares]

    def segformer_rates(self, iterations: int) -> list[float]:
        from mmengine.config import Config
        from mmengine.registry import PARAM_SCHEDULERS

        warm = {"type": "LinearLR", "start_factor": 1e-6, "begin": 0, "end": 1500}
        poly = {"type": "PolyLR", "power": 1.0, "eta_min": 0.0, "begin": 1500, "end": 160000}
        loop = {"type": "IterBasedTrainLoop", "max_iters": 160000, "val_interval": 1}
        schedulers = [{**spec, "by_epoch": False} for spec in (warm, poly)]
        cfg = Config({"train_cfg": loop, "param_scheduler": schedulers})
        self.part("fit").set_iterations(cfg, iterations)
        assert cfg.train_cfg["max_iters"] == iterations
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        built = [
            PARAM_SCHEDULERS.build({**spec, "optimizer": optimizer}) for spec in cfg.param_scheduler
        ]
        rates = []
        for _ in range(iterations):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            for scheduler in built:
                scheduler.step()
        return rates

    def records(self, folder: Path) -> list[dict[str, Any]]:
        """What LoggerHook wrote, one entry an iteration or evaluation."""
        (path,) = folder.glob("*/vis_data/scalars.json")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def logged(self, folder: Path) -> list[dict[str, Any]]:
        return [{**line, "iter": line["step"]} for line in self.records(folder) if "lr" in line]

    def saved_classes(self, content: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(content["meta"]["dataset_meta"]["classes"])

    def has_average(self, content: Mapping[str, Any]) -> bool:
        return "ema_state_dict" in content

    def epoch_loader(
        self, engine: Any, images: int, batch: int, drop_last: bool | None
    ) -> EpochLoader:
        cfg = copy.deepcopy(engine.cfg)
        cfg.train_cfg = {"by_epoch": True, "max_epochs": 1}
        cfg.train_dataloader.batch_size = batch
        if drop_last is not None:
            cfg.train_dataloader.drop_last = drop_last
        loader = self.part("fit").loader_config(cfg, list(range(images)))
        finite = loader["sampler"]["type"] == "DefaultSampler"
        return EpochLoader(len(loader["dataset"]), bool(loader.get("drop_last")), finite)

    needed = ("model", "train_dataloader", "train_cfg", "optim_wrapper", "val_dataloader")
    minimal = "train_dataloader = dict()\ntrain_cfg = dict()\n"
    resume = "resume"
    train_list = "train_dataloader.dataset.ann_file"
    no_length = "train_cfg needs"
    wrong_mode = "test mode are supported, but got hole"
    training_mistakes = {  # noqa: RUF012
        "optimizer": (
            "optim_wrapper['optimizer'] = dict(type='NoOptimizer')",
            "optim_wrapper.*NoOptimizer",
        ),
        "scheduler": (
            "param_scheduler = [dict(type='NoScheduler')]",
            "param_scheduler.*NoScheduler",
        ),
        "hooks": ("custom_hooks = ['x']", "custom_hooks.*x"),
    }
    val_masks = "val_dataloader.dataset.data_prefix.seg_map_path"
    classes_key = "metainfo"
    half = "AmpOptimWrapper"

    def unpadded(self) -> Options:
        return {"model.data_preprocessor.test_cfg": None}

    def without_length(self) -> Options:
        return {"train_cfg": {"_delete_": True, "by_epoch": True}}

    def classes(self, key: str, names: Sequence[str] | None) -> Options:
        if names is None:
            return {f"{key}.metainfo": {"_delete_": True}}
        return {f"{key}.metainfo.classes": names}

    def uses_half(self, cfg: Any) -> bool:
        return bool(cfg.optim_wrapper.type == "AmpOptimWrapper")

    refused_heads = (({"type": "SideAdapterCLIPHead"}, "SideAdapterCLIPHead"),)
    averages_weighted = False  # class weights raise an IndexError in mmseg then

    def folders(self, images: str, masks: str | None) -> dict[str, Any]:
        there = {} if masks is None else {"seg_map_path": masks}
        return {"data_prefix": {"img_path": images, **there}}

    def joined(self, specs: Sequence[Mapping[str, Any]]) -> Options:
        spec = {"_delete_": True, "type": "ConcatDataset", "datasets": list(specs)}
        return {self.train_set: spec}

    def step(self, engine: Any, model: Any, samples: Sequence[Any]) -> float:
        from mmengine.optim import build_optim_wrapper

        batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        wrapper = build_optim_wrapper(model, copy.deepcopy(engine.cfg.optim_wrapper))
        return float(model.train_step(batch, wrapper)["loss"])

    def head_losses(self, head: Any, logits: Any, target: torch.Tensor) -> dict[str, torch.Tensor]:
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        samples = [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in target]
        found: dict[str, torch.Tensor] = head.loss_by_feat(logits, samples)
        return found

    def letters(
        self, folder: Path, chosen: Sequence[str] | None, reduce_zero_label: bool
    ) -> tuple[Sequence[Any], np.ndarray]:
        """By mmseg's own LoadAnnotations."""
        from mmseg.datasets import BaseSegDataset
        from mmseg.datasets.transforms import LoadAnnotations

        class Letters(BaseSegDataset):  # type: ignore[misc]
            METAINFO = {  # noqa: RUF012
                "classes": ("a", "b", "c", "d"),
                "palette": [[i, i, i] for i in range(4)],
            }

        write_png(folder / "img" / "x.png", np.zeros((16, 16, 3), np.uint8))
        write_png(folder / "gt" / "x.png", np.arange(256, dtype=np.uint8).reshape(16, 16))
        dataset = Letters(
            data_root=str(folder),
            img_suffix=".png",
            reduce_zero_label=reduce_zero_label,
            data_prefix={"img_path": "img", "seg_map_path": "gt"},
            metainfo=None if chosen is None else {"classes": chosen},
        )
        ids = LoadAnnotations()(dataset.get_data_info(0))["gt_seg_map"].ravel().astype(int)
        known = (ids < len(chosen or "abcd")) | (ids == 255)
        return [self.part("pool").label_space(dataset)], np.where(known, ids, -1)

    one_channel = """
model['decode_head'].update(
    num_classes=2, out_channels=1, threshold=0.4,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
model['auxiliary_head'].update(num_classes=2)
for loader in (train_dataloader, val_dataloader):
    loader['dataset'].update(
        metainfo=dict(classes=('up', 'low'), palette=[[0, 0, 0], [9, 9, 9]]),
        data_root='ROOT')
"""

    def test_input(
        self, engine: Any, width: int = 100, keep_ratio: bool = True, divisor: int = 4
    ) -> Options:
        pipeline = copy.deepcopy(engine.cfg.test_dataloader.dataset.pipeline)
        assert pipeline[1].type == "Resize"
        pipeline[1].update(scale=(width, 75), keep_ratio=keep_ratio)
        return {
            "test_dataloader.dataset.pipeline": pipeline,
            "model.data_preprocessor.test_cfg.size_divisor": divisor,
        }

    unscaled = "del test_pipeline[1]\n"

    def validation_workers(self) -> Options:
        return {self.val_workers: 2, "val_dataloader.persistent_workers": True}

    def mmseg_model(self, engine: Any, checkpoint: Path, **test_cfg: Any) -> Any:
        from mmengine.model import revert_sync_batchnorm
        from mmengine.runner import load_checkpoint
        from mmseg.registry import MODELS

        spec = copy.deepcopy(engine.cfg.model)
        spec.test_cfg.update(test_cfg)
        model = revert_sync_batchnorm(MODELS.build(spec))
        load_checkpoint(model, str(checkpoint))
        return model.eval()

    def mmseg_answer(self, engine: Any, model: Any, item: Any) -> torch.Tensor:
        from mmengine.dataset import Compose

        pipeline = engine.cfg.test_dataloader.dataset.pipeline
        steps = [step for step in pipeline if step["type"] != "LoadAnnotations"]
        sample = Compose(steps)({"img_path": str(item.image), "seg_fields": []})
        batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
        with torch.no_grad():
            return model.test_step(batch)[0].seg_logits.data

    def as_mmseg(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def mmseg_counts(self, engine: Any, model: Any) -> tuple[np.ndarray, np.ndarray]:
        from mmseg.evaluation import IoUMetric
        from mmseg.registry import DATASETS

        dataset = DATASETS.build(copy.deepcopy(engine.cfg.val_dataloader.dataset))
        metric = IoUMetric(ignore_index=engine.cfg.val_evaluator.get("ignore_index", 255))
        metric.dataset_meta = dataset.metainfo
        for index in range(len(dataset)):
            sample = dataset[index]
            batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
            with torch.no_grad():
                outputs = model.test_step(batch)
            metric.process(batch, [output.to_dict() for output in outputs])
        inter, union, _, _ = (sum(column) for column in zip(*metric.results, strict=True))
        return inter.numpy(), union.numpy()

    evaluating = "\ndefault_hooks['checkpoint']['save_best'] = 'mIoU'\n"
    evaluations = 2
    bases = {  # noqa: RUF012
        "fcn": "fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py",
        "deeplabv3plus": "deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py",
        "segformer": "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        "point_rend": "point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py",
    }
    on_tiny_data = """
crop_size = (64, 64)
classes = ('left', 'right', 'low')
palette = [[9, 0, 0], [0, 9, 0], [0, 0, 9]]
folder = dict(_delete_=True, type='BaseSegDataset', data_root='ROOT', img_suffix='_img.png',
              seg_map_suffix='_gt.png', metainfo=dict(classes=classes, palette=palette))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    data_prefix=dict(img_path='img/train', seg_map_path='gt/train'), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='RandomResize', scale=(128, 96), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs')], **folder))
val_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    data_prefix=dict(img_path='img/val', seg_map_path='gt/val'), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 96), keep_ratio=True),
        dict(type='LoadAnnotations'), dict(type='PackSegInputs')], **folder))
test_dataloader = val_dataloader
model = dict(data_preprocessor=dict(size=crop_size))
train_cfg = dict(max_iters=2)
acquisition = dict(level='region', heuristic='RIPU')
"""

    def base(self, name: str) -> str:
        return f"mmseg::{self.bases[name]}"

    def scores(self, folder: Path) -> list[float]:
        return [line["mIoU"] for line in self.records(folder) if "mIoU" in line]

    def validating(self, interval: int) -> Options:
        return {"train_cfg.val_interval": interval, "default_hooks.checkpoint.save_best": "mIoU"}

    def validated(self, folder: Path) -> list[dict[str, Any]]:
        lines = [
            json.loads(line)
            for path in sorted(folder.glob("*/vis_data/scalars.json"))
            for line in path.read_text().splitlines()
        ]
        return [line for line in lines if "mIoU" in line]

    def best(self, content: Mapping[str, Any]) -> float | None:
        found: float | None = content["message_hub"]["runtime_info"].get("best_score")
        return found

    def average(self, content: Mapping[str, Any]) -> torch.Tensor:
        found: torch.Tensor = content["state_dict"]["decode_head.conv_seg.weight"]
        return found

    def weights(self, content: Mapping[str, Any]) -> torch.Tensor:
        found: torch.Tensor = content["ema_state_dict"]["module.decode_head.conv_seg.weight"]
        return found


TINY = Tiny1()
