"""A query on disk: everything an annotator needs to answer it.

`rounds/003/query/` contains `query.json` (level, partition, radii, kind of answer, keys of the
images), `picks.npy` (PICK_DTYPE, best first) and `asked/<key>.png` (per image, 24-bit RGB in COCO
panoptic coding, id = R + 256 G + 65536 B: 0 = not asked, i = the image's i-th item in pick order).
For `answer='correction'` `machine/<key>.png` is what is to be corrected: raw ids, 255 = none.
It is written under a temporary name and renamed, so it exists completely or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..types import I32, I64, PICK_DTYPE, U8, UNLABELED, Level, Picks
from .images import open_image, read_ids, write_png, writing
from .outside import check_file, check_folder
from .reading import read_array, read_json

MACHINE = "machine"
TEMPORARY = ".tmp"
"""Suffix of the folder in which a query is written."""


@dataclass(frozen=True)
class QueryInfo:
    """Header of a query.

    Args:
        round: Of the run.
        level: 'image', 'region' or 'pixel'.
        partition: Region type.
        answer: 'full' (a class per pixel), 'dominant' (one class per item), 'multiclass' (all
            classes of an item) or 'correction' (whether a machine's class of an item is its
            dominant one, and if not, which is).
        label_radius: Of windows and pixels; None for the units of a partition.
        suppress_radius: Likewise.

    Example:
        >>> QueryInfo(round=1, level="region", partition="slic").answer
        'full'
    """

    round: int
    level: Level
    partition: str
    answer: str = "full"
    label_radius: int | None = None
    suppress_radius: int | None = None


@dataclass(frozen=True)
class Query:
    """A query folder, made by `write_query` or `read_query`.

    Args:
        folder: Where it is.
        info: Its header.
        picks: All picks, best first (PICK_DTYPE).
        keys: Key of each image index in `picks`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> picks = np.array([(0, -1, -1, 5, 0.9, 2)], PICK_DTYPE)  # unit 5 of image 0, 2 pixels
        >>> asked = np.array([[0, 1], [0, 1]], np.int32)
        >>> with TemporaryDirectory() as folder:
        ...     info = QueryInfo(1, "region", "slic")
        ...     query = write_query(Path(folder) / "q", info, picks, iter([(0, "town/01", asked)]))
        ...     query.image_keys(), query.asked("town/01").tolist()
        (['town/01'], [[0, 1], [0, 1]])
    """

    folder: Path
    info: QueryInfo
    picks: Picks
    keys: dict[int, str]

    def asked(self, key: str) -> I32:
        """int32 [H, W]: 0 = not asked, i = the i-th item of this image."""
        return read_asked(self.folder, key)

    def machine(self, key: str) -> U8 | None:
        """The labels of a machine that an image is asked about with: raw ids uint8 [H, W], 255 =
        none or not asked; None: the query shows none."""
        path = self.folder / MACHINE / f"{key}.png"
        check_file(path, self.folder)
        return read_ids(path) if path.exists() else None

    def image_keys(self) -> list[str]:
        """Keys of the queried images, in pool order."""
        return [self.keys[index] for index in sorted(self.keys)]

    def items(self, key: str) -> Picks:
        """The picks of one image; item i is row i - 1."""
        order, images = self._by_image
        first, last = np.searchsorted(images, self._index_of[key] + np.arange(2))
        return np.asarray(self.picks[order[first:last]])

    @cached_property
    def _index_of(self) -> dict[str, int]:
        """Inverse of `keys`."""
        return {key: index for index, key in self.keys.items()}

    @cached_property
    def _by_image(self) -> tuple[I64, I64]:
        """Rows of `picks`, image by image, best first; and the image of each."""
        order = np.argsort(self.picks["image"], kind="stable")
        return order, self.picks["image"][order].astype(np.int64)


def write_query(
    folder: Path,
    info: QueryInfo,
    picks: Picks,
    asked: Iterator[tuple[int, str, I32]],
    machine: Callable[[str], U8 | None] | None = None,
) -> Query:
    """Write a query, complete or not at all.

    Args:
        folder: Of the query; replaced if it exists.
        info: Its header.
        picks: PICK_DTYPE [n], best first.
        asked: (image index, key, item ids int32 [H, W]) per image.
        machine: Key of an image -> labels that are shown with it, raw ids uint8 [H, W]; None: none.

    Returns:
        The query.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> picks = np.zeros(1, PICK_DTYPE)
        >>> info = QueryInfo(round=1, level="region", partition="grid")
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "query"
        ...     query = write_query(path, info, picks, iter([(0, "a", np.ones((2, 2), np.int32))]))
        ...     read_query(path).asked("a").tolist()
        [[1, 1], [1, 1]]
    """
    temporary = folder.with_name(folder.name + TEMPORARY)
    keys: dict[int, str] = {}
    with writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "asked").mkdir(parents=True)
        for index, key, items in asked:
            keys[index] = key
            write_id_png(temporary / "asked" / f"{key}.png", items)
            shown = None if machine is None else machine(key)
            if shown is not None:
                where = np.where(items > 0, shown, np.uint8(UNLABELED))
                write_png(temporary / MACHINE / f"{key}.png", where.astype(np.uint8))
        np.save(temporary / "picks.npy", picks, allow_pickle=False)
        header = {"info": asdict(info), "keys": {str(i): keys[i] for i in sorted(keys)}}
        (temporary / "query.json").write_text(json.dumps(header, indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    return Query(folder, info, picks, keys)


def copy_query(query: Query, folder: Path) -> None:
    """Copy a query to another folder; the copy exists completely or not at all. Raises DataError
    for a link out of its folder, and for what is no file."""
    check_folder(query.folder)
    temporary = folder.with_name(folder.name + TEMPORARY)
    with writing(folder):
        for old in (temporary, folder):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(query.folder, temporary)
        temporary.rename(folder)


def read_query(folder: Path) -> Query:
    """Read a query folder.

    Args:
        folder: Of the query.

    Returns:
        The query.

    Raises:
        DataError: A file is missing or damaged, or a link out of the folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> picks = np.zeros(1, PICK_DTYPE)
        >>> info = QueryInfo(round=1, level="region", partition="grid")
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "query"
        ...     query = write_query(path, info, picks, iter([(0, "a", np.ones((2, 2), np.int32))]))
        ...     read_query(path).asked("a").tolist()
        [[1, 1], [1, 1]]
    """
    path = folder / "query.json"
    for name in ("query.json", "picks.npy"):
        check_file(folder / name, folder)
    try:
        header = read_json(path)
        info = QueryInfo(**header["info"])
        keys = {int(i): str(key) for i, key in header["keys"].items()}
        path = folder / "picks.npy"
        picks = read_array(path)
        if picks.dtype != PICK_DTYPE or picks.ndim != 1:
            raise ValueError("it does not contain picks")
    except KeyError as error:
        raise DataError(f"{path} is not readable: key {error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not readable: {error}") from None
    return Query(folder, info, picks, keys)


def read_asked(folder: Path, key: str) -> I32:
    """`Query.asked` of the query in a folder, without reading the rest of it."""
    path = folder / "asked" / f"{key}.png"
    check_file(path, folder)
    return read_id_png(path)


def query_hash(query: Query) -> str:
    """SHA-256 of all that a query asks.

    Args:
        query: Complete on disk.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> asked = np.ones((2, 2), np.int32)
        >>> with TemporaryDirectory() as folder:
        ...     info = QueryInfo(1, "region", "grid")
        ...     path = Path(folder) / "query"
        ...     query = write_query(path, info, np.zeros(1, PICK_DTYPE), iter([(0, "a", asked)]))
        ...     len(query_hash(query))
        64
    """
    digest = hashlib.sha256()
    names = ["query.json", "picks.npy", *(f"asked/{key}.png" for key in query.image_keys())]
    shown = [f"{MACHINE}/{key}.png" for key in query.image_keys()]
    names += [name for name in shown if (query.folder / name).exists()]
    for name in names:
        check_file(query.folder / name, query.folder)
        data = (query.folder / name).read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def write_id_png(path: Path, ids: I32) -> None:
    """Ids 0..2^24-1 [H, W] as an RGB PNG in COCO panoptic coding."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(id_rgb(ids)).save(path, compress_level=1)


def read_id_png(path: Path) -> I32:
    """Inverse of `write_id_png`. Raises DataError when the file cannot be read."""
    with open_image(path) as image:
        return rgb_ids(np.asarray(image.convert("RGB")))


def id_rgb(ids: I32) -> U8:
    """Ids 0..2^24-1 [H, W] as uint8 [H, W, 3]: R + 256 G + 65536 B.

    Example:
        >>> id_rgb(np.array([[258]], np.int32)).tolist()
        [[[2, 1, 0]]]
    """
    return np.stack([ids & 255, (ids >> 8) & 255, (ids >> 16) & 255], axis=-1).astype(np.uint8)


def rgb_ids(rgb: U8) -> I32:
    """Inverse of `id_rgb`.

    Example:
        >>> rgb_ids(id_rgb(np.array([[258]], np.int32))).tolist()
        [[258]]
    """
    wide = rgb.astype(np.int32)
    return np.asarray(wide[..., 0] + (wide[..., 1] << 8) + (wide[..., 2] << 16))
