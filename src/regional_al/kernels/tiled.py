"""Images too large for memory: logits come tile by tile, the numbers are those of the whole image.

Region sums are integers, so tiles add up exactly. Window scores need `radius` pixels around a
tile; with them every window is whole, and the same integers come out as for the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from . import _fixed
from ._backends import backend_for, check_ids, check_logits, not_finite, outside
from ._maps import pixels, ripu_of
from ._stats import RegionStats, finish

MIB = 1 << 20


class Tile(NamedTuple):
    """A finished part of a score map: rows row.., columns col.. of the image; scores [h, w]."""

    row: int
    col: int
    scores: Tensor


class TiledRegionStats:
    """`region_stats` over tiles. Memory: 8 (C + 1) bytes a region, plus the tile in hand.

    shape: (H, W) of the whole image; tiles must not overlap nor add up to more than that.
    """

    def __init__(
        self,
        num_regions: int,
        num_classes: int,
        shape: tuple[int, int],
        *,
        device: torch.device | str = "cpu",
        backend: str | None = None,
    ) -> None:
        if num_regions < 0:
            raise ValueError(f"num_regions={num_regions} must be 0 or more")
        self._device = torch.device(device)
        self._backend = backend
        self._pixels_left = shape[0] * shape[1]
        self._shift = _fixed.entropy_shift(self._pixels_left, num_classes)
        self._sums = torch.zeros(num_regions, dtype=torch.int64, device=self._device)
        self._counts = torch.zeros(num_regions, num_classes, dtype=torch.int64, device=self._device)

    def add(self, logits: Tensor, regions: Tensor, *, name: str | None = None) -> None:
        """Add one tile: logits [C, h, w], its region ids int [h, w]. After an error (NaN or
        infinite logits, an id out of range) the sums are of no use any more."""
        logits = check_logits(logits)
        number, classes = self._counts.shape
        if logits.shape[0] != classes:
            raise ValueError(f"a tile has {logits.shape[0]} classes, the image {classes}")
        regions = check_ids(regions, "regions", (logits.shape[1], logits.shape[2]))
        self._pixels_left -= regions.numel()
        if self._pixels_left < 0:
            raise ValueError("the tiles hold more pixels than the image; do they overlap?")
        if regions.numel() == 0:
            return
        regions = regions.to(logits.device)
        finite, inside = backend_for(self._device, self._backend).accumulate(
            logits, regions, self._shift, self._sums, self._counts
        )
        if not inside:
            raise outside(regions, number, "region ids")
        if not finite:
            raise not_finite(name)

    def result(self) -> RegionStats:
        """The statistics of what was added so far."""
        return finish(self._sums, self._counts, self._shift)


def tile_size(max_mb: float, num_classes: int, radius: int, itemsize: int = 4) -> int:
    """Side of the largest square tile whose logits (with halo) and temporaries stay within max_mb.

    Per pixel with halo: C x itemsize for the logits, 4 entropy, 4 argmax; per pixel of the tile 4
    for the score, and a mebibyte or so for row buffers. Raises ValueError when not one pixel fits.
    """
    per_pixel = num_classes * itemsize + 12
    side = int((max(0.0, max_mb - 2) * MIB / per_pixel) ** 0.5) - 2 * radius
    if side < 1:
        raise ValueError(f"max_mb={max_mb} is too small for radius={radius}, {num_classes} classes")
    return side


def tiled_ripu(
    read_tile: Callable[[int, int, int, int], Tensor],
    shape: tuple[int, int],
    radius: int,
    *,
    tile: int | None = None,
    max_mb: float = 256.0,
    num_classes: int | None = None,
    pixel: bool = False,
    backend: str | None = None,
    name: str | None = None,
) -> Iterator[Tile]:
    """`ripu_map` of an image of (H, W) = shape, tile by tile in row-major order, same numbers.

    read_tile(row0, row1, col0, col1) -> logits [C, row1-row0, col1-col0]; asked for each tile with
    `radius` pixels around it (clipped to the image). tile: its side; or left out, and then the
    largest for which logits and temporaries stay within max_mb (num_classes is needed for that).
    """
    if tile is None:
        if num_classes is None:
            raise ValueError("tiled_ripu needs tile=... or num_classes=... (to size the tiles)")
        tile = tile_size(max_mb, num_classes, radius)
    if tile < 1:
        raise ValueError(f"tile={tile} must be 1 or more")
    area = _fixed.window_area(shape[0], shape[1], radius)
    for row in range(0, shape[0], tile):
        for col in range(0, shape[1], tile):
            rows, cols = (row, min(row + tile, shape[0])), (col, min(col + tile, shape[1]))
            yield _ripu_tile(read_tile, shape, radius, rows, cols, area, pixel, backend, name)


def _ripu_tile(
    read_tile: Callable[[int, int, int, int], Tensor],
    shape: tuple[int, int],
    radius: int,
    rows: tuple[int, int],
    cols: tuple[int, int],
    area: int,
    pixel: bool,
    backend: str | None,
    name: str | None,
) -> Tile:
    top, left = max(0, rows[0] - radius), max(0, cols[0] - radius)
    bottom, right = min(shape[0], rows[1] + radius), min(shape[1], cols[1] + radius)
    logits = check_logits(read_tile(top, bottom, left, right))
    if tuple(logits.shape[1:]) != (bottom - top, right - left):
        raise ValueError(
            f"read_tile({top}, {bottom}, {left}, {right}) gave logits {list(logits.shape)}"
        )
    chosen = backend_for(logits.device, backend)
    entropy, label = pixels(logits, "entropy", chosen, name)
    classes = logits.shape[0]
    del logits
    scores = ripu_of(chosen, entropy, label, classes, radius, pixel, area)
    inner = scores[rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]
    return Tile(rows[0], cols[0], inner)
