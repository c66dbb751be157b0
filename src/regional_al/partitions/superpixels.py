"""SLIC superpixels as a partition: computed once, in parallel, kept on disk by content.

A map's file name is the hash of the image file's bytes, the parameters and the library's version,
so a changed image or parameter can never meet an old map, and runs may share one folder. Threads
do the work: scikit-image's SLIC releases the GIL, and `benchmarks/bench_slic.py` finds them faster
than processes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from ..checks import file_path, integer, positive, whole_number
from ..errors import ConfigError, DataError, WorkDirError
from ..runtime.progress import progress
from ..store.images import open_image, read_rgb, replacing
from ..types import I32, U8, PoolItem
from . import functions
from .base import PARTITIONS
from .functions import precomputed

DEFAULT_SEGMENT = 32 * 32  # pixels
_MAX_WORKERS = 16  # a 1024x2048 image takes about 250 MB while it is divided


def default_cache_dir() -> Path:
    """Where SLIC maps are cached unless a folder is named.

    Returns:
        `$REGIONAL_AL_CACHE`, else `regional_al` in `$XDG_CACHE_HOME` or `~/.cache`.

    Example:
        >>> isinstance(default_cache_dir(), Path)
        True
    """
    named = os.environ.get("REGIONAL_AL_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regional_al"


def default_workers() -> int:
    """This process's share of the usable CPUs, where LOCAL_WORLD_SIZE processes share them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = "LOCAL_WORLD_SIZE"
    share = (usable or 1) // whole_number(name, os.environ.get(name) or "1")
    return max(1, min(share, _MAX_WORKERS))


def default_segments(shape: tuple[int, int]) -> int:
    """About one segment per 32 x 32 pixels, at least one."""
    return max(1, round(shape[0] * shape[1] / DEFAULT_SEGMENT))


def write_map(path: Path, ids: I32) -> None:
    """Ids 0..R-1 as a PNG that `precomputed` reads, whole or not at all; its text holds R.

    16 bit grey where R allows (a third faster to read), else 24-bit panoptic RGB.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    count = int(ids.max()) + 1
    if count <= 1 << 16:
        picture = Image.fromarray(ids.astype(np.uint16))
    else:
        rgb = np.stack([ids & 255, (ids >> 8) & 255, ids >> 16], axis=-1)
        picture = Image.fromarray(rgb.astype(np.uint8))
    text = PngInfo()
    text.add_text("regions", str(count))
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=1, pnginfo=text)


def map_count(path: Path, shape: tuple[int, int]) -> int | None:
    """R of a map by `write_map`, from its header; None when it is missing, damaged or not ours."""
    try:
        with open_image(path) as image:
            return int(image.info["regions"]) if image.size == (shape[1], shape[0]) else None
    except (DataError, KeyError, ValueError):
        return None


@PARTITIONS.register("slic")
class SlicPartition:
    """SLIC superpixels, cached on disk.

    Args:
        n_segments: Approximate number per image; None: one per 32 x 32 pixels.
        compactness: Higher values give squarer superpixels, > 0.
        cache_dir: Maps go to `slic/` below it; None: `default_cache_dir`.
        workers: Threads of `prepare`; None: this process's share of the CPUs.

    Raises:
        ConfigError: A number is out of range.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from regional_al.types import PoolItem
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.png"
        ...     pixels = np.repeat(np.uint8([[[0], [255]]]), 8, axis=1).repeat(8, axis=0)
        ...     Image.fromarray(pixels.repeat(3, axis=2)).save(path)
        ...     slic = SlicPartition(n_segments=2, cache_dir=folder)
        ...     slic.ids(PoolItem("a", path, None, (8, 16))).shape
        (8, 16)
    """

    def __init__(
        self,
        n_segments: int | None = None,
        compactness: float = 10.0,
        cache_dir: Path | str | None = None,
        workers: int | None = None,
    ) -> None:
        if n_segments is not None:
            integer("slic n_segments", n_segments, 1)
        if workers is not None:
            integer("slic workers", workers, 1)
        self.n_segments, self.compactness = n_segments, positive("slic compactness", compactness)
        named = default_cache_dir() if cache_dir is None else file_path("slic cache_dir", cache_dir)
        self.folder, self.workers = named / "slic", workers or default_workers()
        self._known: dict[str, tuple[Path, int]] = {}  # item key -> (map file, R)
        parameters = {"n_segments": n_segments, "compactness": self.compactness}
        self._salt = json.dumps([functions.slic_version(), parameters]).encode()

    def ids(self, item: PoolItem) -> I32:
        """int32 [H, W] from the cache; computed and cached when missing or damaged."""
        path, count = self._known.get(item.key) or self._locate(item)
        try:
            ids = precomputed(path, item.shape)
            if int(ids.max()) + 1 == count:
                return ids
        except DataError:
            pass
        return self._compute(item, item.image.read_bytes(), path)

    def count(self, item: PoolItem) -> int:
        """See `Partition.count`."""
        return (self._known.get(item.key) or self._locate(item))[1]

    def prepare(self, items: Sequence[PoolItem]) -> None:
        """Have the maps of all items on disk; at once when this object has seen them before."""
        new = [item for item in items if item.key not in self._known]
        if not new:
            return
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(self._locate, item) for item in new]
            try:
                for future in progress(as_completed(futures), "Superpixels", len(futures)):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _locate(self, item: PoolItem) -> tuple[Path, int]:
        """Map file and R of an item, computing what is not there; hashes the image's bytes."""
        try:
            data = item.image.read_bytes()
        except OSError as error:
            raise DataError(f"{item.image} cannot be read: {error.strerror}") from None
        name = hashlib.sha256(self._salt + hashlib.sha256(data).digest()).hexdigest()
        path = self.folder / f"{name}.png"
        count = map_count(path, item.shape)
        if count is None:
            self._compute(item, data, path)
        else:
            self._known[item.key] = (path, count)
        return self._known[item.key]

    def _compute(self, item: PoolItem, data: bytes, path: Path) -> I32:
        image: U8 = read_rgb(item.image, data)
        if image.shape[:2] != item.shape:
            raise DataError(
                f"{item.image} is {image.shape[0]}x{image.shape[1]} (height x width), "
                f"its annotation is {item.shape[0]}x{item.shape[1]}"
            )
        wanted = self.n_segments or default_segments(item.shape)
        ids = functions.slic(image, wanted, self.compactness)
        try:
            write_map(path, ids)
        except WorkDirError as error:
            raise ConfigError(f"{error}; or set acquisition.cache_dir") from None
        self._known[item.key] = (path, int(ids.max()) + 1)
        return ids
