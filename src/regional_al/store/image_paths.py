"""Where the images of a query are: `rounds/NNN/images.json`, key -> path."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from . import reading
from .images import replacing
from .reading import Reader


def write_image_paths(path: Path, images: Mapping[str, Path]) -> None:
    """Write the paths, absolute; a file that says the same already stays.

    Args:
        path: Of the file.
        images: Key -> image file.
    """
    here = os.getcwd()
    absolute = {key: os.path.join(here, image) for key, image in images.items()}
    text = json.dumps(absolute, indent=1)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_image_paths(path: Path) -> dict[str, Path]:
    """Inverse of `write_image_paths`; nothing where there is no such file.

    Raises:
        DataError: It is damaged.
    """
    if not path.exists():
        return {}
    content = reading.read_json(path)
    get = Reader(content, str(path))
    return {key: Path(get(key, reading.text)) for key in content}
