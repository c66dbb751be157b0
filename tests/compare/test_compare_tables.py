"""What a comparison says, worked by hand on a grid of two seeds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import compare_runs
import pytest
from compare_runs import BETTER, RANDOM, arm, record, rounds, two, write_grid, write_run

from regional_al import cli
from regional_al.compare import html, markdown, results, state, stats
from regional_al.compare.curves import Ratio, Reach
from regional_al.errors import DataError


@pytest.fixture
def found(tmp_path: Path) -> stats.Analysis:
    two(tmp_path)
    return stats.analyse(results.collect(tmp_path))


def test_curves_are_means_over_seeds(found: stats.Analysis) -> None:
    points = found.means["pixels"]["RIPU"]
    assert [(p.round, p.cost, p.n) for p in points] == [(0, 100, 2), (1, 200, 2), (2, 400, 2)]
    assert [p.mean for p in points] == pytest.approx([0.21, 0.39, 0.45])
    assert points[1].std == pytest.approx(math.sqrt(0.0002))
    assert found.arms == ("Random", "RIPU")
    assert found.baselines == {"Random": "Random", "RIPU": "Random"}
    assert found.full is not None
    assert found.full.miou.mean == pytest.approx(0.46)


def test_equal_costs_are_drawn_once(found: stats.Analysis, tmp_path: Path) -> None:
    assert found.costs == ("pixels", "clicks")
    assert found.same == {"regions": "pixels"}
    made = arm("Random", level="pixel")
    write_grid(tmp_path / "pixel", [(made, {0: rounds((0.1, 0.2, 0.3), 1)})])
    alone = stats.analyse(results.collect(tmp_path / "pixel"))
    assert alone.costs == ("pixels",)
    assert alone.same == {"clicks": "pixels", "regions": "pixels"}


def test_areas_by_hand(found: stats.Analysis) -> None:
    # without round 0: costs of 200 to 400, so linear; (0.30 + 0.40) / 2 for random, seed 0
    random, better = found.areas["pixels"]["Random"], found.areas["pixels"]["RIPU"]
    assert (better.low, better.high, better.log) == (200, 400, False)
    assert random.value is not None
    assert random.value.mean == pytest.approx((0.35 + 0.37) / 2)
    assert better.value is not None
    assert better.value == pytest.approx((0.42, 0.0, 2), abs=1e-12)
    assert better.gain is not None
    assert better.gain == pytest.approx((0.06, math.sqrt(0.0002), 2))
    assert stats.analyse(found.comparison, scale="log").areas["pixels"]["Random"].log
    # in clicks RIPU's first round costs 600, random's last 800: RIPU from 600 (0.39) to 800
    click = found.areas["clicks"]["RIPU"]
    assert (click.low, click.high) == (600, 800)
    assert click.gain is not None
    random0 = (0.30 + 0.10 * 0.5 + 0.40) / 2  # linear in cost: 600 is halfway from 400 to 800
    better0 = (0.40 + 0.40 + 0.04 / 3) / 2  # 800 is a third of the way from 600 to 1200
    random1, better1 = random0 + 0.02, (0.38 + 0.38 + 0.08 / 3) / 2
    assert click.gain.mean == pytest.approx((better0 - random0 + better1 - random1) / 2)


def test_round_0_counts_where_nothing_else_is_shared(tmp_path: Path) -> None:
    pairs = [
        (arm("Random"), {0: rounds((0.2, 0.3, 0.4))[:2]}),
        (arm("RIPU"), {0: rounds((0.2, 0.4, 0.5))[:2]}),
    ]
    write_grid(tmp_path, pairs)
    area = stats.analyse(results.collect(tmp_path)).areas["pixels"]["RIPU"]
    assert (area.low, area.high) == (100, 200)
    assert area.gain == (pytest.approx(0.05), None, 1)


def test_an_area_is_between_an_arm_and_its_baseline_alone(tmp_path: Path) -> None:
    pairs = [
        (arm("Random"), {s: rounds(m) for s, m in RANDOM.items()}),
        (arm("RIPU"), {s: rounds(m) for s, m in BETTER.items()}),
    ]
    write_grid(tmp_path / "two", pairs)
    short = {0: rounds((0.2, 0.3, 0.4), 2)[:2]}
    short[0][1] = record(1, 300, 0.5, 600, 300)
    write_grid(tmp_path / "three", [*pairs, (arm("Margin"), short)])
    two_, three = (stats.analyse(results.collect(tmp_path / n)) for n in ("two", "three"))
    assert three.areas["pixels"]["RIPU"] == two_.areas["pixels"]["RIPU"]
    assert "Margin" not in three.areas["pixels"]  # one point has no area
    longer = {0: [*rounds((0.2, 0.3, 0.4)), record(3, 800, 0.6, 1600, 800)]}
    write_grid(tmp_path / "three", [(arm("Entropy"), longer)])
    found = stats.analyse(results.collect(tmp_path / "three"))
    area = found.areas["pixels"]["Entropy"]
    assert (area.low, area.high) == (200, 400)
    assert area.baseline is not None
    assert area.baseline == (pytest.approx(0.35), None, 1)  # of the same seed
    assert found.gains["pixels"]["Entropy"].cost == 400


def test_both_areas_and_their_difference_are_of_the_same_seeds(tmp_path: Path) -> None:
    pairs = [
        (arm("Random"), {0: rounds(RANDOM[0])}),
        (arm("RIPU"), {s: rounds(m) for s, m in BETTER.items()}),
    ]
    write_grid(tmp_path, pairs)
    area = stats.analyse(results.collect(tmp_path)).areas["pixels"]["RIPU"]
    assert area.value == (pytest.approx(0.42), None, 1)
    assert area.baseline == (pytest.approx(0.35), None, 1)
    assert area.gain == (pytest.approx(0.07), None, 1)


def test_rounds_that_cost_nothing_alike_are_not_compared(tmp_path: Path) -> None:
    """In clicks all of Random's rounds cost less than the first of RIPU."""
    pairs = [
        (arm("Random"), {s: rounds(m, 1) for s, m in RANDOM.items()}),
        (arm("RIPU"), {s: rounds(m, 3) for s, m in BETTER.items()}),
        (arm("Margin"), {s: rounds(m, 2) for s, m in BETTER.items()}),
    ]
    write_grid(tmp_path, pairs)
    found = stats.analyse(results.collect(tmp_path))
    assert set(found.areas["clicks"]) == {"Random"}
    assert set(found.gains["clicks"]) == {"Random", "Margin"}
    assert found.gains["clicks"]["Margin"].cost == 400
    wins = found.wins["clicks"]
    assert "RIPU" not in wins["Random"]
    assert "Random" not in wins["RIPU"]
    # Random is at 400 clicks in its last round, Margin in its first
    assert wins["Margin"]["Random"].total == 2
    assert wins["Margin"]["Random"].difference.mean == pytest.approx(-0.02)
    assert set(found.areas["pixels"]) == {"Random", "RIPU", "Margin"}
    page = html.render(found, tmp_path / "figures", "auto")
    assert "area over clicks" in page


