"""The pages' templates, loaded from the package (tests/cli/test_wheel.py: they are in a wheel)."""

from __future__ import annotations

import pytest
from paths import ROOT

SRC = ROOT / "src"
TEMPLATES = sorted(
    path for path in SRC.rglob("templates/*") if path.is_file() and path.suffix != ".pyc"
)


def test_there_are_templates_of_both_pages() -> None:
    names = {f"{path.parents[1].name}/{path.name}" for path in TEMPLATES}
    assert {"report/report.html.j2", "report/style.css", "report/base.html.j2"} <= names
    assert {"compare/compare.html.j2", "compare/compare.css"} <= names


def test_pages_find_their_templates() -> None:
    pytest.importorskip("jinja2")
    from regional_al.report.html import page_template

    assert page_template("report.html.j2").name == "report.html.j2"
    assert page_template("compare.html.j2", "compare").name == "compare.html.j2"
