"""report.html and `status`: self-contained, escaped, right, and of use at every point of a run."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_run import CLASSES, SHAPE, make_run

from regional_al.cli import main
from regional_al.errors import DataError, EnvironmentProblem, WorkDirError
from regional_al.report import data as report_data
from regional_al.report import html, overlays, status
from regional_al.report.status import read_position
from regional_al.store import results as records
from regional_al.store.ledger import Ledger
from regional_al.store.work_dir import WorkDir

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three rounds with its report."""
    work_dir = tmp_path_factory.mktemp("report") / "run"
    make_run(work_dir, rounds=3, images=4)
    html.write_report(work_dir)
    return work_dir


class Page(HTMLParser):
    """Attributes, text and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page(work_dir: Path) -> Page:
    return Page((work_dir / "report.html").read_text())


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_the_page_is_one_file_without_network_or_script(run: Path) -> None:
    found = page(run)
    assert found.links
    assert all(link.startswith("data:") for link in found.links)
    text = (run / "report.html").read_text()
    assert "url(" not in text
    assert "@import" not in text
    assert not {"script", "iframe", "link-stylesheet", "object", "embed"} & set(found.tags)
    assert not re.search(r"https?://", re.sub(r"data:[^\"]+", "", text))


def test_the_style_sheet_is_not_escaped(run: Path) -> None:
    style = re.search(r"<style>(.*?)</style>", (run / "report.html").read_text(), re.S)
    assert style
    assert "&#" not in style[1]


def test_it_tells_the_final_numbers(run: Path) -> None:
    results = records.load(run)
    text = squeezed(page(run).text)
    last = results.records[-1]
    assert last.miou is not None
    assert "acquisition = dict(level='region', heuristic='RIPU')" in text
    assert f"{100 * last.miou:.2f} %" in text
    assert f"{last.costs.pixels:,}" in text
    assert "Finished: all 3 rounds are done." in text
    assert "pool of 4 images, 43,200 pixels" in text
    for name in CLASSES:
        assert name in text


def test_the_class_table_has_the_ious_and_their_change(run: Path) -> None:
    results = records.load(run)
    table = html.iou_table(results, report_data.class_counts(WorkDir(run), results))
    first, last = (r.per_class_iou for r in (results.records[0], results.records[-1]))
    row = table["rows"][0]
    assert row["name"] == "road"
    assert [c["text"] for c in row["cells"]][::2] == [
        f"{100 * first[0]:.1f}",
        f"{100 * last[0]:.1f}",
    ]
    assert row["change"] == f"{100 * (last[0] - first[0]):+.1f}"
    assert table["rows"][5]["cells"][0]["text"] == "-"  # null in round 0
    shares = [float(r["share"].rstrip(" %")) for r in table["rows"]]
    assert sum(shares) <= 100.1


def test_class_counts_are_those_of_the_answers(run: Path) -> None:
    results = records.load(run)
    counts = report_data.class_counts(WorkDir(run), results)
    assert counts.shape == (3, len(CLASSES) + 1)
    assert counts.sum(axis=1).tolist() == [r.asked.pixels for r in results.records]
    expected = np.zeros(len(CLASSES) + 1, dtype=int)
    for path in (run / "labels" / "_annotated").rglob("*.png"):
        when = np.asarray(Image.open(path))
        label = np.asarray(Image.open(run / "labels" / path.relative_to(run / "labels/_annotated")))
        for c in range(len(CLASSES)):
            expected[c] += ((label == c) & (when == 2)).sum()
        expected[-1] += ((label == 255) & (when == 2)).sum()
    assert counts[1].tolist() == expected.tolist()


@pytest.mark.parametrize(
    "name", ["curve_labelled", "curve_clicks", "seconds", "bought", "class_iou"]
)
def test_figures_are_there_and_not_blank(run: Path, name: str) -> None:
    pixels = np.asarray(Image.open(run / "figures" / f"{name}.png").convert("RGB"))
    assert min(pixels.shape[:2]) > 300
    assert 0.005 < (pixels < 250).any(axis=-1).mean() < 0.9
    assert pixels.std() > 10


def test_overlays_of_each_round_are_written(run: Path) -> None:
    files = sorted(p.name for p in (run / "figures" / "overlays").iterdir())
    assert files == [f"round_{r:03d}_town__{i:04d}.png" for r in range(3) for i in range(3)]
    results = records.load(run)
    groups, left_out = overlays.groups(WorkDir(run), results, run / "figures" / "overlays")
    assert left_out == ""
    assert [len(group["rows"]) for group in groups] == [3, 3, 3]
    record = results.records[1]
    assert groups[1]["head"] == (
        f"Round 1: {record.asked.regions} regions ({record.asked.pixels:,} pixels) in 3 images, "
        f"{record.asked.clicks} clicks"
    )
    captions = [panel.caption for panel in groups[1]["rows"][0]]
    assert captions[0] == "town/0000"
    assert captions[1].startswith("score (RIPU): 0.")
    assert captions[2].startswith("query: 8 regions, ")
    assert groups[0]["rows"][0][1].caption == "score: random"


def test_labels_are_shown_as_they_were_after_the_round(run: Path) -> None:
    results = records.load(run)
    pair = report_data.read_labels(WorkDir(run), "town/0000")
    assert pair is not None
    for r in range(3):
        shown = overlays.labelled_classes(pair, results, r, SHAPE)
        assert np.array_equal(shown > 0, (pair[1] > 0) & (pair[1] <= r + 1))
    assert set(np.unique(shown).tolist()) <= set(range(len(CLASSES) + 2))


def test_the_same_files_give_the_same_page(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    html.write_report(run)
    assert (run / "report.html").read_bytes() == before


def test_everything_is_escaped(tmp_path: Path, run: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    evil = "<script>alert('1')</script>$x_{"
    path = tmp_path / "run" / "results.json"
    data = json.loads(path.read_text())
    data["title"] = data["stopped"] = data["classes"][0] = data["engine"] = evil
    data["classes"][1] = "_hidden $y$"
    data["acquisition"]["heuristic"] = {"type": evil, "a b": evil}
    path.write_text(json.dumps(data))
    html.write_report(tmp_path / "run")
    found = page(tmp_path / "run")
    assert "script" not in found.tags
    assert evil in found.text
    assert all(link.startswith("data:") for link in found.links)


def test_changes_of_the_config_are_listed(tmp_path: Path, run: Path) -> None:
    assert "Changes of the config" not in page(run).text
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    data = json.loads(path.read_text())
    change = {"round": 2, "stage": "fit", "name": "variables.crop", "old": [1, 2], "new": "<b>"}
    data["changes"] = [{**change, "time": "2026-01-01T00:00:00+00:00"}]
    path.write_text(json.dumps(data))
    html.write_report(tmp_path / "run")
    text = squeezed(page(tmp_path / "run").text)
    assert 'round 2, fit crop [1, 2] "<b>"' in text


def test_the_quality_of_labels_has_columns_where_it_is_known(tmp_path: Path, run: Path) -> None:
    assert "label mIoU" not in page(run).text
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    data = json.loads(path.read_text())
    data["records"][1] |= {"label_mIoU": 0.87654, "label_accuracy": 0.91}
    data["acquisition"]["warm_start"] = {"prelabels": "masks", "machine_weight": 1.0}
    path.write_text(json.dumps(data))
    html.write_report(tmp_path / "run")
    text = squeezed(page(tmp_path / "run").text)
    assert "label mIoU label accuracy" in text
    assert "87.65 91.00" in text


def test_pseudo_labels_have_a_column_where_there_are_some(tmp_path: Path, run: Path) -> None:
    """Heads and cells are as many, beside the label quality's."""
    assert "pseudo labels" not in page(run).text
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    data = json.loads(path.read_text())
    data["records"][1] |= {"pseudo_pixels": 12345, "label_mIoU": 0.87654, "label_accuracy": 0.91}
    path.write_text(json.dumps(data))
    html.write_report(tmp_path / "run")
    text = squeezed(page(tmp_path / "run").text)
    assert "label mIoU label accuracy pseudo labels" in text
    assert "87.65 91.00 12,345" in text
    table = (tmp_path / "run" / "report.html").read_text().split('<tr class="second">')[1]
    head, body = table.split("</thead>")[:2]
    assert head.count("<th") == 1 + body.split("</tr>")[0].count("<td")