def test_label_efficiency_by_hand(found: stats.Analysis) -> None:
    half, last, ninety, _, all_ = found.efficiency["pixels"]["RIPU"]
    # halfway of random's mean curve is 0.31, at 200; RIPU is there 5/9 of the way from 100 to 200
    assert half.level == pytest.approx(0.31)
    assert half.ratio is not None
    assert half.ratio.value == pytest.approx(2 ** (1 - 5 / 9))
    assert half.over_seeds is not None
    assert half.over_seeds.mean == pytest.approx((2 ** (1.1 - 0.55) + 2 ** (0.9 - 0.5625)) / 2)
    # 0.41 is random's last; seed 0 of random never gets there
    assert last.level == pytest.approx(0.41)
    assert last.ratio is not None
    assert last.ratio.value == pytest.approx(2 ** (2 / 3))
    assert (last.reached, last.seeds) == (1, 2)
    assert last.over_seeds is not None
    assert last.over_seeds.mean == pytest.approx(2**0.525)
    # 90 % of full is 0.414: random never, RIPU 0.4 of the way from 200 to 400
    assert ninety.ratio == Ratio(">=", pytest.approx(2**0.6))
    assert ninety.reach == Reach("reached", pytest.approx(200 * 2**0.4), 2)
    assert all_.ratio == Ratio("", None, "reached by neither")
    assert [e.ratio for e in found.efficiency["pixels"]["Random"]] == [None] * 5
    (given,) = stats.analyse(found.comparison, levels=(0.31,)).efficiency["pixels"]["RIPU"]
    assert given.ratio is not None
    assert given.ratio.value == pytest.approx(half.ratio.value)
    # in clicks RIPU pays 3 for random's 2
    click = found.efficiency["clicks"]["RIPU"][0].ratio
    assert click is not None
    assert click.value == pytest.approx(2 ** (1 - 5 / 9) * 2 / 3)


def test_wins_by_hand(found: stats.Analysis) -> None:
    win = found.wins["pixels"]["RIPU"]["Random"]
    assert (win.wins, win.ties, win.total) == (4, 0, 4)  # two seeds, at 200 and 400
    assert win.difference.mean == pytest.approx(0.06)  # 0.07 and 0.05
    assert win.difference.std == pytest.approx(math.sqrt(0.0002))
    assert win.difference.clear
    lost = found.wins["pixels"]["Random"]["RIPU"]
    assert (lost.wins, lost.total) == (0, 4)
    assert lost.difference.mean == pytest.approx(-0.06)
    assert "Random" not in found.wins["pixels"]["Random"]


