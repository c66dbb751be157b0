"""The docs site: its navigation, links and API pages; and it builds without a warning."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
from paths import ROOT

from test_api import COVERED

DOCS = ROOT / "docs"
URL = "https://example.org/some/repository"


@pytest.fixture(name="pages")
def _pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    return importlib.import_module("site_pages")


@pytest.fixture(name="api")
def _api(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    return importlib.import_module("site_api")


def test_the_opening_page_lists_every_page_once(pages: ModuleType) -> None:
    listed = [page for group in pages.navigation((DOCS / "index.md").read_text()).values()
              for _, page in group]  # fmt: skip
    own = {path.name for path in DOCS.glob("*.md")} - {"index.md"}
    assert sorted(listed) == sorted(own | {f"../{name}" for name in pages.PROJECT})


@pytest.mark.parametrize(
    ("page", "link", "url", "expected"),
    [
        ("docs/results.md", "noise.md#summary", "", "noise.md#summary"),
        ("docs/results.md", "#setup", "", "#setup"),
        ("docs/results.md", "https://x.org/a.md", URL, "https://x.org/a.md"),
        ("docs/results.md", "../CONTRIBUTING.md#versions", URL, "project/contributing.md#versions"),
        ("docs/results.md", "../benchmarks/results/noise.json", "", None),
        (
            *("docs/results.md", "../benchmarks/results/noise.json", URL),
            f"{URL}/blob/main/benchmarks/results/noise.json",
        ),
        ("docs/measured.md", "../benchmarks/results", URL, f"{URL}/tree/main/benchmarks/results"),
        ("docs/measured.md", "../benchmarks/results", "", "project/benchmarks.md"),
        ("CONTRIBUTING.md", "docs/architecture.md", "", "../architecture.md"),
        ("benchmarks/README.md", "../docs/models.md", "", "../models.md"),
    ],
)
def test_links_as_the_site_needs_them(
    pages: ModuleType, page: str, link: str, url: str, expected: str | None
) -> None:
    """What is no page is copied by Sphinx where there is no address of a repository."""
    text = f"See [this]({link}).\n\n```text\n[that]({link})\n```\n"
    rewritten = pages.rewrite(text, ROOT / page, ROOT, url)
    assert rewritten == text.replace(link, expected or link, 1)


def test_the_repository_is_named_in_one_place(pages: ModuleType, tmp_path: Path) -> None:
    ci = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b"}
    project = tmp_path / "pyproject.toml"
    project.write_text("")
    assert pages.repository(tmp_path, {}) == ""
    assert pages.repository(tmp_path, ci) == "https://github.com/a/b"
    project.write_text(f'[project.urls]\nRepository = "{URL}/"\n')
    assert pages.repository(tmp_path, ci) == URL


def test_titles_of_fences_become_captions(pages: ModuleType) -> None:
    made = pages.captions('```python title="a.py"\nx = 1\n```\n')
    assert made == "```{code-block} python\n:caption: a.py\n\nx = 1\n```\n"


def test_every_public_module_has_a_page_and_a_row(pages: ModuleType, api: ModuleType) -> None:
    assert set(api.MODULES) == {*COVERED, "types", "errors"}
    rows = pages.MODULE.findall((DOCS / "python_api.md").read_text())
    assert sorted(rows) == sorted(map(api.dotted, api.MODULES))


def test_names_in_docstrings_become_links(api: ModuleType) -> None:
    text = "See `LabelStore`, `x * y` and docs/files.md; a_ * b.\n\n>>> `LabelStore`\n"
    link = ":py:obj:`LabelStore <regional_al.store.LabelStore>`"
    page = ":doc:`docs/files.md </files>`"
    expected = f"See {link}, ``x * y`` and {page}; a\\_ \\* b.\n\n>>> `LabelStore`\n"
    assert api.markup(text) == expected
    assert api.resolve("functional.ripu") == "regional_al.functional.ripu"
    assert api.resolve("no_such_name") == ""


class Page(HTMLParser):
    """Links and anchors of an HTML file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name == "id":
                self.anchors.add(value)
            elif value and name in ("href", "src"):
                self.links.append(value)


def dead_links(folder: Path) -> list[str]:
    """Relative links of the HTML files below `folder` that lead nowhere."""
    found = {path.resolve(): Page(path) for path in folder.rglob("*.html")}
    dead = []
    for path, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target, anchor = unquote(parts.path), unquote(parts.fragment)
            other = (path.parent / target).resolve() if target else path
            known = other in found and (not anchor or anchor in found[other].anchors)
            if not (known or (other.exists() and other not in found)):
                dead.append(f"{path.relative_to(folder.resolve())}: {link}")
    return dead


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="x"><a href="#x"></a><a href="b.html#y"></a></p>')
    (tmp_path / "b.html").write_text('<a href="a.html#x"></a><img src="c.png">')
    assert sorted(dead_links(tmp_path)) == ["a.html: b.html#y", "b.html: c.png"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` does; where Sphinx is missing, `make env-test` installs it."""
    command = re.search(r"^\t\$\(BIN\)/python (-m sphinx .*) docs build/docs$",
                        (ROOT / "Makefile").read_text(), re.MULTILINE)  # fmt: skip
    assert command is not None
    flags = command[1].replace("build/doctrees", str(tmp_path / "doctrees")).split()
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, *flags, "docs", str(site)],
        cwd=ROOT,
        env={name: x for name, x in os.environ.items() if not name.startswith("GITHUB_")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert dead_links(site) == []
    advice = (site / "which_strategy.html").read_text()
    assert "50.1" in advice
    assert "the-whole-chain-on-camvid" in advice  # after a line that begins with %
    opening = Page(site / "index.html")
    for page in DOCS.glob("*.md"):
        assert f"{page.stem}.html" in opening.links or page.stem == "index"
