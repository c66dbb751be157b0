"""The charts of the report, as matplotlib figures (object interface, Agg: no global state)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import EnvironmentProblem
from ..store.images import replacing
from ..store.results import STAGES, Results
from ..types import I64, JSON
from .table import percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, ACCENT = "#1f2933", "#616e7c", "#e4e7eb", "#1f5fa8"
F64 = npt.NDArray[np.float64]
STAGE_COLOURS = {
    "prepare": "#9aa5b1",
    "score": "#56a3d9",
    "select": "#2bb3a3",
    "annotate": "#e8a33d",
    "fit": "#1f4e8c",
    "evaluate": "#7a5aa6",
    "preview": "#c9ced6",
}
VOID_COLOUR = "#b8bec6"
MAX_LEGEND = 20

DPI = 200
_SIZE = (5.4, 3.3)
_SQUARES: JSON = {"frameon": False, "handlelength": 1.1, "handleheight": 1.1}


def learning_curve(results: Results, cost: str) -> Figure | None:
    """mIoU over a cost: 'labelled' (per cent of the pool), or a field of `Costs`. None when no
    round has both numbers."""
    points = []
    name, scale = "", 1.0
    if cost == "annotation_seconds":
        name, scale = time_unit(
            max((r.costs.annotation_seconds or 0 for r in results.records), default=0)
        )
    for r in results.records:
        labelled = cost == "labelled"
        spent = 100 * r.labelled_fraction if labelled else getattr(r.costs, cost)
        if r.miou is not None and spent is not None:
            points.append((float(spent) / scale, 100 * r.miou))
    if not points:
        return None
    figure, axes = new_figure()
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, "-", color=ACCENT, linewidth=2, zorder=3)
    axes.plot(xs, ys, "o", color="white", markeredgecolor=ACCENT, markeredgewidth=2, ms=6, zorder=4)
    _label_points(axes, points)
    cost_axis(axes, xs, cost, unit=name)
    low, high = min(ys), max(ys)
    pad = max(0.18 * (high - low), 0.5)
    axes.set_ylim(max(0.0, low - pad), min(101.0, high + pad))
    axes.set_ylabel("mIoU (%)", color=INK)
    return figure


def stage_seconds(results: Results) -> Figure | None:
    """Stacked bars: time of each stage by round. None when no time is recorded."""
    records = [r for r in results.records if r.seconds]
    if not records or max(r.total_seconds for r in records) <= 0:
        return None
    longest = max(r.total_seconds for r in records)
    unit, scale = time_unit(longest)
    figure, axes = new_figure()
    bottom = np.zeros(len(records))
    others = sorted({k for r in records for k in r.seconds} - set(STAGES))
    for name in (*STAGES, *others):
        heights = np.array([r.seconds.get(name, 0.0) for r in records]) / scale
        if heights.any():
            colour = STAGE_COLOURS.get(name, MUTED)
            axes.bar(range(len(records)), heights, 0.68, bottom, color=colour, label=name, zorder=3)
            bottom += heights
    _round_axis(axes, [r.round for r in records])
    axes.set_ylabel(f"time ({unit})", color=INK)
    legend_above(axes, columns=4)
    return figure


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which times up to `seconds` are drawn, and its seconds.

    Example:
        >>> time_unit(60), time_unit(3600), time_unit(86400)
        (('s', 1.0), ('min', 60.0), ('h', 3600.0))
    """
    if seconds < 300:
        return "s", 1.0
    return ("min", 60.0) if seconds < 3 * 3600 else ("h", 3600.0)


def class_iou(results: Results) -> Figure | None:
    """Heat map, classes by rounds, with the numbers where they fit. None without evaluation."""
    records = [r for r in results.records if r.per_class_iou]
    if not records:
        return None
    rows, columns = len(results.classes), len(records)
    table = np.full((rows, columns), np.nan)
    for j, record in enumerate(records):
        values = [np.nan if v is None else 100 * v for v in record.per_class_iou]
        table[: len(values), j] = values
    figure, axes = new_figure((_SIZE[0], min(0.9 + 0.24 * rows, 40.0)))
    image = np.ma.masked_invalid(table)
    axes.imshow(image, aspect="auto", cmap="Blues", vmin=0, vmax=115, interpolation="nearest")
    axes.grid(False)
    if columns <= 12:
        for i, j in np.ndindex(rows, columns):
            known = bool(np.isfinite(table[i, j]))
            text = f"{table[i, j]:.1f}" if known else "-"
            colour = "white" if known and table[i, j] > 62 else INK
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_yticks(range(rows), plain_names(results.classes))
    for tick, rgb in zip(axes.get_yticklabels(), results.palette, strict=True):
        tick.set_bbox(
            {"boxstyle": "square,pad=0.15", "fc": "white", "ec": hex_colour(rgb), "lw": 1.6}
        )
    _round_axis(axes, [r.round for r in records])
    axes.tick_params(axis="y", labelsize=8, pad=6)
    return figure


