"""Files that other people put into a folder: looked at before they are read.

A link may lead to a file that nobody meant to hand over, a FIFO or device can be read forever, and
a small file may declare an image that fills the memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import DataError
from .images import open_image
from .reading import array_header, check_kind

_PER_PIXEL = 32
"""Bytes that a file may have for each pixel: four times those of an int64 array."""
_MORE = 1 << 20


def check_file(path: Path, folder: Path, shape: tuple[int, int] | None = None) -> None:
    """Refuse what is no regular file inside a folder, or far too large. Nothing is read; a file
    that does not exist is left to its reader.

    Args:
        path: The file.
        folder: Below which it must be, links resolved; the folder itself may be a link.
        shape: (H, W) of the image that it is about.

    Raises:
        DataError: One line that names the file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     (Path(name) / "a.png").symlink_to("/dev/zero")
        ...     check_file(Path(name) / "a.png", Path(name))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        regional_al.errors.DataError: ...a.png is a link that leads out of ... to /dev/zero: put...
    """
    found = _plain_file(os.fspath(path), os.fspath(folder)) or _file_behind(path, folder)
    if found is None:
        return
    if shape is not None and found.st_size > shape[0] * shape[1] * _PER_PIXEL + _MORE:
        raise DataError(
            f"{path} has {found.st_size:,} bytes, far too many for an image of "
            f"{shape[0]}x{shape[1]} (HxW): save it anew"
        )


def _plain_file(path: str, folder: str) -> os.stat_result | None:
    """Status of a regular file below a folder with no link on the way to it; None: of another one,
    or not certain. Nearly all files are such, and resolving links takes ten times as long."""
    inside = path[len(folder) + 1 :]
    if not path.startswith(folder) or path[len(folder) : len(folder) + 1] != os.sep:
        return None
    parts, here = inside.split(os.sep), folder
    if ".." in parts:
        return None
    try:
        for part in parts[:-1]:
            here = f"{here}{os.sep}{part}"
            if not stat.S_ISDIR(os.lstat(here).st_mode):
                return None
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _file_behind(path: Path, folder: Path) -> os.stat_result | None:
    """Status of a regular file inside a folder, links resolved; None: it does not exist. Raises
    DataError."""
    try:
        there = os.path.realpath(path)
        found = os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise DataError(f"{path} is a link to {there}, which does not exist") from None
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not Path(there).is_relative_to(os.path.realpath(folder)):
        raise DataError(
            f"{path} is a link that leads out of {folder}, to {there}: put the file itself there"
        )
    check_kind(path)
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} is a folder, not a file: remove it")
    return found


def check_folder(folder: Path) -> None:
    """`check_file` for everything below a folder, which need not exist. Raises DataError."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            check_file(path, folder)


def declared_shape(path: Path) -> tuple[int, ...] | None:
    """The shape that the header of an image or NPY file declares: (H, W) of an image. The content
    is not read. None for an NPY file whose header cannot be read.

    Raises:
        DataError: An image is missing or damaged.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     np.save(Path(name) / "a.npy", np.zeros((2, 3)), allow_pickle=False)
        ...     declared_shape(Path(name) / "a.npy")
        (2, 3)
    """
    if path.suffix != ".npy":
        with open_image(path) as image:
            return (image.height, image.width)
    try:
        with path.open("rb") as file:
            return array_header(file)[0]
    except Exception:  # whatever the parser of the header raises; its reader says it
        return None
