"""What a user brings: a data set of five-band arrays with its loader, a backbone, a head and a
heuristic, in a module of their own folder, for both generations of MMSegmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmseg_tiny import make_data

from regional_al.store.images import read_rgb

MODULE = "fields_of_mine"

_SHARED = '''
import numpy as np
import torch

from regional_al.heuristics import HEURISTICS, PixelHeuristic


class TinyConv(torch.nn.Module):
    """Two convolutions, at a quarter of the size."""

    def __init__(self, bands, width, init_cfg=None):
        super().__init__()
        self.first = torch.nn.Conv2d(bands, width, 3, 2, 1)
        self.second = torch.nn.Conv2d(width, width, 3, 2, 1)

    def init_weights(self):
        pass

    def forward(self, x):
        return [torch.relu(self.second(torch.relu(self.first(x))))]


class OneLayerHead(BaseDecodeHead):
    def forward(self, inputs):
        return self.cls_seg(self._transform_inputs(inputs))


@HEURISTICS.register("Doubt")
class Doubt(PixelHeuristic):
    """Logits close to zero."""

    def pixel_scores(self, seen):
        return -seen.logits.float().abs().sum(0)
'''

MODULE_1 = f"""
from mmcv.transforms import BaseTransform
from mmseg.datasets import BaseSegDataset
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import DATASETS, MODELS, TRANSFORMS
{_SHARED}

MODELS.register_module()(TinyConv)
MODELS.register_module()(OneLayerHead)


@DATASETS.register_module()
class Fields(BaseSegDataset):
    METAINFO = dict(classes=("left", "right", "low"), palette=[[9, 0, 0], [0, 9, 0], [0, 0, 9]])

    def __init__(self, **kwargs):
        super().__init__(img_suffix="_img.npy", seg_map_suffix="_gt.png", **kwargs)


@TRANSFORMS.register_module()
class LoadBands(BaseTransform):
    def transform(self, results):
        results["img"] = (np.load(results["img_path"]).astype(np.float32) - 100) / 60
        results["img_shape"] = results["ori_shape"] = results["img"].shape[:2]
        return results
"""

MODULE_0 = f"""
from mmseg.datasets import CustomDataset
from mmseg.datasets.builder import DATASETS, PIPELINES
from mmseg.models.builder import BACKBONES, HEADS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
{_SHARED}

BACKBONES.register_module()(TinyConv)
HEADS.register_module()(OneLayerHead)


@DATASETS.register_module()
class Fields(CustomDataset):
    CLASSES = ("left", "right", "low")
    PALETTE = [[9, 0, 0], [0, 9, 0], [0, 0, 9]]

    def __init__(self, **kwargs):
        super().__init__(img_suffix="_img.npy", seg_map_suffix="_gt.png", **kwargs)


@PIPELINES.register_module()
class LoadBands:
    def __call__(self, results):
        name = results["img_prefix"] + "/" + results["img_info"]["filename"]
        img = np.load(name).astype(np.float32)
        mean, std = np.zeros(5, np.float32) + 100, np.zeros(5, np.float32) + 60
        results.update(
            filename=name, ori_filename=results["img_info"]["filename"], img=(img - mean) / std,
            img_shape=img.shape, ori_shape=img.shape, pad_shape=img.shape, scale_factor=1.0,
            img_norm_cfg=dict(mean=mean, std=std, to_rgb=False))
        return results
"""

_CONFIG = f"""
custom_imports = dict(imports=['{MODULE}'], allow_failed_imports=False)
model['backbone'] = dict(type='TinyConv', bands=5, width=8)
model['decode_head'] = dict(
    type='OneLayerHead', in_channels=8, in_index=0, channels=8, num_classes=3, align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False))
del model['auxiliary_head']
acquisition = dict(
    level='region', region=dict(type='slic', n_segments=30), heuristic='Doubt', budget='20%',
    rounds=1, previews=1)
"""

CONFIG_1 = f"""
model['data_preprocessor'].update(mean=None, std=None, bgr_to_rgb=False)
train_pipeline[:] = [dict(type='LoadBands'), *[
    step for step in train_pipeline[1:] if step['type'] != 'PhotoMetricDistortion']]
test_pipeline[0] = dict(type='LoadBands')
for loader in (train_dataloader, val_dataloader):
    for key in ('metainfo', 'img_suffix', 'seg_map_suffix'):
        del loader['dataset'][key]
    loader['dataset']['type'] = 'Fields'
{_CONFIG}
"""

CONFIG_0 = f"""
train_pipeline[:] = [dict(type='LoadBands'), *[
    step for step in train_pipeline[1:]
    if step['type'] not in ('PhotoMetricDistortion', 'Normalize')]]
test_pipeline[0] = dict(type='LoadBands')
test_pipeline[1]['transforms'] = [
    step for step in test_pipeline[1]['transforms'] if step['type'] != 'Normalize']
for part in ('train', 'val', 'test'):
    for key in ('classes', 'palette', 'img_suffix', 'seg_map_suffix'):
        del data[part][key]
    data[part]['type'] = 'Fields'
{_CONFIG}
"""


def write(root: Path, generation: str) -> str:
    """Write data and module into a folder. Returns the lines to add to the tiny config."""
    make_data(root)
    rng = np.random.default_rng(3)
    for image in sorted((root / "img").rglob("*.png")):
        rgb = read_rgb(image)
        more = rng.integers(0, 4000, (*rgb.shape[:2], 2))
        np.save(image.with_suffix(".npy"), np.dstack([rgb, more]).astype(np.uint16))
        image.unlink()
    (root / f"{MODULE}.py").write_text(MODULE_1 if generation == "mmseg1" else MODULE_0)
    return CONFIG_1 if generation == "mmseg1" else CONFIG_0
