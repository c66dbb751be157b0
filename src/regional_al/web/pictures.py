"""Pictures for the page: images of the data set, superpixels, and examples of classes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from ..annotators.asked import AskedImage, classes_of
from ..errors import DataError
from ..partitions import PARTITIONS
from ..store.answer_log import Event
from ..store.images import open_image, read_rgb
from ..store.labels import LabelStore
from ..store.listing import LABEL
from ..store.query import id_rgb
from ..store.readers import reader_of
from ..types import I64, JSON, Bool, PoolItem
from .requests import png
from .rounds import Round
from .session import Session

EXAMPLES, LOOKED_AT = 8, 40
_AS_THEY_ARE = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_ORIENTATION = 0x0112  # the EXIF tag
_making = threading.Lock()
_units: OrderedDict[tuple[str, str], bytes] = OrderedDict()


def picture(path: Path) -> tuple[bytes, str]:
    """An image file as a browser shows it the way training reads it: its bytes and media type.

    What browsers may turn, blend or not show is made a plain PNG.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with open_image(path) as image:
            # Browsers follow the orientation in any format, `read_rgb` and training in JPEG alone.
            turned = image.getexif().get(_ORIENTATION, 1) != 1
            opaque = image.mode in ("RGB", "L") and "transparency" not in image.info
            kind = _AS_THEY_ARE.get(str(image.format))
    except DataError:
        kind = None  # `read_rgb` knows more formats, or says what is wrong
    if kind is not None and opaque and not turned and reader_of(path) is None:
        return path.read_bytes(), kind
    return png(read_rgb(path)), "image/png"


def units(session: Session, round_: Round, key: str) -> bytes:
    """Superpixels of an image as 24-bit PNG, id + 1 in the coding of `store.query`: those of the
    run, else SLIC.

    Raises:
        RegionalALError: They cannot be computed.
    """
    with session.lock:
        path, asked = round_.path(key), round_.image(key).asked
        place = (str(session.files.root), key)
        if place in _units:
            return _units[place]
    region = dict(_region(session))
    if region.get("type") in (None, "window", "pixel"):
        region = {"type": "slic", "n_segments": max(50, min(2000, asked.size // 500))}
    shape = (int(asked.shape[0]), int(asked.shape[1]))
    with _making:
        partition = PARTITIONS.build(region, cache_dir=session.files.cache)
        ids = partition.ids(PoolItem(key, path, None, shape))
        _units[place] = png(id_rgb(np.asarray(ids + 1, np.int32)))
        while len(_units) > 8:
            _units.popitem(last=False)
        return _units[place]


def _region(session: Session) -> JSON:
    from ..store.ledger import Ledger

    with Ledger.open(session.files.root, readonly=True) as ledger:
        region: JSON = ledger.acquisition().get("region") or {}
    return region


def examples(session: Session, index: int) -> JSON:
    """Where a class has been answered: up to 8 items of the log, then label files of the run.

    Args:
        session: Of the run.
        index: Of the class.
    """
    if not 0 <= index < session.classes:
        raise DataError(f"there is no class {index}")
    found: dict[str, JSON] = {}
    with session.lock:
        said = session.log.recent(LOOKED_AT, kinds=("class", "accept"), classes=(index,))
    for event in said:
        if event.key not in found and _stands(session, event, index):
            found[event.key] = _example(event.key, event.round, event.items[0])
        if len(found) == EXAMPLES:
            break
    if len(found) < EXAMPLES:
        raws = np.flatnonzero(session.run.space.raw_to_train == index)
        store = LabelStore(session.files.labels)
        for key, entry in sorted(store.rows(LABEL).items()):
            if len(found) == EXAMPLES:
                break
            there = entry.counts[: len(entry.counts) // 5]
            if key not in found and any(raw in there for raw in raws.tolist()):
                number = entry.round
                with session.lock:
                    known = number in session.files.rounds_with_query()
                if known and key in session.round(number).progress:
                    found[key] = {**_example(key, number, 0), "class": index}
                    found[key]["src"] += f"&class={index}"
    return {"examples": list(found.values())}


def _stands(session: Session, event: Event, index: int) -> bool:
    """Whether the first item of an event still has a class, and nothing else."""
    try:
        round_ = session.round(event.round)
        with session.lock:
            image, standing = round_.image(event.key), round_.standing(event.key)
    except DataError:
        return False  # of another query
    rows = image.rows(event.items[:1])
    return len(rows) > 0 and classes_of(image, standing, int(rows[0])) == [index]


def _example(key: str, number: int, item: int) -> JSON:
    from urllib.parse import quote

    src = f"/example?key={quote(key, safe='')}&round={number}&item={item}"
    return {"key": key, "round": number, "item": item, "src": src}


def example(session: Session, number: int, key: str, item: int, index: int | None) -> bytes:
    """A crop of an image around an item, or around pixels that have a class, as PNG.

    Args:
        session: Of the run.
        number: Of the round.
        key: Of the image.
        item: Of the query; 0: look for the class.
        index: Of the class.

    Raises:
        DataError: There is no such item or class.
    """
    round_ = session.round(number)
    with session.lock:
        image, path = round_.image(key), round_.path(key)
        if item:
            rows = image.rows([item])
            if not len(rows):
                raise DataError(f"item {item} is not asked in {key!r}")
            where, box = image.asked == item, image.boxes[rows[0]]
        else:
            where, box = _class_pixels(session, image, key, index)
    return crop(path, where, box)


def _class_pixels(
    session: Session, image: AskedImage, key: str, index: int | None
) -> tuple[Bool, I64]:
    labels = LabelStore(session.files.labels).read(key)
    if labels is None or index is None:
        raise DataError(f"{key!r} has no labels")
    where = session.run.space.raw_to_train[labels] == index
    rows, cols = np.nonzero(where)
    if not rows.size:
        raise DataError(f"{key!r} has no pixel of class {index}")
    row, col = rows[rows.size // 2], cols[rows.size // 2]
    return where, np.array([row, col, row + 1, col + 1])


def crop(path: Path, where: Bool, box: I64, margin: int = 32, least: int = 96) -> bytes:
    """Cut a piece out of an image, with the border of a region drawn in it, as PNG.

    Args:
        path: Of the image.
        where: bool [H, W], the region.
        box: Its top, left, bottom, right; the last two exclusive.
        margin: Pixels around it.
        least: Smallest height and width, as far as the image has them.
    """
    rgb = read_rgb(path)
    if rgb.shape[:2] != where.shape:
        raise DataError(f"{path} has another size than when it was asked about")
    edges = []
    for low, high, length in ((box[0], box[2], rgb.shape[0]), (box[1], box[3], rgb.shape[1])):
        size = max(int(high - low) + 2 * margin, least)
        first = max(0, min(int(low + high - size) // 2, length - size))
        edges.append(slice(first, min(length, first + size)))
    piece, inside = rgb[edges[0], edges[1]].copy(), where[edges[0], edges[1]]
    padded = np.pad(inside, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    border = inside & ~inner
    piece[border] = (255, 255, 255)
    return png(piece)
