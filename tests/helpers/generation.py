"""Which MMSegmentation is installed. Imports nothing of it."""

from __future__ import annotations

import importlib.metadata


def mmseg_generation() -> str | None:
    """'mmseg1' beside MMSegmentation 1.x, 'mmseg0' beside 0.x, None without; imports nothing."""
    for distribution in ("onedl-mmsegmentation", "mmsegmentation"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return "mmseg0" if version.startswith("0.") else "mmseg1"
    return None
