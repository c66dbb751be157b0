"""What the contract tests of the heuristics share: variants, places, and who works where."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regional_al.acquisition.acquirer import Acquirer, Selector
from regional_al.config import grammar as config
from regional_al.engines.base import FitRequest
from regional_al.heuristics import HEURISTICS
from regional_al.runtime import distributed as dist
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.store.prelabels import Prelabels
from regional_al.testing import streets
from regional_al.testing.toy import toy_engine
from regional_al.types import ImageAnswer, LabelSpace, Picks

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
PLACES: dict[str, dict[str, Any]] = {
    "image": {"level": "image", "budget": {"amount": 2, "unit": "image"}},
    "grid": {"level": "region", "region": {"type": "grid", "cell": 8}, "budget": "4%"},
    "slic": {"level": "region", "region": {"type": "slic", "n_segments": 30}, "budget": "6%"},
    "window": {"level": "region", "region": "window"},
    "pixel": {"level": "pixel", "budget": 5},
}
ANYWHERE = set(PLACES)
UNITS = {"image", "grid", "slic"}
# Where a heuristic works, if not everywhere. A new one that refuses a place gets a row here.
WORKS = {
    "AdaptiveSuperpixels": {"grid", "slic"},
    "ReAL": {"grid", "slic"},
    "ClassBalance": {"grid", "slic"},
    "PixelPick": {"pixel"},
    "BalEnt": {"pixel"},
    **dict.fromkeys(("EDALD", "MaxHerding"), UNITS | {"pixel"}),
    **dict.fromkeys(
        (
            "BADGE",
            "ClaSPPE",
            "ContextualDiversity",
            "CoreSet",
            "PixBal",
            "ReDAL",
            "SIM",
        ),
        UNITS,
    ),
}
# Arguments: those without which it cannot be built, and modes that are paths of their own.
PARTS = [{"type": "Entropy"}, {"type": "BvSB", "weight": 2.0}]
VARIANTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    **{name: ({"type": name}, WORKS.get(name, ANYWHERE)) for name in HEURISTICS},
    "BALD": ({"type": "BALD", "passes": 3}, ANYWHERE),
    "BalEnt": ({"type": "BalEnt", "passes": 3}, {"pixel"}),
    "EDALD": ({"type": "EDALD", "passes": 3, "per_image": 7}, UNITS | {"pixel"}),
    "AdaptiveSuperpixels-units": (
        {"type": "AdaptiveSuperpixels", "heuristic": {"type": "BALD", "passes": 2}},
        {"grid", "slic"},
    ),
    "BALD-ensemble": ({"type": "BALD", "checkpoints": ["OTHER"]}, ANYWHERE),
    "RIPU": ({"type": "RIPU", "radius": 3}, ANYWHERE),
    "RIPU-published": ({"type": "RIPU", "radius": 3, "compat": "published"}, {"window", "pixel"}),
    "PixelPick-entropy": ({"type": "PixelPick", "score": "entropy", "top": "20%"}, {"pixel"}),
    "SIM-pixel": ({"type": "SIM", "representative": "pixel", "class_weight": True}, UNITS),
    "Stochastic-SIM": ({"type": "Stochastic", "heuristic": "SIM"}, UNITS),
    "Stochastic": ({"type": "Stochastic", "heuristic": "Margin"}, ANYWHERE),
    "Stochastic-softmax": (
        {
            "type": "Stochastic",
            "kind": "softmax",
            "beta": 8.0,
            "heuristic": {"type": "RIPU", "radius": 2},
        },
        ANYWHERE,
    ),
    "Stochastic-rank": ({"type": "Stochastic", "kind": "rank", "heuristic": "RIPU"}, UNITS),
    "Stochastic-per-class": (
        {"type": "Stochastic", "heuristic": "Margin", "per_class": True},
        {"window", "pixel"},
    ),
    "Stochastic-BALD": (
        {"type": "Stochastic", "heuristic": {"type": "BALD", "passes": 2}},
        ANYWHERE,
    ),
    "Maximum": ({"type": "Maximum", "heuristic": "Entropy"}, ANYWHERE - {"pixel"}),
    "ByClass": ({"type": "ByClass", "heuristic": "Margin"}, {"window", "pixel"}),
    "Combine": ({"type": "Combine", "parts": PARTS}, ANYWHERE),
    "Combine-product": ({"type": "Combine", "parts": PARTS, "how": "product"}, ANYWHERE),
    "Combine-views": (
        {"type": "Combine", "parts": [{"type": "Random", "weight": 0.1}, {"type": "EquAL"}]},
        ANYWHERE,
    ),
    "Combine-rank": ({"type": "Combine", "parts": PARTS, "normalize": "rank"}, UNITS),
    "Combine-minmax": (
        {"type": "Combine", "parts": PARTS, "normalize": "minmax", "how": "product"},
        UNITS,
    ),
}
HERE = [
    (variant, place)
    for variant, (_, works) in VARIANTS.items()
    for place in PLACES
    if place in works
]
ELSEWHERE = [
    (variant, place)
    for variant, (_, works) in VARIANTS.items()
    for place in PLACES
    if place not in works
]


def pixels(*probabilities: tuple[float, ...]) -> torch.Tensor:
    """Logits [C, 1, n] of n pixels with these class probabilities."""
    return torch.tensor(probabilities).log().T[:, None]


class Scene:
    """A pool of five small images and two checkpoints of a briefly trained toy model."""

    def __init__(self, folder: Path) -> None:
        self.root, self.cache = folder / "streets", folder / "cache"
        streets.generate(self.root, train=5, val=1, size=(40, 48), seed=4)
        self.checkpoints = []
        for seed in (0, 1):
            out = folder / f"fit{seed}"
            out.mkdir()
            store = LabelStore(folder / "all")
            for item in self.engine().pool:
                store.write(self.answer(item.key, np.ones(item.shape, bool)), 0)
            fit = self.engine().fit(FitRequest(round=0, seed=seed, store=store, out_dir=out))
            self.checkpoints.append(fit.checkpoint)

    def engine(self) -> Any:
        return toy_engine(self.root, SPACE, iterations=8)

    def answer(self, key: str, asked: Any) -> ImageAnswer:
        return ImageAnswer(key, read_ids(self.root / f"annotations/train/{key}.png"), asked)

    def say(self, prelabels: Prelabels) -> None:
        """What a machine says of all images but the last: the truth, shifted."""
        for item in self.engine().pool[:-1]:
            truth = read_ids(self.root / f"annotations/train/{item.key}.png")
            prelabels.write(item.key, np.roll(truth, 6, axis=1))
        prelabels.finish(missing=1)

    def spec(self, variant: str) -> dict[str, Any]:
        spec = copy.deepcopy(VARIANTS[variant][0])
        if "checkpoints" in spec:
            spec["checkpoints"] = [str(self.checkpoints[1])]
        return spec

    def acquirer(self, variant: str, place: str, work_dir: Path) -> Acquirer:
        """A few pixels of two of the images are labelled already."""
        raw = {
            **PLACES[place],
            "heuristic": self.spec(variant),
            "previews": 0,
            "seed": 3,
            "cache_dir": str(self.cache),
            "rounds": 2,
        }
        if "SIM" in variant:
            raw["warm_start"] = {"prelabels": str(self.root)}
            self.say(Prelabels(work_dir / "prelabels"))
        store = LabelStore(work_dir / "labels")
        engine = self.engine()
        for item in engine.pool[1:3]:
            asked = np.random.default_rng([1, *item.shape]).random(item.shape) < 0.05
            store.write(self.answer(item.key, asked), 0)
        return Acquirer(engine, config.parse(raw), store, work_dir)


def picks_of_ranks(selector: Selector, ranks: int, monkeypatch: Any) -> Picks:
    """What `ranks` processes would pick, one after the other in this one, the last rank first."""
    parts = []
    for rank in reversed(range(ranks)):
        monkeypatch.setattr(dist, "rank", lambda r=rank: r)
        share = range(rank, len(selector.request.pool), ranks)
        parts.append(selector.candidates(share)[0])
    monkeypatch.undo()
    return selector.merge(parts[::-1])
