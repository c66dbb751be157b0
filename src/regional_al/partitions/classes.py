"""Partitions that need no computation: whole images, grids, and maps from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..checks import file_path
from ..errors import ConfigError, DataError
from ..runtime.progress import progress
from ..store.outside import check_file
from ..types import I32, PoolItem
from .base import PARTITIONS
from .functions import cell_size, grid, precomputed, whole


class _ByShape:
    """Nothing to cache: `cache_dir`, which every partition takes, is not used."""

    def __init__(self, cache_dir: Path | str | None = None) -> None:
        del cache_dir

    def prepare(self, items: Sequence[PoolItem]) -> None:
        """Nothing to do."""


@PARTITIONS.register("whole")
class WholePartition(_ByShape):
    """One unit per image (level 'image').

    Args:
        cache_dir: Not used.

    Example:
        >>> from regional_al.types import PoolItem
        >>> WholePartition().count(PoolItem("a", Path("a.png"), None, (4, 6)))
        1
    """

    def ids(self, item: PoolItem) -> I32:
        """See `Partition.ids`."""
        return whole(item.shape)

    def count(self, item: PoolItem) -> int:
        """See `Partition.count`."""
        return 1


@PARTITIONS.register("grid")
class GridPartition(_ByShape):
    """Rectangles (see `functions.grid`).

    Args:
        cell: Side in pixels, or (height, width).
        cache_dir: Not used.

    Raises:
        ConfigError: A side is below 1.

    Example:
        >>> from regional_al.types import PoolItem
        >>> GridPartition(cell=2).count(PoolItem("a", Path("a.png"), None, (4, 5)))
        6
    """

    def __init__(self, cell: int | Sequence[int] = 32, cache_dir: Path | str | None = None) -> None:
        super().__init__(cache_dir)
        self.cell = cell_size(cell)

    def ids(self, item: PoolItem) -> I32:
        """See `Partition.ids`."""
        return grid(item.shape, self.cell)

    def count(self, item: PoolItem) -> int:
        """See `Partition.count`."""
        return -(-item.shape[0] // self.cell[0]) * -(-item.shape[1] // self.cell[1])


@PARTITIONS.register("precomputed")
class PrecomputedPartition(_ByShape):
    """Maps from files `<folder>/<key><suffix>` (see `functions.precomputed`).

    Args:
        folder: Folder of the maps.
        suffix: '.png', '.npy', '_regions.png', ...
        cache_dir: Not used.

    Raises:
        DataError: The folder or a map is missing or wrong, or a map is a link out of the folder.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from regional_al.types import PoolItem
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder) / "a.npy", np.array([[0, 0, 2]]), allow_pickle=False)
        ...     PrecomputedPartition(folder, ".npy").count(PoolItem("a", Path("a"), None, (1, 3)))
        2
    """

    def __init__(
        self, folder: Path | str, suffix: str = ".png", cache_dir: Path | str | None = None
    ) -> None:
        super().__init__(cache_dir)
        self.folder, self.suffix = file_path("precomputed folder", folder), suffix
        if not isinstance(suffix, str) or "\0" in suffix:
            raise ConfigError(f"precomputed suffix={suffix!r} must be text such as '.png'")
        self._counts: dict[str, int] = {}
        if not self.folder.is_dir():
            raise DataError(f"folder {self.folder} of region type 'precomputed' does not exist")

    def ids(self, item: PoolItem) -> I32:
        """See `Partition.ids`."""
        path = self.folder / f"{item.key}{self.suffix}"
        check_file(path, self.folder, item.shape)
        ids = precomputed(path, item.shape)
        self._counts[item.key] = int(np.count_nonzero(np.bincount(ids.ravel())))
        return ids

    def count(self, item: PoolItem) -> int:
        """See `Partition.count`."""
        if item.key not in self._counts:
            self.ids(item)
        return self._counts[item.key]

    def prepare(self, items: Sequence[PoolItem]) -> None:
        """Read each map once, so that a wrong one raises an error before any training."""
        new = [item for item in items if item.key not in self._counts]
        if new:
            for item in progress(new, "Checking region maps"):
                self.ids(item)
