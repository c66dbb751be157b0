"""Label efficiency after equal training: against random arms of several budgets, at their ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from compare_runs import arm, record, write_grid

from regional_al.compare import findings, html, markdown, reading, tables
from regional_al.compare.curves import Ratio


def ended(pixels: int, miou: float, **more: Any) -> list[Any]:
    """Two rounds, the last one of `pixels`, with a click for two pixels."""
    return [record(0, 10, 0.1, 5, 10), record(1, pixels, miou, pixels // 2, pixels, **more)]


def analysed(out: Path, **more: Any) -> findings.Analysis:
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
    return tables.analyse(reading.collect(out))


def test_by_hand(tmp_path: Path) -> None:
    found = analysed(tmp_path).ends["pixels"]
    assert list(found) == ["RIPU", "Margin"]
    ripu = found["RIPU"]
    assert ripu.baselines == ("Random", "Random_x4")  # not the one that asks for pixels
    # seed 0: 0.4 is halfway from 0.3 to 0.5, so 200 pixels; seed 1: above all that random has
    assert ripu.seeds == (Ratio("~", pytest.approx(2.0)), Ratio(">=", pytest.approx(4.0)))
    # means: random 0.31 at 100 and 0.47 at 400, RIPU 0.45: 14/16 of the way
    assert ripu.ratio == Ratio("~", pytest.approx(4 ** (14 / 16)))
    assert found["Margin"].ratio == Ratio("<=", pytest.approx(1.0))


def test_only_with_as_much_training(tmp_path: Path) -> None:
    assert list(analysed(tmp_path / "a", iterations=600).ends["pixels"]) == ["Margin"]
    one = tmp_path / "b"
    write_grid(one, [(arm("Random"), {0: ended(100, 0.3)}), (arm("RIPU"), {0: ended(100, 0.4)})])
    alone = tables.analyse(reading.collect(one))
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
        ripu = tables.analyse(reading.collect(tmp_path / out)).ends["pixels"]["RIPU"]
        assert ripu.baselines == ("Random", "Random_x2")
        assert ripu.seeds == (Ratio("=", pytest.approx(2**0.5)),) * 2


def test_on_the_page_and_in_markdown(tmp_path: Path) -> None:
    found = analysed(tmp_path)
    lines = markdown.tables(found)["equal training"].splitlines()
    assert lines[0] == "| arm | pixels | clicks |"
    assert lines[2] == (
        "| RIPU<br>against Random, Random_x4 "
        "| **~ 3.36x**<br>~ 2.00x, ≥ 4.00x | **~ 3.36x**<br>~ 2.00x, ≥ 4.00x |"
    )
    assert lines[3].startswith(
        "| Margin<br>against Random, Random_x4 | ≤ 1.00x<br>≤ 1.00x, ≤ 1.00x"
    )
    assert "After equal training" in html.render(found, tmp_path / "figures", "auto")
    assert findings.to_json(found)["ends"]["pixels"]["RIPU"]["ratio"]["sign"] == "~"
