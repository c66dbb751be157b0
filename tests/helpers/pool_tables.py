"""Tables of a pool made by hand, and what a heuristic picks from them."""

from __future__ import annotations

from typing import Any

import numpy as np

from regional_al.acquisition.candidates import make_picks
from regional_al.selection import Basket
from regional_al.selection.pool_table import PoolTable

CLASSES = 3

CLASSES = 3


def table(pixels: Any, round_: int = 1, rounds: int = 1, **columns: Any) -> PoolTable:
    """Units 0..n-1 of image 0; pixels 0 = answered."""
    units = make_picks(0, np.zeros(len(pixels)), pixels, unit=np.arange(len(pixels)))
    return PoolTable(units, {k: np.asarray(v) for k, v in columns.items()}, round_, rounds)


def picks(
    heuristic: Any, pool: PoolTable, budget: Any, costs: Any = None, seed: int = 0
) -> list[int]:
    price = np.ones(len(pool), dtype=np.int64) if costs is None else costs
    basket = Basket(price, pool.open, budget)
    heuristic.choose(pool, basket, np.random.default_rng(seed))
    return basket.taken


def random_table(rng: np.random.Generator, n: int, answered: float = 0.2) -> PoolTable:
    """Every column that a heuristic reads, as its `describe` could have made it."""
    pixels = np.where(rng.random(n) < answered, 0, rng.integers(1, 9, n))
    mixtures = rng.random((n, CLASSES, CLASSES)) + 0.01
    return table(
        pixels,
        round_=1,
        rounds=3,
        score=rng.random(n) + 0.01,
        entropy=rng.random(n),
        majority=rng.integers(0, CLASSES, n),
        by_class=rng.random((n, CLASSES)).astype(np.float32) + 0.01,
        vector=rng.normal(size=(n, 4)).astype(np.float32),
        gradient=rng.normal(size=(n, CLASSES)).astype(np.float32),
        mixtures=(mixtures / mixtures.sum(2, keepdims=True)).astype(np.float32),
        present=rng.random((n, CLASSES)) < 0.6,
        mass=rng.random((n, CLASSES)).astype(np.float32),
    )
