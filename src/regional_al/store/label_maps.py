"""Beside the labels of an image: who has answered each pixel, and the classes of whole regions.

`labels/_source/<key>.png` is 0 where the source of an answer is not known, else the number of the
source in the ledger (`Ledger.sources`). `labels/_classes/<key>.png` is 24-bit RGB in the coding of
`store.query`: 0 = no set of classes, i = the i-th region, whose raw ids are in the PNG's text
chunk `classes`. Such a region has 255 in the label file: training on one class a pixel ignores it.

Both are written before the label file and its sidecar. A kill in between leaves them ahead, and the
resumed round writes them again; read them only where the sidecar says that something was answered.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..types import I32, U8, Bool, ClassSets
from .images import encode_png, open_image, read_ids, replacing
from .listing import MAPS, SUFFIX
from .query import id_rgb, rgb_ids

SOURCES, CLASSES = MAPS
SETS = "class sets"
"""Kind of the stamps in a ledger of the files with class sets."""
_TEXT = "classes"


def merge_source(before: U8 | None, pixels: Bool, number: U8, kept: Bool) -> U8 | None:
    """The sources after an answer.

    Args:
        before: uint8 [H, W]; None: there were none.
        pixels: bool [H, W], what has been answered now.
        number: uint8 [H, W], whose number stands there; 0 = not known.
        kept: bool [H, W], answered pixels of the image, these among them.

    Returns:
        uint8 [H, W]; None where all are 0.

    Example:
        >>> all_ = np.ones((1, 3), bool)
        >>> new = np.array([[True, False, False]])
        >>> before = np.array([[0, 2, 0]], np.uint8)
        >>> merge_source(before, new, np.uint8(1) * new, all_).tolist()
        [[1, 2, 0]]
    """
    after = np.zeros(pixels.shape, np.uint8) if before is None else np.where(kept, before, 0)
    after = np.where(pixels, number, after).astype(np.uint8)
    return after if after.any() else None


def merge_sets(
    before: ClassSets | None, pixels: Bool, sets: ClassSets | None, kept: Bool
) -> ClassSets | None:
    """The class sets after an answer: new ones where it says so, none elsewhere in its pixels.

    Args:
        before: Of the image; None: there were none.
        pixels: bool [H, W], what has been answered now.
        sets: Of the answer.
        kept: bool [H, W], answered pixels of the image, these among them.

    Returns:
        Numbered by the first pixel in row-major order, so that the same answers in another order
        leave the same file; None where there is none.

    Example:
        >>> one = np.array([[1, 1, 0]], np.int32)
        >>> all_ = np.ones((1, 3), bool)
        >>> sets = ClassSets(one, ((0, 7),))
        >>> after = merge_sets(None, one > 0, sets, all_)
        >>> merge_sets(after, all_, None, all_) is None
        True
    """
    ids: I32 = np.zeros(pixels.shape, np.int32)
    classes: list[tuple[int, ...]] = []
    if before is not None:
        ids = np.where(kept & ~pixels, before.regions, 0).astype(np.int32)
        classes += before.classes
    if sets is not None:
        ids = np.where(pixels & (sets.regions > 0), sets.regions + len(classes), ids)
        classes += sets.classes
    there, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first[there > 0], kind="stable")
    if not order.size:
        return None
    old = there[there > 0][order]
    table = np.zeros(there.size, np.int32)
    table[np.flatnonzero(there > 0)[order]] = np.arange(1, order.size + 1)
    regions = np.asarray(table[inverse].reshape(ids.shape))
    return ClassSets(regions, tuple(classes[int(i) - 1] for i in old))


def read_source(path: Path) -> U8 | None:
    """uint8 [H, W]; None: there is no file. Raises DataError for a damaged one."""
    return read_ids(path) if path.exists() else None


def write_source(path: Path, source: U8 | None) -> None:
    """Write the file, atomically; None: remove it."""
    _put(path, None if source is None else encode_png(source))


def read_sets(path: Path) -> ClassSets | None:
    """Class sets of an image; None: there is no file.

    Raises:
        DataError: It is damaged.
    """
    if not path.exists():
        return None
    with open_image(path) as image:
        ids = rgb_ids(np.asarray(image.convert("RGB")))
        text = getattr(image, "text", {}).get(_TEXT, "")
    classes = _classes(path, text)
    if int(ids.max(initial=0)) > len(classes):
        raise _unfit(path)
    return ClassSets(ids, classes)


def read_set_classes(path: Path) -> tuple[tuple[int, ...], ...]:
    """The classes of `read_sets`, without decoding the regions; empty: there is no file. Raises
    DataError for a damaged one."""
    if not path.exists():
        return ()
    with open_image(path) as image:
        text = image.info.get(_TEXT)  # stands before the pixels
        if text is None:
            text = getattr(image, "text", {}).get(_TEXT, "")
    return _classes(path, text)


def _classes(path: Path, text: Any) -> tuple[tuple[int, ...], ...]:
    try:
        classes = tuple(tuple(sorted({int(raw) for raw in one})) for one in json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{path} is damaged: it has no readable text {_TEXT!r}") from None
    if any(not one or one[0] < 0 or one[-1] > 254 for one in classes):
        raise _unfit(path)
    return classes


def _unfit(path: Path) -> DataError:
    return DataError(f"{path} is damaged: its regions and classes do not fit together")


def map_keys(folder: Path) -> list[str]:
    """Sorted keys of the images with a map in a folder of `SOURCES` or `CLASSES`."""
    found = (path.relative_to(folder) for path in folder.rglob(f"[!.]*{SUFFIX}"))
    return sorted(one.as_posix().removesuffix(SUFFIX) for one in found)


def write_sets(path: Path, sets: ClassSets | None) -> None:
    """Write the file, atomically; None: remove it."""
    if sets is None:
        _put(path, None)
        return
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text(_TEXT, json.dumps([list(one) for one in sets.classes]))
    data = io.BytesIO()
    Image.fromarray(id_rgb(sets.regions)).save(data, "PNG", pnginfo=info, compress_level=1)
    _put(path, data.getvalue())


def _put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_bytes() != data:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