def test_edited_labels_are_listed(tmp_path: Path, run: Path) -> None:
    assert "Labels edited by hand" not in page(run).text
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    data = json.loads(path.read_text())
    where = {"round": 1, "stage": "fit", "time": "2026-01-01T00:00:00+00:00"}
    old, new = ({"digest": d, "pixels": p} for d, p in (("a", {"0": 1200}), ("b", {"0": 7})))
    data["changes"] = [
        {**where, "name": f"label of town/{i}", "old": old, "new": new} for i in range(51)
    ]
    strange = [None, 7, {"pixels": {"x": 1, "0": "many", "999": 1}}]
    data["changes"] += [{**where, "name": "label of <b>", "old": v, "new": v} for v in strange]
    path.write_text(json.dumps(data))
    html.write_report(tmp_path / "run")
    text = squeezed(page(tmp_path / "run").text)
    assert "Changes of the config" not in text
    assert f"round 1, fit town/0 {CLASSES[0]} 1,200 → 7 round 1, fit town/1" in text
    assert "And 4 more, see changes in results.json." in text
    data["changes"] = data["changes"][50:]
    path.write_text(json.dumps(data))
    html.write_report(tmp_path / "run")
    assert "<b> as many pixels of each class" in squeezed(page(tmp_path / "run").text)