def test_gains_by_class_at_the_last_shared_cost(tmp_path: Path) -> None:
    random = {s: rounds(m) for s, m in RANDOM.items()}
    better = {s: rounds(m) for s, m in BETTER.items()}
    random[0][2] = record(2, 400, 0.4, 800, 400, (0.8, 0.3, None, 0.1, 0.2, 0.3))
    better[0][2] = record(2, 400, 0.5, 800, 400, (0.7, 0.5, None, 0.1, 0.2, 0.4))
    longer = [*better[1], record(3, 800, 0.9, 1600, 800)]
    full = arm("_full", None, level="image", heuristic="Random", rounds=0)
    tops = {0: [record(0, 1000, 0.5, 9, 9, (0.9, 0.4, None, 0.2, 0.2, 0.2))]}
    pairs = [(arm("Random"), random), (arm("RIPU"), {0: better[0], 1: longer}), (full, tops)]
    write_grid(tmp_path, pairs)
    gain = stats.analyse(results.collect(tmp_path)).gains["pixels"]["RIPU"]
    assert gain.cost == 400
    over = [None if g is None else (g.mean, g.n) for g in gain.over_baseline]
    assert over[0] == (pytest.approx((-0.1 + 0.04) / 2), 2)
    assert over[1] == (pytest.approx((0.2 + 0.04) / 2), 2)
    assert over[2] == (pytest.approx(0.04), 1)  # absent from the validation set of seed 0
    assert gain.over_full[0] == pytest.approx((0.7 + 0.46) / 2 - 0.9)
    assert gain.over_full[2] is None
    assert gain.miou_over_baseline is not None
    assert gain.miou_over_baseline.mean == pytest.approx((0.1 + 0.04) / 2)


def test_training_behind_a_point(tmp_path: Path) -> None:
    pairs = [
        (arm("Random"), {0: rounds((0.1, 0.2, 0.3))}),
        (arm("RIPU", round_init="continue"), {0: rounds((0.1, 0.2, 0.3), iterations=120)}),
    ]
    write_grid(tmp_path, pairs)
    found = stats.analyse(results.collect(tmp_path))
    assert found.training == {"Random": ((300, 300, 300),), "RIPU": ((120, 240, 360),)}
    assert found.seconds["RIPU"] == {"fit": 15.0, "score": 2.0}  # of rounds 1 and 2
    behind = [row["iterations_behind"] for row in results._csv_rows(found.comparison)]
    assert behind == [300, 300, 300, 120, 240, 360]


def test_unknown_clicks_are_left_out_with_a_note(tmp_path: Path) -> None:
    pairs = [
        (arm("Random"), {s: rounds(m) for s, m in RANDOM.items()}),
        (arm("RIPU"), {0: rounds(BETTER[0]), 1: rounds(BETTER[1], None)}),
    ]
    write_grid(tmp_path, pairs)
    found = stats.analyse(results.collect(tmp_path))
    assert list(found.means["clicks"]) == ["Random"]
    assert list(found.means["pixels"]) == ["Random", "RIPU"]
    notes = html.notes(found)
    assert "Not in the curves over clicks, which are not known: RIPU." in notes
    page = html.render(found, tmp_path / "figures", "auto")
    assert all(note in page for note in notes)


def test_only_finished_runs_are_drawn_and_the_others_named(tmp_path: Path) -> None:
    two(tmp_path)
    write_run(tmp_path, arm("RIPU"), 1, rounds(BETTER[1])[:2], None)
    (tmp_path / "runs/Random/seed0/results.json").unlink()
    note = {"attempts": [{"exit_code": 2}, {"exit_code": 1, "error": "no space"}]}
    state.write_json(state.note_path(tmp_path, "RIPU", 1), note)
    found = stats.analyse(results.collect(tmp_path))
    assert [p.n for p in found.means["pixels"]["RIPU"]] == [1, 1, 1]
    notes = html.notes(found)
    assert "Not included, failed: RIPU seed 1 (no space)." in notes
    assert "No results yet: Random seed 0." in notes
    assert html.state(found.comparison) == "4 of 6 runs have finished."


def test_without_random_there_is_nothing_to_measure_against(tmp_path: Path) -> None:
    write_grid(tmp_path, [(arm("RIPU"), {0: rounds(BETTER[0])})])
    found = stats.analyse(results.collect(tmp_path))
    assert found.efficiency["pixels"] == {}
    assert any("There is no random baseline for RIPU" in note for note in html.notes(found))
    assert "RIPU" in html.render(found, tmp_path / "figures", "auto")


