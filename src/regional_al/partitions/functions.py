"""Pure functions that divide an image into units: int32 [H, W], every pixel in exactly one unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataError, EnvironmentProblem
from ..store.images import open_image
from ..store.outside import declared_shape
from ..store.reading import read_array
from ..types import I32, U8

Ints = npt.NDArray[np.integer[Any]]


def whole(shape: tuple[int, int]) -> I32:
    """One unit.

    Args:
        shape: (H, W).

    Returns:
        int32 [H, W], all 0.

    Example:
        >>> whole((2, 3)).tolist()
        [[0, 0, 0], [0, 0, 0]]
    """
    return np.zeros(shape, dtype=np.int32)


def pixel(shape: tuple[int, int]) -> I32:
    """Every pixel is a unit.

    Args:
        shape: (H, W).

    Returns:
        int32 [H, W], ids row-major.

    Example:
        >>> pixel((2, 3)).tolist()
        [[0, 1, 2], [3, 4, 5]]
    """
    return np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)


def cell_size(cell: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a grid cell from one number or a pair. Raises ConfigError below 1."""
    sizes = tuple(cell) if isinstance(cell, list | tuple) else (cell, cell)
    if len(sizes) != 2 or not all(type(s) is int and s >= 1 for s in sizes):
        raise ConfigError(f"grid cell={cell!r} must be pixels >= 1, or (height, width) of them")
    return sizes[0], sizes[1]


def grid(shape: tuple[int, int], cell: int | Sequence[int]) -> I32:
    """Rectangles from the top left; smaller at the right and lower border where they do not fit.

    Args:
        shape: (H, W).
        cell: Side in pixels, or (height, width).

    Returns:
        int32 [H, W], ids row-major.

    Raises:
        ConfigError: A side is below 1.

    Example:
        >>> grid((2, 5), 2).tolist()
        [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2]]
    """
    height, width = cell_size(cell)
    columns = -(-shape[1] // width)
    rows = np.arange(shape[0], dtype=np.int32) // height * columns
    return (rows[:, None] + np.arange(shape[1], dtype=np.int32) // width).astype(np.int32)


def slic(image: U8, n_segments: int, compactness: float = 10.0) -> I32:
    """SLIC superpixels (Achanta et al., TPAMI 2012) by scikit-image, in CIELAB, 10 iterations.

    Deterministic; releases the GIL.

    Args:
        image: uint8 [H, W, 3], RGB.
        n_segments: Approximate number of superpixels, >= 1.
        compactness: Higher values give squarer superpixels, > 0.

    Returns:
        int32 [H, W], each unit 4-connected, ids 0..R-1 without gaps.

    Raises:
        ConfigError: A number is out of range.
        EnvironmentProblem: scikit-image is not installed.
        TypeError: The image is of another type or shape.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((8, 16, 3), dtype=np.uint8)
        >>> image[:, 8:] = 255
        >>> ids = slic(image, n_segments=2)
        >>> bool(ids[0, 0] != ids[0, 15]), ids.dtype
        (True, dtype('int32'))
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TypeError(f"slic takes uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    if n_segments < 1 or not compactness > 0:
        raise ConfigError(f"slic needs {n_segments=} >= 1 and {compactness=} > 0")
    segment = _skimage().segmentation.slic
    n_segments = min(n_segments, image.shape[0] * image.shape[1])
    ids = segment(image, n_segments=n_segments, compactness=compactness, start_label=0)
    return _without_gaps(ids)


def slic_version() -> str:
    """What computes `slic`, for cache keys: results may change with it."""
    return f"scikit-image {_skimage().__version__} slic"


def _skimage() -> Any:
    try:
        import skimage
        import skimage.segmentation
    except ImportError:
        raise EnvironmentProblem(
            "region type 'slic' needs scikit-image: pip install scikit-image"
        ) from None
    return skimage


def precomputed(path: Path, shape: tuple[int, int]) -> I32:
    """Read an id map from a file.

    Args:
        path: Grey or palette PNG of 8 or 16 bit, RGB PNG in COCO panoptic coding (id = R + 256 G +
            65536 B), or integer NPY [H, W].
        shape: (H, W) of the image.

    Returns:
        int32 [H, W]; ids may have gaps. Where the largest is not below the number of pixels, as in
        COCO's files, they are renumbered 0..R-1 in ascending order.

    Raises:
        DataError: The file is missing or unreadable, has another size, negative ids or no integers.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "ids.npy"
        ...     np.save(path, np.array([[0, 0, 2]]), allow_pickle=False)
        ...     precomputed(path, (1, 3)).tolist()
        [[0, 0, 2]]
    """
    path = Path(path)
    _check_shape(path, declared_shape(path), shape)  # before memory is taken for the ids
    ids = _read_npy(path) if path.suffix == ".npy" else _read_picture(path)
    _check_shape(path, ids.shape, shape)
    if ids.size and ids.min() < 0:
        raise DataError(f"{path} holds the negative id {ids.min()}; ids start at 0")
    return _without_gaps(ids) if ids.size and ids.max() >= ids.size else ids.astype(np.int32)


def _check_shape(path: Path, found: tuple[int, ...] | None, shape: tuple[int, int]) -> None:
    if found is not None and found != tuple(shape):
        raise DataError(
            f"{path} is a map of {'x'.join(map(str, found))} (height x width), "
            f"its image is {shape[0]}x{shape[1]}"
        )


def _without_gaps(ids: Ints) -> I32:
    """The same units numbered 0..R-1 in ascending order of their ids."""
    top = int(ids.max()) if ids.size else 0
    if top > 4 * ids.size:
        return np.unique(ids, return_inverse=True)[1].reshape(ids.shape).astype(np.int32)
    there = np.zeros(top + 1, dtype=np.bool_)
    there[ids.ravel()] = True
    if there.all():
        return ids.astype(np.int32)
    return (np.cumsum(there, dtype=np.int32) - 1).astype(np.int32)[ids]


def _read_npy(path: Path) -> Ints:
    if not path.exists():
        raise DataError(f"{path} does not exist")
    ids = read_array(path)
    if ids.dtype.kind not in "iub":
        raise DataError(f"{path} holds {ids.dtype}; ids must be integers")
    return ids


def _read_picture(path: Path) -> Ints:
    with open_image(path) as image:
        if image.format == "JPEG":
            raise DataError(f"{path} is a JPEG, which changes ids; store id maps as PNG or NPY")
        if image.mode in ("L", "P", "1") or image.mode.startswith("I"):
            grey: Ints = np.asarray(image).astype(np.int32)
            return grey
        if image.mode != "RGB":
            raise DataError(
                f"{path} has mode {image.mode}; an id map is a grey, palette or RGB PNG, or NPY"
            )
        rgb = np.asarray(image).astype(np.int32)
    ids: Ints = rgb[..., 0] + (rgb[..., 1] << 8) + (rgb[..., 2] << 16)
    return ids
