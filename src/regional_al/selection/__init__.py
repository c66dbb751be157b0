"""The two selection primitives, and their streamed form. numpy only.

Units are disjoint, each with a score and a cost, and selected best first within a budget
(`select_units`; `CandidateStream` over a pool). Windows are selected greedily on a dense score map,
each suppressing a square (`select_windows`; `top_pixels` is the case without suppression). A
heuristic that chooses from the whole pool by itself spends through a `Basket`.
"""

from __future__ import annotations

from .basket import Basket, best_first
from .stream import CandidateStream
from .units import select_units
from .windows import select_windows, top_pixels

__all__ = [
    "Basket",
    "CandidateStream",
    "best_first",
    "select_units",
    "select_windows",
    "top_pixels",
]
