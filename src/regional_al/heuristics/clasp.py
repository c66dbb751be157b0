"""ClaSPPE: predictive entropy, stratified over classes, with power noise that fades by round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ..checks import integer, within
from ..errors import ConfigError
from ..kernels import region_mean
from ..selection import Basket, best_first
from ..selection.diversity import in_turns
from ..selection.pool_table import PoolTable
from ..types import I64, PredictRequest
from .base import HEURISTICS, Heuristic, Observation


@HEURISTICS.register("ClaSPPE")
class ClaSPPE(Heuristic):
    """Class-stratified scheduled power predictive entropy (ClaSP PE).

    Source: Lueth, Traub et al., "Finally Outshining the Random Baseline: A Simple and Effective
        Solution for Active Learning in 3D Biomedical Imaging", TMLR 2026, arXiv 2601.13677.
    Score: for class c the mean over the unit of q_c H(q), else the mean of H(q); q is the mean
        softmax of `passes` (1: a plain prediction; more: MC dropout). Ranked by ln of it plus
        Gumbel(0, 1 / b), b = max_beta^((t - 1) / (T - 1)) in round t of T (1 if T = 1), drawn anew
        for every class. T is `acquisition.rounds`: the queries that a model makes, without the
        warm start; the paper counts them from t = 0. int(`share` * Q) of the budget Q is spread
        evenly over the classes but those in `exclude` (ids, as background), the rest goes by mean
        entropy. No unit is picked twice. Shown and recorded: the mean entropy. A unit of entropy 0
        is never asked for.
    Cost: `passes` predictions and one sum of probabilities an image; then O(C N log N), N units.
    Deviations: images and the units of a partition in place of 3-D patches. Q is in the unit of
        the budget (pixels, clicks, regions, images): the class that has spent least is next and
        takes its best unit that is left, so that classes differ by less than a unit; which
        classes are first is drawn.
    Example: dict(level='region', heuristic=dict(type='ClaSPPE', exclude=[0]))
    """

    levels = ("image", "region")
    windows = False
    pooled = True

    def __init__(
        self,
        share: float = 0.66,
        exclude: Sequence[int] = (),
        passes: int = 1,
        max_beta: float = 100.0,
    ) -> None:
        self.share = within("heuristic ClaSPPE: share", share, 0, 1)
        self.max_beta = within("heuristic ClaSPPE: max_beta", max_beta, 1, 1e12)
        if isinstance(exclude, (str, int)):
            raise ConfigError(f"heuristic ClaSPPE: exclude={exclude!r} must be a list of class ids")
        self.exclude = [integer("heuristic ClaSPPE: exclude", c, 0) for c in exclude]
        self.needs = PredictRequest(integer("heuristic ClaSPPE: passes", passes, 1))

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        classes = seen.logits.shape[0]
        outside = [c for c in self.exclude if c >= classes]
        if outside or len(set(self.exclude)) == classes:
            raise ConfigError(
                f"heuristic ClaSPPE: exclude={self.exclude} must leave out some of the classes "
                f"0..{classes - 1}, not others and not all"
            )
        mean = mean_probabilities(seen.views())
        entropy = entropy_of(mean)
        by_class = [region_mean(p * entropy, regions, num_regions) for p in mean]
        return {
            "score": region_mean(entropy, regions, num_regions),
            "by_class": torch.stack(by_class, dim=1),
        }

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        beta = schedule(table.round, table.rounds, self.max_beta)
        by_class = table["by_class"]
        kept = [c for c in range(by_class.shape[1]) if c not in self.exclude]
        orders = [noisy_order(by_class[:, c], beta, rng) for c in rng.permutation(kept)]
        in_turns(basket, orders, int(self.share * purse(basket)))
        basket.fill(noisy_order(table["score"], beta, rng))


def mean_probabilities(views: Iterable[torch.Tensor]) -> torch.Tensor:
    """float32 [C, H, W]: mean softmax of one or more passes of logits, taken one at a time."""
    total: torch.Tensor | None = None
    count = 0
    for logits in views:
        p = torch.softmax(logits.float(), dim=0)
        total = p if total is None else total.add_(p)
        count += 1
    if total is None:
        raise ValueError("mean_probabilities needs at least one pass of logits")
    return total.div_(count)


def entropy_of(probabilities: torch.Tensor) -> torch.Tensor:
    """float32 [H, W], nats, of probabilities [C, H, W]; class by class, no temporary of all."""
    out = torch.zeros_like(probabilities[0])
    for p in probabilities:
        out -= torch.xlogy(p, p)
    return out.clamp_(min=0.0)


def schedule(round_: int, rounds: int, max_beta: float) -> float:
    """b of round 1..rounds: from 1 up to `max_beta`; 1 when there is one round only."""
    return 1.0 if rounds < 2 else float(max_beta ** ((round_ - 1) / (rounds - 1)))


def noisy_order(scores: npt.ArrayLike, beta: float, rng: np.random.Generator) -> I64:
    """Positions by ln score + Gumbel(0, 1 / beta), best first; scores of 0 and below left out."""
    values = np.asarray(scores, dtype=np.float64)
    noise = rng.gumbel(0.0, 1.0 / beta, size=values.shape)
    with np.errstate(divide="ignore"):
        return best_first(np.log(np.maximum(values, 0.0)) + noise)


def purse(basket: Basket) -> int:
    """What can be spent in all: what is left, but no more than the open units of a group cost."""
    able = basket.affordable
    wanted = np.bincount(basket.groups[able], basket.costs[able], minlength=len(basket.left))
    return int(np.minimum(basket.left, wanted).sum())
