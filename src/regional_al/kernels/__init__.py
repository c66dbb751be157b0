"""Statistics of regions and windows from logits: one set of functions, several implementations.

`torch` (reference, any device), `numba` (CPU), `triton` (CUDA) and `torch_scatter` give the same
numbers and the same picks: see `_fixed` for how. Logits are float32, float16 or bfloat16 (float64
is rounded to float32), any strides; no C x H x W temporary is ever made. Results are float32 on
the device of the input. NaN or infinite logits raise ScoreError, naming the image if `name` is
given; ids or classes out of range raise ValueError.
"""

from __future__ import annotations

from ._backends import available_backends, set_backend
from ._maps import pixel_scores, pixel_stats, ripu_map, window_impurity, window_mean
from ._regions import region_mean, region_stats
from ._stats import RegionStats
from .tiled import Tile, TiledRegionStats, tile_size, tiled_ripu

__all__ = [
    "RegionStats",
    "Tile",
    "TiledRegionStats",
    "available_backends",
    "pixel_scores",
    "pixel_stats",
    "region_mean",
    "region_stats",
    "ripu_map",
    "set_backend",
    "tile_size",
    "tiled_ripu",
    "window_impurity",
    "window_mean",
]
