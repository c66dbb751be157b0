"""What the page is shown: a round, its images and the log, as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from ..annotators.replay import VOID
from ..store.answer_log import Event
from ..types import JSON, LabelSpace
from .class_keys import class_keys
from .images import item_json
from .leases import Leases
from .rounds import Round, pace


def round_json(now: Round, space: LabelSpace, sizes: Mapping[int, int]) -> JSON:
    """What a round asks, its classes, and how far people are.

    Args:
        now: The round.
        space: Its classes.
        sizes: Number of a round -> images of its query.
    """
    info, totals = now.query.info, now.totals()
    keys = iter(class_keys(len(space.class_names)))
    colors = zip(space.class_names, space.palette, strict=True)
    return {
        "round": now.number,
        "query": now.hash,
        "answer": info.answer,
        "level": info.level,
        "partition": info.partition,
        "classes": [
            {
                "index": i,
                "name": name,
                "color": list(color),
                "key": next(keys) if offered else None,
                "offered": bool(offered),
            }
            for i, ((name, color), offered) in enumerate(zip(colors, space.offered, strict=True))
        ],
        "totals": totals,
        "pace": pace(now.recent, totals["items"] - totals["items_done"]),
        "rounds": [{"round": number, "images": images} for number, images in sizes.items()],
        "void": VOID,
    }


def image_json(round_: Round, key: str, leases: Leases, person: str | None) -> JSON:
    """What is asked about an image, item by item.

    Args:
        round_: That asks.
        key: Of the image.
        leases: Who works on which image.
        person: Who looks, so that a second opinion is given without seeing the first; None: show
            all that has been answered.
    """
    image, standing = round_.image(key), round_.standing(key)
    place, twice = (round_.number, key), round_.twice(key)
    holder, lease = leases.holder(place), None
    if holder is not None:
        lease = {"person": holder, "expires_in": leases.expires_in(place)}
    height, width = image.asked.shape
    blind = person if twice else None
    return {
        "key": key,
        "round": round_.number,
        "query": round_.hash,
        "width": int(width),
        "height": int(height),
        "skipped": standing.skipped,
        "lease": lease,
        "twice": twice,
        "events": round_.last_event(key),
        "has_prediction": image.predicted is not None,
        "items": [item_json(image, standing, row, blind) for row in range(image.items.size)],
    }


def images_json(round_: Round, leases: Leases) -> JSON:
    """All images of a round, and how far people are with them."""
    return {
        "images": [
            {
                "key": key,
                "items": now.items,
                "answered": now.answered,
                "unsure": now.unsure,
                "skipped": now.skipped,
                "people": list(now.people),
                "lease": leases.holder((round_.number, key)),
            }
            for key, now in round_.progress.items()
        ]
    }


def event_json(event: Event) -> JSON:
    """An event of the log, without what was painted."""
    return {
        "id": event.id,
        "key": event.key,
        "kind": event.kind,
        "items": list(event.items),
        "classes": list(event.classes),
        "person": event.person,
        "time": event.time,
        "review": event.review,
    }
