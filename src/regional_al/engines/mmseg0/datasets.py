"""Data set classes for configs of MMSegmentation 0.x (see `engines.mmseg.datasets`)."""

from __future__ import annotations

from typing import Any

from mmseg.datasets import DATASETS, CustomDataset

from ..mmseg.datasets import CAMVID_CLASSES, CAMVID_PALETTE, STREETS_CLASSES, STREETS_PALETTE


class _JpgWithPng(CustomDataset):  # type: ignore[misc]
    def __init__(self, img_suffix: str = ".jpg", seg_map_suffix: str = ".png", **kw: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kw)


@DATASETS.register_module()
class CamVidDataset(_JpgWithPng):
    """CamVid with 11 classes."""

    CLASSES = CAMVID_CLASSES
    PALETTE = [list(colour) for colour in CAMVID_PALETTE]  # noqa: RUF012 - read by mmseg


@DATASETS.register_module()
class StreetsDataset(_JpgWithPng):
    """Street scenes that `regional_al.testing.streets` generates (layout 'plain')."""

    CLASSES = STREETS_CLASSES
    PALETTE = [list(colour) for colour in STREETS_PALETTE]  # noqa: RUF012
