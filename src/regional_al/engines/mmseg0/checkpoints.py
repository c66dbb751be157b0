"""Where the checkpoint loaders of mmcv 1.x are, and reading them without executing anything."""

from __future__ import annotations

from contextlib import AbstractContextManager

from mmcv.runner import checkpoint as loaders

from ..mmseg import checkpoints


def safe_loading() -> AbstractContextManager[None]:
    """Inside it, mmcv 1.x reads checkpoints as `read_checkpoint` does."""
    return checkpoints.safely(loaders)


def url_of(source: str) -> str | None:
    """What mmcv 1.x would download for a name; None for one that it treats otherwise."""
    return checkpoints.url_of(source, loaders)


def fetch(source: str, key: str, fix: str) -> None:
    """Download weights into torch's cache, for one rank to call. Raises ConfigError."""
    checkpoints.fetch(source, key, fix, url_of)