def test_nothing_but_a_started_run(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=0)
    path = tmp_path / "results.json"
    data = json.loads(path.read_text())
    data["stopped"] = None
    path.write_text(json.dumps(data))
    html.write_report(tmp_path)
    text = squeezed(page(tmp_path).text)
    assert "Not finished. Next: query of round 0." in text
    assert "No round is complete yet." in text
    assert "No round has been evaluated yet." in text
    assert "This run has no previews." in text


def test_a_run_that_waits_without_evaluation_and_clicks(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=2, images=3, waiting=True, evaluated=False, clicks=False)
    html.write_report(tmp_path)
    text = squeezed(page(tmp_path).text)
    folder = tmp_path / "rounds" / "002" / "answers"
    waiting = "Waiting for answers: 3 of 3 images of round 2 are not completely annotated."
    assert f"{waiting} Put them in {folder}." in text
    assert "not known in all rounds" in text
    assert "No round has been evaluated yet." in text
    assert "(not complete)" in text
    assert not (tmp_path / "figures" / "curve_labelled.png").exists()
    assert (tmp_path / "figures" / "seconds.png").exists()
    assert "nan" not in text.lower().split()


def test_figures_that_are_no_longer_true_go(tmp_path: Path, run: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    data = json.loads(path.read_text())
    for record in data["records"]:
        record["clicks"] = None
    path.write_text(json.dumps(data))
    html.write_report(tmp_path / "run")
    assert not (tmp_path / "run" / "figures" / "curve_clicks.png").exists()
    assert (tmp_path / "run" / "figures" / "curve_regions.png").exists()
    assert not (run / "figures" / "curve_regions.png").exists()
    assert (tmp_path / "run" / "figures" / "curve_labelled.png").exists()


def test_missing_images_and_damaged_previews_cost_a_row_not_the_report(
    tmp_path: Path, run: Path
) -> None:
    work_dir = tmp_path / "run"
    shutil.copytree(run, work_dir)
    entries = json.loads((work_dir / "rounds/000/preview/index.json").read_text())
    entries[0]["image"] = "gone.png"
    entries[1]["score"] = None
    (work_dir / "rounds/000/preview/index.json").write_text(json.dumps(entries))
    (work_dir / "rounds/001/preview/town/0000.npy").write_bytes(b"no array")
    (work_dir / "rounds/002/preview/index.json").write_text("{")
    html.write_report(work_dir)
    text = squeezed(page(work_dir).text)
    assert "town/0000 (image file not found)" in text
    assert "2 could not be shown" in text
    groups, _ = overlays.groups(WorkDir(work_dir), records.load(work_dir), tmp_path / "o")
    assert [len(group["rows"]) for group in groups] == [3, 2]


@pytest.mark.parametrize("level", ["pixel", "image"])
def test_other_levels(tmp_path: Path, level: str) -> None:
    make_run(tmp_path, level=level, rounds=2, images=2, per_round=5)
    html.write_report(tmp_path)
    text = squeezed(page(tmp_path).text)
    if level == "pixel":
        assert "Round 1: 10 pixels in 2 images" in text
        assert "query: 5 pixels" in text
    else:
        assert "Round 1: 1 image (10,800 pixels), 2 clicks" in text
        assert "query: the whole image" in text


def test_rounds_are_thinned_evenly() -> None:
    assert overlays.thinned([0, 1, 2], 5) == [0, 1, 2]
    kept = overlays.thinned(list(range(100)), 24)
    assert len(kept) == 24
    assert (kept[0], kept[-1]) == (0, 99)
    assert set(np.diff(kept).tolist()) <= {4, 5}


def test_missing_packages_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(EnvironmentProblem, match="pip install"):
        html.write_report(run)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EnvironmentProblem, match="pip install"):
        html.write_report(run)


