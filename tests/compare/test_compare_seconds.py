"""Annotation time as a cost of comparisons and of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from compare_runs import BETTER, RANDOM, arm, rounds, write_grid

from regional_al.compare import figures, html, markdown, results, stats
from regional_al.report import figures as report_figures
from regional_al.store.results import Record
from regional_al.types import Costs


def timed(records: Sequence[Record], *seconds: float | None) -> list[Record]:
    return [
        replace(r, costs=r.costs._replace(annotation_seconds=s))
        for r, s in zip(records, seconds, strict=True)
    ]


def grid(out: Path, last: float | None = 9000.0) -> stats.Analysis:
    """Random takes 600, 1200 and 2400 seconds, RIPU 600, 3000 and `last`."""
    random = {s: timed(rounds(m), 600.0, 1200.0, 2400.0) for s, m in RANDOM.items()}
    better = {s: timed(rounds(m, 3), 600.0, 3000.0, last) for s, m in BETTER.items()}
    write_grid(out, [(arm("Random"), random), (arm("RIPU"), better)])
    return stats.analyse(results.collect(out))


def test_curves_over_time_by_hand(tmp_path: Path) -> None:
    """Each second counts: RIPU is better at equal pixels and has no second in common after the
    start, since its first round takes longer than all of random."""
    found = grid(tmp_path)
    assert found.costs == ("pixels", "clicks", "annotation_seconds")
    points = found.means["annotation_seconds"]["RIPU"]
    assert [(p.cost, p.mean) for p in points] == [
        (600, pytest.approx(0.21)),
        (3000, pytest.approx(0.39)),
        (9000, pytest.approx(0.45)),
    ]
    assert "RIPU" not in found.areas["annotation_seconds"]
    assert found.areas["pixels"]["RIPU"].gain is not None
    # 0.39 is reached by random between 1200 (0.31) and 2400 (0.41), by RIPU at 3000
    level = stats.analyse(found.comparison, levels=(0.39,)).efficiency["annotation_seconds"]["RIPU"]
    assert level[0].reach.cost == pytest.approx(3000)
    assert level[0].ratio is not None
    assert level[0].ratio.value == pytest.approx(1200 * 2**0.8 / 3000)


def test_arms_whose_time_is_not_known_are_named(tmp_path: Path) -> None:
    found = grid(tmp_path, last=None)
    assert found.unknown["annotation_seconds"] == ("RIPU",)
    assert list(found.means["annotation_seconds"]) == ["Random"]
    note = "Not in the curves over annotation time, which are not known: RIPU."
    assert note in html.notes(found)


def test_no_time_no_curve(tmp_path: Path) -> None:
    write_grid(tmp_path, [(arm("Random"), {s: rounds(m) for s, m in RANDOM.items()})])
    assert "annotation_seconds" not in stats.analyse(results.collect(tmp_path)).costs


def test_before_the_first_answer_no_time_is_spent(tmp_path: Path) -> None:
    """A run without initial labels has nothing to know about in round 0."""
    made = timed(rounds((0.2, 0.3, 0.4)), None, 10.0, 20.0)
    made[0] = replace(made[0], costs=Costs())
    write_grid(tmp_path, [(arm("Random", None), {0: made})])
    found = stats.analyse(results.collect(tmp_path))
    points = found.means["annotation_seconds"]["Random"]
    assert [p.cost for p in points] == [0, 10, 20]


def test_time_is_written_as_time(tmp_path: Path) -> None:
    found = grid(tmp_path)
    figure = figures.curve(found, "annotation_seconds")
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_xlabel() == "annotation time in min (cumulative)"
    assert [list(line.get_xdata()) for line in axes.lines] == [[10, 20, 40], [10, 50, 150]]
    made = markdown.tables(found)
    assert "| annotation time |" in made["arms"]
    assert "| 2h30m |" in made["arms"]
    # 0.41 is a third of the way from 3000 to 9000 seconds, in log cost: 4327
    assert "at 1h12m" in made["label efficiency, annotation time, Random"]


def test_the_report_draws_time(tmp_path: Path) -> None:
    found = grid(tmp_path)
    run = found.comparison.finished("RIPU")[0].results
    figure = report_figures.learning_curve(run, "annotation_seconds")
    assert figure is not None
    assert figure.axes[0].get_xlabel() == "annotation time in min (cumulative)"
    assert figure.axes[0].lines[0].get_xdata() == pytest.approx([10, 50, 150])
    unknown = replace(run, records=tuple(timed(run.records, None, None, None)))
    assert report_figures.learning_curve(unknown, "annotation_seconds") is None
