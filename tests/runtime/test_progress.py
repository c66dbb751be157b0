"""Progress off a terminal: a few plain lines, none on other ranks."""

from __future__ import annotations

import pytest

from regional_al.runtime import progress as module
from regional_al.runtime.progress import progress


def test_few_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(module, "_INTERVAL", 0.0)
    assert list(progress(list(range(1000)), "Work")) == list(range(1000))
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "Work: 250/1000",
        "Work: 500/1000",
        "Work: 750/1000",
        "Work: 1000/1000",
    ]
    assert err.replace("\n", "").isprintable()


def test_quick_work_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, "Quick") as bar:
        bar.advance()
        bar.advance(2)
    assert capsys.readouterr().err.startswith("Quick: 3/3 (")


def test_unknown_total_and_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter("ab"), "Stream")) == ["a", "b"]
    assert list(progress([], "Empty")) == []
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("Stream: 2 (")
    assert second.startswith("Empty: 0/0 (")


def test_other_ranks_are_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert list(progress(5, "Work")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Bar:
        def update(self, task: str, completed: int) -> None:
            seen.append(completed)

        def stop(self) -> None:
            seen.append(-1)

    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(module, "_rich_bar", lambda description, total: (Bar(), "task"))

    def work() -> None:
        for item in progress([0, 1, 2], "Work"):
            if item == 2:
                raise KeyError

    with pytest.raises(KeyError):
        work()
    assert seen == [1, 2, -1]
