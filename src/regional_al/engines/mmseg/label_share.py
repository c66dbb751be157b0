"""How many of the labels that were drawn reached the loss."""

from __future__ import annotations

import math

import numpy as np

from ...runtime import distributed as dist


class LabelCount:
    """Labelled pixels that reach the loss, and labelled pixels of the samples drawn, of one rank;
    steps: training iterations."""

    def __init__(self) -> None:
        self.reached = self.drawn = self.samples = self.empty = self.steps = 0

    def add(self, drawn: int, reached: int) -> None:
        """One sample: its labelled pixels when loaded, and after the pipeline."""
        self.reached, self.drawn = self.reached + reached, self.drawn + drawn
        self.samples, self.empty = self.samples + 1, self.empty + (reached == 0)

    def result(self) -> tuple[float, dict[str, int]]:
        """(share over all ranks, NaN when unknown; samples drawn and those without a label)."""
        counts = [self.reached, self.drawn, self.samples, self.empty]
        reached, drawn, samples, empty = dist.sum_array(np.array(counts, dtype=np.int64)).tolist()
        share = reached / drawn if drawn else math.nan
        return share, {"samples": samples, "samples_without_labels": empty}
