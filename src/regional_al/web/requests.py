"""What a page may send: requests checked value by value, and turned into events."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..annotators.asked import AskedImage
from ..annotators.replay import OPEN, decode
from ..errors import DataError
from ..store.answer_log import Event
from ..types import U8, Bool
from .images import accepted, painted

MAX_MS = 3_600_000


def event_of(
    data: Mapping[str, Any],
    paint: bytes | None,
    image: AskedImage,
    number: int,
    query: str,
    answer: str,
    offered: Bool,
    over: bool,
) -> Event:
    """The event that a request is about.

    Args:
        data: The request.
        paint: PNG of a painted answer.
        image: That it is about.
        number: Of the round.
        query: Its hash.
        answer: What the query asks for: 'full', 'dominant' or 'multiclass'.
        offered: bool [C], the classes that may be answered.
        over: Whether the round is over, so that answers can only be changed.

    Raises:
        DataError: A value that cannot be, by its name.
    """
    kind = "paint" if paint is not None else text(data, "kind")
    items = tuple(dict.fromkeys(integers(data, "items")))
    classes = tuple(integers(data, "classes"))
    kinds = ["class", "accept", "void"]
    if not over:
        kinds += ["unsure", "clear", "skip", "unskip"]
    kinds += {"multiclass": ["classes"], "full": ["paint"]}.get(answer, [])
    if kind not in kinds:
        raise DataError(f"kind {kind!r} is not possible here; possible: {', '.join(kinds)}")
    if kind in ("paint", "skip", "unskip"):
        items = ()
    elif not items or len(image.rows(items)) != len(items):
        raise DataError(f"items: {list(items)[:5]} are not asked in {image.key!r}")
    wrong = [c for c in classes if not (0 <= c < offered.size and offered[c])]
    if wrong:
        raise DataError(f"classes: there is no class {wrong[0]}")
    if kind == "class" and len(classes) != 1:
        raise DataError("classes: kind 'class' has one class")
    if kind == "classes" and not classes:
        raise DataError("classes: kind 'classes' has at least one class")
    if kind not in ("class", "classes"):
        classes = ()
    if paint is not None:
        values = decode(paint, image.asked.shape)
        bad = painted(values, offered.size)
        if bad:
            raise DataError(f"a painted map has the value {bad[0]}, which is no class")
        paint = png(np.where(image.asked > 0, values, np.uint8(OPEN)))
    if kind == "accept":
        guess = accepted(image, items, whole=answer != "full")
        if guess is None:
            raise DataError(f"there is no prediction of {image.key!r} to accept")
        found = np.unique(guess[guess != OPEN]).tolist()
        classes, paint = (tuple(found), None) if len(found) == 1 else ((), png(guess))
    return Event(
        0,
        number,
        query,
        image.key,
        text(data, "person"),
        kind,
        items,
        classes,
        paint,
        min(integer(data, "ms", 0), MAX_MS),
        integer(data, "keys", 0),
        integer(data, "clicks", 0),
        bool(data.get("review")),
        "",
        text(data, "token"),
    )


def png(pixels: U8) -> bytes:
    """uint8 [H, W] or [H, W, 3] as PNG."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=1)
    return data.getvalue()


def text(data: Mapping[str, Any], key: str) -> str:
    """A value of a request that must be text."""
    value = data.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 4096:
        raise DataError(f"{key}: text is missing")
    return value


def tab_of(data: Mapping[str, Any]) -> str:
    """The page that a request comes from; '': it does not say."""
    return str(data.get("tab") or "")[:64]


def integer(data: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A value of a request that must be a whole number of at least 0."""
    value = data.get(key, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise DataError(f"{key}: {str(value)[:40]!r} is no whole number of at least 0")
    return value


def integers(data: Mapping[str, Any], key: str) -> Sequence[int]:
    """A value of a request that must be a list of whole numbers."""
    value = data.get(key, [])
    if not isinstance(value, list) or len(value) > 1_000_000:
        raise DataError(f"{key}: a list is missing")
    return [integer({key: one}, key) for one in value]
