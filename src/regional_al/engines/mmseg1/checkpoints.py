"""Where the checkpoint loaders of mmengine are, and reading them without executing anything."""

from __future__ import annotations

from contextlib import AbstractContextManager

from mmengine.runner import checkpoint as loaders

from ..mmseg import checkpoints


def safe_loading() -> AbstractContextManager[None]:
    """Inside it, mmengine reads checkpoints as `read_checkpoint` does."""
    return checkpoints.safely(loaders)


def url_of(source: str) -> str | None:
    """What mmengine would download for a name; None for one that it treats otherwise."""
    return checkpoints.url_of(source, loaders)


def fetch(source: str, key: str, fix: str) -> None:
    """Download weights into torch's cache, for one rank to call. Raises ConfigError."""
    checkpoints.fetch(source, key, fix, url_of)
