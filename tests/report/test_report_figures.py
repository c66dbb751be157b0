"""The charts of the report: the numbers that were drawn, read back from the figures."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regional_al.report import figures
from regional_al.store.results import Record, Results
from regional_al.types import Costs

pytest.importorskip("matplotlib")

EMPTY = Results(
    title="t",
    acquisition={},
    classes=("a", "b"),
    palette=((255, 0, 0), (0, 0, 255)),
    raw_to_train=(0, 1, *[-1] * 253, 255),
    pool_images=1,
    pool_pixels=1000,
    engine="torch",
)


def run(*points: tuple[float, int | None, float | None]) -> Results:
    """Results of (labelled fraction, clicks, mIoU), ten seconds of fit and two of score each."""
    records = [
        Record(
            r,
            Costs(1, 1, 10, clicks),
            Costs(),
            fraction,
            miou,
            () if miou is None else (miou, None),
            seconds={"fit": 10.0, "score": 2.0},
        )
        for r, (fraction, clicks, miou) in enumerate(points)
    ]
    return replace(EMPTY, records=tuple(records))


def test_the_curve_goes_through_the_evaluated_rounds() -> None:
    figure = figures.learning_curve(
        run((0.01, 5, 0.3), (0.02, 6, None), (0.03, 7, 0.5)), "labelled"
    )
    assert figure is not None
    (axes,) = figure.axes
    for line in axes.lines:
        assert line.get_xdata() == pytest.approx([1, 3])
        assert line.get_ydata() == pytest.approx([30, 50])
    assert axes.get_xscale() == "linear"
    assert [text.get_text() for text in axes.texts] == ["30.0", "50.0"]


def test_clicks_that_are_not_known_are_left_out() -> None:
    results = run((0.01, 50, 0.3), (0.02, None, 0.4), (0.9, 5000, 0.5))
    figure = figures.learning_curve(results, "clicks")
    assert figure is not None
    assert figure.axes[0].lines[0].get_xdata() == pytest.approx([50, 5000])
    assert figure.axes[0].get_xscale() == "log"


@pytest.mark.parametrize("points", [[], [(0.1, None, None)], [(0.1, None, 0.5)]])
def test_no_curve_without_points(points: list[tuple[float, int | None, float | None]]) -> None:
    assert figures.learning_curve(run(*points), "clicks") is None


def test_a_round_without_labels_stands_at_zero() -> None:
    figure = figures.learning_curve(run((0.0, 0, 0.3), (0.5, 9, 0.4)), "labelled")
    assert figure is not None
    assert figure.axes[0].get_xscale() == "linear"
    assert figure.axes[0].get_xlim()[0] == 0


def test_bars_are_the_seconds_of_the_stages() -> None:
    figure = figures.stage_seconds(run((0.1, 1, 0.5), (0.2, 2, 0.5)))
    assert figure is not None
    bars = [[(b.get_y(), b.get_height()) for b in c] for c in figure.axes[0].containers]
    assert bars == [[(0, 2), (0, 2)], [(2, 10), (2, 10)]]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["score", "fit"]
    assert figures.stage_seconds(EMPTY) is None


def test_long_rounds_are_drawn_in_minutes() -> None:
    results = run((0.1, 1, 0.5))
    slow = replace(results.records[0], seconds={"fit": 1200.0})
    figure = figures.stage_seconds(replace(results, records=(slow,)))
    assert figure is not None
    assert figure.axes[0].get_ylabel() == "time (min)"
    assert figure.axes[0].containers[0][0].get_height() == 20


def test_class_shares_are_the_cumulative_share_of_each_class() -> None:
    counts = np.array([[10, 0, 0], [10, 60, 20]])  # class a, class b, void
    figure = figures.class_shares(EMPTY, counts)
    assert figure is not None
    heights = {c.get_label(): [b.get_height() for b in c] for c in figure.axes[0].containers}
    assert heights == {"b": [0, 60], "a": [100, 20], "void": [0, 20]}
    assert [c.get_label() for c in figure.axes[0].containers] == ["b", "a", "void"]
    assert figures.class_shares(EMPTY, counts[:0]) is None
    assert figures.class_shares(EMPTY, np.zeros((2, 3), dtype=np.int64)) is None


def test_class_map_shows_absent_classes_as_a_dash() -> None:
    figure = figures.class_iou(run((0.1, 1, 0.25), (0.2, 2, 0.5)))
    assert figure is not None
    assert [t.get_text() for t in figure.axes[0].texts] == ["25.0", "50.0", "-", "-"]
    assert figures.class_iou(run((0.1, 1, None))) is None


def test_many_rounds_classes_and_odd_names_draw_without_a_warning(tmp_path: Path) -> None:
    names = ("_under", "$math_{", "a" * 80, *[f"class {i}" for i in range(27)])
    results = run(*[(0.001 * (r + 1), 10 * 3**r, 0.4) for r in range(15)])
    records = tuple(replace(r, per_class_iou=(0.5,) * 30) for r in results.records)
    results = replace(results, classes=names, palette=((1, 2, 3),) * 30, records=records)
    counts = np.ones((15, 31), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, figure in {
            "curve": figures.learning_curve(results, "clicks"),
            "seconds": figures.stage_seconds(results),
            "shares": figures.class_shares(results, counts),
            "iou": figures.class_iou(results),
        }.items():
            assert figure is not None
            figures.save(figure, tmp_path / f"{name}.png")
