"""Where a run stands, read from its ledger and files: for `status` and for the report's banner."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RegionalALError
from ..store.ledger import Ledger
from ..store.query import read_query
from ..store.results import Results
from ..types import Costs
from . import stored

NEXT = {
    "query": "pick what to ask",
    "answers": "answers",
    "fit": "training",
    "evaluate": "evaluation",
}


@dataclass(frozen=True)
class Position:
    """round, stage: what comes next (stage None: not known, there is no ledger). outstanding of
    images: how many images of the round's query have no complete answer. answers: the folder where
    they are expected, None when the annotator has none. spent: costs up to now, answers of an
    unfinished round included. stopped: why the run ended, None while it has not."""

    round: int
    stage: str | None
    outstanding: int = 0
    images: int = 0
    answers: Path | None = None
    spent: Costs | None = None
    stopped: str | None = None

    @property
    def waiting(self) -> bool:
        return self.stopped is None and self.stage == "answers" and self.outstanding > 0

    def sentence(self) -> tuple[bool, str]:
        """(finished, one line for a person)."""
        if self.stopped is not None:
            return True, f"Finished: {self.stopped}."
        if self.waiting:
            where = f" They are expected in {self.answers}." if self.answers else ""
            return False, (
                f"Not finished: {self.outstanding} of {self.images} images of round {self.round} "
                f"wait for answers.{where}"
            )
        stage = "" if self.stage is None else f" Next in round {self.round}: {NEXT[self.stage]}."
        return False, f"Not finished.{stage}"


def read_position(work_dir: Path, results: Results | None) -> Position:
    """The position of a run. Without a (readable) ledger only what results.json tells."""
    stopped = None if results is None else results.stopped
    if not Ledger.exists(work_dir):
        records = () if results is None else results.records
        return Position(records[-1].round + 1 if records else 0, None, stopped=stopped)
    with Ledger.open(work_dir, readonly=True) as ledger:
        round_, stage = ledger.position()
        keys: list[str] = []
        if stage == "answers":
            with contextlib.suppress(RegionalALError):  # warm_start=None: nothing was asked
                keys = read_query(stored.round_dir(work_dir, round_) / "query").image_keys()
        outstanding = len(ledger.outstanding(round_, keys))
        spent = ledger.total_costs(round_)
        acquisition = json.loads(ledger.meta().get("acquisition", "{}"))
    answers = answers_folder(work_dir, round_, acquisition)
    return Position(round_, stage, outstanding, len(keys), answers, spent, stopped)


def answers_folder(work_dir: Path, round_: int, acquisition: Mapping[str, Any]) -> Path | None:
    """Where the folder annotator expects the answers of a round; None for other annotators."""
    annotator = acquisition.get("annotator")
    if annotator == "folder":
        annotator = {"type": "folder"}
    if not isinstance(annotator, Mapping) or annotator.get("type") != "folder":
        return None
    named = annotator.get("answers")
    return Path(named) if named else stored.round_dir(work_dir, round_) / "answers"
