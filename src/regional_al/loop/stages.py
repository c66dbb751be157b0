"""The four stages of a round: select, collect, train, evaluate.

Each runs on every rank and returns what the ledger keeps about the stage, or None where the run
ends: nothing left to query, or answers missing.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .. import metrics
from ..annotators.collect import collect_answers
from ..config.budget import Budget
from ..config.changes import training_digest
from ..engines.base import FitRequest, has_source, trains_on_sets
from ..runtime import distributed as dist
from ..store import fit_state
from ..store.labels import LabelStore
from ..store.prelabels import Prelabels, TrainingLabels
from ..store.query import Query, read_query
from ..types import JSON
from . import pseudo_labels, sieving
from .closing import carried, closed
from .resume import config_tree

if TYPE_CHECKING:
    from .loop import ActiveLearningLoop

NO_PICKS: JSON = {"picks": 0}


def select(loop: ActiveLearningLoop) -> JSON | None:
    """Pick within the budget by the model of the round before (round 0: at random) and write the
    query. None when no affordable unit is left."""
    previous = loop.records.checkpoint(loop.round - 1)
    extra = (loop.records.done(loop.round - 1, "answers") or {}).get("kept", 0)
    query = loop.acquirer.query(
        loop.round, previous, loop.watch, warm=loop.round == 0, extra=int(extra)
    )
    if query is not None:
        if getattr(loop.annotator, "wants_predictions", False):
            with loop.watch("select"):
                loop.acquirer.write_predictions(query, previous)
        return {"picks": len(query.picks)}
    if loop.config.queries is not None:  # a continuous run trains on to the end of its schedule
        return NO_PICKS
    loop.end("finished", loop.acquirer.nothing_left)
    return None


def collect(loop: ActiveLearningLoop) -> JSON | None:
    """Publish the query and store the answers that are there. None while answers are missing."""
    if not (loop.records.done(loop.round, "query") or {})["picks"]:
        return {"outstanding": 0}
    with loop.watch("annotate"):
        query = read_query(loop.work_dir.query(loop.round))
        left = dist.on_main(
            lambda: collect_answers(query, loop.annotator, loop.store, loop.records.ledger)
        )
    how = dist.on_main(lambda: {"closed": closed(loop.work_dir, loop.round)})["closed"]
    if left["outstanding"] and how is not None:
        return dist.on_main(lambda: _closed(loop, query, left, how))
    if left["outstanding"]:
        count = f"{left['outstanding']} of {left['images']} images of round {loop.round}"
        loop.end("waiting", f"{count} have not been answered; {left['where']}")
        return None
    return left


def _closed(loop: ActiveLearningLoop, query: Query, left: JSON, how: str) -> JSON:
    """The payload of a round that goes on without all answers, and the line about it."""
    warm = loop.config.warm_start
    budget: Budget | None = loop.config.budget
    if loop.round == 0:
        budget = None if warm is None else warm.budget
    kept = carried(query, loop.store, budget, loop.config.budget) if how == "keep" else 0
    print(
        f"round {loop.round} was closed: {left['outstanding']} of {left['images']} images are not "
        f"completely annotated; {kept} {loop.config.budget.unit}s are added to the next round",
        flush=True,
    )
    return {**left, "closed": how, "kept": kept}


def train(loop: ActiveLearningLoop) -> JSON:
    """Train on all labels so far, those of a machine too. Without any label the model is the
    config's own start."""
    config, round_ = loop.config, loop.round
    until = config.until(round_)
    source_alone = has_source(loop.engine) and until != 0
    trainable = loop.engine.label_space.trainable

    with loop.watch("fit"):
        store = current_store(loop)

    def look() -> JSON:
        images, digest = store.training_digest(trainable, trains_on_sets(loop.engine))
        return {"images": images, "digest": digest, **pseudo_labels.counted(loop)}

    labelled = dist.on_main(look)
    if not labelled["images"] and not source_alone:
        return {"checkpoint": None, "iterations": 0, "label_share": None}
    counted = {key: labelled[key] for key in ("pseudo_pixels",) if key in labelled}
    request = FitRequest(
        round=round_,
        seed=config.seed * 1000 + round_,
        store=store,
        out_dir=loop.work_dir.fit(round_),
        init=config.round_init,
        previous=loop.records.checkpoint(round_ - 1),
        until=until,
        iterations=loop.records.iterations(round_),
    )
    request = replace(request, identity=identity(loop, request, labelled["digest"]))
    track = loop.tracking.training(round_, request.identity, partial(loop.records.trained, round_))
    request = replace(request, track=track)
    prepare_folder(request)
    with loop.watch("fit"):
        result = loop.engine.fit(request)
        dist.barrier()
    return {
        "checkpoint": str(result.checkpoint.relative_to(loop.work_dir.root)),
        "iterations": result.iterations,
        "label_share": none_if_nan(result.label_share),
        **counted,
        **{key: result.extra[key] for key in ("unlabeled",) if key in result.extra},
    }


