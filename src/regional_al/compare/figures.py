"""The charts of a comparison, in the style of the report."""

from __future__ import annotations

from collections.abc import Collection
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ..report.figures import (
    INK,
    MUTED,
    STAGE_COLOURS,
    cost_axis,
    legend_above,
    new_figure,
    plain_names,
    time_unit,
)
from ..store.results import STAGES
from ..types import JSON
from .curves import wide
from .stats import Analysis, families

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (
    "#1f5fa8",
    "#d1495b",
    "#2a9d5c",
    "#e08e1b",
    "#7a5aa6",
    "#17a2b8",
    "#8c564b",
    "#d86fb5",
    "#6b8e23",
    "#264653",
)
RANDOM_COLOUR = "#8a949f"
MARKERS = "osD^vPX*<>"
DASHES = ("-", "--", ":", "-.")
_WIDE = (7.4, 4.3)


def curve(
    analysis: Analysis, cost: str, scale: str = "auto", arms: Collection[str] | None = None
) -> Figure | None:
    """mIoU over a cost: mean over seeds, shaded one standard deviation up and down; random in grey;
    full supervision as a band.

    Args:
        analysis: What to draw.
        cost: One of `curves.COSTS`.
        scale: Of the cost axis: 'auto', 'log' or 'linear'.
        arms: Only these, in the colours that they have among all.

    Returns:
        None if there is nothing to draw.
    """
    means = analysis.means.get(cost, {})
    most = max((p.cost for points in means.values() for p in points), default=0.0)
    unit, name = 1.0, ""
    if cost == "pixels":
        unit = 100 / analysis.comparison.pool.pool_pixels
    elif cost == "annotation_seconds":
        name, length = time_unit(most)
        unit = 1 / length
    figure, axes = new_figure(_WIDE)
    drawn: list[float] = []
    selected: list[float] = []  # without round 0: a cheap start makes no axis logarithmic
    for arm, style in line_styles(analysis).items():
        points = means.get(arm, [])
        if not points or (arms is not None and arm not in arms):
            continue
        xs = [unit * p.cost for p in points]
        ys = np.array([100 * p.mean for p in points])
        std = np.array([100 * (p.std or 0.0) for p in points])
        axes.plot(xs, ys, label=plain_names([analysis.label(arm)])[0], **style)
        if std.any():
            band = {"color": style["color"], "alpha": 0.13, "linewidth": 0, "zorder": 1}
            axes.fill_between(xs, ys - std, ys + std, **band)
        drawn += xs
        selected += [x for x, p in zip(xs, points, strict=True) if p.round > 0]
    if not drawn:
        return None
    _full_band(axes, analysis)
    spans = selected or drawn
    log = {"log": True, "linear": False}.get(scale, wide(min(spans), max(spans)))
    cost_axis(axes, drawn, "labelled" if cost == "pixels" else cost, log, name)
    axes.set_ylabel("mIoU (%)", color=INK)
    axes.figure.legend(loc="outside right upper", frameon=False, fontsize=8, handlelength=2.2)
    return figure


def line_styles(analysis: Analysis) -> dict[str, JSON]:
    """How each arm is drawn, as arguments of `plot`: random arms grey and first, so that they lie
    below. The dashes show which random an arm is measured against; arms measured against the same
    one differ in colour."""
    groups = families(analysis.arms, analysis.baselines)
    dashes = dict(zip(groups, cycle(DASHES), strict=False))
    grey = {"color": RANDOM_COLOUR, "linewidth": 2.4, "marker": "o", "markersize": 4, "zorder": 2}
    thin = {"linewidth": 1.8, "markersize": 4.5, "zorder": 3}
    randoms = [arm for arm in analysis.arms if analysis.baselines[arm] == arm]
    styles: dict[str, JSON] = {arm: {**grey, "linestyle": dashes[arm]} for arm in randoms}
    others = [(h, arm) for h, arms in groups.items() for arm in arms if arm not in styles]
    for i, (head, arm) in enumerate(others):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        styles[arm] = {**thin, "color": colour, "marker": marker, "linestyle": dashes[head]}
    return styles


def _full_band(axes: Axes, analysis: Analysis) -> None:
    if analysis.full is None:
        return
    mean, std, _ = analysis.full.miou
    style: JSON = {"color": INK, "linewidth": 1.2, "linestyle": (0, (6, 3)), "zorder": 1}
    axes.axhline(100 * mean, label="full supervision", **style)
    if std:
        axes.axhspan(100 * (mean - std), 100 * (mean + std), color=INK, alpha=0.10, linewidth=0)


def seconds(analysis: Analysis) -> Figure | None:
    """Bars: mean seconds of a round after round 0, by stage, one bar per arm."""
    arms = [arm for arm in analysis.arms if analysis.seconds.get(arm)]
    if not arms:
        return None
    figure, axes = new_figure((_WIDE[0], 1.2 + 0.34 * len(arms)))
    left = np.zeros(len(arms))
    names = dict.fromkeys(name for arm in arms for name in analysis.seconds[arm])
    for name in sorted(names, key=lambda n: STAGES.index(n) if n in STAGES else len(STAGES)):
        widths = np.array([analysis.seconds[arm].get(name, 0.0) for arm in arms])
        colour = STAGE_COLOURS.get(name, MUTED)
        axes.barh(range(len(arms)), widths, 0.66, left, color=colour, label=name, zorder=3)
        left += widths
    for i, total in enumerate(left):
        axes.text(total, i, f" {total:.3g} s", va="center", fontsize=8, color=INK)
    axes.set_xlim(0, 1.12 * max(left))
    axes.set_yticks(range(len(arms)), plain_names([analysis.label(arm) for arm in arms]))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("seconds per round", color=INK)
    legend_above(axes, columns=7)
    return figure


def gains(analysis: Analysis, cost: str) -> Figure | None:
    """Heat map, classes by arms: IoU points above the random baseline at the last shared cost."""
    found = analysis.gains.get(cost, {})
    arms = [a for a in analysis.arms if a in found and analysis.has_baseline(a)]
    if not arms:
        return None
    classes = analysis.comparison.pool.classes
    table = np.full((len(classes), len(arms)), np.nan)
    for j, arm in enumerate(arms):
        for i, gain in enumerate(found[arm].over_baseline):
            table[i, j] = np.nan if gain is None else 100 * gain.mean
    if not np.isfinite(table).any():
        return None
    size = (max(4.2, 1.6 + 0.62 * len(arms)), min(1.5 + 0.27 * len(classes), 40.0))
    figure, axes = new_figure(size)
    limit = max(1.0, float(np.nanmax(np.abs(table))))
    image = np.ma.masked_invalid(table)
    axes.imshow(image, aspect="auto", cmap="RdBu", vmin=-1.25 * limit, vmax=1.25 * limit)
    axes.grid(False)
    for i, j in np.ndindex(*table.shape):
        value = float(table[i, j])
        text = f"{value:+.1f}" if np.isfinite(value) else "-"
        colour = "white" if abs(value) > 0.78 * limit else INK
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    axes.set_yticks(range(len(classes)), plain_names(classes))
    labels = plain_names([analysis.label(arm) for arm in arms])
    axes.set_xticks(range(len(arms)), labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(labelsize=8, length=0)
    return figure
