"""Data sets that mmseg 0.x does not bring: CamVid with 11 classes, the embedded street scenes.

Any other folder of images and masks needs no class: mmseg's CustomDataset with `classes=(...)` and
`palette=[...]` in the config does.
"""

from __future__ import annotations

from typing import Any

from mmseg.datasets import DATASETS, CustomDataset

from ...testing import streets


@DATASETS.register_module()
class CamVidDataset(CustomDataset):  # type: ignore[misc]
    """CamVid in the 11-class split of the SegNet tutorial: uint8 ids 0-10, 255 void.

    Brostow, Fauqueur, Cipolla, "Semantic object classes in video: a high-definition ground truth
    database", Pattern Recognition Letters 2009.
    """

    CLASSES = (
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
    )
    PALETTE = [  # noqa: RUF012 - the name and place that mmseg reads
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
    ]

    def __init__(self, img_suffix: str = ".jpg", seg_map_suffix: str = ".png", **kw: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kw)


@DATASETS.register_module()
class StreetsDataset(CustomDataset):  # type: ignore[misc]
    """Street scenes that `regional_al.testing.streets` generates (layout 'plain')."""

    CLASSES = streets.CLASSES
    PALETTE = [list(colour) for colour in streets.PALETTE]  # noqa: RUF012

    def __init__(self, img_suffix: str = ".jpg", seg_map_suffix: str = ".png", **kw: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kw)
