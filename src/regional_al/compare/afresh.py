"""Trainings on the labels that an arm has bought (`labels_of`): what these are worth by themselves.

Rounds that go on from the last weights have spent most of their iterations on fewer labels, and
full supervision none; trained afresh for as long as full supervision, all differ in labels alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..store.results import Record
from . import curves
from .findings import Afresh
from .grid import FULL
from .measures import class_iou
from .reading import Comparison

Last = Mapping[int, Record]
"""seed -> last evaluated round."""


def afresh_of(comparison: Comparison, baselines: Mapping[str, str | None]) -> dict[str, Afresh]:
    """By arm, in their order. baselines: of the arms that ask."""
    made = {
        name: str(arm["labels_of"])
        for name, arm in comparison.arms.items()
        if arm.get("labels_of") and comparison.finished(name)
    }
    full = last_of(comparison, FULL)
    found = {}
    for name, source in made.items():
        recipe, head = comparison.arms[name]["recipe"], baselines.get(source)
        random = [  # trained alike on the labels of the baseline
            n for n, s in made.items() if s == head and comparison.arms[n]["recipe"] == recipe
        ]
        mine, rounds = last_of(comparison, name), last_of(comparison, source)
        alike = {s: r for s, r in rounds.items() if s in mine and r.costs == mine[s].costs}
        clicks = [record.costs.clicks for record in mine.values()]
        every = range(len(comparison.pool.classes))
        classes = [curves.known(class_iou(r, c) for r in mine.values()) for c in every]
        tops = [curves.known(class_iou(r, c) for r in full.values()) for c in every]
        found[name] = Afresh(
            source,
            curves.known(float(record.costs.pixels) for record in mine.values()),
            None if None in clicks else curves.known(float(c) for c in clicks if c is not None),
            tuple(record.iterations for record in mine.values()),
            curves.known(miou_of(mine).values()),
            curves.paired(miou_of(mine), miou_of(alike)),
            curves.paired(miou_of(mine), miou_of(last_of(comparison, random[0])))
            if random and random[0] != name
            else None,
            curves.paired(miou_of(mine), miou_of(full)),
            tuple(classes),
            tuple(a.mean - b.mean if a and b else None for a, b in zip(classes, tops, strict=True)),
        )
    return found


def last_of(comparison: Comparison, arm: str) -> Last:
    return {run.seed: run.evaluated[-1] for run in comparison.finished(arm)}


def miou_of(last: Last) -> dict[int, float | None]:
    return {seed: record.miou for seed, record in last.items()}
