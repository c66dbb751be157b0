"""Uncertainty balanced over predicted classes pixel by pixel: PixBal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .. import functional
from ..checks import within
from ..kernels import region_mean
from ..selection import Basket, best_first
from ..selection.pool_table import PoolTable
from ..types import F64
from .base import HEURISTICS, Observation, PoolHeuristic


@HEURISTICS.register("PixBal")
class PixBal(PoolHeuristic):
    """Best-versus-second-best of pixels, each weighted by how seldom its class is predicted.

    Args:
        balance: How much frequent classes are held back; 0: not at all.

    Source:
        Hwang, Lee, Kim, Ok, Kwak, "Active Learning for Semantic Segmentation with Multi-class Label
        Query", NeurIPS 2023. Published for superpixels that are answered by the set of their
        classes: use annotator=dict(type='oracle', answer='multiclass').
    Score:
        The mean over the unit's pixels of w_D p2 / p1, where D is the predicted class of the pixel,
        w_c = (1 + balance P_c)^-2, and P_c the mean probability of class c over all pixels of the
        pool. Shown and recorded: the mean of p2 / p1.
    Cost:
        One softmax and two sums per class and image; then O(C N) for N units.
    Deviations:
        Whole images, too. The published classifier compares directions, and its probabilities have
        a temperature of 0.1; here they are those of the model. Published: balance 6 for Cityscapes,
        12 for PASCAL VOC.
    Config:
        dict(level='region', heuristic='PixBal',
            annotator=dict(type='oracle', answer='multiclass'))
    Raises:
        ConfigError: `balance` is out of range.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import Observation, PixBal
        >>> seen, regions = Observation(torch.zeros(2, 1, 4)), torch.tensor([[0, 0, 0, 1]])
        >>> columns = PixBal().describe(seen, regions, 2)
        >>> columns["mass"].tolist(), columns["by_class"].tolist()
        ([[1.5, 1.5], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]])
    """

    def __init__(self, balance: float = 6.0) -> None:
        self.balance = within("heuristic PixBal: balance", balance, 0, 1e6)

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        bvsb = functional.bvsb(seen.logits)
        probabilities = torch.softmax(seen.logits.float(), dim=0)
        predicted = seen.logits.argmax(dim=0)
        area = torch.bincount(regions.flatten(), minlength=num_regions)
        by_class, mass = [], []
        for c, p in enumerate(probabilities):
            own = torch.where(predicted == c, bvsb, 0.0)
            by_class.append(region_mean(own, regions, num_regions))
            mass.append(region_mean(p, regions, num_regions) * area)
        return {
            "score": region_mean(bvsb, regions, num_regions),
            "by_class": torch.stack(by_class, dim=1),
            "mass": torch.stack(mass, dim=1),
        }

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        weights = class_weights(table["mass"], self.balance)
        scores = table["by_class"].astype(np.float64) @ weights
        basket.fill(best_first(scores))


def class_weights(mass: npt.ArrayLike, balance: float) -> F64:
    """How much pixels count by their predicted class.

    Args:
        mass: float [N, C], the sum of the probabilities over the pixels of each unit.
        balance: At least 0.

    Returns:
        float64 [C], (1 + balance P_c)^-2 with P_c the share of class c.

    Example:
        >>> class_weights([[3.0, 1.0]], 4.0).tolist()
        [0.0625, 0.25]
    """
    sums = np.asarray(mass, dtype=np.float64).sum(axis=0)
    return np.asarray((1 + balance * sums / max(sums.sum(), 1e-300)) ** -2)
