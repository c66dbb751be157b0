"""Partitions of an image into units: whole, grid, SLIC superpixels, pixel, precomputed id maps.

The functions are pure (`slic`, `grid`, `whole`, `pixel`, `precomputed`); `PARTITIONS` holds the
classes that a config names by `region=dict(type=...)`.
"""

from __future__ import annotations

from .base import PARTITIONS, Partition
from .classes import GridPartition, PrecomputedPartition, WholePartition
from .functions import grid, pixel, precomputed, slic, whole
from .superpixels import SlicPartition, default_cache_dir

__all__ = [
    "PARTITIONS",
    "GridPartition",
    "Partition",
    "PrecomputedPartition",
    "SlicPartition",
    "WholePartition",
    "default_cache_dir",
    "grid",
    "pixel",
    "precomputed",
    "slic",
    "whole",
]
