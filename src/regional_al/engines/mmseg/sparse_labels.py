"""Whether labels are parts of images, which not every loss can take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "results.json"


def sparse_labels(acquisition: Mapping[str, Any]) -> bool:
    """Whether labels may be parts of images, by `acquisition` as written: unless every question is
    about a whole image, those of a run that labels are taken over from (`warm_start`) among them.
    """
    warm = acquisition.get("warm_start")
    if acquisition.get("level", "region") != "image":
        return True
    if not isinstance(warm, Mapping):
        return False
    other = warm.get("run") or warm.get("labels")
    if other is None:
        return str(warm.get("level", "image")) != "image"
    try:
        theirs = json.loads((Path(str(other)) / FILE).read_text(encoding="utf-8"))["acquisition"]
    except (OSError, ValueError, KeyError, TypeError):
        return True  # that there is no such run is said when it is needed
    return not isinstance(theirs, Mapping) or sparse_labels(theirs)
