"""One image of a query as the page hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..annotators.asked import AskedImage, classes_of
from ..annotators.replay import OPEN, VOID, Standing
from ..types import JSON, U8


def item_state(image: AskedImage, standing: Standing, row: int) -> str:
    """'answered', 'unsure' or 'open' (a pixel at least has no answer)."""
    item = int(image.items[row])
    top, left, bottom, right = image.boxes[row]
    here = image.asked[top:bottom, left:right] == item
    if not bool((standing.answer[top:bottom, left:right][here] == OPEN).any()):
        return "answered"
    return "unsure" if item in standing.unsure else "open"


def item_json(
    image: AskedImage, standing: Standing, row: int, blind_for: str | None = None
) -> JSON:
    """What the page hears of an item.

    Args:
        image: Of the item.
        standing: What stands in the image.
        row: Of the item in `image`.
        blind_for: Give this person's own opinion instead of what somebody else has answered.
    """
    item = int(image.items[row])
    state: str = item_state(image, standing, row)
    classes = classes_of(image, standing, row)
    person: Any = standing.item_person.get(item)
    if blind_for is not None and person is not None and person != blind_for:
        own = dict(standing.opinions.get(item, ())).get(blind_for)
        state, classes = ("open", []) if own is None else ("answered", list(own))
        person = None if own is None else blind_for
        opinions: list[JSON] = []
    else:
        given = standing.opinions.get(item, ())
        opinions = [{"person": who, "classes": list(what)} for who, what in given]
    guess = int(image.guesses[row])
    return {
        "i": item,
        "row": int(image.centres[row, 0]),
        "col": int(image.centres[row, 1]),
        "box": [int(edge) for edge in image.boxes[row]],
        "pixels": int(image.pixels[row]),
        "state": state,
        "classes": classes,
        "predicted": None if guess < 0 else guess,
        "person": person,
        "opinions": opinions,
    }


def accepted(image: AskedImage, items: Sequence[int], whole: bool) -> U8 | None:
    """The prediction as an answer: uint8 [H, W], `OPEN` beside the items.

    Args:
        image: With a prediction, else the result is None.
        items: That accept it.
        whole: Give each item its most frequent class.
    """
    if image.predicted is None:
        return None
    answer = np.full(image.asked.shape, OPEN, np.uint8)
    if not whole:
        here = np.isin(image.asked, np.asarray(items)) & (image.asked > 0)
        answer[here] = image.predicted[here]
        return answer
    for row in image.rows(items):
        answer[image.asked == image.items[row]] = image.guesses[row]
    return answer


def painted(answer: U8, classes: int) -> list[int]:
    """Values of a painted map that are neither a class, nor `VOID`, nor `OPEN`; ascending."""
    there = np.unique(answer)
    return [int(v) for v in there if v >= classes and v not in (VOID, OPEN)]
