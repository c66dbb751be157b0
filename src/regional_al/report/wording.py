"""A run's configuration in words, for the head of the report and of `status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..store.results import Results
from .table import full


def subtitle(results: Results) -> str:
    ranks = "1 process" if results.world_size == 1 else f"{results.world_size} processes"
    return (
        f"Active learning run · pool of {full(results.pool_images)} images, "
        f"{full(results.pool_pixels)} pixels · {len(results.classes)} classes · "
        f"engine {results.engine}, {ranks}"
    )


def two_keys(acquisition: Mapping[str, Any]) -> str:
    """The line a user writes: level and heuristic, with the heuristic's own arguments if any."""
    heuristic = acquisition.get("heuristic")
    if isinstance(heuristic, Mapping) and set(heuristic) == {"type"}:
        heuristic = heuristic["type"]
    return f"acquisition = dict(level={acquisition.get('level')!r}, heuristic={plain(heuristic)})"


def summary(acquisition: Mapping[str, Any]) -> str:
    """The rest of the grammar that decides what a round is, in one line."""
    region = acquisition.get("region")
    kind = region.get("type") if isinstance(region, Mapping) else region
    parts = [f"units: {kind}" if kind else "", _budget(acquisition.get("budget"))]
    if acquisition.get("rounds") is not None:
        parts.append(f"{acquisition['rounds']} rounds after the warm start")
    if acquisition.get("queries"):
        parts.append(f"one continuous run, queries at {plain(acquisition['queries'])}")
    elif acquisition.get("round_init"):
        parts.append(f"each round trains from {acquisition['round_init']}")
    annotator = acquisition.get("annotator")
    if isinstance(annotator, Mapping):
        answer = f" ({annotator['answer']} answers)" if "answer" in annotator else ""
        parts.append(f"annotator: {annotator.get('type')}{answer}")
    parts.append(f"seed {acquisition['seed']}" if "seed" in acquisition else "")
    return " · ".join(part for part in parts if part)


def _budget(budget: Any) -> str:
    if not isinstance(budget, Mapping) or "amount" not in budget:
        return ""
    scope = {"pool": "over the pool", "image": "of each image"}.get(str(budget.get("scope")), "")
    return f"budget a round: {budget['amount']} {budget.get('unit', '')} {scope}".strip()


def plain(value: Any) -> str:
    """A config value as one would write it: dict(type='slic', n_segments=100)."""
    if isinstance(value, Mapping) and all(str(key).isidentifier() for key in value):
        return "dict(" + ", ".join(f"{k}={plain(v)}" for k, v in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(plain(item) for item in value) + "]"
    return repr(value)
