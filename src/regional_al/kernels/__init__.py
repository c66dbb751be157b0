"""Region and window statistics of logits, with one set of functions and several backends.

The backends `torch` (reference, any device), `numba` (CPU), `triton` (CUDA) and `torch_scatter`
return identical bits, so picks do not depend on the backend (`_fixed` explains how). Logits are
float32, float16 or bfloat16 (float64 is rounded to float32) with any strides; no C x H x W
temporary is allocated. Results are float32 on the device of the input.

NaN or infinite logits raise ScoreError, which names the image if `name` is given. Region ids or
class ids out of range raise ValueError.

Score maps of whole images (entropy, margin, RIPU, ...) are in `regional_al.functional`.
"""

from __future__ import annotations

from .backends import available_backends, set_backend
from .maps import Tile, pixel_stats, tile_size, tiled_ripu, window_mean
from .regions import RegionStats, TiledRegionStats, region_mean, region_stats

__all__ = [
    "RegionStats",
    "Tile",
    "TiledRegionStats",
    "available_backends",
    "pixel_stats",
    "region_mean",
    "region_stats",
    "set_backend",
    "tile_size",
    "tiled_ripu",
    "window_mean",
]
