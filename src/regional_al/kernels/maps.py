"""Dense maps: pixel scores, window means, window impurity and RIPU, whole or tile by tile.

`regional_al.functional` is the public face of the score maps here; the functions of this module
additionally take a backend and an image name, and work on one image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from . import _fixed
from ._fixed import Kind
from .backends import Backend, backend_for, check_ids, check_logits, check_map, not_finite, outside

MIB = 1 << 20


class Tile(NamedTuple):
    """One finished tile of a score map, as yielded by `tiled_ripu`.

    Args:
        row: first image row covered by the tile.
        col: first image column covered by the tile.
        scores: float32 [h, w].

    Example:
        >>> import torch
        >>> from regional_al.kernels import Tile
        >>> row, col, scores = Tile(0, 64, torch.zeros(32, 16))
        >>> scores.shape
        torch.Size([32, 16])
    """

    row: int
    col: int
    scores: Tensor


def window_mean(
    values: Tensor, radius: int, *, backend: str | None = None, name: str | None = None
) -> Tensor:
    """Mean of a map over the (2 radius + 1)^2 window around each pixel, clipped to the map.

    The cost does not depend on the radius.

    Args:
        values: float [H, W].
        radius: window radius in pixels, >= 0.
        backend: backend name; None selects one by device.
        name: image name for error messages.

    Returns:
        float32 [H, W].

    Raises:
        ScoreError: if a value is NaN or infinite.
        ValueError: for a wrong shape, a negative radius, or a window of more than 2^24 pixels.

    Example:
        >>> import torch
        >>> from regional_al.kernels import window_mean
        >>> window_mean(torch.tensor([[0.0, 3.0, 6.0]]), radius=1)
        tensor([[1.5000, 3.0000, 4.5000]])
    """
    values = float_map(values)
    area = _fixed.window_area(values.shape[0], values.shape[1], radius)
    shift = _fixed.fixed_shift(area, largest_of(values, name))
    out = torch.empty(values.shape, device=values.device)
    if out.numel():
        backend_for(values.device, backend).windows(
            values, None, radius, 1, "mean", area, shift, out
        )
    return out


def region_impurity(
    labels: Tensor, num_classes: int, radius: int, *, backend: str | None = None
) -> Tensor:
    """`functional.region_impurity` of one label map: int [H, W] -> float32 [H, W], nats.

    Computed from integer counts at a cost that does not depend on the radius: exactly 0 where
    there is one class, and the same bits for the same counts in any order.
    """
    labels = check_ids(labels, "labels")
    area = _fixed.window_area(labels.shape[0], labels.shape[1], radius)
    out = torch.empty(labels.shape, device=labels.device)
    chosen = backend_for(labels.device, backend)
    if out.numel() and not chosen.windows(
        None, labels, radius, num_classes, "impurity", area, 0, out
    ):
        raise outside(labels, num_classes, "labels")
    return out


def pixel_scores(
    logits: Tensor,
    kind: Kind = "entropy",
    *,
    backend: str | None = None,
    name: str | None = None,
) -> Tensor:
    """The pixel score `functional.<kind>` of one image: logits [C, H, W] -> float32 [H, W]."""
    return _pixels(check_logits(logits), kind, backend_for(logits.device, backend), name)[0]


def pixel_stats(
    logits: Tensor, *, backend: str | None = None, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """Entropy and predicted class of each pixel, in one pass over the logits.

    Args:
        logits: float [C, H, W].
        backend: backend name; None selects one by device.
        name: image name for error messages.

    Returns:
        Entropy (float32 [H, W], nats) and argmax (int64 [H, W]; ties go to the lowest class).

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: for a wrong shape or dtype.

    Example:
        >>> import torch
        >>> from regional_al.kernels import pixel_stats
        >>> entropy, label = pixel_stats(torch.tensor([[[0.0, -100.0]], [[0.0, 100.0]]]))
        >>> entropy
        tensor([[0.6931, 0.0000]])
        >>> label
        tensor([[0, 1]])
    """
    entropy, label = _pixels(
        check_logits(logits), "entropy", backend_for(logits.device, backend), name
    )
    return entropy, label.to(torch.int64)


def ripu(
    logits: Tensor,
    radius: int,
    *,
    pixel: bool = False,
    backend: str | None = None,
    name: str | None = None,
) -> Tensor:
    """`functional.ripu` (pixel=True: `functional.ripu_pixel`) of one image: float32 [H, W]."""
    logits = check_logits(logits)
    classes, height, width = logits.shape
    area = _fixed.window_area(height, width, radius)
    chosen = backend_for(logits.device, backend)
    entropy, label = _pixels(logits, "entropy", chosen, name)
    return _ripu_of(chosen, entropy, label, classes, radius, pixel, area)


def tile_size(max_mb: float, num_classes: int, radius: int, itemsize: int = 4) -> int:
    """Side of the largest square tile that `tiled_ripu` can process within a memory limit.

    Each pixel of the tile and its margin takes C x itemsize bytes of logits plus 12 bytes of
    temporaries; 2 MiB are reserved for row buffers.

    Args:
        max_mb: memory limit in MiB.
        num_classes: number of classes C.
        radius: window radius in pixels, which is the margin around the tile.
        itemsize: bytes per logit.

    Returns:
        Side in pixels, without the margin.

    Raises:
        ValueError: if not even one pixel fits.

    Example:
        >>> from regional_al.kernels import tile_size
        >>> tile_size(256, num_classes=19, radius=1)
        1737
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
    """`functional.ripu` tile by tile, for images whose logits do not fit in memory.

    Tiles come in row-major order. They are read with `radius` pixels around them, so every window
    is complete and the scores are bit-identical to those of the whole image.

    Args:
        read_tile: read_tile(row0, row1, col0, col1) -> logits [C, row1-row0, col1-col0].
        shape: (H, W) of the image.
        radius: window radius in pixels, >= 0.
        tile: side of a tile in pixels; None selects the largest that fits `max_mb`.
        max_mb: memory limit in MiB for the logits and temporaries of a tile.
        num_classes: number of classes C; required if `tile` is None.
        pixel: compute `functional.ripu_pixel` instead.
        backend: backend name; None selects one by device.
        name: image name for error messages.

    Yields:
        Tile with the scores of the tile without its margin.

    Raises:
        ScoreError: if a logit is NaN or infinite.
        ValueError: if neither `tile` nor `num_classes` is given, if `tile` < 1, or if `read_tile`
            returns another shape.

    Example:
        >>> import torch
        >>> from regional_al import functional
        >>> from regional_al.kernels import tiled_ripu
        >>> logits = torch.randn(3, 10, 12, generator=torch.Generator().manual_seed(0))
        >>> scores = torch.empty(10, 12)
        >>> read_tile = lambda r0, r1, c0, c1: logits[:, r0:r1, c0:c1]
        >>> for row, col, part in tiled_ripu(read_tile, (10, 12), radius=1, tile=5):
        ...     h, w = part.shape
        ...     scores[row : row + h, col : col + w] = part
        >>> torch.equal(scores, functional.ripu(logits, radius=1))
        True
    """
    if tile is None:
        if num_classes is None:
            raise ValueError("tiled_ripu needs tile=... or num_classes=... (to size the tiles)")
        tile = tile_size(max_mb, num_classes, radius)
    if tile < 1:
        raise ValueError(f"tile={tile} must be 1 or more")
    height, width = shape
    area = _fixed.window_area(height, width, radius)
    for row in range(0, height, tile):
        for col in range(0, width, tile):
            bottom, right = min(row + tile, height), min(col + tile, width)
            top, left = max(0, row - radius), max(0, col - radius)
            box = (top, min(height, bottom + radius), left, min(width, right + radius))
            scores = _ripu_box(read_tile, box, radius, area, pixel, backend, name)
            yield Tile(row, col, scores[row - top : bottom - top, col - left : right - left])


