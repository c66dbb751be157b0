"""Parts of large image files.

A TIFF file is read by the strips or tiles that a part needs, if tifffile is installed and knows how
it is stored; any other file is decoded once, whole, by Pillow.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..types import U8
from .images import open_image, upright

if TYPE_CHECKING:
    from PIL import Image as PILImage

MAX_PIXELS = 2**31
"""Of an image that is decoded whole."""
CACHE_BYTES = 2**28
"""Of decoded strips and tiles that are kept."""
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB"}
_TIFF = (".tif", ".tiff")
_ORIENTATION, _GREY, _RGB = 274, 1, 2


class Box(NamedTuple):
    """A part of an image: rows top..bottom-1, columns left..right-1.

    Example:
        >>> Box(0, 8, 2, 12).shape
        (8, 10)
    """

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    def grown(self, by: int, shape: tuple[int, int]) -> Box:
        """With `by` more pixels on each side, within an image of a shape."""
        return Box(
            max(0, self.top - by),
            min(shape[0], self.bottom + by),
            max(0, self.left - by),
            min(shape[1], self.right + by),
        )

    def within(self, outer: Box) -> Box:
        """The same pixels, counted from the corner of a box around it."""
        return Box(
            self.top - outer.top,
            self.bottom - outer.top,
            self.left - outer.left,
            self.right - outer.left,
        )


@contextmanager
def reading(path: Path) -> Iterator[Callable[[Box], U8]]:
    """Open an 8-bit grey or RGB image to read parts of it.

    Args:
        path: The file.

    Yields:
        Box -> uint8 [h, w] or [h, w, 3], as `read_rgb` gives it; grey stays grey, alpha is dropped.

    Raises:
        DataError: It is missing, damaged, has other pixels, or more than `MAX_PIXELS` and no way to
            read it in parts.
    """
    if path.suffix.lower() in _TIFF:
        with _tiff(path) as read:
            if read is not None:
                yield read
                return
    with large_images(), open_image(path) as opened:
        _check(path, opened)
        whole = upright(opened)

        def crop(box: Box) -> U8:
            part = whole.crop((box.left, box.top, box.right, box.bottom))
            return np.asarray(part.convert(_MODES[part.mode]))

        yield crop


def _check(path: Path, opened: PILImage.Image) -> None:
    """Raise DataError for an image that cannot be cut."""
    pixels = opened.size[0] * opened.size[1]
    if pixels > MAX_PIXELS:
        raise DataError(f"{path} has {pixels:,} pixels, more than {MAX_PIXELS:,}: cut it yourself")
    if opened.mode not in _MODES:
        raise DataError(
            f"{path} has pixels of mode {opened.mode}: tiles are cut from 8-bit grey or RGB "
            "images; convert it, or cut it yourself"
        )


@contextmanager
def large_images() -> Iterator[None]:
    """Let Pillow open large images, which it takes for an attack."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _tiff(path: Path) -> Iterator[Callable[[Box], U8] | None]:
    """Reads parts of a TIFF file; None when Pillow has to read it."""
    try:
        import tifffile
    except ImportError:
        yield None
        return
    log = logging.getLogger("tifffile")
    before, log.disabled = log.disabled, True  # what is wrong is raised
    try:
        file = tifffile.TiffFile(path)
    except Exception:  # Pillow says it
        yield None
    else:
        with file:
            segments = _Segments(path, file)
            yield segments.read if segments.readable() else None
    finally:
        log.disabled = before


class _Segments:
    """The strips or tiles of a file's first page, the last of them kept."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self.file = path, file
        self.kept: OrderedDict[int, tuple[U8, int, int]] = OrderedDict()
        self.bytes = 0

    def readable(self) -> bool:
        """Whether the first segment can be decoded, and its pixels are what tiles are made of."""
        try:
            page = self.page = self.file.pages[0]
            kind = (page.samplesperpixel, int(page.photometric))
            tag = page.tags.get(_ORIENTATION)
            plain = (
                page.dtype == np.uint8
                and page.bitspersample == 8
                and int(page.planarconfig) == 1
                and kind in ((1, _GREY), (3, _RGB), (4, _RGB))
                and (tag is None or int(tag.value) == 1)
            )
            if plain:
                self._decode(0)
        except Exception:  # whatever tifffile raises, Pillow is asked
            return False
        return plain

    def read(self, box: Box) -> U8:
        """See `reading`."""
        page = self.page
        out = np.zeros((*box.shape, page.samplesperpixel), np.uint8)
        for index in self._needed(box):
            try:
                pixels, row, col = self._segment(index)
            except Exception as error:  # whatever tifffile raises on damaged files
                why = " ".join(str(error).split()) or type(error).__name__
                raise DataError(f"{self.path} cannot be read as an image: {why}") from None
            top, left = max(box.top, row), max(box.left, col)
            bottom = min(box.bottom, row + pixels.shape[0])
            right = min(box.right, col + pixels.shape[1])
            out[top - box.top : bottom - box.top, left - box.left : right - box.left] = pixels[
                top - row : bottom - row, left - col : right - col
            ]
        return out[..., 0] if out.shape[2] == 1 else np.ascontiguousarray(out[..., :3])

    def _needed(self, box: Box) -> Iterator[int]:
        page = self.page
        width = page.tilewidth if page.is_tiled else page.imagewidth
        height = page.tilelength if page.is_tiled else page.rowsperstrip
        across = -(-page.imagewidth // width)
        for row in range(box.top // height, -(-box.bottom // height)):
            for col in range(box.left // width, -(-box.right // width)):
                yield row * across + col

    def _segment(self, index: int) -> tuple[U8, int, int]:
        if index in self.kept:
            self.kept.move_to_end(index)
            return self.kept[index]
        found = self.kept[index] = self._decode(index)
        self.bytes += found[0].nbytes
        while self.bytes > CACHE_BYTES and len(self.kept) > 1:
            _, (old, _, _) = self.kept.popitem(last=False)
            self.bytes -= old.nbytes
        return found

    def _decode(self, index: int) -> tuple[U8, int, int]:
        """(pixels [h, w, samples], row, column) of a segment; what it leaves out is zero."""
        page = self.page
        data = None
        if page.databytecounts[index]:
            self.file.filehandle.seek(page.dataoffsets[index])
            data = self.file.filehandle.read(page.databytecounts[index])
        pixels, place, shape = page.decode(data, index, jpegtables=page.jpegtables)
        if pixels is None:
            pixels = np.zeros((*shape,), np.uint8)
        return pixels[0, : shape[1], : shape[2]], int(place[2]), int(place[3])
