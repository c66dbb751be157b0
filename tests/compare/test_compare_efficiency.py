"""What labels are worth: equal training and retraining (`labels_of`), by hand and on the page."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_runs import arm, record, retrained, two, write_grid, write_run

from regional_al.compare import html, markdown, results, state, stats, tables
from regional_al.compare.curves import Ratio
from regional_al.compare.plan import PlannedRun
from regional_al.errors import WorkDirError
from regional_al.store import results as records
from regional_al.store.results import Record


def ended(pixels: int, miou: float, **more: Any) -> list[Any]:
    """Two rounds, the last one of `pixels`, with a click for two pixels."""
    return [record(0, 10, 0.1, 5, 10), record(1, pixels, miou, pixels // 2, pixels, **more)]


def analysed(out: Path, **more: Any) -> stats.Analysis:
    """Random with 100, 400 and 1600 pixels, and strategies with 100, two seeds."""
    write_grid(
        out,
        [
            (arm("Random"), {0: ended(100, 0.3), 1: ended(100, 0.32)}),
            (arm("Random_x4", budget="4%"), {0: ended(400, 0.5), 1: ended(400, 0.44)}),
            (arm("Random_pixels", level="pixel"), {0: ended(400, 0.9), 1: ended(400, 0.9)}),
            (arm("RIPU"), {0: ended(100, 0.4, **more), 1: ended(100, 0.50, **more)}),
            (arm("Margin"), {0: ended(100, 0.2), 1: ended(100, 0.2)}),
        ],
    )
    return stats.analyse(results.collect(out))


def test_equal_training_by_hand(tmp_path: Path) -> None:
    found = analysed(tmp_path).ends["pixels"]
    assert list(found) == ["RIPU", "Margin"]
    ripu = found["RIPU"]
    assert ripu.baselines == ("Random", "Random_x4")  # not the one that asks for pixels
    # seed 0: 0.4 is halfway from 0.3 to 0.5, so 200 pixels; seed 1: above all that random has
    assert ripu.seeds == (Ratio("~", pytest.approx(2.0)), Ratio(">=", pytest.approx(4.0)))
    # means: random 0.31 at 100 and 0.47 at 400, RIPU 0.45: 14/16 of the way
    assert ripu.ratio == Ratio("~", pytest.approx(4 ** (14 / 16)))
    assert found["Margin"].ratio == Ratio("<=", pytest.approx(1.0))


def test_equal_training_needs_equal_iterations(tmp_path: Path) -> None:
    assert list(analysed(tmp_path / "a", iterations=600).ends["pixels"]) == ["Margin"]
    one = tmp_path / "b"
    write_grid(one, [(arm("Random"), {0: ended(100, 0.3)}), (arm("RIPU"), {0: ended(100, 0.4)})])
    alone = stats.analyse(results.collect(one))
    assert not any(alone.ends.values())
    assert "After equal training" not in html.render(alone, one / "figures", "auto")
    assert "equal training" not in markdown.tables(alone)


def test_a_rival_with_fewer_seeds_cuts_nobody_elses(tmp_path: Path) -> None:
    pairs = [
        (arm("Random"), {0: ended(100, 0.3), 1: ended(100, 0.3)}),
        (arm("Random_x2", budget="2%"), {0: ended(200, 0.4), 1: ended(200, 0.4)}),
        (arm("RIPU"), {s: ended(100, 0.35) for s in range(3)}),
    ]
    write_grid(tmp_path / "a", pairs)
    one = (arm("Random_x16", budget="9%"), {0: ended(1600, 0.9)})
    write_grid(tmp_path / "b", [*pairs, one])
    for out in ("a", "b"):
        ripu = stats.analyse(results.collect(tmp_path / out)).ends["pixels"]["RIPU"]
        assert ripu.baselines == ("Random", "Random_x2")
        assert ripu.seeds == (Ratio("=", pytest.approx(2**0.5)),) * 2


def test_equal_training_on_the_page_and_in_markdown(tmp_path: Path) -> None:
    found = analysed(tmp_path)
    lines = markdown.tables(found)["equal training"].splitlines()
    assert lines[0] == "| arm | pixels | clicks |"
    assert lines[2] == (
        "| RIPU<br>vs. Random, Random_x4 "
        "| **~ 3.36x**<br>~ 2.00x, ≥ 4.00x | **~ 3.36x**<br>~ 2.00x, ≥ 4.00x |"
    )
    assert lines[3].startswith("| Margin<br>vs. Random, Random_x4 | ≤ 1.00x<br>≤ 1.00x, ≤ 1.00x")
    assert "After equal training" in html.render(found, tmp_path / "figures", "auto")
    assert stats.to_json(found)["ends"]["pixels"]["RIPU"]["ratio"]["sign"] == "~"


def end(miou: float, clicks: int | None, **more: Any) -> Record:
    """A training on the labels of the last round of `two`'s arms."""
    return replace(record(2, 400, miou, clicks, 400, **more), round=0)


