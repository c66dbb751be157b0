"""The page of heuristics: what a docstring must say, how it is read, what is made of it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from regional_al.acquisition.target import check_supported
from regional_al.config import grammar as config
from regional_al.heuristics import HEURISTICS, Heuristic, PixelHeuristic, catalogue
from regional_al.types import PredictRequest

DOCSTRING = """Selects odd things.

    A note that runs
    over two lines.

    Another.

    Args:
        radius: How
            far.
        name: Of it.

    Source:
        Somebody,
        somewhere.
    Score:
        s = 1,
        always.
    Cost:
        None.
    Deviations:
        All.
    Config:
        dict(level='pixel',
            heuristic='Odd')
    Example:
        >>> 1 + 1
        2
    """


def test_a_docstring_is_read_into_its_parts() -> None:
    entry = catalogue.parse(DOCSTRING)
    assert entry.summary == "Selects odd things."
    assert entry.sections == {
        "Source": "Somebody, somewhere.",
        "Score": "s = 1, always.",
        "Cost": "None.",
        "Deviations": "All.",
    }
    assert entry.config == "dict(level='pixel',\n    heuristic='Odd')"
    assert entry.example == ">>> 1 + 1\n2"
    assert entry.args == {"radius": "How far.", "name": "Of it."}
    assert entry.notes == ["A note that runs over two lines.", "Another."]


def test_a_missing_or_doubled_line_is_named() -> None:
    with pytest.raises(ValueError, match="section Cost: is missing"):
        catalogue.parse(DOCSTRING.replace("    Cost:\n        None.\n", ""))
    with pytest.raises(ValueError, match="section Cots: is unknown"):
        catalogue.parse(DOCSTRING.replace("Cost:", "Cots:"))
    with pytest.raises(ValueError, match="Score: is there twice"):
        catalogue.parse(DOCSTRING.replace("Cost:", "Score:"))


@pytest.mark.parametrize("name", list(HEURISTICS))
def test_every_heuristic_says_all_of_it_and_its_example_works(name: str) -> None:
    docstring = HEURISTICS.get(name).__doc__
    assert docstring is not None, name
    entry = catalogue.parse(docstring)
    assert entry.summary.endswith(".")
    assert len(entry.summary) < 100
    assert all(text.endswith(".") for text in [*entry.sections.values(), *entry.notes])
    parsed = config.parse(catalogue.example_of(name))
    assert parsed.heuristic["type"] == name
    check_supported(parsed, HEURISTICS.build(parsed.heuristic))
    assert entry.example is not None
    assert ">>>" in entry.example
    assert list(entry.args) == list(inspect.signature(HEURISTICS.get(name)).parameters)
    assert all(text.endswith(".") for text in entry.args.values())


def test_a_section_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(PixelHeuristic):
        __doc__ = DOCSTRING
        levels = ("pixel",)
        needs = PredictRequest(passes=3, features=True)

        def __init__(self, radius: int = 2, name: str = "x") -> None: ...

    monkeypatch.setattr(HEURISTICS, "_items", {"Odd": Odd})
    page = catalogue.page()
    row = "| [`Odd`](#odd) | Selects odd things |  |  |  | ✓ |  | 3 dropout passes, features |"
    assert row in page.splitlines()
    assert page.endswith(
        "## Odd\n\nSelects odd things.\n\n"
        "A note that runs over two lines.\n\nAnother.\n\n"
        "- **Supports:** pixels\n"
        "- **Needs:** 3 dropout passes, features\n"
        "- **Source:** Somebody, somewhere.\n"
        "- **Score:** s = 1, always.\n"
        "- **Cost:** None.\n"
        "- **Deviations:** All.\n"
        "- **Arguments:**\n"
        "  - `radius=2`: How far.\n"
        "  - `name='x'`: Of it.\n\n"
        "```python\nacquisition = dict(level='pixel',\n    heuristic='Odd')\n```\n\n"
        "```pycon\n>>> 1 + 1\n2\n```\n"
    )


def test_the_command_writes_the_page_or_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert catalogue.main([str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == catalogue.page()
    monkeypatch.setattr(HEURISTICS, "_items", {"Bare": type("Bare", (Heuristic,), {})})
    assert catalogue.main([str(tmp_path / "page.md")]) == 2
    assert "error: heuristic 'Bare'" in capsys.readouterr().err
    assert (tmp_path / "page.md").read_text() != ""
