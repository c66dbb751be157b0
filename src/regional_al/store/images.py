"""Reading and writing image files: RGB images, sizes from headers, uint8 label PNGs.

Pillow is imported on first use. Images are rotated by their EXIF orientation, as OpenCV (and so
every MMSegmentation pipeline) does; masks never are.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, EnvironmentProblem, RegionalALError, WorkDirError
from ..types import U8
from . import readers
from .listing import TEMPORARY
from .reading import check_kind

if TYPE_CHECKING:
    from PIL import Image as PILImage

_HINTS = {
    errno.ENOSPC: ": free some space, then resume",
    errno.EDQUOT: ": free some space, then resume",
}
_PROGRAMS = ("EPS",)
"""Formats that Pillow hands to another program, which executes them."""
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
_TRANSPOSED = {5, 6, 7, 8}  # EXIF orientations that swap height and width


def temporary_name(path: Path) -> Path:
    """A unique hidden name beside `path`; `is_temporary` recognises it."""
    name = path.name.encode(errors="surrogateescape")[:100].decode(errors="ignore")
    return path.with_name(f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file name was made by `temporary_name`, perhaps by a process that was killed."""
    return TEMPORARY.fullmatch(name) is not None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError, e.g. of a full disk, into a WorkDirError of one line that names `path`."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0, "")
        raise WorkDirError(f"{path} cannot be written: {why}{hint}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, renamed to it on success and removed on an exception.

    The name is unique, so that several processes may write the same file at once.

    Raises:
        WorkDirError: The file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(path)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def replace_all(files: Mapping[Path, bytes]) -> None:
    """Write several files, all or none: first all under temporary names, then renamed; the files
    that were there come back on an exception.

    Raises:
        WorkDirError: One cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     replace_all({Path(folder) / name: b"1" for name in "ab"})
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['a', 'b']
    """
    written = {path: temporary_name(path) for path in files}
    kept: dict[Path, Path | None] = {}
    try:
        for path, data in files.items():
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                written[path].write_bytes(data)
        for path in files:
            with writing(path):
                before = temporary_name(path) if path.exists() else None
                if before is not None:
                    _link(path, before)
                kept[path] = before
                os.replace(written[path], path)
    except BaseException:
        for path, before in kept.items():
            if before is None:
                path.unlink(missing_ok=True)
            else:
                os.replace(before, path)
        raise
    finally:
        for temporary in (*written.values(), *kept.values()):
            if temporary is not None:
                temporary.unlink(missing_ok=True)


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Like `replacing`, for a file that must not exist yet: WorkDirError when it does, also when
    another process creates it meanwhile."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(path)
        try:
            if path.exists():
                raise FileExistsError
            yield temporary
            _link(temporary, path)
        except FileExistsError:
            raise WorkDirError(
                f"{path.parent} already contains a run: add --resume or change work_dir"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Give a file a second name, which must be new; rename it where there are no hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        os.rename(temporary, path)


@contextmanager
def open_image(path: Path, data: bytes | None = None) -> Iterator[PILImage.Image]:
    """The opened file (or its bytes); DataError when it is missing or damaged."""
    try:
        from PIL import Image
    except ImportError:
        raise EnvironmentProblem("reading images needs Pillow: pip install pillow") from None
    if data is None:
        check_kind(path)
    try:
        with Image.open(path if data is None else BytesIO(data)) as image:
            if image.format in _PROGRAMS:
                raise DataError(f"{path} is a program ({image.format}), not an image of pixels")
            yield image
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except RegionalALError:
        raise
    except Image.DecompressionBombError:
        limit = f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
        raise DataError(
            f"{path} says that it has more than {limit} pixels: set acquisition.tiles, or cut it "
            "into tiles"
        ) from None
    except Exception as error:  # whatever the decoders of Pillow raise
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as an image: {why}") from None


def _orientation(image: PILImage.Image) -> int:
    """EXIF orientation 1..8; of JPEG only, since Pillow may have to decode other formats."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    return int(image.getexif().get(0x0112, 1))


def read_rgb(path: Path, data: bytes | None = None) -> U8:
    """An image as uint8 [H, W, 3]; grey is repeated, alpha dropped, 16 bit cut to the high byte.

    Args:
        path: The file.
        data: Its bytes, when the caller has read them already.

    Raises:
        DataError: It is missing or damaged.
    """
    reader = readers.reader_of(path)
    if reader is not None:
        return readers.rgb_of(readers.pixels_of(reader, path))
    try:
        return _read_rgb(path, data)
    except DataError as error:
        reader = _tiff_reader(path, error)
        return readers.rgb_of(readers.pixels_of(reader, path))


def _read_rgb(path: Path, data: bytes | None) -> U8:
    with open_image(path, data) as image:
        if image.mode.startswith("I"):
            grey = np.minimum(np.asarray(image).astype(np.int64) >> 8, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        return np.array(upright(image).convert("RGB"))


def upright(image: PILImage.Image) -> PILImage.Image:
    """An opened image rotated by its EXIF orientation."""
    if _orientation(image) == 1:
        return image
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def is_plain(path: Path) -> bool:
    """Whether Pillow reads an image file, and it is not turned by its EXIF orientation: then other
    programs show it as training reads it."""
    if readers.reader_of(path) is not None:
        return False
    try:
        with open_image(path) as image:
            return _orientation(image) == 1
    except DataError:
        return False


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image as `read_rgb` returns it, from the header alone. Raises DataError."""
    reader = readers.reader_of(path)
    if reader is not None:
        return readers.size_of(reader, path)
    try:
        with open_image(path) as image:
            width, height = image.size
            return (width, height) if _orientation(image) in _TRANSPOSED else (height, width)
    except DataError as error:
        return readers.size_of(_tiff_reader(path, error), path)


def _tiff_reader(path: Path, error: DataError) -> readers.ImageReader:
    """What reads a TIFF file that Pillow cannot; raises what Pillow has where nothing does."""
    reader = readers.tiff_reader(path) if path.is_file() else None
    if reader is not None:
        return reader
    if path.is_file() and readers.is_tiff(path):
        hint = "one of many bands needs tifffile: pip install tifffile"
        raise DataError(f"{error}; {hint}") from None
    raise error


def read_ids(path: Path, data: bytes | None = None) -> U8:
    """A label PNG as uint8 [H, W]: grey or palette indices, 16 bit when no value is above 255.

    data: its bytes, when the caller has read them already. Raises DataError for a colour image, a
    larger id, a missing or damaged file, or a format that changes values.
    """
    with open_image(path, data) as image:
        return read_ids_of(image, path, image.format)


def read_ids_of(image: PILImage.Image, path: Path, format: str | None) -> U8:
    """`read_ids` of an opened image, or of a part of it: path and format of the whole."""
    if format in _LOSSY:
        raise DataError(f"{path} is a {format}, which changes ids: save it as PNG")
    if image.mode not in ("L", "P", "1") and not image.mode.startswith("I"):
        raise DataError(
            f"{path} has colours (mode {image.mode}): a label file needs one id per pixel"
        )
    ids: np.ndarray[Any, np.dtype[Any]] = np.array(image)
    if ids.size and int(ids.max()) > 255:
        raise DataError(f"{path} contains id {int(ids.max())}: label files contain ids 0..255")
    return ids.astype(np.uint8, copy=False)


def verify(path: Path) -> None:
    """Read a whole image file and check its checksums, without decoding it. Raises DataError."""
    with open_image(path) as image:
        image.verify()


def write_png(path: Path, pixels: U8) -> None:
    """Write uint8 [H, W] (ids) or [H, W, 3] (RGB) as PNG, atomically; creates the folder."""
    data = encode_png(pixels)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def encode_png(pixels: U8) -> bytes:
    """The bytes of a PNG file of uint8 [H, W] (ids) or [H, W, 3] (RGB)."""
    from PIL import Image

    if pixels.dtype != np.uint8:
        raise TypeError(f"a PNG file is written of uint8, not {pixels.dtype}")
    data = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(data, format="PNG", compress_level=1)
    return data.getvalue()


def write_array(path: Path, values: np.ndarray[Any, Any]) -> None:
    """Write an array as NPY, atomically; creates the folder."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)
