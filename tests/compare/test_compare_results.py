"""The archive of a comparison, merging archives, the CSV and redrawing."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_runs import BETTER, FULL, RANDOM, arm, record, rounds, two, write_grid

from regional_al import cli
from regional_al.compare import html, results, stats
from regional_al.errors import DataError, RegionalALError


@pytest.fixture
def found(tmp_path: Path) -> stats.Analysis:
    two(tmp_path)
    return stats.analyse(results.collect(tmp_path))


def test_the_archive_draws_the_same_page(tmp_path: Path, found: stats.Analysis) -> None:
    path = tmp_path / "a.json"
    results.write(path, found.comparison, stats.to_json(found))
    again = results.read(path)
    assert stats.to_json(stats.analyse(again)) == stats.to_json(found)
    first = html.render(found, tmp_path / "one", "auto")
    assert html.render(stats.analyse(again), tmp_path / "two", "auto") == first
    results.write(tmp_path / "b.json", again, stats.to_json(found))
    assert (tmp_path / "b.json").read_bytes() == path.read_bytes()


def test_an_archive_holds_no_path_of_the_machine(tmp_path: Path, found: stats.Analysis) -> None:
    path = tmp_path / "a.json"
    results.write(path, found.comparison, {})
    text = path.read_text()
    assert str(tmp_path) not in text
    run = json.loads(text)["runs"][-1]
    assert run["acquisition"]["warm_start"] == {"run": "runs/_start/seed1"}
    assert "cache_dir" not in run["acquisition"]
    assert len(text.splitlines()) > 20  # a record a line, for version control


def halves(tmp_path: Path) -> tuple[Path, Path]:
    """The two seeds of `two` in an archive each."""
    files = []
    for seed in (0, 1):
        out = tmp_path / f"seed{seed}"
        write_grid(
            out,
            [
                (arm("Random"), {seed: rounds(RANDOM[seed])}),
                (arm("RIPU"), {seed: rounds(BETTER[seed], 3)}),
                (
                    arm("_full", None, heuristic="Random", level="image", rounds=0),
                    {seed: [record(0, 1000, FULL[seed], 50, 50)]},
                ),
            ],
        )
        there = results.collect(out)
        results.write(out / "c.json", there, {})
        files.append(out / "c.json")
    return files[0], files[1]


def test_archives_merge_into_what_one_grid_would_be(tmp_path: Path, found: stats.Analysis) -> None:
    parts = [(str(path), results.read(path)) for path in halves(tmp_path)]
    merged = stats.analyse(results.merge(parts))
    assert merged.means == found.means
    assert merged.efficiency == found.efficiency
    assert merged.wins == found.wins
    assert results.merge([parts[0], parts[0]]).runs == parts[0][1].runs


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    one, two_ = halves(tmp_path)
    data = json.loads(one.read_text())

    def merged(text: str) -> str:
        (tmp_path / "x.json").write_text(text)
        paths = [one, two_, tmp_path / "x.json"]
        with pytest.raises(RegionalALError) as caught:
            results.merge([(path.name, results.read(path)) for path in paths])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    changed = json.loads(json.dumps(data))
    changed["runs"][1]["records"][1]["mIoU"] = 0.9
    expected = "x.json and c.json have different numbers for Random seed 0 in round 1"
    assert expected in merged(json.dumps(changed))
    changed = json.loads(json.dumps(data))
    changed["arms"]["RIPU"]["acquisition"]["budget"] = 5
    assert "acquisition.budget was null, now it is 5" in merged(json.dumps(changed))
    changed = json.loads(json.dumps(data))
    changed["pool"]["pixels"] = 5
    assert "x.json has another number of pool pixels than c.json (5, 1000000)" in merged(
        json.dumps(changed)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(kind="other"), "is not a compare.json"),
        (lambda d: d.update(format=99), "format is 99"),
        (lambda d: d.pop("arms"), "key 'arms' is missing"),
        (lambda d: d.update(runs=[]), "no run has results yet"),
        (lambda d: d["runs"][0].update(arm="x"), r"runs\[0\]: arm 'x' is not among the arms"),
        (lambda d: d["runs"][0]["records"][0].pop("pixels"), r"runs\[0\]: records\[0\].*'pixels'"),
        (lambda d: d["runs"][0].update(seed="0"), "seed must be an integer"),
        (lambda d: d["arms"].update(Random=3), "arms: Random"),
        (lambda d: d["arms"]["Random"].pop("acquisition"), "'acquisition' is missing"),
    ],
)
def test_damaged_archives_are_named(tmp_path: Path, change: Any, message: str) -> None:
    path, _ = halves(tmp_path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
        results.read(path)


def test_csv_has_a_row_per_round(tmp_path: Path, found: stats.Analysis) -> None:
    results.write_csv(tmp_path / "c.csv", found.comparison)
    with (tmp_path / "c.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * 3 * 2 + 2
    row = next(r for r in table if (r["arm"], r["seed"], r["round"]) == ("RIPU", "1", "2"))
    assert (row["pixels"], row["clicks"], row["regions"]) == ("400", "1200", "400")
    assert float(row["mIoU"]) == 0.46
    assert (row["iterations"], row["iou_road"], row["seconds_fit"]) == ("300", "0.46", "20.0")
    assert "label_mIoU" not in row
    run = found.comparison.runs[0]
    judged = tuple(replace(r, label_miou=0.9, label_accuracy=0.95) for r in run.results.records)
    runs = (replace(run, results=replace(run.results, records=judged)),)
    results.write_csv(tmp_path / "d.csv", replace(found.comparison, runs=runs))
    with (tmp_path / "d.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["label_mIoU"], row["label_accuracy"]) == ("0.9", "0.95")


def test_redrawn_from_archives_by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(path) for path in halves(tmp_path)]
    out = tmp_path / "drawn"
    assert cli.main(["compare", "--from-json", *files, "--out", str(out), "--levels", "0.31"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"RIPU +45.0 ± 1.4 % mIoU, 0.0400 % of pixels, n=2, area \+6.0", printed)
    names = {path.name for path in out.iterdir()}
    assert names == {"compare.html", "compare.json", "compare.csv", "compare.md", "figures"}
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {"curve_pixels.png", "curve_clicks.png", "seconds.png", "gains.png"}
    page = (out / "compare.html").read_text()
    assert "1.36x" in page  # 2 ** (4 / 9)
    assert "<script" not in page
    assert not re.search(r'(src|href)="http', page)
    assert "Curves over annotation visits are the same as those over pixels." in page
    assert cli.main(["compare", "--from-json", str(out / "none.json"), "--out", str(out)]) == 2
    assert capsys.readouterr().err.endswith("written by `regional-al compare`\n")
