"""A user's mistakes, each of which is one clear line: the table in `helpers/mistakes`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from mistakes import CASES, Case, check
from mistakes.entries import STARTS
from mistakes.table import ERROR, run_case, template, tree

NAMES = [case.name for case in CASES]


def parameter(case: Case) -> object:
    marks = [getattr(pytest.mark, name) for name in case.marks]
    return pytest.param(case, id=case.name, marks=marks)


@pytest.fixture(scope="module", autouse=True)
def starts() -> None:
    """Make what the cases start from, and import what they need, before the first of them."""
    for name in STARTS:
        template(name)


@pytest.mark.parametrize("case", [parameter(case) for case in CASES])
def test_one_clear_line(case: Case, tmp_path: Path) -> None:
    assert check(case, tmp_path) is None


def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []
    assert len(CASES) >= 250
    entries = Counter(case.entry for case in CASES)
    assert set(entries) == {
        *("toy", "only", "resume", "resume waiting", "command", "train", "dist_train"),
    }


SOUND = Case("sound", "toy", {}, "level")


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        (SOUND, "0 lines of errors, exit code 0"),
        (Case("other line", "toy", {"level": 3}, "heuristic"), "does not match 'heuristic'"),
        (Case("other code", "toy", {"level": 3}, "level", code=1), "exit code 2, not 1"),
        (
            Case("crash", "toy", {"annotator": {"type": "mistakes crash"}}, "crash"),
            "a traceback",
        ),
        (
            Case("two lines", "toy", {"annotator": {"type": "mistakes lines"}}, "line"),
            "2 lines of errors",
        ),
        (
            Case("more", "toy", {"annotator": {"type": "mistakes more"}}, "line"),
            "more lines follow",
        ),
        (
            Case("long", "toy", {"annotator": {"type": "mistakes long"}}, "x"),
            "characters: ",
        ),
        (
            Case("changes", "resume", {"annotator": {"type": "mistakes write"}}, "written", "run"),
            r"changed ['/run/labels/train_0002.png'], removed ['/run/results.json']",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_check_says_what_is_wrong(
    case: Case, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regional_al.annotators import ANNOTATORS
    from regional_al.errors import ConfigError

    def crash(pool: object, label_space: object) -> None:
        raise KeyError("a bug")

    def lines(pool: object, label_space: object) -> None:
        raise ConfigError("line\nerror: line")

    def more(pool: object, label_space: object) -> None:
        raise ConfigError("line\nanother")

    def long(pool: object, label_space: object) -> None:
        raise ConfigError("x" * 600)

    def write(pool: object, label_space: object) -> None:
        Path("run/labels/train_0002.png").write_text("")
        Path("run/results.json").unlink()
        raise ConfigError("written")

    for made in (crash, lines, more, long, write):
        monkeypatch.setitem(ANNOTATORS._items, f"mistakes {made.__name__}", made)  # type: ignore[arg-type]
    assert wrong in str(check(case, tmp_path))


def test_a_case_leaves_what_others_start_from_alone(tmp_path: Path) -> None:
    before = tree(template("run"))
    case = next(case for case in CASES if case.name == "resume with all labels missing")
    code, _, stderr = run_case(case, tmp_path)
    assert code == 2
    assert ERROR.search(stderr)
    assert tree(template("run")) == before
