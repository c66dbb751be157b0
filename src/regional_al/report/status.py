"""Where a run stands, and its configuration, in words: for `status` and the head of the report."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RegionalALError
from ..store.ledger import Ledger
from ..store.query import read_query
from ..store.results import Results
from ..store.work_dir import WorkDir
from ..types import Costs
from .table import full

NEXT = {"query": "query", "answers": "answers", "fit": "training", "evaluate": "evaluation"}


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Args:
        round: The current round.
        stage: The next stage; None: unknown, there is no ledger.
        outstanding: Images of the round's query without a complete answer.
        images: Images of the round's query.
        answers: Folder where answers are expected; None: not with this annotator.
        spent: Costs so far, including answers of an unfinished round.
        stopped: Why the run has ended; None: it has not.
        page: Command that opens the page for answers; None: not with this annotator.
    """

    round: int
    stage: str | None
    outstanding: int = 0
    images: int = 0
    answers: Path | None = None
    spent: Costs | None = None
    stopped: str | None = None
    page: str | None = None

    @property
    def waiting(self) -> bool:
        return self.stopped is None and self.stage == "answers" and self.outstanding > 0

    def sentence(self) -> tuple[bool, str]:
        """(finished, one line for a person)."""
        if self.stopped is not None:
            return True, f"Finished: {self.stopped}."
        if self.waiting:
            where = f" Put them in {self.answers}." if self.answers else ""
            where = f" Answer them with `{self.page}`." if self.page else where
            return False, (
                f"Waiting for answers: {self.outstanding} of {self.images} images of round "
                f"{self.round} are not completely annotated.{where}"
            )
        stage = "" if self.stage is None else f" Next: {NEXT[self.stage]} of round {self.round}."
        return False, f"Not finished.{stage}"


def read_position(run: WorkDir, results: Results | None) -> Position:
    """The position of a run. Without a ledger only what `results.json` tells."""
    stopped = None if results is None else results.stopped
    if not run.ledger.is_file():
        records = () if results is None else results.records
        return Position(records[-1].round + 1 if records else 0, None, stopped=stopped)
    with Ledger.open(run.root, readonly=True) as ledger:
        round_, stage = ledger.position()
        keys: list[str] = []
        if stage == "answers":
            with contextlib.suppress(RegionalALError):  # warm_start=None: there is no query
                keys = read_query(run.query(round_)).image_keys()
        outstanding = len(ledger.outstanding(round_, keys))
        spent = ledger.total_costs(round_)
        annotator = ledger.acquisition().get("annotator")
    if not isinstance(annotator, Mapping):
        annotator = {"type": annotator}
    answers = page = None
    if annotator.get("type") == "web":
        page = f"regional-al annotate {run.root}"
    elif annotator.get("type") == "folder":
        answers = Path(annotator.get("answers") or run.answers(round_))
    return Position(round_, stage, outstanding, len(keys), answers, spent, stopped, page)


def subtitle(results: Results) -> str:
    """Pool, classes and engine of a run."""
    processes = "1 process" if results.world_size == 1 else f"{results.world_size} processes"
    return (
        f"Active learning run · pool of {full(results.pool_images)} images, "
        f"{full(results.pool_pixels)} pixels · {len(results.classes)} classes · "
        f"engine {results.engine}, {processes}"
    )


def two_keys(acquisition: Mapping[str, Any]) -> str:
    """The line a user writes: level and heuristic, with the heuristic's own arguments if any."""
    heuristic = acquisition.get("heuristic")
    if isinstance(heuristic, Mapping) and set(heuristic) == {"type"}:
        heuristic = heuristic["type"]
    return f"acquisition = dict(level={acquisition.get('level')!r}, heuristic={plain(heuristic)})"


def summary(acquisition: Mapping[str, Any]) -> str:
    """The rest of the grammar that defines a round, in one line."""
    region, budget = acquisition.get("region"), acquisition.get("budget")
    kind = region.get("type") if isinstance(region, Mapping) else region
    parts = [f"units: {kind}" if kind else ""]
    if isinstance(budget, Mapping) and "amount" in budget:
        amount, unit = budget["amount"], budget.get("unit", "unit")
        units = unit if amount == 1 else f"{unit}s"
        each = budget.get("scope") == "image"
        if isinstance(amount, str):  # a percentage
            text = f"{amount} of {'each image' if each else 'the pool'}'s {units}"
        else:
            text = f"{amount} {units} {'per image' if each else 'from the pool'}"
        parts.append(f"budget per round: {text}")
    if acquisition.get("rounds") is not None:
        parts.append(f"{acquisition['rounds']} rounds after the warm start")
    if acquisition.get("queries"):
        parts.append(f"one continuous run, queries at {plain(acquisition['queries'])}")
    elif acquisition.get("round_init"):
        parts.append(f"round_init: {acquisition['round_init']}")
    annotator = acquisition.get("annotator")
    if isinstance(annotator, Mapping):
        answer = f" ({annotator['answer']} answers)" if "answer" in annotator else ""
        parts.append(f"annotator: {annotator.get('type')}{answer}")
    parts.append(f"seed {acquisition['seed']}" if "seed" in acquisition else "")
    return " · ".join(part for part in parts if part)


def plain(value: Any) -> str:
    """A config value as one would write it: dict(type='slic', n_segments=100)."""
    if isinstance(value, Mapping) and all(str(key).isidentifier() for key in value):
        return "dict(" + ", ".join(f"{k}={plain(v)}" for k, v in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(plain(item) for item in value) + "]"
    return repr(value)