def current_store(loop: ActiveLearningLoop) -> LabelStore:
    """The labels that the training of this round sees, up to date; called on every rank."""
    store = loop.training_store()
    if isinstance(store, TrainingLabels):
        sieved, pseudo = sieving.prepare(loop), pseudo_labels.prepare(loop)

        def refresh() -> JSON:
            keys = (item.key for item in loop.engine.pool)
            store.refresh(loop.store, Prelabels(loop.work_dir.prelabels), keys, sieved, pseudo)
            return {}

        dist.on_main(refresh)
    return store


def evaluate(loop: ActiveLearningLoop) -> JSON:
    """Measure the model of this round on the validation set, and the labels if there is truth."""
    if dist.is_main():
        fit_state.remove(loop.work_dir.fit(loop.round))  # its training has been recorded
    with loop.watch("evaluate"):
        confusion = loop.engine.evaluate(loop.records.checkpoint(loop.round))
    reworked = loop.config.reworks_answers and loop.label_quality is not None
    seen = current_store(loop) if reworked else None
    return {
        "miou": none_if_nan(metrics.mean_iou(confusion)),
        "per_class_iou": [none_if_nan(value) for value in metrics.iou(confusion).tolist()],
        "accuracy": none_if_nan(metrics.accuracy(confusion)),
        **dist.on_main(lambda: labels_measured(loop, seen)),
    }


def labels_measured(loop: ActiveLearningLoop, seen: LabelStore | None = None) -> JSON:
    """Rank 0: how good the labels of this round are, those of a machine among them; empty where it
    is not known. seen: what the training has seen, where it is not the answers."""
    quality, ledger = loop.label_quality, loop.records.ledger
    if quality is None or ledger is None:
        return {}
    asked = (ledger.done(loop.round, "query") or {}).get("picks")
    queried = read_query(loop.work_dir.query(loop.round)).image_keys() if asked else []
    confusion = quality.after(loop.round, queried) if seen is None else quality.of(seen)
    return {
        "label_miou": none_if_nan(metrics.mean_iou(confusion)),
        "label_accuracy": none_if_nan(metrics.accuracy(confusion)),
    }


def identity(loop: ActiveLearningLoop, request: FitRequest, labels: str) -> JSON:
    """What determines a training; a saved state is resumed only by its own. labels: the hash of
    `LabelStore.training_digest`."""
    previous = request.previous
    return {
        "round": request.round,
        "seed": request.seed,
        "init": request.init,
        "until": request.until,
        "iterations": request.iterations,
        "previous": None if previous is None else previous.parent.parent.name,
        "labels": labels,
        "config": training_digest(config_tree(loop.records.origin.text, {})),
        "processes": dist.world_size(),
    }


def prepare_folder(request: FitRequest) -> None:
    """Rank 0 makes the folder of a training anew, unless it contains a state to resume from; the
    others wait for it."""

    def prepare() -> JSON:
        folder, name = request.out_dir, f"the training of round {request.round}"
        try:
            state = fit_state.read(folder, request.identity)
            if state is not None:
                print(f"{name} resumes at iteration {state['iteration']}", flush=True)
                return {}
        except fit_state.UnusableStateError as error:
            print(f"{name} starts anew: {error}", flush=True)
        empty(folder)
        return {}

    dist.on_main(prepare)


def empty_folder(folder: Path) -> Path:
    """Rank 0 makes the folder anew; the others wait for it."""
    if dist.is_main():
        empty(folder)
    dist.barrier()
    return folder


def empty(folder: Path) -> None:
    """Make a folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def none_if_nan(value: float) -> float | None:
    """NaN as None, which JSON can hold."""
    return None if math.isnan(value) else float(value)
