"""When a run ends before its rounds are used up."""

from __future__ import annotations

from .config import Acquisition
from .types import Costs


def stop_reason(config: Acquisition, round_: int, costs: Costs, miou: float | None) -> str | None:
    """One line that says why the run ends after this round, or None. miou: 0..1."""
    stop = config.stop
    if round_ >= config.rounds:
        return f"all {config.rounds} rounds are done"
    if stop.target_miou is not None and miou is not None and miou >= stop.target_miou:
        return f"target reached: mIoU {miou:.4f} >= {stop.target_miou}"
    if stop.max_pixels is not None and costs.pixels >= stop.max_pixels:
        return f"{costs.pixels} pixels are annotated, stop.max_pixels is {stop.max_pixels}"
    if stop.max_clicks is not None and costs.clicks is not None and costs.clicks >= stop.max_clicks:
        return f"{costs.clicks} clicks are spent, stop.max_clicks is {stop.max_clicks}"
    return None
