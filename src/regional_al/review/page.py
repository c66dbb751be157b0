"""The page of suspect labels: `suspects.html`, one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import __version__
from ..engines.base import Engine
from ..report.figures import hex_colour
from ..report.html import Tile, page_template
from ..report.overlays import display_size, image_panel, jpeg_uri, query_panel
from ..store.images import read_rgb
from ..store.labels import LabelStore
from ..store.query import read_query
from ..store.work_dir import WorkDir
from ..types import JSON, U8, Bool
from .suspects import Suspect, Suspects

SIDE = 220
"""Longest side of a picture, points."""
MARGIN = 24
"""Least number of pixels of the image around a suspect."""
SMALLEST = 96
"""Least side of what is shown, pixels of the image."""


def render(work_dir: Path, engine: Engine, found: Suspects, top: int) -> str:
    """The page as text.

    Args:
        work_dir: Of the run.
        engine: That of the run.
        found: By `find_suspects`.
        top: How many are shown.

    Raises:
        DataError: An image or a file of the run is damaged.
        EnvironmentProblem: jinja2 or Pillow is missing.
    """
    space, shown = engine.label_space, found.found[:top]
    items = {item.key: item for item in engine.pool}
    names = [
        (name, hex_colour(colour))
        for name, colour in zip(space.class_names, space.palette, strict=True)
    ]
    rows = []
    for rank, one in enumerate(shown, 1):
        image, part = read_rgb(items[one.key].image), part_of(work_dir, engine, one)
        plain, marked = pictures(image, part)
        rows.append({"rank": rank, "one": one, "plain": plain, "marked": marked})
    text: str = page_template("suspects.html.j2", "review").render(
        version=__version__,
        title=Path(work_dir).resolve().name,
        subtitle="Answers for which the model finds another class likelier",
        tiles=[
            Tile("suspect", f"{len(found.found):,}", f"of {found.judged:,} answers"),
            Tile("pixels judged", f"{found.pixels:,}", ""),
            Tile("judged by a model that knew them", f"{found.seen:,}", "less reliable"),
        ],
        names=names,
        rows=rows,
        left_out=len(found.found) - len(shown),
    )
    return text


def part_of(work_dir: Path, engine: Engine, one: Suspect) -> Bool:
    """bool [H, W]: the pixels of a suspect."""
    run, table = WorkDir(Path(work_dir)), engine.label_space.raw_to_train
    store = LabelStore(run.labels)
    labels, rounds = store.read(one.key), store.annotated(one.key)
    assert labels is not None
    assert rounds is not None
    asked = read_query(run.query(one.round)).asked(one.key)
    return np.asarray(
        (asked == one.item) & (rounds == one.round + 1) & (table[labels] == one.label)
    )


def pictures(image: U8, part: Bool) -> tuple[JSON, JSON]:
    """What surrounds a part of an image, as it is and with the part marked.

    Args:
        image: uint8 [H, W, 3].
        part: bool [H, W], not empty.

    Returns:
        For each `uri`, `width` and `height` in points.
    """
    rows, cols = around(part)
    picture, ids = image[rows, cols], part[rows, cols].astype(np.int32)
    size = display_size((picture.shape[0], picture.shape[1]), SIDE)
    plain, marked = image_panel(picture, size), query_panel(picture, ids, size)
    shape = {"height": size[0], "width": size[1]}
    return {"uri": jpeg_uri(plain), **shape}, {"uri": jpeg_uri(marked), **shape}


def around(part: Bool) -> tuple[slice, slice]:
    """Rows and columns of an image that show a part with what surrounds it, inside the image."""
    found = []
    for axis in (0, 1):
        inside = np.flatnonzero(part.any(axis=1 - axis))
        low, high = int(inside[0]) - MARGIN, int(inside[-1]) + 1 + MARGIN
        missing = max(0, SMALLEST - (high - low))
        low, high = low - missing // 2, high + missing - missing // 2
        found.append(slice(max(0, low), min(part.shape[axis], high)))
    return found[0], found[1]
