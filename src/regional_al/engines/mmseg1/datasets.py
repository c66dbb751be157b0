"""Data sets that mmseg does not bring: CamVid with 11 classes, the embedded street scenes.

Any other folder of images and masks needs no class: mmseg's BaseSegDataset with
`metainfo=dict(classes=..., palette=...)` in the config does (configs/plain_folder).
"""

from __future__ import annotations

from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ...testing import streets


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):  # type: ignore[misc]
    """CamVid in the 11-class split of the SegNet tutorial: uint8 ids 0-10, 255 void.

    Brostow, Fauqueur, Cipolla, "Semantic object classes in video: a high-definition ground truth
    database", Pattern Recognition Letters 2009.
    """

    METAINFO: dict[str, Any] = {  # noqa: RUF012 - the name and place that mmseg reads
        "classes": (
            "sky",
            "building",
            "pole",
            "road",
            "pavement",
            "tree",
            "sign_symbol",
            "fence",
            "car",
            "pedestrian",
            "bicyclist",
        ),
        "palette": [
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    }

    def __init__(self, img_suffix: str = ".jpg", seg_map_suffix: str = ".png", **kw: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kw)


@DATASETS.register_module()
class StreetsDataset(BaseSegDataset):  # type: ignore[misc]
    """Street scenes that `regional_al.testing.streets` generates (layout 'plain')."""

    METAINFO: dict[str, Any] = {  # noqa: RUF012 - the name and place that mmseg reads
        "classes": streets.CLASSES,
        "palette": [list(colour) for colour in streets.PALETTE],
    }

    def __init__(self, img_suffix: str = ".jpg", seg_map_suffix: str = ".png", **kw: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kw)
