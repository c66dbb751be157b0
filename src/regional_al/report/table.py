"""The table of rounds in the terminal: one aligned line per round, for 120 or 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..store.results import STAGES, Record

NOT_KNOWN = "-"
WIDE = 120
STAGE_HEADS = {
    "prepare": "prep",
    "score": "score",
    "select": "select",
    "annotate": "annot",
    "fit": "fit",
    "evaluate": "eval",
}


class Column(NamedTuple):
    head: str
    width: int
    cell: Callable[[Record], str]


def _stage(name: str) -> Column:
    return Column(STAGE_HEADS[name], 6, lambda r: duration(r.seconds.get(name)))


def _count(name: str, width: int) -> Column:
    return Column(name, width, lambda r: fitted(getattr(r.costs, name), width))


def _hundred(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{100 * value:.2f}"


def _columns(width: int, labels: bool = False) -> Sequence[Column]:
    """All columns from a width of 120; below it short numbers and only the longest stages. labels:
    with the mIoU of the labels."""
    wide = width >= WIDE
    costs = [
        _count("images", 6),
        _count("regions", 9 if wide else 7),
        _count("pixels", 13 if wide else 7),
        _count("clicks", 11 if wide else 7),
        Column("labelled", 8, lambda r: percent(r.labelled_fraction) + "%"),
        Column("mIoU %", 6, lambda r: _hundred(r.miou)),
    ]
    if labels:
        costs.append(Column("labels", 6, lambda r: _hundred(r.label_miou)))
    stages = [_stage(name) for name in (STAGES if wide else ("score", "fit"))]
    total = Column("total", 6, lambda r: duration(r.total_seconds if r.seconds else None))
    return [Column("round", 5, lambda r: str(r.round)), *costs, *stages, total]


def header_lines(width: int = WIDE, labels: bool = False) -> str:
    """Two lines: column heads and a rule. Costs are cumulative. labels: with the mIoU of the
    labels, in per cent."""
    columns = _columns(width, labels)
    heads = " ".join(f"{c.head:>{c.width}}" for c in columns)
    return heads + "\n" + " ".join("-" * c.width for c in columns)


def round_line(
    record: Record, header: bool = False, width: int = WIDE, labels: bool | None = None
) -> str:
    """One line of the table, after the two head lines if `header`, not wider than `width` (at least
    80). Costs are cumulative; times are in seconds unless a unit is given."""
    labels = record.label_miou is not None if labels is None else labels
    columns = _columns(width, labels)
    line = " ".join(f"{c.cell(record):>{c.width}}" for c in columns)
    return f"{header_lines(width, labels)}\n{line}" if header else line


def rounds_table(records: Sequence[Record], width: int = WIDE) -> str:
    """The whole table; only its head if there are no records."""
    labels = any(record.label_miou is not None for record in records)
    lines = [round_line(record, width=width, labels=labels) for record in records]
    return "\n".join([header_lines(width, labels), *lines])


def full(value: int | None) -> str:
    """1234567 -> '1,234,567'; None -> '-'."""
    return NOT_KNOWN if value is None else f"{value:,}"


def fitted(value: int | None, width: int) -> str:
    """In full if it fits into `width`, else short."""
    return full(value) if len(full(value)) <= width else short(value)


def short(value: int | None) -> str:
    """Three digits and a unit: 950, 12.3k, 1.06M, 3.20G; None -> '-'."""
    if value is None:
        return NOT_KNOWN
    if value < 10_000:
        return str(value)
    scaled, unit = value / 1000, "k"
    for larger in "MGT":
        if scaled >= 999.5:
            scaled, unit = scaled / 1000, larger
    digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{digits}f}{unit}"


def percent(fraction: float) -> str:
    """Share 0..1 as a percentage without sign: 0.0123, 0.750, 2.20, 12.4, 100 (only if all)."""
    value = 100 * fraction
    if value in (0, 100):
        return f"{value:.0f}"
    if value < 0.001:
        return f"{value:.0e}"
    if value >= 99.95:
        return f"{min(value, 99.99):.2f}"
    digits = 4 if value < 0.1 else 3 if value < 1 else 2 if value < 10 else 1
    return f"{value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """At most six characters: 0.04, 12.3, 4m05s, 2h07m, 3d04h; None -> '-'."""
    if seconds is None:
        return NOT_KNOWN
    if seconds < 9.995:
        return f"{seconds:.2f}"
    if seconds < 99.95:
        return f"{seconds:.1f}"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    days = minutes // 1440
    return f"{days}d{minutes % 1440 // 60:02d}h" if days < 100 else f"{days}d"


def spell(seconds: float | None) -> str:
    """`duration` with a unit, for running text: 12.3 s, 4m05s."""
    text = duration(seconds)
    return text if seconds is None or seconds >= 99.95 else text + " s"
