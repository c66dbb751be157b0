"""The examples in the docstrings run: one test per module of the package that has any."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
from pathlib import Path

import pytest
from paths import ROOT

from regional_al.annotators import ANNOTATORS
from regional_al.engines import ENGINES
from regional_al.heuristics import HEURISTICS
from regional_al.partitions import PARTITIONS

SOURCE = ROOT / "src"
# Modules of the mmseg engines import MMSegmentation, which only one of the environments has.
MMSEG = "regional_al.engines.mmseg"


@pytest.fixture(autouse=True)
def registries_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples register classes that count as the package's own (tests/conftest.py)."""
    for registry in (HEURISTICS, PARTITIONS, ANNOTATORS, ENGINES):
        monkeypatch.setattr(registry, "_items", dict(registry._items))


def modules_with_examples(source: Path = SOURCE) -> list[str]:
    """Dotted names of the modules below `source` whose text contains a doctest prompt."""
    found = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if ">>> " in path.read_text() and not name.startswith(MMSEG):
            found.append(name)
    return found


def failures(name: str) -> tuple[int, str]:
    """(number of examples run, report of those that fail) of a module."""
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    return result.attempted, report.getvalue() if result.failed else ""


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_run(name: str) -> None:
    attempted, report = failures(name)
    assert attempted > 0, "the examples of this module are not found by doctest"
    assert not report, report


def test_modules_are_found() -> None:
    found = modules_with_examples()
    assert {"regional_al.data", "regional_al.functional", "regional_al.kernels.maps"} <= set(found)


def test_a_wrong_example_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'def f():\n    """Double.\n\n    >>> f()\n    3\n    """\n    return 2\n'
    (tmp_path / "wrong_example.py").write_text(text)
    assert modules_with_examples(tmp_path) == ["wrong_example"]
    monkeypatch.syspath_prepend(tmp_path)
    attempted, report = failures("wrong_example")
    assert attempted == 1
    assert "Expected:\n    3\nGot:\n    2\n" in report