def test_config_in_words() -> None:
    assert status.two_keys({"level": "region", "heuristic": {"type": "RIPU", "radius": 2}}) == (
        "acquisition = dict(level='region', heuristic=dict(type='RIPU', radius=2))"
    )
    assert status.plain({"a": [1, None], "b c": 2}) == "{'a': [1, None], 'b c': 2}"
    assert status.summary({"level": "pixel"}) == ""
    budget = {"amount": "1%", "unit": "pixel", "scope": "pool"}
    assert status.summary({"budget": budget}) == "budget per round: 1% of the pool's pixels"
    budget = {"amount": "1%", "unit": "pixel", "scope": "image"}
    assert status.summary({"budget": budget}) == "budget per round: 1% of each image's pixels"
    budget = {"amount": 40, "unit": "region", "scope": "image"}
    assert status.summary({"budget": budget}) == "budget per round: 40 regions per image"


def test_report_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert error.count("\n") == 1


def test_status_of_a_finished_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from regional_al.cli import status as command

    assert command.run(run, width=120) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "synthetic_region_ripu: acquisition = dict(level='region', heuristic='RIPU')"
    assert [line.split()[0] for line in lines[4:7]] == ["0", "1", "2"]
    facts = dict(line.split(maxsplit=1) for line in lines[8:])
    last = records.load(run).records[-1]
    assert facts["state"] == "Finished: all 3 rounds are done."
    assert facts["spent"] == (
        f"{last.costs.images} images, {last.costs.regions} regions, {last.costs.pixels:,} pixels, "
        f"{last.costs.clicks} clicks ({100 * last.labelled_fraction:.1f}%)"
    )
    assert facts["time"].startswith("3m51s: prepare 6.10 s, score 25.2 s, ")
    assert "resume" not in facts
    assert command.run(run, width=80) == 0
    wide = [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]
    assert all("/" in line for line in wide)  # a path is never broken


def test_status_of_a_waiting_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, rounds=1, images=3, waiting=True, clicks=False)
    assert main(["status", str(tmp_path)]) == 0
    out = squeezed(capsys.readouterr().out)
    assert "3 of 3 images of round 1 are not completely annotated" in out
    assert str(tmp_path / "rounds" / "001" / "answers") in out
    assert "--resume" in out
    assert "unknown clicks" in out
    assert read_position(WorkDir(tmp_path), records.load(tmp_path)).waiting


def test_a_round_whose_answers_are_all_there_does_not_wait(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=1, images=2, waiting=True)
    with Ledger.open(tmp_path) as ledger:
        ledger.record_answer(1, "town/0000", 5, None, True, 1)
        assert read_position(WorkDir(tmp_path), None).outstanding == 1
        ledger.record_answer(1, "town/0001", 7, None, True, 1)
    position = read_position(WorkDir(tmp_path), None)
    assert not position.waiting
    assert position.sentence() == (False, "Not finished. Next: answers of round 1.")
    assert position.spent is not None
    assert position.spent.clicks is None


def test_status_before_the_first_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, rounds=0, waiting=True)
    (tmp_path / "results.json").unlink()  # killed before it was written
    assert main(["status", str(tmp_path)]) == 0
    assert "of round 0 are not completely annotated" in squeezed(capsys.readouterr().out)


def test_status_errors(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from regional_al.cli import status as command

    with pytest.raises(WorkDirError, match="does not contain a run"):
        command.run(tmp_path)
    with pytest.raises(WorkDirError, match="does not exist"):
        command.run(tmp_path / "none")
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text("{}")
    with pytest.raises(DataError, match="format"):
        command.run(tmp_path / "run")
    assert main(["status", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
