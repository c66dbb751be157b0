"""The Markdown pages as the site shows them; the files stay as GitHub shows them.

- Links out of docs/ lead to the repository, or to a copy of the file where none is configured.
- The navigation is that of the lists of index.md.
- README-like files of the repository (PROJECT) become pages of their own, below `project/`.
- The page of the Python API leads to those of the modules.
- A fence with a title, ```python title="config.py", gets it as a caption.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "project"
PROJECT = {
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "SECURITY.md": "security",
    "benchmarks/README.md": "benchmarks",
}
"""File of the repository -> name of its page."""

API = "python_api"
"""The page above those of the modules (site_api), with a row for each."""
MODULE = re.compile(r"^\| `(regional_al[\w.]*)` \|", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
TITLED = re.compile(r'^```(\w+) title="([^"]+)"$', re.MULTILINE)
LISTED = re.compile(r"^(?:## (?P<head>.+)|- \[(?P<text>[^\]]+)\]\((?P<page>[\w./-]+)\).*)$")


def repository(root: Path, environment: Mapping[str, str]) -> str:
    """Address of the repository: `Repository` in pyproject.toml, else that of the CI; or ''."""
    found = re.search(r'^Repository = "(.+)"$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    if found:
        return found[1].rstrip("/")
    server, name = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    return f"{server}/{name}" if server and name else ""


def prose(text: str) -> Iterator[tuple[bool, str]]:
    """The text in pieces: (whether it is prose and not a fenced block, piece)."""
    end = 0
    for fence in FENCE.finditer(text):
        yield True, text[end : fence.start()]
        yield False, fence[0]
        end = fence.end()
    yield True, text[end:]


def rewrite(text: str, page: Path, root: Path, url: str = "") -> str:
    """Links of a page as the site needs them.

    Args:
        text: Markdown.
        page: The file that the text is of; relative links start there.
        root: The repository.
        url: Its address, '' for none.

    Returns:
        The text with links to pages relative to where the site has the page, and links to other
        files as addresses or, without `url`, as paths that Sphinx copies.
    """
    here = place(page, root)

    def link(found: re.Match[str]) -> str:
        target, hash_, anchor = found["target"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        file = (page.parent / target).resolve()
        if found["image"]:
            new = os.path.relpath(file, here.parent)
        elif is_page(file, root):
            new = os.path.relpath(place(file, root), here.parent)
        elif url:
            kind = "tree" if file.is_dir() else "blob"
            new = f"{url}/{kind}/main/{file.relative_to(root)}"
        else:
            file = readme(file, root) if file.is_dir() else file
            new = os.path.relpath(place(file, root), here.parent)
        return f"{found['image']}[{found['text']}]({new}{hash_}{anchor})"

    return "".join(LINK.sub(link, piece) if is_prose else piece for is_prose, piece in prose(text))


def is_page(file: Path, root: Path) -> bool:
    return (file.parent == root / "docs" and file.suffix == ".md") or (
        str(file.relative_to(root)) in PROJECT
    )


def place(file: Path, root: Path) -> Path:
    """Where the site has a file: that of a page of PROJECT differs from its own."""
    name = PROJECT.get(str(file.relative_to(root)))
    return root / "docs" / FOLDER / f"{name}.md" if name else file


def readme(folder: Path, root: Path) -> Path:
    """The page that describes a folder: its README or that of a folder above."""
    while not (folder / "README.md").exists():
        folder = folder.parent
    return folder / "README.md"


def captions(text: str) -> str:
    """Titles of fences as captions."""
    return TITLED.sub(r"```{code-block} \1\n:caption: \2\n", text)


def navigation(index: str) -> dict[str, list[tuple[str, str]]]:
    """Heading -> (title without markup, target) of the pages that index.md lists below it."""
    found: dict[str, list[tuple[str, str]]] = {}
    head = ""
    for line in FENCE.sub("", index).splitlines():
        match = LISTED.match(line)
        if match and match["head"]:
            head = match["head"]
        elif match:
            found.setdefault(head, []).append((match["text"].replace("`", ""), match["page"]))
    return found


def toctrees(index: str) -> str:
    """The directives of the navigation, hidden."""
    made = []
    for head, pages in navigation(index).items():
        lines = "\n".join(f"{text} <{page.removesuffix('.md')}>" for text, page in pages)
        made.append(f"```{{toctree}}\n:hidden:\n:caption: {head}\n\n{lines}\n```\n")
    return "\n".join(made)


def write_project_pages(app: Sphinx) -> None:
    """Copies of the files of PROJECT below docs/project/, with rewritten links."""
    docs = Path(app.srcdir)
    for name in PROJECT:
        page = docs.parent / name
        text = rewrite(page.read_text(), page, docs.parent, app.config.repository_url)
        write_if_changed(place(page, docs.parent), text)


def write_if_changed(path: Path, text: str) -> None:
    """Sphinx reads anew what is newer."""
    path.parent.mkdir(exist_ok=True, parents=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    if Path(docname).parts[0] != FOLDER:
        page = Path(app.srcdir) / f"{docname}.md"
        url = app.config.repository_url
        if docname == "index":
            source[0] += "\n" + toctrees(rewrite(source[0], page, page.parents[1], url))
        source[0] = rewrite(source[0], page, page.parents[1], url)
    if docname == API:
        source[0] = MODULE.sub(r"| [`\1`](api/\1.rst) |", source[0])
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\napi/*\n```\n"
    source[0] = captions(source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("repository_url", "", "env")
    app.connect("builder-inited", write_project_pages)
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
