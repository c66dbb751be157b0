"""Data sets with a label map of their own, in both generations of MMSegmentation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmseg_tiny import Tiny, make_data

from regional_al.store.images import read_ids, write_png

_MODULES = {
    "mmseg1": """
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

@DATASETS.register_module(force=True)
class Buildings(BaseSegDataset):
    METAINFO = dict(classes=('ground', 'building'), palette=[[0, 0, 0], [255, 255, 255]])

    @classmethod
    def get_label_map(cls, new_classes=None):
        return MAP
""",
    "mmseg0": """
from mmseg.datasets import DATASETS, CustomDataset

@DATASETS.register_module(force=True)
class Buildings(CustomDataset):
    CLASSES = ('ground', 'building')
    PALETTE = [[0, 0, 0], [255, 255, 255]]

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.label_map, self.custom_classes = MAP, True
""",
}
_CONFIGS = {
    "mmseg1": """
for part in (train_dataloader, val_dataloader, test_dataloader):
    part['dataset'].update(type='Buildings')
    part['dataset'].pop('metainfo', None)
""",
    "mmseg0": """
for part in ('train', 'val', 'test'):
    data[part].update(type='Buildings')
    data[part].pop('classes', None)
    data[part].pop('palette', None)
""",
}
_HEADS = """
custom_imports = dict(imports=['buildings'], allow_failed_imports=False)
model['decode_head'].update(num_classes=2)
model['auxiliary_head'].update(num_classes=2)
"""


def binary_masks(folder: Path, value: int) -> None:
    """Masks of `make_data` become 0 and `value`, which stands where the class 'low' was."""
    for path in folder.glob("gt/*/*/*.png"):
        write_png(path, np.where(read_ids(path) == 2, value, 0).astype(np.uint8))


def buildings(
    folder: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, label_map: Any, value: int
) -> None:
    """The tiny data set with masks of 0 and `value`, and a config with a class of data sets that
    has that label map."""
    make_data(folder, train=4, val=2)
    binary_masks(folder, value)
    (folder / "buildings.py").write_text(_MODULES[tiny.name].replace("MAP", repr(label_map)))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "buildings", raising=False)
    tiny.write_config(folder, _HEADS + _CONFIGS[tiny.name])
