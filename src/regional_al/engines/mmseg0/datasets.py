"""Data set classes and pipeline transforms for configs of MMSegmentation 0.x.

The transforms are drop-ins for Resize, RandomCrop and RandomMosaic that keep sparse labels. They
take the arguments of the transform they replace and draw the same random numbers, so on a mask in
which every pixel is labelled they give the same bytes.
"""

from __future__ import annotations

from typing import Any

from mmseg.datasets import DATASETS, PIPELINES, CustomDataset
from mmseg.datasets.pipelines import RandomCrop, RandomMosaic, Resize

from ...types import UNLABELED
from ..mmseg.datasets import CAMVID_CLASSES, CAMVID_PALETTE, STREETS_CLASSES, STREETS_PALETTE
from ..mmseg.side_maps import trained
from ..mmseg.transforms import GIVES_WAY, LabelledCrop, SparseMosaic, keep_labels


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


@PIPELINES.register_module()
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
        before = {key: results[key] for key in results.get("seg_fields", [])}
        super()._resize_seg(results)
        ignore = results.get(GIVES_WAY, self.ignore_index)
        for key, mask in before.items():
            results[key] = keep_labels(mask, results[key], ignore)


@PIPELINES.register_module()
class LabelledRandomCrop(LabelledCrop, RandomCrop):  # type: ignore[misc]
    """mmseg's RandomCrop (same arguments) whose crop holds a label when the image holds one: see
    `engines.mmseg.transforms.LabelledCrop`."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop image and label maps of `results`, in place."""
        shape = results["img"].shape[:2]
        box = self.choose(shape, results.get("gt_semantic_seg"), trained(results))
        for key in ("img", *results.get("seg_fields", [])):
            results[key] = self.crop(results[key], box)
        results["img_shape"] = results["img"].shape
        return results


@PIPELINES.register_module()
class SparseRandomMosaic(SparseMosaic, RandomMosaic):  # type: ignore[misc]
    """mmseg's RandomMosaic (same arguments), shrinking labels as `SparseResize` does."""


SUBSTITUTES = {
    "Resize": "SparseResize",
    "RandomCrop": "LabelledRandomCrop",
    "RandomMosaic": "SparseRandomMosaic",
}
"""Transforms that lose sparse labels -> those that do not."""


def is_stock(kind: Any) -> bool:
    """Whether a `type` is a transform of mmseg itself."""
    found = PIPELINES.get(kind) if isinstance(kind, str) else kind
    return str(getattr(found, "__module__", "")).startswith("mmseg.")
