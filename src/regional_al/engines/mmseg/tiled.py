"""Data sets whose large images are replaced by tiles, in both generations alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config.grammar import parse_tiles
from ...store.tiling import Tile, cut_all
from ...store.windows import Box
from ...store.work_dir import WorkDir
from ...types import Tiles

AROUND = "regional_al_around"
"""Key of a data set's entry: (file of the tile with its context, box of the tile in it)."""
NAME = "regional_al_key"
"""Key of a data set's entry: the key of the tile in the pool."""


@dataclass(frozen=True)
class Tiling:
    """How large images of a config's data sets are cut, and where tiles are kept."""

    tiles: Tiles
    folder: Path

    def expand(
        self,
        entries: Sequence[dict[str, Any]],
        files: Sequence[tuple[Path, Path | None]],
        keys: Sequence[str],
        point: Callable[[dict[str, Any], Tile], dict[str, Any]],
    ) -> Iterator[dict[str, Any]]:
        """The entries of a data set, those of large images replaced by one per tile.

        Args:
            entries: Of the data set, one per image.
            files: Image and annotation of each.
            keys: Of the images in the pool.
            point: The entry of an image, made to name the files of a tile.
        """
        for entry, key, made in zip(
            entries, keys, cut_all(self.folder, files, self.tiles), strict=True
        ):
            if not made:
                yield entry
            for tile in made:
                found = {**point(entry, tile), NAME: f"{key}/{tile.name}"}
                if tile.around is not None:
                    found[AROUND] = (str(tile.around.absolute()), tile.inner)
                yield found


def tiling_of(cfg: Mapping[str, Any]) -> Tiling | None:
    """What `acquisition.tiles` of a config asks for. Raises ConfigError."""
    acquisition = cfg.get("acquisition") or {}
    tiles = parse_tiles(acquisition.get("tiles"))
    if tiles is None:
        return None
    cache = acquisition.get("cache_dir") or WorkDir(Path(cfg["work_dir"])).cache
    return Tiling(tiles, Path(cache) / "tiles")


def inner_of(entry: Mapping[str, Any]) -> Box | None:
    """Where a tile lies in the file that `AROUND` names; None: there is none."""
    return entry[AROUND][1] if AROUND in entry else None
