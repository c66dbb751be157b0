"""When a run ends, and why."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.grammar import Acquisition
from ..types import Costs


def stop_reason(
    config: Acquisition, round_: int, costs: Costs, mious: Sequence[float | None]
) -> str | None:
    """Why the run ends after this round, in one line; None: it continues.

    Args:
        config: Its `rounds` and `stop` decide.
        round_: The round that has been finished.
        costs: Total so far.
        mious: mIoU 0..1 of rounds 0..round_; None: not known.
    """
    stop = config.stop
    if round_ >= config.rounds:
        return f"all {config.rounds} rounds are done"
    miou = mious[-1] if mious else None
    if stop.target_miou is not None and miou is not None and miou >= stop.target_miou:
        return f"target reached: mIoU {miou:.4f} >= {stop.target_miou}"
    if stop.max_pixels is not None and costs.pixels >= stop.max_pixels:
        return f"{costs.pixels} pixels annotated, stop.max_pixels={stop.max_pixels}"
    if stop.max_clicks is not None and costs.clicks is not None and costs.clicks >= stop.max_clicks:
        return f"{costs.clicks} clicks spent, stop.max_clicks={stop.max_clicks}"
    seconds = costs.annotation_seconds
    if stop.max_seconds is not None and seconds is not None and seconds >= stop.max_seconds:
        return f"{seconds:g} seconds spent by people, stop.max_seconds={stop.max_seconds:g}"
    if stop.plateau is not None and _rounds_without_gain(mious, stop.plateau_gain) >= stop.plateau:
        return (
            f"plateau: mIoU gained no more than {stop.plateau_gain} in the last {stop.plateau} "
            f"round{'s' * (stop.plateau != 1)}"
        )
    return None


def _rounds_without_gain(mious: Sequence[float | None], gain: float) -> int:
    """Number of rounds since mIoU last exceeded its best by more than `gain`."""
    best, since = None, 0
    for miou in mious:
        if miou is None:
            continue
        if best is None or miou > best + gain:
            best, since = miou, 0
        else:
            since += 1
    return since
