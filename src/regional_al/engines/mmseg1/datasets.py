"""Data set classes and pipeline transforms for configs of MMSegmentation 1.x.

The transforms are drop-ins for those of mmseg and mmcv that lose sparse labels (`SUBSTITUTES`).
They take the arguments of the transform they replace and draw the same random numbers, so on a mask
in which every pixel is labelled they give the same bytes.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import RandomChoiceResize, RandomResize
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import GenerateEdge, RandomCrop, RandomMosaic
from mmseg.datasets.transforms.transforms import Resize, ResizeShortestEdge
from mmseg.registry import DATASETS, TRANSFORMS

from ...types import U8, UNLABELED
from ..mmseg.datasets import CAMVID_CLASSES, CAMVID_PALETTE, STREETS_CLASSES, STREETS_PALETTE
from ..mmseg.side_maps import trained
from ..mmseg.transforms import GIVES_WAY, Box, LabelledCrop, SparseMosaic, keep_labels


class _JpgWithPng(BaseSegDataset):  # type: ignore[misc]
    def __init__(self, img_suffix: str = ".jpg", seg_map_suffix: str = ".png", **kw: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kw)


@DATASETS.register_module()
class CamVidDataset(_JpgWithPng):
    """CamVid with 11 classes."""

    METAINFO: dict[str, Any] = {  # noqa: RUF012 - the name and place that mmseg reads
        "classes": CAMVID_CLASSES,
        "palette": [list(colour) for colour in CAMVID_PALETTE],
    }


@DATASETS.register_module()
class StreetsDataset(_JpgWithPng):
    """Street scenes that `regional_al.testing.streets` generates (layout 'plain')."""

    METAINFO: dict[str, Any] = {  # noqa: RUF012
        "classes": STREETS_CLASSES,
        "palette": [list(colour) for colour in STREETS_PALETTE],
    }


@TRANSFORMS.register_module()
class SparseResize(Resize):  # type: ignore[misc]
    """mmseg's Resize (same arguments) in which a labelled pixel wins over unlabeled ones.

    The parent resizes image and label maps; labels that its nearest-neighbour shrinking dropped
    are put back into cells that it left unlabeled (see `engines.mmseg.transforms.shrink_labels`).

    Args:
        ignore_index: the id of unlabeled pixels after LoadAnnotations. Default: 255.
    """

    def __init__(self, *args: Any, ignore_index: int = UNLABELED, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ignore_index = ignore_index

    def _resize_seg(self, results: dict[str, Any]) -> None:
        before = {key: results.get(key) for key in results.get("seg_fields", [])}
        super()._resize_seg(results)
        ignore = results.get(GIVES_WAY, self.ignore_index)
        for key, mask in before.items():
            if mask is not None:
                results[key] = keep_labels(mask, results[key], ignore)


@TRANSFORMS.register_module()
class SparseRandomResize(RandomResize):  # type: ignore[misc]
    """mmcv's RandomResize (same arguments), resizing with `SparseResize` unless told otherwise."""

    def __init__(self, scale: Any, ratio_range: Any = None, **kwargs: Any) -> None:
        # The class, not its name: the name is found in mmseg's scope only.
        super().__init__(scale, ratio_range, **{"resize_type": SparseResize, **kwargs})


@TRANSFORMS.register_module()
class SparseResizeShortestEdge(ResizeShortestEdge):  # type: ignore[misc]
    """mmseg's ResizeShortestEdge (same arguments), resizing with `SparseResize`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resize = SparseResize(scale=0, keep_ratio=True)


@TRANSFORMS.register_module()
class SparseRandomChoiceResize(RandomChoiceResize):  # type: ignore[misc]
    """mmcv's RandomChoiceResize (same arguments), resizing with `SparseResize` unless told
    otherwise."""

    def __init__(self, scales: Any, **kwargs: Any) -> None:
        super().__init__(scales, **{"resize_type": SparseResize, **kwargs})


@TRANSFORMS.register_module()
class LabelledRandomCrop(LabelledCrop, RandomCrop):  # type: ignore[misc]
    """mmseg's RandomCrop (same arguments) whose crop holds a label when the image holds one: see
    `engines.mmseg.transforms.LabelledCrop`."""

    @cache_randomness  # type: ignore[untyped-decorator]
    def crop_bbox(self, results: dict[str, Any]) -> Box:
        """(y1, y2, x1, x2) of the crop."""
        shape = results["img"].shape[:2]
        return self.choose(shape, results.get("gt_seg_map"), trained(results))


@TRANSFORMS.register_module()
class SparseRandomMosaic(SparseMosaic, RandomMosaic):  # type: ignore[misc]
    """mmseg's RandomMosaic (same arguments), shrinking labels as `SparseResize` does."""


@TRANSFORMS.register_module()
class LabelledGenerateEdge(GenerateEdge):  # type: ignore[misc]
    """mmseg's GenerateEdge (same arguments) that makes no edge known without labels: 255 where a
    pixel is unlabelled, and where it is no edge by what is labelled but unlabelled ones near it
    may say otherwise."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `gt_edge_map`: 1 edge, 0 none, 255 unknown."""
        results = super().transform(results)
        edge = results["gt_edge_map"]
        results["gt_edge_map"] = known_edges(
            edge, results["gt_seg_map"] == self.ignore_index, self.edge_width
        )
        return results


COMPARED = ((0, 1, 0), (0, 1, 1), (1, 0, 1))
"""The neighbours that GenerateEdge compares a pixel with, and itself."""


def known_edges(edge: U8, unlabelled: np.ndarray, width: int) -> U8:
    """Edges as far as labels say it.

    Args:
        edge: uint8 [H, W], 1 where labelled pixels of two classes meet, widened by `width`.
        unlabelled: bool [H, W].
        width: Side of the square that widened it.

    Returns:
        uint8 [H, W]: 255 where it is unknown whether there is an edge, else `edge`.
    """
    near = cv2.dilate(unlabelled.astype(np.uint8), np.array(COMPARED, np.uint8))
    near = cv2.dilate(near, np.ones((width, width), np.uint8))
    known: U8 = np.where(unlabelled | ((near > 0) & (edge == 0)), UNLABELED, edge)
    return known.astype(np.uint8)


SUBSTITUTES = {
    "Resize": "mmseg.SparseResize",
    "RandomResize": "mmseg.SparseRandomResize",
    "RandomChoiceResize": "mmseg.SparseRandomChoiceResize",
    "ResizeShortestEdge": "mmseg.SparseResizeShortestEdge",
    "RandomCrop": "mmseg.LabelledRandomCrop",
    "RandomMosaic": "mmseg.SparseRandomMosaic",
    "GenerateEdge": "mmseg.LabelledGenerateEdge",
}
"""Transforms that lose sparse labels, or make wrong ones -> those that do not."""


def is_stock(kind: Any) -> bool:
    """Whether a `type` is a transform of mmseg or mmcv itself."""
    found = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
    return str(getattr(found, "__module__", "")).startswith(("mmseg.", "mmcv."))
