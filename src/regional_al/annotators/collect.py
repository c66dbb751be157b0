"""From a query to labels on disk and costs in the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..runtime.progress import progress
from ..store.labels import LabelStore
from ..store.ledger import Ledger
from ..store.query import Query
from ..store.recording import AnswerRow, apply_revisions, recording
from ..store.schema import REVISED
from ..types import JSON, ImageAnswer, Source
from .base import Annotator
from .logged import News


def collect_answers(
    query: Query, annotator: Annotator, store: LabelStore, ledger: Ledger | None
) -> JSON:
    """Publish a query, store the answers that exist and count those that are missing.

    What was not asked for is not stored: the ledger would not count it.
    Safe to repeat: an answer that has been stored already leaves the same bytes.

    Returns:
        outstanding: Images without a complete answer; images: all of the query; where: a line
        telling where answers are expected.
    """
    assert ledger is not None, "only rank 0, which holds the ledger, collects answers"
    round_, keys = query.info.round, query.image_keys()
    annotator.request(query)
    waiting = ledger.outstanding(round_, keys)
    look = getattr(annotator, "news", None)
    if look is not None:
        after = (ledger.noted(REVISED) or {}).get("event", 0)
        found: News = look(query, store, after)
        if found.last != after:
            answers = [one.answer for one in found.revisions]
            numbers = _numbers(ledger, answers)
            apply_revisions(store, ledger, round_, found.revisions, numbers, found.last)
        due = {*waiting, *found.keys}  # the latter may be complete, but corrected since
        waiting = [key for key in keys if key in due]
    with recording(store, ledger, round_) as rows:
        for answer in progress(annotator.collect(query, waiting), "Annotating", len(waiting)):
            asked = query.asked(answer.key)
            numbers = _numbers(ledger, [answer])
            store.write(replace(answer, answered=answer.answered & (asked > 0)), round_, numbers)
            said = asked[store.annotated(answer.key) == round_ + 1]
            said = said[said > 0]
            rows.append(
                AnswerRow(
                    answer.key,
                    pixels=said.size,
                    clicks=answer.clicks,
                    complete=said.size == int((asked > 0).sum()),
                    regions=len(np.unique(said)),
                    seconds=answer.seconds,
                )
            )
    left = len(ledger.outstanding(round_, keys))
    return {"outstanding": left, "images": len(keys), "where": annotator.where(query)}


def _numbers(ledger: Ledger, answers: Iterable[ImageAnswer]) -> dict[Source, int]:
    """Numbers of the sources of answers in the ledger."""
    sources = dict.fromkeys(source for answer in answers for source in answer.sources)
    return {source: ledger.source_id(source) for source in sources}