def test_runs_that_start_without_labels(tmp_path: Path) -> None:
    """Source-free: the first point costs nothing, so nothing is logarithmic there."""

    def free(mious: tuple[float, ...]) -> list[Any]:
        costs = (0, 100, 2000)
        return [record(r, c, m, c, c) for r, (c, m) in enumerate(zip(costs, mious, strict=True))]

    arms = [arm(name, None, warm_start=None) for name in ("Random", "RIPU")]
    pairs = [(arms[0], {0: free((0.2, 0.3, 0.4))}), (arms[1], {0: free((0.2, 0.5, 0.6))})]
    write_grid(tmp_path, pairs)
    assert cli.main(["compare", "--only-report", "--out", str(tmp_path), "--levels", "0.25"]) == 0
    data = json.loads((tmp_path / "compare.json").read_text())
    (found,) = data["aggregates"]["efficiency"]["pixels"]["RIPU"]
    assert found["reach"] == {
        "how": "reached",
        "cost": pytest.approx(100 / 6, rel=1e-5),
        "gap": None,
    }
    assert found["ratio"]["sign"] == "~"
    assert found["ratio"]["value"] == pytest.approx(3)


def test_markdown_has_the_numbers_of_the_page(found: stats.Analysis) -> None:
    made = markdown.tables(found)
    lines = made["rounds, Random"].split("\n")
    assert lines[0].startswith("| mIoU % | round 0<br>")
    assert lines[1].startswith("| --- | ---: |")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    random, other = found.means["pixels"]["Random"], found.means["pixels"]["RIPU"]
    for line, points in zip(lines[2:], (random, other), strict=True):
        cells = [cell.strip() for cell in line.split("|")[2:]]
        for cell, point in zip(cells, points, strict=False):
            assert cell.startswith(f"{100 * point.mean:.1f}")
    gain = found.areas["pixels"]["RIPU"].gain
    assert gain is not None
    assert f"{100 * gain.mean:+.1f}" in lines[3]
    assert "+" not in lines[2]


def test_tables_are_filled_into_a_document(found: stats.Analysis) -> None:
    text = "# Mine\n\n<!-- table: arms -->\nold | numbers\n<!-- end -->\nprose | stays\n"
    once = markdown.fill(text, found)
    assert "old" not in once
    assert once.endswith("<!-- end -->\nprose | stays\n")
    assert markdown.tables(found)["arms"] in once
    assert markdown.fill(once, found) == once
    some = markdown.fill("<!-- table: wins, pixels: RIPU Random -->\n<!-- end -->\n", found)
    assert markdown.tables(found)["wins, pixels"] in some
    wrongs = {"wins, pixels: RIPU X": "'X' is not an arm", "arms: RIPU": "not a matrix"}
    for wrong, why in wrongs.items():
        with pytest.raises(DataError, match=why):
            markdown.fill(f"<!-- table: {wrong} -->\n<!-- end -->\n", found)
    with pytest.raises(DataError, match="no table 'arm' in this comparison; there are: arms, "):
        markdown.fill(text.replace("table: arms", "table: arm"), found)


def test_figures_that_are_not_drawn_any_more_are_deleted(
    found: stats.Analysis, tmp_path: Path
) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    stale = [folder / "curve_regions.png", folder / "curve_pixels_Gone.png"]
    mine = folder / "mine.png"
    for path in (*stale, mine):
        path.write_bytes(b"")
    html.render(found, folder, "auto")
    assert not any(path.exists() for path in stale)
    assert mine.exists()
    html.render(replace(found, seconds={}), folder, "auto")
    assert not (folder / "seconds.png").exists()


def test_names_are_shown_as_text(tmp_path: Path) -> None:
    made = arm("Random")
    write_grid(tmp_path, [(replace(made, label="<b>$x$ & _y"), {0: rounds((0.1, 0.2, 0.3))})])
    found = stats.analyse(results.collect(tmp_path))
    page = html.render(found, tmp_path / "figures", "auto")
    assert "&lt;b&gt;$x$ &amp; _y" in page
    assert "<b>$x$" not in page


def test_the_example_of_all_there_is(tmp_path: Path) -> None:
    compare_runs.example(tmp_path)
    assert cli.main(["compare", "--only-report", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "compare.html").read_text()
    for text in ("Measured against Random_window", "full supervision", "no space left", "≥ "):
        assert text in page


def test_only_report_of_a_folder_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", "--only-report", "--out", str(tmp_path)]) == 2
    assert "has no grid.json" in capsys.readouterr().err
    assert cli.main(["compare", "--out", str(tmp_path)]) == 2
    assert "give a CONFIG to train" in capsys.readouterr().err
