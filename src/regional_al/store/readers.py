"""Image files that Pillow does not read: NPY arrays, images of many bands, a user's own formats.

Training reads images by the pipeline of the user's config. The run itself needs their sizes, and
RGB pixels for superpixels, the report and the annotation page: a reader gives both.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataError
from ..types import U8
from .reading import array_shape, check_kind, read_array

Pixels = npt.NDArray[Any]
_TIFF = (".tif", ".tiff")


class ImageReader(NamedTuple):
    """How files of one suffix are read.

    Args:
        read: File -> [H, W] or [H, W, bands] of any numeric dtype.
        size: File -> (H, W), if that is faster than reading it.
    """

    read: Callable[[Path], Pixels]
    size: Callable[[Path], tuple[int, int]] | None = None


def register_image_reader(
    suffix: str,
    read: Callable[[Path], Pixels],
    size: Callable[[Path], tuple[int, int]] | None = None,
) -> None:
    """Read images with a suffix by a function of one's own, also where Pillow could.

    A module that `custom_imports` names can call it. Of an image that is not uint8 RGB, people and
    superpixels see the first three bands (see `rgb_of`); return other bands to show those.

    Args:
        suffix: Of the files, such as '.npz', in any case.
        read: File -> [H, W] or [H, W, bands] of any numeric dtype.
        size: File -> (H, W), if that is faster than reading it.

    Raises:
        ConfigError: The suffix has no dot.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.store.images import image_size
        >>> register_image_reader(".npz", lambda path: np.load(path)["image"])
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(Path(folder) / "a.npz", image=np.zeros((4, 6, 5)))
        ...     image_size(Path(folder) / "a.npz")
        (4, 6)
    """
    if not suffix.startswith(".") or len(suffix) < 2:
        raise ConfigError(f"suffix {suffix!r} must begin with a dot, such as '.npz'")
    _READERS[suffix.lower()] = ImageReader(read, size)


def reader_of(path: Path) -> ImageReader | None:
    """The reader of a file; None: Pillow reads it."""
    return _READERS.get(path.suffix.lower())


def pixels_of(reader: ImageReader, path: Path) -> Pixels:
    """The pixels of a file, [H, W] or [H, W, bands]. Raises DataError."""
    pixels = np.asarray(_called(reader.read, path))
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "buif" or not pixels.size:
        raise DataError(
            f"{path} is {list(pixels.shape)} of {pixels.dtype}; an image is [height, width] or "
            "[height, width, bands] of numbers"
        )
    return pixels


def size_of(reader: ImageReader, path: Path) -> tuple[int, int]:
    """(H, W) of a file. Raises DataError."""
    if reader.size is None:
        height, width = pixels_of(reader, path).shape[:2]
    else:
        height, width = _called(reader.size, path)
    return int(height), int(width)


def rgb_of(pixels: Pixels) -> U8:
    """Pixels as people see them, uint8 [H, W, 3]: one or two bands as grey, of more the first
    three. Of other types than uint8, what lies between the 2nd and the 98th percentile is spread
    over 0..255; NaN is black.

    Args:
        pixels: [H, W] or [H, W, bands].

    Example:
        >>> rgb_of(np.array([[0, 50], [100, 100]], np.uint16))[..., 0].tolist()
        [[0, 127], [255, 255]]
        >>> rgb_of(np.zeros((2, 3, 5), np.uint8)).shape
        (2, 3, 3)
    """
    bands = pixels[..., None] if pixels.ndim == 2 else pixels
    bands = bands[..., :3] if bands.shape[2] >= 3 else np.repeat(bands[..., :1], 3, axis=2)
    if bands.dtype != np.uint8:
        values = bands.astype(np.float64)
        known = values[np.isfinite(values)]
        low, high = np.percentile(known, (2, 98)) if known.size else (0.0, 0.0)
        if high <= low:  # nearly all the same
            low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
        spread = (values - low) / (high - low if high > low else 1.0)
        bands = (255 * np.clip(np.nan_to_num(spread, posinf=1.0, neginf=0.0), 0, 1)).astype(
            np.uint8
        )
    return np.ascontiguousarray(bands)


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF by its name."""
    return path.suffix.lower() in _TIFF


def tiff_reader(path: Path) -> ImageReader | None:
    """The reader for a TIFF file that Pillow cannot read, such as one of five bands; None: it is
    no TIFF file, or tifffile is not installed."""
    if not is_tiff(path):
        return None
    try:
        import tifffile  # noqa: F401
    except ImportError:
        return None
    return ImageReader(_read_tiff, _tiff_size)


def _tiff_size(path: Path) -> tuple[int, int]:
    import tifffile

    with _quiet(), tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        return int(page.imagelength), int(page.imagewidth)


def _read_tiff(path: Path) -> Pixels:
    import tifffile

    with _quiet(), tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        pixels = np.asarray(page.asarray())
        planes = pixels.ndim == 3 and "S" in page.axes and page.axes.index("S") == 0
    return np.moveaxis(pixels, 0, -1) if planes else pixels


@contextlib.contextmanager
def _quiet() -> Any:
    """What is wrong with a file is raised, not logged."""
    log = logging.getLogger("tifffile")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _called(function: Callable[[Path], Any], path: Path) -> Any:
    check_kind(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    try:
        return function(path)
    except DataError:
        raise
    except Exception as error:  # whatever a user's function raises
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as an image: {why}") from None


def _npy_size(path: Path) -> tuple[int, int]:
    shape = array_shape(path)
    if len(shape) not in (2, 3):
        raise DataError(f"{path} is an array {list(shape)}; an image is [height, width(, bands)]")
    return shape[0], shape[1]


_READERS: dict[str, ImageReader] = {".npy": ImageReader(read_array, _npy_size)}
