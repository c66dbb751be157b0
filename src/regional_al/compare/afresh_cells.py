"""The tables of trainings on the labels of other arms (`afresh`), as text and shades."""

from __future__ import annotations

from ..report.table import NOT_KNOWN, full, percent
from ..types import JSON
from .cells import above, points, row, shaded, signed, span, text
from .curves import Spread
from .findings import Analysis


def table(a: Analysis) -> JSON:
    """One row a training on the labels of an arm; no rows: there is none."""
    heads = ["seeds", "pixels %", "clicks", "iterations", "mIoU %"]
    heads += ["of full %", "above full"] if a.full else []
    heads += ["above its rounds", "above random's labels"]
    pool = a.comparison.pool.pool_pixels
    rows = []
    for arm, found in a.afresh.items():
        clicks = NOT_KNOWN if found.clicks is None else full(round(found.clicks.mean))
        cells = [
            text(str(len(found.iterations))),
            text(NOT_KNOWN if found.pixels is None else percent(found.pixels.mean / pool)),
            text(clicks),
            text(span(found.iterations)),
            text(points(found.miou)),
        ]
        if a.full:
            share = found.miou and f"{100 * found.miou.mean / a.full.miou.mean:.1f}"
            cells += [text(share or NOT_KNOWN), _signed_cell(found.over_full)]
        cells += [_signed_cell(found.over_rounds), _signed_cell(found.over_baseline)]
        rows.append(_row(a, arm, cells))
    return {"corner": "labels of", "heads": heads, "rows": rows}


def class_table(a: Analysis) -> JSON:
    """IoU by class of the trainings on the labels of an arm, and points above full supervision."""
    heads = [_source_label(a, arm) for arm in a.afresh] + (["full supervision"] if a.full else [])
    rows = []
    for c, name in enumerate(a.comparison.pool.classes):
        cells = []
        for found in a.afresh.values():
            over = found.classes_over_full[c]
            shade = {} if over is None else shaded(over, 0.25)
            small = above(found.classes_over_full, c)
            cells.append({**text(points(found.classes[c]), small), **shade})
        cells += [text(points(a.full.classes[c]))] if a.full else []
        rows.append({"arm": None, "name": name, "cells": cells})
    return {"corner": "class", "heads": heads, "rows": rows}


def _row(a: Analysis, arm: str, cells: list[JSON]) -> JSON:
    source, small = a.afresh[arm].source, _own_label(a, arm)
    if source in a.arms:
        return row(a, source, cells, small)
    return {"arm": None, "name": a.label(source), "cells": cells}


def _source_label(a: Analysis, arm: str) -> str:
    own = _own_label(a, arm)
    return a.label(a.afresh[arm].source) + (own and f", {own}")


def _own_label(a: Analysis, arm: str) -> str:
    """The arm's own label, where it has one or needs one: two on the same labels."""
    alike = [x for x in a.afresh.values() if x.source == a.afresh[arm].source]
    return a.label(arm) if len(alike) > 1 or a.label(arm) != arm else ""


def _signed_cell(value: Spread | None) -> JSON:
    """Points, bold where they exceed their spread over seeds."""
    if value is None:
        return text("")
    return {**text(signed(value)), "bold": value.clear, **shaded(value.mean, 0.06)}
