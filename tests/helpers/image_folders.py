"""Small folders of images and masks in the layouts and kinds that people have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regional_al.types import U8

IDS = np.array([[0, 1, 2], [0, 0, 2]], np.uint8)
COLOURS = ((0, 0, 0), (200, 10, 30), (0, 90, 250))


def save(path: Path, pixels: U8, palette: Sequence[tuple[int, int, int]] | None = None) -> Path:
    """An image file; with a palette, its indices."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.repeat(np.repeat(pixels, 16, axis=0), 16, axis=1))
    if palette is not None:
        image.putpalette([channel for colour in palette for channel in colour])
    image.save(path)
    return path


def picture(path: Path, size: tuple[int, int] = (2, 3), seed: int = 0) -> Path:
    """A photograph of noise, 16 times `size`."""
    rng = np.random.default_rng([seed, *size])
    return save(path, rng.integers(0, 256, (*size, 3), dtype=np.uint8))


def mask(path: Path, kind: str, ids: U8 = IDS) -> Path:
    """A mask of ids 0..2, saved in one of the ways that occur."""
    table = np.array([*COLOURS, *[(0, 0, 0)] * 253], np.uint8)
    if kind == "index":
        return save(path, ids)
    if kind == "binary":
        return save(path, np.where(ids > 0, 255, 0).astype(np.uint8))
    if kind == "palette":
        return save(path, ids, COLOURS)
    if kind == "rgb":
        return save(path, table[ids])
    if kind == "grey":
        return save(path, (ids * 100).astype(np.uint8))
    if kind == "grey as rgb":
        return save(path, np.repeat(ids[..., None], 3, axis=-1))
    raise ValueError(kind)


def folder(root: Path, kind: str, count: int = 4) -> Path:
    """`count` images in root/images and masks of a kind in root/masks."""
    for i in range(count):
        picture(root / "images" / f"{i}.jpg", seed=i)
        mask(root / "masks" / f"{i}.png", kind)
    return root
