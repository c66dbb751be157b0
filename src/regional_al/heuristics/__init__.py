"""Heuristics by name: every built-in class, and `HEURISTICS`, the registry of what configs name.

Importing a file that registers a class is all it takes to add one; files outside the package are
imported by `custom_imports` of a config (docs/add_a_heuristic.md).
"""

from __future__ import annotations

from .adaptive import AdaptiveSuperpixels
from .balanced_entropy import BalEnt
from .base import (
    HEURISTICS,
    GroupsUnits,
    Heuristic,
    MergesUnits,
    Observation,
    PixelHeuristic,
    PoolHeuristic,
    ProposesPixels,
    UnitHeuristic,
    pixel_units,
)
from .classes import ClaSPPE, ClassAwareRandom, ClassBalance
from .combine import Combine
from .correction import SIM
from .disagreement import BALD, EquAL
from .diversity import BADGE, ContextualDiversity, CoreSet
from .edald import EDALD
from .herding import MaxHerding
from .maximum import Maximum
from .pixel_balance import PixBal
from .random import Random
from .real import ReAL
from .redal import ReDAL
from .ripu import RIPU
from .stochastic import ByClass, Stochastic
from .uncertainty import BvSB, Entropy, LeastConfidence, Margin, PixelPick

__all__ = [
    "BADGE",
    "BALD",
    "EDALD",
    "HEURISTICS",
    "RIPU",
    "SIM",
    "AdaptiveSuperpixels",
    "BalEnt",
    "BvSB",
    "ByClass",
    "ClaSPPE",
    "ClassAwareRandom",
    "ClassBalance",
    "Combine",
    "ContextualDiversity",
    "CoreSet",
    "Entropy",
    "EquAL",
    "GroupsUnits",
    "Heuristic",
    "LeastConfidence",
    "Margin",
    "MaxHerding",
    "Maximum",
    "MergesUnits",
    "Observation",
    "PixBal",
    "PixelHeuristic",
    "PixelPick",
    "PoolHeuristic",
    "ProposesPixels",
    "Random",
    "ReAL",
    "ReDAL",
    "Stochastic",
    "UnitHeuristic",
    "pixel_units",
]

HEURISTICS.family("baal", "regional_al.compat.baal.heuristics:find")
