"""When a run ends before its rounds are used up."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.grammar import Acquisition
from ..types import Costs


def stop_reason(
    config: Acquisition, round_: int, costs: Costs, mious: Sequence[float | None]
) -> str | None:
    """One line that says why the run ends after this round, or None. mious: 0..1, of the rounds
    0..round_ (None: not known)."""
    stop = config.stop
    if round_ >= config.rounds:
        return f"all {config.rounds} rounds are done"
    miou = mious[-1] if mious else None
    if stop.target_miou is not None and miou is not None and miou >= stop.target_miou:
        return f"target reached: mIoU {miou:.4f} >= {stop.target_miou}"
    if stop.max_pixels is not None and costs.pixels >= stop.max_pixels:
        return f"{costs.pixels} pixels are annotated, stop.max_pixels is {stop.max_pixels}"
    if stop.max_clicks is not None and costs.clicks is not None and costs.clicks >= stop.max_clicks:
        return f"{costs.clicks} clicks are spent, stop.max_clicks is {stop.max_clicks}"
    if stop.plateau is not None and _rounds_without_gain(mious, stop.plateau_gain) >= stop.plateau:
        return (
            f"plateau: no gain above {stop.plateau_gain} mIoU in the last {stop.plateau} "
            f"round{'s' * (stop.plateau != 1)}"
        )
    return None


def _rounds_without_gain(mious: Sequence[float | None], gain: float) -> int:
    """How many rounds at the end did not exceed the best before them by more than `gain`."""
    best, since = None, 0
    for miou in mious:
        if miou is None:
            continue
        if best is None or miou > best + gain:
            best, since = miou, 0
        else:
            since += 1
    return since
