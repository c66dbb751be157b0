"""What the documents say is what the code does: examples parse, tables are complete, links lead."""

from __future__ import annotations

import ast
import importlib
import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from regional_al.compare import markdown, results, stats
from regional_al.config import grammar as config
from regional_al.config.unlabeled import Unlabeled
from regional_al.heuristics import HEURISTICS, catalogue
from regional_al.partitions import PARTITIONS

PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
ACQUISITION = (ROOT / "docs" / "acquisition.md").read_text()


def examples() -> list[dict[str, Any]]:
    """The dicts of `acquisition = dict(...)` in docs/acquisition.md."""
    found = []
    for block in re.findall(r"```python\n(.*?)```", ACQUISITION, re.DOTALL):
        scope: dict[str, Any] = {}
        exec(block, {"dict": dict}, scope)
        found.append(scope["acquisition"])
    return found


def first_column(text: str, head: str) -> list[str]:
    """The names in backquotes that open the rows of the table whose head starts with `head`."""
    start = re.search(rf"^\| {re.escape(head)} \|.*\n\|---", text, re.MULTILINE)
    assert start is not None
    lines = text[start.start() :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(line.split("|")[1].strip().strip("`"))
    return rows


def test_two_keys_stand_for_what_the_page_writes_out() -> None:
    two, all_, *_ = examples()
    assert set(two) == {"level", "heuristic"}
    assert set(all_) == set(config.KEYS)
    short, written = config.parse(two).resolved, config.parse(all_).resolved
    short["annotator"].setdefault("answer", "full")
    assert json.dumps(short, sort_keys=True) == json.dumps(written, sort_keys=True)


def test_the_table_of_keys_is_complete() -> None:
    assert first_column(ACQUISITION, "key") == list(config.KEYS)


def test_the_table_of_unlabelled_pixels_is_complete() -> None:
    """With the defaults of the code."""
    text = (ROOT / "docs" / "unlabeled.md").read_text()
    names = [field.name for field in fields(Unlabeled)]
    assert first_column(text, "key") == names
    lines = {
        name: next(x for x in text.splitlines() if x.startswith(f"| `{name}`")) for name in names
    }
    for name, value in asdict(Unlabeled()).items():
        if name != "color":
            default = lines[name].rsplit("|", 2)[1].strip().strip("`")
            assert default == str(value) or default == repr(value), name
    written = ", ".join(f"{key}={value}" for key, value in asdict(Unlabeled())["color"].items())
    assert f"dict({written})" in lines["color"]


def test_the_table_of_regions_is_complete() -> None:
    listed = first_column(ACQUISITION, "`region`")
    assert {*listed, "whole"} == {*PARTITIONS, "window"}  # whole: what level='image' is made of


def test_every_heuristic_is_on_its_page_and_counted_in_the_readme() -> None:
    assert f"[{len(list(HEURISTICS))} heuristics]" in (ROOT / "README.md").read_text()
    listed = ACQUISITION.split("## Heuristics")[1].split("## Budgets")[0]
    assert set(HEURISTICS) <= set(re.findall(r"`(\w+)`", listed))
    assert catalogue.page() == (ROOT / "docs" / "heuristics.md").read_text(), (
        "python -m regional_al.heuristics.catalogue docs/heuristics.md"
    )


def test_default_budgets_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| `(dict\(amount.*\))` \|$", ACQUISITION, re.MULTILINE)
    assert [level for level, _ in rows] == ["image", "region", "pixel"]
    for level, text in rows:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        given = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        heuristic = {"level": level, "heuristic": "Random"}
        expected = config.parse({**heuristic, "budget": given}).budget
        assert config.parse(heuristic).budget == expected


@pytest.mark.parametrize(
    ("name", "document", "least"),
    [("camvid_grid", "results", 6), ("noise", "noise", 3), ("training", "training_results", 2)],
)
def test_the_tables_of_results_are_those_of_the_file(name: str, document: str, least: int) -> None:
    """benchmarks/results_page.py writes them."""
    found = stats.analyse(results.read(ROOT / "benchmarks" / "results" / f"{name}.json"))
    page = (ROOT / "docs" / f"{document}.md").read_text()
    assert len(re.findall("<!-- table: ", page)) == page.count("<!-- end -->") >= least
    assert markdown.fill(page, found) == page
    if name == "camvid_grid":
        measured = (ROOT / "README.md").read_text().partition("## Measured")[2]
        quoted = re.findall(r"\d+\.\d ± \d+\.\d", measured)
        assert quoted
        assert [number for number in quoted if number not in markdown.tables(found)["arms"]] == []


def test_the_advice_quotes_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables; and its text has no figure that the pages of evidence do not have."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    page = importlib.import_module("results_page")
    text = page.ADVICE.read_text()
    assert len(re.findall("<!-- brief: ", text)) == text.count("<!-- end -->") >= 5
    assert page.advice(text) == text
    names = ("results", "noise", "measured")
    evidence = "".join((ROOT / f"docs/{name}.md").read_text() for name in names)
    written = re.sub("<!-- brief.*?<!-- end -->", "", text, flags=re.DOTALL)
    figures = re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?(?= | %|,)|\d+,\d{3}", written)
    assert len(figures) > 10
    assert [figure for figure in figures if figure not in evidence] == []


def test_the_first_run_quotes_its_file() -> None:
    page = (ROOT / "docs/first_run.md").read_text()
    runs = json.loads((ROOT / "benchmarks/results/first_run.json").read_text())["runs"]
    printed = re.findall(
        r"^ +(\d) +(\d+) +(\d+) +([\d,]+) +([\d,]+) +([\d.]+)% +([\d.]+)$", page, re.M
    )
    assert printed == [
        (
            *(f"{r[name]:,}" for name in ("round", "images", "regions", "pixels", "clicks")),
            f"{100 * r['labelled_fraction']:.2f}",
            f"{100 * r['mIoU']:.2f}",
        )
        for r in runs["first"]["records"][:4]
    ]
    end = runs["random"]["records"][-1]
    assert f"{100 * end['mIoU']:.1f} % mIoU with {end['clicks']} clicks" in page


def test_the_first_comparison_quotes_its_file() -> None:
    page = (ROOT / "docs/compare.md").read_text()
    found = stats.analyse(results.read(ROOT / "benchmarks/results/streets.json"))
    arms = markdown.tables(found)["arms"]
    told = page.partition("## What it writes")[0]
    quoted = re.findall(r"\d+\.\d ± \d+\.\d", told)
    assert len(quoted) == 4
    assert [number for number in quoted if number not in arms] == []


def test_the_opening_page_quotes_the_file() -> None:
    arms = (ROOT / "docs/results.md").read_text().partition("<!-- end -->")[0]
    figures = re.findall(r"\d+\.\d ± \d+\.\d", (ROOT / "docs/index.md").read_text())
    assert figures
    assert [figure for figure in figures if figure not in arms] == []


def test_the_table_of_reliability_is_that_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python benchmarks/trust --page` writes it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "trust"))
    page = importlib.import_module("page")
    text = page.PAGE.read_text()
    if not page.RESULT.exists():  # before the first run as a whole
        assert page.filled(text, page.NOT_YET) == text
        return
    assert page.filled(text, page.table(json.loads(page.RESULT.read_text()))) == text


def test_the_table_of_models_is_that_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python benchmarks/sweep.py --page` writes it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sweep = importlib.import_module("sweep")
    found = json.loads((sweep.RESULTS / f"{sweep.NAME}.json").read_text())
    assert sweep.PAGE.read_text() == sweep.page(found)
    assert {row["family"] for row in found["rows"]} <= set(found["families"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}
            assert anchor in slugs, target


def test_the_architecture_page_names_what_exists() -> None:
    """Each package and file of the page is there, and each package is on the page."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "src" / "regional_al"
    named = set(re.findall(r"`([a-z_0-9/]+(?:\.py|/))`", page))
    named |= set(re.findall(r"^\s*([a-z_]+(?:/[a-z_]*(?:\.py)?|\.py))\s", page, re.MULTILINE))
    named -= {"labels/", "cache/", "tests/test_layers.py"}  # of a work dir, of the repository
    missing = sorted(name for name in named if not (package / name).exists())
    assert missing == []
    packages = {path.name + "/" for path in package.iterdir() if (path / "__init__.py").exists()}
    assert packages <= named