def with_retrained(out: Path) -> stats.Analysis:
    """`two` with trainings on the labels of both, for RIPU also under another recipe."""
    two(out)
    classes = (0.9, 0.3, None, 0.5, 0.5, 0.5)
    ends = {
        "Random": {0: end(0.42, 800), 1: end(0.43, 800)},
        "RIPU": {0: end(0.47, 1200, per_class=classes), 1: end(0.50, 1200)},
    }
    write_grid(
        out,
        [
            (retrained(f"{name}_end", name), {s: [r] for s, r in by.items()})
            for name, by in ends.items()
        ],
    )
    other = replace(retrained("RIPU_long", "RIPU", "longer"), digest="another")
    write_grid(out, [(other, {0: [end(0.6, None, iterations=900)]})])
    return stats.analyse(results.collect(out))


def test_retrained_by_hand(tmp_path: Path) -> None:
    found = with_retrained(tmp_path)
    assert found.arms == ("Random", "RIPU")  # no curves, no areas, no wins of the others
    assert list(found.retrained) == ["Random_end", "RIPU_end", "RIPU_long"]
    end = found.retrained["RIPU_end"]
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
    assert (
        found.retrained["Random_end"].over_baseline is None
    )  # it is what others are measured with
    long = found.retrained["RIPU_long"]
    assert long.clicks is None
    assert long.over_baseline is None  # random's labels were not trained on in that recipe
    assert long.over_full == pytest.approx((0.15, None, 1), nan_ok=True)


def test_on_labels_that_have_become_more(tmp_path: Path) -> None:
    """The source is prolonged: what was trained on its labels of before is not compared with it."""
    with_retrained(tmp_path)
    made = retrained("RIPU_end", "RIPU")
    run = PlannedRun(made, 0, tmp_path)
    assert state.finished(run)
    longer = [*records.load(tmp_path / "runs/RIPU/seed0").records, record(3, 800, 0.9, 2400, 800)]
    write_run(tmp_path, arm("RIPU"), 0, longer)
    with pytest.raises(
        WorkDirError, match=r"runs/RIPU_end/seed0 was trained on fewer labels than RIPU has now"
    ):
        state.finished(run)
    found = stats.analyse(results.collect(tmp_path)).retrained["RIPU_end"]
    assert found.over_rounds == (pytest.approx(0.04), None, 1)  # of seed 1 alone
    assert found.over_baseline is not None
    assert found.over_baseline.n == 2


def test_retrained_on_the_page_and_in_the_archive(tmp_path: Path) -> None:
    found = with_retrained(tmp_path)
    page = html.render(found, tmp_path / "figures", "auto")
    assert "Retrained on the final labels" in page
    assert "longer" in page
    lines = markdown.tables(found)["retrained"].splitlines()
    assert lines[0].startswith("| labels of | seeds | pixels % | clicks | iterations | mIoU % |")
    assert lines[3].startswith(
        "| RIPU<br>RIPU_end | 2 | 0.0400 | 1,200 | 300 | 48.5 ± 2.1 | 105.4 | **+2.5"
    )
    assert lines[4].startswith("| RIPU<br>longer | 1 | 0.0400 | - | 900 | 60.0 | ")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    classes = markdown.tables(found)["retrained classes"].splitlines()
    assert classes[0] == "| class | Random | RIPU, RIPU_end | RIPU, longer | full supervision |"
    assert any(
        "retrained: RIPU" in line and "+2.5 ± 0.7 vs. full" in line
        for line in tables.summary(found)
    )
    results.write(tmp_path / "a.json", found.comparison, stats.to_json(found))
    again = results.read(tmp_path / "a.json")
    assert stats.analyse(again).retrained == found.retrained
    assert '{"labels": "runs/RIPU/seed1"}' in (tmp_path / "a.json").read_text()
    assert str(tmp_path) not in (tmp_path / "a.json").read_text()
    two(tmp_path / "none")
    assert "Retrained on the final labels" not in html.render(
        stats.analyse(results.collect(tmp_path / "none")), tmp_path / "f", "auto"
    )