def _ripu_box(
    read_tile: Callable[[int, int, int, int], Tensor],
    box: tuple[int, int, int, int],
    radius: int,
    area: int,
    pixel: bool,
    backend: str | None,
    name: str | None,
) -> Tensor:
    """RIPU of the box (row0, row1, col0, col1); correct where the windows lie inside the box."""
    logits = check_logits(read_tile(*box))
    if tuple(logits.shape[1:]) != (box[1] - box[0], box[3] - box[2]):
        raise ValueError(f"read_tile{box} returned logits {list(logits.shape)}")
    chosen = backend_for(logits.device, backend)
    entropy, label = _pixels(logits, "entropy", chosen, name)
    classes = logits.shape[0]
    del logits  # before the temporaries of the windows are allocated
    return _ripu_of(chosen, entropy, label, classes, radius, pixel, area)


def _ripu_of(
    backend: Backend,
    entropy: Tensor,
    label: Tensor,
    classes: int,
    radius: int,
    pixel: bool,
    area: int,
) -> Tensor:
    """RIPU from pixel entropy and argmax [H, W]."""
    out = torch.empty_like(entropy)
    if out.numel():
        mode = "ripu_pixel" if pixel else "ripu"
        shift = _fixed.entropy_shift(area, classes)
        backend.windows(entropy, label, radius, classes, mode, area, shift, out)
    return out


def _pixels(
    logits: Tensor, kind: Kind, backend: Backend, name: str | None
) -> tuple[Tensor, Tensor]:
    """Pixel score and argmax (uint8 where C fits) of logits. Raises ScoreError."""
    score = torch.empty(logits.shape[1:], device=logits.device)
    label = _fixed.new_label(logits)
    if score.numel() and not backend.pixel(logits, kind, score, label):
        raise not_finite(name)
    return score, label


def float_map(values: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
    """Return values [H, W] as float32; float64 is left as it is."""
    values = check_map(values, "values", shape)
    return values if values.dtype == torch.float64 else values.float()


def largest_of(values: Tensor, name: str | None) -> float:
    """Return the largest magnitude. Raises ScoreError on NaN or infinity."""
    if values.numel() == 0:
        return 0.0
    low, high = (float(v) for v in torch.aminmax(values))
    largest = max(-low, high)
    if not largest < float("inf"):  # NaN too
        raise not_finite(name, "scores")
    return largest
