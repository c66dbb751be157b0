"""From a query to labels on disk and costs in the ledger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..runtime.progress import progress
from ..store.labels import LabelStore
from ..store.ledger import Ledger
from ..store.query import Query
from ..store.recording import AnswerRow, recording
from ..types import JSON
from .base import Annotator


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
    with recording(store, ledger, round_) as rows:
        for answer in progress(annotator.collect(query, waiting), "Annotating", len(waiting)):
            asked = query.asked(answer.key)
            store.write(replace(answer, answered=answer.answered & (asked > 0)), round_)
            said = asked[store.annotated(answer.key) == round_ + 1]
            said = said[said > 0]
            rows.append(
                AnswerRow(
                    answer.key,
                    pixels=said.size,
                    clicks=answer.clicks,
                    complete=said.size == int((asked > 0).sum()),
                    regions=len(np.unique(said)),
                )
            )
    left = len(ledger.outstanding(round_, keys))
    return {"outstanding": left, "images": len(keys), "where": annotator.where(query)}
