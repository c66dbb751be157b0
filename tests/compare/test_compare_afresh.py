"""Trainings on the labels of other arms (`labels_of`): worked by hand, on page and in archive."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_runs import afresh, arm, record, two, write_grid, write_run

from regional_al.compare import archive, findings, html, markdown, reading, state, tables
from regional_al.compare.grid import Cell
from regional_al.errors import WorkDirError
from regional_al.store import results as records
from regional_al.store.results import Record


def end(miou: float, clicks: int | None, **more: Any) -> Record:
    """A training on the labels of the last round of `two`'s arms."""
    return replace(record(2, 400, miou, clicks, 400, **more), round=0)


def with_afresh(out: Path) -> findings.Analysis:
    """`two` with trainings on the labels of both; one of RIPU's in another recipe too."""
    two(out)
    classes = (0.9, 0.3, None, 0.5, 0.5, 0.5)
    ends = {
        "Random": {0: end(0.42, 800), 1: end(0.43, 800)},
        "RIPU": {0: end(0.47, 1200, per_class=classes), 1: end(0.50, 1200)},
    }
    write_grid(
        out,
        [
            (afresh(f"{name}_end", name), {s: [r] for s, r in by.items()})
            for name, by in ends.items()
        ],
    )
    other = replace(afresh("RIPU_long", "RIPU", "longer"), digest="another")
    write_grid(out, [(other, {0: [end(0.6, None, iterations=900)]})])
    return tables.analyse(reading.collect(out))


def test_trained_afresh_by_hand(tmp_path: Path) -> None:
    found = with_afresh(tmp_path)
    assert found.arms == ("Random", "RIPU")  # no curves, no areas, no wins of the others
    assert list(found.afresh) == ["Random_end", "RIPU_end", "RIPU_long"]
    end = found.afresh["RIPU_end"]
    assert (end.source, end.iterations) == ("RIPU", (300, 300))
    assert end.miou is not None
    assert end.miou.mean == pytest.approx(0.485)
    assert end.over_rounds == pytest.approx((0.035, math.sqrt(0.00005), 2))  # 0.03, 0.04
    assert end.over_baseline == pytest.approx((0.06, math.sqrt(0.0002), 2))  # 0.05, 0.07
    assert end.over_full == pytest.approx((0.025, math.sqrt(0.00005), 2))  # 0.02, 0.03
    assert (end.pixels, end.clicks) == ((400, 0, 2), (1200, 0, 2))
    assert end.classes[0] == pytest.approx((0.7, math.sqrt(0.08), 2))
    assert end.classes_over_full[0] == pytest.approx(0.7 - 0.46)
    assert end.classes[2] == (0.5, None, 1)
    assert found.afresh["Random_end"].over_baseline is None  # it is what others are measured with
    long = found.afresh["RIPU_long"]
    assert long.clicks is None
    assert long.over_baseline is None  # random's labels were not trained on in that recipe
    assert long.over_full == pytest.approx((0.15, None, 1), nan_ok=True)


def test_on_labels_that_have_become_more(tmp_path: Path) -> None:
    """The source is prolonged: what was trained on its labels of before is not compared with it."""
    with_afresh(tmp_path)
    made = afresh("RIPU_end", "RIPU")
    cell = Cell(made, 0, tmp_path)
    assert state.finished(cell)
    longer = [*records.load(tmp_path / "runs/RIPU/seed0").records, record(3, 800, 0.9, 2400, 800)]
    write_run(tmp_path, arm("RIPU"), 0, longer)
    with pytest.raises(
        WorkDirError, match=r"runs/RIPU_end/seed0 was trained on .* RIPU had before"
    ):
        state.finished(cell)
    found = tables.analyse(reading.collect(tmp_path)).afresh["RIPU_end"]
    assert found.over_rounds == (pytest.approx(0.04), None, 1)  # of seed 1 alone
    assert found.over_baseline is not None
    assert found.over_baseline.n == 2


def test_trained_afresh_on_the_page_and_in_the_archive(tmp_path: Path) -> None:
    found = with_afresh(tmp_path)
    page = html.render(found, tmp_path / "figures", "auto")
    assert "Trained afresh on these labels" in page
    assert "longer" in page
    lines = markdown.tables(found)["afresh"].splitlines()
    assert lines[0].startswith("| labels of | seeds | pixels % | clicks | iterations | mIoU % |")
    assert lines[3].startswith(
        "| RIPU<br>RIPU_end | 2 | 0.0400 | 1,200 | 300 | 48.5 ± 2.1 | 105.4 | **+2.5"
    )
    assert lines[4].startswith("| RIPU<br>longer | 1 | 0.0400 | - | 900 | 60.0 | ")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    classes = markdown.tables(found)["afresh classes"].splitlines()
    assert classes[0] == "| class | Random | RIPU, RIPU_end | RIPU, longer | full supervision |"
    assert any(
        "afresh: RIPU" in line and "+2.5 ± 0.7 on full" in line for line in html.summary(found)
    )
    archive.write(tmp_path / "a.json", found.comparison, findings.to_json(found))
    again = archive.read(tmp_path / "a.json")
    assert tables.analyse(again).afresh == found.afresh
    assert '{"labels": "runs/RIPU/seed1"}' in (tmp_path / "a.json").read_text()
    assert str(tmp_path) not in (tmp_path / "a.json").read_text()
    two(tmp_path / "none")
    assert "Trained afresh on these labels" not in html.render(
        tables.analyse(reading.collect(tmp_path / "none")), tmp_path / "f", "auto"
    )
