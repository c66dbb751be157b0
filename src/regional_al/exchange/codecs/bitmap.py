"""Masks as small PNG files in text: labelme (base64) and Supervisely (base64 of zlib)."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...store.images import open_image
from ...types import U8, Bool

_PALETTE = [0, 0, 0, 255, 255, 255]


def encode_labelme(mask: Bool) -> str:
    """bool [h, w] as base64 of a grey PNG of 0 and 1.

    Example:
        >>> decode_labelme(encode_labelme(np.array([[True, False]])), (1, 2)).tolist()
        [[True, False]]
    """
    return base64.b64encode(png_bytes(mask.astype(np.uint8))).decode("ascii")


def decode_labelme(text: str, size: tuple[int, int]) -> Bool:
    """Inverse of `encode_labelme`; any value but 0 belongs to the mask. Raises ValueError, also
    when it is larger than an image of size (H, W).

    Example:
        >>> decode_labelme("?", (1, 1))
        Traceback (most recent call last):
        ValueError: is not base64
    """
    return _mask(_unbase64(text), size)


def encode_supervisely(mask: Bool) -> str:
    """bool [h, w] as base64 of the compressed PNG that Supervisely writes: two colours, the first
    of them transparent.

    Example:
        >>> decode_supervisely(encode_supervisely(np.array([[True, False]])), (1, 2)).tolist()
        [[True, False]]
    """
    png = png_bytes(mask.astype(np.uint8), palette=_PALETTE, transparent=0)
    return base64.b64encode(zlib.compress(png)).decode("ascii")


def decode_supervisely(text: str, size: tuple[int, int]) -> Bool:
    """Inverse of `encode_supervisely`: the opaque pixels, or those that are not 0 where nothing is
    transparent. Raises ValueError, also when it is larger than an image of size (H, W).

    Example:
        >>> decode_supervisely("AAAA", (1, 1))
        Traceback (most recent call last):
        ValueError: is not compressed with zlib
    """
    data = _unbase64(text)
    try:
        unpacker = zlib.decompressobj()
        png = unpacker.decompress(data, (1 << 16) + 5 * size[0] * size[1])
    except zlib.error:
        raise ValueError("is not compressed with zlib") from None
    if not unpacker.eof:
        raise ValueError("is cut off or too large")
    return _mask(png, size)


def png_bytes(
    pixels: U8, palette: list[int] | None = None, transparent: int | None = None
) -> bytes:
    """uint8 [H, W] (ids or grey) or [H, W, 3] as the bytes of a PNG.

    Args:
        pixels: The image.
        palette: Colours R, G, B, R, ... of the ids.
        transparent: An id.

    Returns:
        The file.

    Example:
        >>> png_bytes(np.zeros((1, 1), np.uint8))[1:4]
        b'PNG'
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        image.putpalette(palette)
    out = BytesIO()
    options = {} if transparent is None else {"transparency": transparent}
    image.save(out, format="PNG", compress_level=6, **options)
    return out.getvalue()


def png_size(data: bytes) -> tuple[int, int]:
    """(H, W) of a PNG from its first bytes. Raises ValueError.

    Example:
        >>> png_size(png_bytes(np.zeros((2, 5), np.uint8)))
        (2, 5)
    """
    if len(data) < 24 or data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ValueError("is not a PNG")
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def _mask(png: bytes, size: tuple[int, int]) -> Bool:
    height, width = png_size(png)
    if height > size[0] or width > size[1]:
        raise ValueError(f"is a PNG of {width} x {height} pixels, its image {size[1]} x {size[0]}")
    try:
        with open_image(Path("bitmap"), png) as image:
            if image.mode in ("RGBA", "LA") or "transparency" in image.info:
                return np.asarray(np.array(image.convert("RGBA"))[..., 3] > 0)
            mode = image.mode
            if mode in ("1", "L", "P"):
                return np.asarray(np.array(image) > 0)
    except DataError:
        raise ValueError("is a damaged PNG") from None
    raise ValueError(f"is a PNG of mode {mode}, not of a mask")


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError("is not base64") from None
