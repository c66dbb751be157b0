"""Large images cut into tiles: files of their own, each an image of the pool from then on.

An image is read once (`store.windows`) and never afterwards: scoring, training, the page and the
oracle read tiles. The files are named by what they are cut from, written atomically and
left alone once they are there, so that processes and runs can share a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, RegionalALError
from ..runtime import distributed as dist
from ..runtime.progress import progress
from ..types import Tiles
from .images import image_size, open_image, read_ids_of, write_png
from .windows import Box, large_images, reading


@dataclass(frozen=True)
class Tile:
    """A tile and its files.

    Args:
        name: `r<row>_c<column>` of its first pixel in the image.
        box: Where it lies in the image.
        image: Its pixels.
        annotation: Its part of the image's annotation; None: the image has none.
        around: The tile with its context; None: there is none.
        inner: Where the tile lies in `around`.
    """

    name: str
    box: Box
    image: Path
    annotation: Path | None
    around: Path | None
    inner: Box


def boxes(shape: tuple[int, int], size: int) -> list[Box]:
    """The tiles of an image in row-major order: about equal, at most `size` high and wide.

    From a size of 256 on, they begin at multiples of 32 (of 8 from 64 on), so that the cells of a
    grid are the same with and without tiles when their side divides it.

    Args:
        shape: (H, W) of the image.
        size: Largest side of a tile.

    Example:
        >>> [tuple(box) for box in boxes((50, 100), 64)]
        [(0, 50, 0, 48), (0, 50, 48, 100)]
    """
    rows, cols = (_cuts(length, size) for length in shape)
    return [Box(*row, *col) for row in rows for col in cols]


def _cuts(length: int, size: int) -> list[tuple[int, int]]:
    cell = 32 if size >= 256 else 8 if size >= 64 else 1
    cells = -(-length // cell)
    count = -(-cells // (size // cell))
    starts = [i * cells // count * cell for i in range(count)]
    return list(zip(starts, [*starts[1:], length], strict=True))


def cut_all(
    folder: Path, files: Sequence[tuple[Path, Path | None]], tiles: Tiles
) -> list[list[Tile]]:
    """Cut images and their annotations, each on one of the processes.

    Args:
        folder: Where tiles are kept; those that are there already are not written again.
        files: Image and annotation, or None where there is none.
        tiles: How to cut.

    Returns:
        Tiles of each image in row-major order; none where the image is no larger than one.

    Raises:
        DataError: A file cannot be read or cut, on every process.
    """
    error: RegionalALError | None = None
    mine = range(dist.rank(), len(files), dist.world_size())
    try:
        todo = [i for i in mine if not _complete(folder, *files[i], tiles)]
        for index in progress(todo, "cutting tiles", len(todo)) if todo else ():
            cut(folder, *files[index], tiles)
    except RegionalALError as caught:
        error = caught
    dist.raise_together(error)
    return [_planned(folder, image, annotation, tiles) for image, annotation in files]


def cut(folder: Path, image: Path, annotation: Path | None, tiles: Tiles) -> list[Tile]:
    """Cut one image, see `cut_all`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> with TemporaryDirectory() as name:
        ...     path = Path(name) / "a.png"
        ...     write_png(path, np.zeros((40, 100), np.uint8))
        ...     made = cut(Path(name) / "tiles", path, None, Tiles(64, 8))
        ...     [(tile.name, tuple(tile.inner)) for tile in made]
        [('r0_c0', (0, 40, 0, 48)), ('r0_c48', (0, 40, 8, 60))]
    """
    planned = _planned(folder, image, annotation, tiles)
    pixels = [(tile.image, tile.box) for tile in planned]
    shape = _size(image) if planned else (0, 0)
    pixels += [(t.around, t.box.grown(tiles.context, shape)) for t in planned if t.around]
    missing = [(path, box) for path, box in pixels if not path.exists()]
    if missing:
        with reading(image) as read:
            for path, box in missing:
                write_png(path, read(box))
    ids = [(t.annotation, t.box) for t in planned if t.annotation]
    ids = [(path, box) for path, box in ids if not path.exists()]
    if annotation is not None and ids:
        with large_images(), open_image(annotation) as opened:
            found = (opened.size[1], opened.size[0])
            if found != shape:
                raise DataError(
                    f"{annotation} is {found[0]}x{found[1]} (height x width), its image {image} is "
                    f"{shape[0]}x{shape[1]}: save it at the size of the image"
                )
            opened.load()
            for path, box in ids:
                part = opened.crop((box.left, box.top, box.right, box.bottom))
                write_png(path, read_ids_of(part, annotation, opened.format))
    return planned


def _planned(folder: Path, image: Path, annotation: Path | None, tiles: Tiles) -> list[Tile]:
    """The tiles of an image, whether they are there or not."""
    shape = _size(image)
    if max(shape) <= tiles.size:
        return []
    home = folder / _identity(image, annotation, tiles)
    made = []
    for box in boxes(shape, tiles.size):
        name = f"r{box.top}_c{box.left}"
        outer = box.grown(tiles.context, shape)
        made.append(
            Tile(
                name,
                box,
                home / "image" / f"{name}.png",
                None if annotation is None else home / "annotation" / f"{name}.png",
                None if outer == box else home / "around" / f"{name}.png",
                box.within(outer),
            )
        )
    return made


def _complete(folder: Path, image: Path, annotation: Path | None, tiles: Tiles) -> bool:
    return all(
        path is None or path.exists()
        for tile in _planned(folder, image, annotation, tiles)
        for path in (tile.image, tile.annotation, tile.around)
    )


def _identity(image: Path, annotation: Path | None, tiles: Tiles) -> str:
    """Name of the folder of an image's tiles: another one when a file or the cut changes."""
    parts: list[Any] = [tiles.size, tiles.context]
    for path in (image, annotation):
        if path is not None:
            found = path.stat()
            parts += [path.resolve(), found.st_size, found.st_mtime_ns]
    digest = hashlib.sha256("\n".join(map(str, parts)).encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _size(path: Path) -> tuple[int, int]:
    with large_images():
        return image_size(path)
