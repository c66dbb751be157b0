"""The key `acquisition.region`: the partition of an image into regions."""

from __future__ import annotations

from typing import Any

from ..checks import check_keys, integer, registered, typed
from ..errors import UnsupportedError
from ..partitions import PARTITIONS
from ..types import JSON


def parse_region(raw: Any, level: str, key: str = "acquisition.region") -> JSON:
    """Read `region=` at a level; key: its name in messages. Raises ConfigError, UnsupportedError.

    Example:
        >>> parse_region(None, "region"), parse_region(None, "image")
        ({'type': 'slic'}, {'type': 'whole'})
    """
    if level in ("image", "pixel"):
        if raw is not None:
            raise UnsupportedError(
                f"{key}={raw!r} is not supported at level={level!r}: leave it out"
            )
        return {"type": "whole" if level == "image" else "pixel"}
    region = typed(key, "slic" if raw is None else raw)
    if region["type"] == "window":  # slides over pixels, so it is no partition
        check_keys(key, region, ("type", "radius"))
        region["radius"] = integer(f"{key}.radius", region.get("radius", 1), 0)
        return region
    return registered(key, region, PARTITIONS, "window")
