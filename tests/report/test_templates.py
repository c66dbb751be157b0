"""The pages' templates: shipped as package data, and loaded from the package."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

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


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parents[1].name}-{path.name}")
def test_a_wheel_contains_every_template(path: Path) -> None:
    """By the rules of setuptools: a pattern of package data holds in the folder of a package, and
    a folder without `__init__` is a package only where namespace packages are searched for."""
    setuptools = pytest.importorskip("setuptools")
    text = (ROOT / "pyproject.toml").read_text()
    section = text.partition("[tool.setuptools.packages.find]")[2].partition("[")[0]
    assert "namespaces" not in section  # the default of pyproject.toml is true
    packages = setuptools.find_namespace_packages(str(SRC))
    assert ".".join(path.parent.relative_to(SRC).parts) in packages
    listed = re.search(r'^"\*" = \[(.*)\]$', text, re.MULTILINE)
    assert listed
    assert any(fnmatch(path.name, pattern) for pattern in re.findall(r'"([^"]+)"', listed[1]))


def test_pages_find_their_templates() -> None:
    pytest.importorskip("jinja2")
    from regional_al.report.html import page_template

    assert page_template("report.html.j2").name == "report.html.j2"
    assert page_template("compare.html.j2", "compare").name == "compare.html.j2"
