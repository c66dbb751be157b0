"""What people have spent on the annotation page, as the report shows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ..annotators.asked import asked_image, read_prediction
from ..annotators.replay import Replay
from ..annotators.summary import Summary
from ..store.answer_log import AnswerLog, Event
from ..store.query import Query, query_hash, read_query
from ..store.results import Results
from ..store.work_dir import WorkDir
from ..types import JSON
from .table import NOT_KNOWN, full, percent


def summary(run: WorkDir, results: Results) -> JSON | None:
    """What the answers of all rounds have cost; None: nobody has answered on the page.

    Args:
        run: Its files.
        results: With the names of its classes.

    Returns:
        See `annotators.summary.Summary.json`.

    Raises:
        DataError: A query is damaged.
        WorkDirError: The log of answers is.
    """
    if not run.answer_log.is_file():
        return None
    found = Summary()
    with AnswerLog.open(run.answer_log, readonly=True) as log:
        for round_ in run.rounds_with_query():
            query = read_query(run.query(round_))
            current, asked, events = query_hash(query), set(query.image_keys()), defaultdict(list)
            for event in log.events(round=round_):
                if event.query == current and event.key in asked:
                    events[event.key].append(event)
            for key in sorted(events):
                _add(found, run, query, key, events[key], len(results.classes))
    return found.json(results.classes) if found.classes else None


def _add(
    found: Summary, run: WorkDir, query: Query, key: str, events: Sequence[Event], classes: int
) -> None:
    asked = query.asked(key)
    replay = Replay(asked)
    for event in events:
        replay.add(event)
    path = run.predictions(query.info.round) / f"{key}.png"
    shape = (int(asked.shape[0]), int(asked.shape[1]))
    image = asked_image(key, asked, read_prediction(path, shape, classes), replay.found)
    found.add(image, replay.standing())


def tables(found: JSON) -> JSON:
    """The summary as texts: `by`, two tables (head, rows), and `slowest`."""
    several = any(row["pairs"] for row in found["classes"])
    head = ["answers", "seconds", "seconds each", "as predicted"]

    def cells(row: JSON) -> list[str]:
        each, model, people = (
            row[name] for name in ("seconds_per_item", "agree_with_model", "agreement")
        )
        texts = [
            full(row["items"]),
            f"{row['seconds']:,.1f}",
            NOT_KNOWN if each is None else f"{each:.2f}",
            NOT_KNOWN if model is None else f"{percent(model)} %",
        ]
        if several:
            texts.append(NOT_KNOWN if people is None else f"{percent(people)} % of {row['pairs']}")
        return texts

    return {
        "head": [*head, "two people agree"] if several else head,
        "by": [
            (kind, [(row["name"], cells(row)) for row in rows])
            for kind, rows in (("class", found["classes"]), ("pixels", found["sizes"]))
        ],
        "slowest": [
            f"{one['key']}, item {one['i']}: {one['seconds']:.1f} s" for one in found["slowest"][:5]
        ],
    }
