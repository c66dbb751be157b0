"""Which keys an image may have: they are names of files in the label store."""

from __future__ import annotations

from ..errors import DataError
from .listing import MAPS, SIDECAR, SUFFIX

MAX_NAME = 255
"""Bytes of a file name on all common file systems."""
RESERVED = (SIDECAR, *MAPS)
"""Folders of the label store that contain something else than labels."""


def check_key(key: str) -> None:
    """Raise DataError for the key of an image that cannot be a file name, or that leads out of a
    store or into its sidecar folder."""
    if _is_plain(key):
        return
    parts = key.split("/")
    if parts[0] in RESERVED or "" in parts or "." in parts or ".." in parts:
        raise DataError(f"{key!r} cannot be the key of an image: rename the image file")
    try:
        length = max([len(part.encode()) for part in parts]) + len(SUFFIX)
    except UnicodeEncodeError:
        raise DataError(f"{key!a}: its name is not valid UTF-8: rename the image") from None
    if length > MAX_NAME or "\0" in key:
        raise DataError(
            f"{key!r}: with '.png' its name has {length} bytes, more than {MAX_NAME}, or there "
            "is a null character in it: rename the image file"
        )


def _is_plain(key: str) -> bool:
    """Whether a key is certainly a file name, as nearly all are."""
    return (
        key.isascii()
        and 0 < len(key) <= MAX_NAME - len(SUFFIX)
        and key[0] not in "/_"
        and key[-1] not in "/."
        and "//" not in key
        and "./" not in key
        and "\0" not in key
    )
