"""The table of rounds in a terminal: numbers by hand, alignment for any record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional_al.report import table
from regional_al.store.results import Record
from regional_al.types import Costs

RECORD = Record(
    round=3,
    costs=Costs(367, 1840, 3170880, 12345),
    asked=Costs(),
    labelled_fraction=0.022,
    miou=0.41234,
    seconds={
        "prepare": 6.1,
        "score": 12.34,
        "select": 0.04,
        "annotate": 0.9,
        "fit": 245.0,
        "evaluate": 7500.0,
    },
)


def cells(line: str) -> list[str]:
    return line.split()


def test_a_line_by_hand() -> None:
    assert cells(table.round_line(RECORD)) == [
        "3",
        "367",
        "1,840",
        "3,170,880",
        "12,345",
        "2.20%",
        "41.23",
        "6.10",
        "12.3",
        "0.04",
        "0.90",
        "4m05s",
        "2h05m",
        "2h09m",
    ]
    assert cells(table.round_line(RECORD, width=80)) == [
        "3",
        "367",
        "1,840",
        "3.17M",
        "12,345",
        "2.20%",
        "41.23",
        "12.3",
        "4m05s",
        "2h09m",
    ]


def test_what_is_not_known_is_a_dash() -> None:
    record = Record(round=0, costs=Costs(1, 1, 1, None), asked=Costs(), labelled_fraction=0.0)
    found = cells(table.round_line(record))
    assert found[:7] == ["0", "1", "1", "1", "-", "0%", "-"]
    assert set(found[7:]) == {"-"}


def test_a_label_share_that_is_not_a_number_leaves_no_nan() -> None:
    nan = float("nan")
    record = Record(0, Costs(1, 1, 1, None), Costs(), 0.1, miou=nan)
    assert "nan" not in table.round_line(record)


def test_heads_stand_over_their_columns() -> None:
    head, rule, line = table.round_line(RECORD, header=True).split("\n")
    ends = [i for i, c in enumerate(rule + " ") if c == " "]
    for end in ends:  # every column is right-aligned, so heads and cells end where the rule ends
        assert (head + " ")[end] == (line + " ")[end] == " "
        assert head[end - 1] != " "
        assert line[end - 1] != " "
    assert table.rounds_table([RECORD, RECORD]).split("\n") == [head, rule, line, line]
    assert table.rounds_table([]).split("\n") == [head, rule]


def test_the_quality_of_labels_has_a_column_where_it_is_known() -> None:
    judged = replace(RECORD, label_miou=0.8765)
    assert cells(table.round_line(judged))[6:8] == ["41.23", "87.65"]
    head, _, first, second = table.rounds_table([judged, RECORD]).split("\n")
    assert cells(head)[6:9] == ["mIoU", "%", "labels"]
    assert cells(first)[7] == "87.65"
    assert cells(second)[7] == "-"
    assert "labels" not in table.header_lines()


COUNT = st.one_of(st.integers(0, 10**4), st.integers(0, 10**14))
SECONDS = st.dictionaries(
    st.sampled_from(["prepare", "score", "select", "annotate", "fit", "evaluate", "preview"]),
    st.floats(0, 3e6),
)


@given(
    st.builds(
        Record,
        round=st.integers(0, 253),
        costs=st.builds(Costs, COUNT, COUNT, COUNT, st.none() | COUNT),
        asked=st.just(Costs()),
        labelled_fraction=st.floats(0, 1),
        miou=st.none() | st.floats(0, 1),
        label_miou=st.none() | st.floats(0, 1),
        seconds=SECONDS,
    ),
    st.sampled_from([80, 100, 120, 200]),
)
def test_every_line_fits_and_is_aligned(record: Record, width: int) -> None:
    lines = table.round_line(record, header=True, width=width).split("\n")
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= min(width, 120)
    assert len(cells(lines[2])) == len(cells(lines[1]))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0.00"),
        (9.99, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "1m40s"),
        (59 * 60 + 59.6, "1h00m"),
        (86399, "23h59m"),
        (90000, "1d01h"),
        (100 * 86400, "100d"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert table.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (9999, "9999"),
        (10_000, "10.0k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (3_170_880, "3.17M"),
        (12_345_678_901, "12.3G"),
    ],
)
def test_short(value: int | None, text: str) -> None:
    assert table.short(value) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0, "0"),
        (1, "100"),
        (0.99999, "99.99"),
        (0.9994, "99.9"),
        (0.022, "2.20"),
        (0.124, "12.4"),
        (0.0075, "0.750"),
        (0.000123, "0.0123"),
        (1e-7, "1e-05"),
    ],
)
def test_percent(fraction: float, text: str) -> None:
    assert table.percent(fraction) == text


def test_spelled_times_have_a_unit() -> None:
    assert [table.spell(s) for s in (None, 3.0, 125.0)] == ["-", "3.00 s", "2m05s"]