def class_shares(results: Results, counts: I64) -> Figure | None:
    """What has been labelled up to each round: share of each class in the annotated pixels.

    counts: int64 [rounds, C + 1], pixels annotated in each round, the last column void.
    """
    total = counts.cumsum(axis=0)
    if not total.size or not total[-1].sum():
        return None
    share = 100 * total / np.maximum(total.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure()
    bottom = np.zeros(len(share))
    places = range(len(share))
    for name, colour, heights in _layers(results, share):
        style: JSON = {"color": colour, "zorder": 3, "edgecolor": "white", "linewidth": 0.5}
        hatch = "////" if name == "void" else None
        axes.bar(places, heights, 0.68, bottom, label=name, hatch=hatch, **style)
        bottom += heights
    axes.set_ylim(0, 100)
    axes.set_xlim(-0.6, max(len(share) - 0.4, 2.4))
    _round_axis(axes, places)
    axes.set_ylabel("labelled pixels (%)", color=INK)
    place: JSON = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.02)}
    axes.legend(**place, **_SQUARES, fontsize=7.5, labelspacing=0.35)
    return figure


def _layers(results: Results, share: F64) -> Iterator[tuple[str, str, F64]]:
    """(name, colour, per cent by round), largest class first, small ones together, void last."""
    order = np.argsort(-share[-1, :-1], kind="stable")
    order = order[share[:, order].any(axis=0)]
    names = plain_names(results.classes)
    for c in order[:MAX_LEGEND].tolist():
        yield names[c], hex_colour(results.palette[c]), share[:, c]
    rest = order[MAX_LEGEND:]
    if len(rest):
        yield f"{len(rest)} other classes", GRID, share[:, rest].sum(axis=1)
    if share[:, -1].any():
        yield "void", VOID_COLOUR, share[:, -1]


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG at twice the resolution of a screen, atomically."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor="white")
    return path


def new_figure(size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    """An empty figure (inches) in the style of all charts. Raises EnvironmentProblem."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise EnvironmentProblem(
            "the report needs matplotlib: pip install 'matplotlib>=3.7' 'jinja2>=3.1'"
        ) from None
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=3, color=MUTED)
    return figure, axes


def cost_axis(
    axes: Axes, xs: Sequence[float], cost: str, log: bool | None = None, unit: str = ""
) -> None:
    """Scale, limits, ticks and label of a cost axis. xs: all points drawn; log: None = logarithmic
    if they span more than a factor of ten; unit: of a time."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    def text(value: float, _: Any) -> str:
        return f"{percent(value / 100)}%" if cost == "labelled" else short(round(value))

    log = max(xs) > 10 * min(xs) if log is None else log
    if min(xs) > 0 and log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0, right=1.08 * max(xs) if max(xs) > 0 else 1)
    if cost == "labelled":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}%"))
        axes.set_xlabel("labelled pixels of the pool", color=INK)
    else:
        if not unit:
            axes.xaxis.set_major_formatter(FuncFormatter(text))
        elif log:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        names = {"regions": "annotation visits", "annotation_seconds": f"annotation time in {unit}"}
        axes.set_xlabel(f"{names.get(cost, cost)} (cumulative)", color=INK)


def _label_points(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """The value at the first, best and last point; at all points if there are few."""
    best = max(range(len(points)), key=lambda i: points[i][1])
    below: JSON = {"xytext": (6, -5), "ha": "left", "va": "top"}
    above: JSON = {"xytext": (0, 8), "ha": "center", "va": "bottom"}
    for i in range(len(points)) if len(points) <= 8 else {0, best, len(points) - 1}:
        x, y = points[i]
        rising = i + 1 < len(points) and points[i + 1][1] >= y  # the next line leaves room below
        style = {**(below if rising else above), "fontsize": 8, "color": INK}
        axes.annotate(f"{y:.1f}", (x, y), textcoords="offset points", **style)


def _round_axis(axes: Axes, rounds: Sequence[int]) -> None:
    step = max(1, len(rounds) // 12)
    places = range(0, len(rounds), step)
    axes.set_xticks(places, [str(rounds[i]) for i in places])
    axes.set_xlabel("round", color=INK)
    axes.grid(False, axis="x")


def legend_above(axes: Axes, columns: int) -> None:
    """The legend outside, above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    place: JSON = {"loc": "outside upper center", "ncols": columns, "columnspacing": 1.2}
    axes.figure.legend(handles, labels, **place, **_SQUARES, fontsize=8)


def plain_names(names: Sequence[str]) -> list[str]:
    """Class names as plain text: a `$` must not start mathematics, nor a `_` hide a legend."""
    cut = [name if len(name) <= 24 else name[:23] + "…" for name in names]
    return [name.replace("$", r"\$") if not name.startswith("_") else " " + name for name in cut]


def hex_colour(colour: tuple[int, int, int]) -> str:
    """(31, 95, 168) -> '#1f5fa8'."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
