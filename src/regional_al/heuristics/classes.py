"""Balance over predicted classes: ClassBalance, ClaSPPE, ClassAwareRandom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from .. import functional, kernels
from ..checks import integer, within
from ..errors import ConfigError
from ..kernels import region_mean
from ..selection import Basket, best_first
from ..selection.diversity import in_turns
from ..selection.pool_table import PoolTable
from ..types import F64, I64, U8, Bool, PredictRequest
from .base import HEURISTICS, Observation, PixelHeuristic, PoolHeuristic


@HEURISTICS.register("ClassBalance")
class ClassBalance(PoolHeuristic):
    """Best-versus-second-best of superpixels, weighted towards classes that are predicted seldom.

    Source:
        Cai et al., "Revisiting Superpixels for Active Learning in Semantic Segmentation with
        Realistic Annotation Costs", CVPR 2021. Published with one click per superpixel: use
        annotator=dict(type='oracle', answer='dominant') and a budget in clicks.
    Score:
        exp(-share of D) * m, where D is the majority predicted class of the region, its share that
        of the open regions with the same D, and m the mean of p2 / p1 over the region, scaled to
        0..1 over the open regions. Shown and recorded: the mean of p2 / p1.
    Cost:
        Two passes over the logits; then O(N log N) for N regions.
    Deviations:
        Labelled regions are excluded (the public code scores them 0, so that they can be selected
        again). A region with some annotated pixels is open. Where all open regions have the same
        mean, m is 1, so that the weight decides.
    Config:
        dict(level='region', heuristic='ClassBalance', budget=dict(amount=500, unit='click'),
            annotator=dict(type='oracle', answer='dominant'))
    Example:
        >>> import torch
        >>> from regional_al.heuristics import ClassBalance, Observation
        >>> seen, regions = Observation(torch.zeros(2, 1, 4)), torch.tensor([[0, 0, 1, 1]])
        >>> columns = ClassBalance().describe(seen, regions, 2)
        >>> columns["score"].tolist(), columns["majority"].tolist()
        ([1.0, 1.0], [0, 0])
    """

    levels = ("region",)

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        bvsb = functional.bvsb(seen.logits)
        stats = kernels.region_stats(seen.logits, regions, num_regions)
        return {
            "score": kernels.region_mean(bvsb, regions, num_regions),
            "majority": stats.dominant,
        }

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        scores = balanced(table["score"], table["majority"], table.open)
        basket.fill(best_first(scores))


def balanced(uncertainty: npt.ArrayLike, majority: I64, open_: Bool) -> F64:
    """float64 [n]: class-balanced scores of the open units, -inf for the others.

    uncertainty: float [n]; majority: int [n], predicted majority class; open_: bool [n].
    """
    out = np.full(len(majority), -np.inf)
    if not open_.any():
        return out
    values = np.asarray(uncertainty, dtype=np.float64)[open_]
    low, span = values.min(), np.ptp(values)
    scaled = (values - low) / span if span > 0 else np.ones_like(values)
    counts = np.bincount(majority[open_])
    weight = np.exp(-counts / counts.sum())
    out[open_] = weight[majority[open_]] * scaled
    return out


@HEURISTICS.register("ClaSPPE")
class ClaSPPE(PoolHeuristic):
    """Class-stratified scheduled power predictive entropy (ClaSP PE).

    Args:
        share: Part of the budget that is spread over the classes, 0..1.
        exclude: Ids of classes that get no share, such as background.
        passes: 1: a plain prediction; more: MC dropout.
        max_beta: b of the last round, at least 1.

    Source:
        Lueth, Traub et al., "Finally Outshining the Random Baseline: A Simple and Effective
        Solution for Active Learning in 3D Biomedical Imaging", TMLR 2026, arXiv 2601.13677.
    Score:
        For class c the mean over the unit of q_c H(q), else the mean of H(q); q is the mean softmax
        of `passes`. Ranked by ln of it plus Gumbel(0, 1 / b), drawn anew for every class, with the
        published b = max_beta^(t / (T - 1)), t = 0..T-1, or 1 if T = 1. T is `rounds`, the number
        of rounds in which the model selects, and t = round - 1: the warm start (round 0) is not
        counted, the first selection has b = 1, the last one max_beta. int(`share` * Q) of the
        budget Q is spread evenly over the classes but those in `exclude`, the rest goes by mean
        entropy. No unit is selected twice. Shown and recorded: the mean entropy. A unit of entropy
        0 is never selected.
    Cost:
        `passes` predictions and one sum of probabilities per image; then O(C N log N), N units.
    Deviations:
        Images and the units of a partition in place of 3-D patches. Q is in the unit of the budget
        (pixels, clicks, regions, images): the class that has spent least is next and takes its best
        unit that is left, so that classes differ by less than a unit; which classes are first is
        drawn.
    Config:
        dict(level='region', heuristic=dict(type='ClaSPPE', exclude=[0]))
    Raises:
        ConfigError: An argument is unknown or out of range.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import ClaSPPE, Observation
        >>> seen, regions = Observation(torch.zeros(2, 1, 4)), torch.tensor([[0, 0, 1, 1]])
        >>> ClaSPPE().describe(seen, regions, 2)["by_class"].shape
        torch.Size([2, 2])
    """

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
    """b of round 1..rounds: from 1 up to `max_beta`; 1 when there is one round only.

    Example:
        >>> [round(schedule(number, 5, 100.0), 1) for number in (1, 2, 3, 4, 5)]
        [1.0, 3.2, 10.0, 31.6, 100.0]
    """
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


@HEURISTICS.register("ClassAwareRandom")
class ClassAwareRandom(PixelHeuristic, PoolHeuristic):
    """Random, stratified by predicted class: every class that is predicted gets an equal share.

    Source:
        A baseline, no published method; by *predicted* class, so that the ground truth is not
        looked at.
    Score:
        Units of a partition and images: uniform in [0, 1). Over the pool, predicted majority
        classes take turns, the one with least spent so far is next, and each takes its unit with
        the highest number. Pixels and windows: n ln u, u uniform and n the number of open pixels
        of the image with the same predicted class: drawing without replacement with weight 1 / n
        (exponential keys, Efraimidis and Spirakis 2006), per image.
    Cost:
        One pass over the logits; then O(N log N) for N units.
    Deviations:
        Shares are of the budget in its own unit, so that pixels are shared evenly where units
        differ in size. Pixels and windows are stratified within each image, windows by the class
        of their centre.
    Config:
        dict(level='pixel', heuristic='ClassAwareRandom')
    Example:
        >>> import torch
        >>> from regional_al.heuristics import ClassAwareRandom, Observation
        >>> seen = Observation(torch.tensor([[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]))
        >>> bool((ClassAwareRandom().pixel_scores(seen) <= 0).all())
        True
    """

    may_be_negative = True

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        classes = seen.logits.shape[0]
        labels = kernels.pixel_stats(seen.logits)[1]
        counts = open_counts(labels, classes, seen.annotated)
        drawn = 1.0 - seen.rng.random(tuple(labels.shape))  # in (0, 1]
        keys = torch.from_numpy(np.log(drawn)).to(labels.device)
        return (keys * counts[labels].double()).float()

    def window_scores(self, seen: Observation, radius: int) -> torch.Tensor:
        return self.pixel_scores(seen)

    def describe(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> dict[str, torch.Tensor]:
        stats = kernels.region_stats(seen.logits, regions, num_regions)
        drawn = torch.from_numpy(seen.rng.random(num_regions)).to(stats.area.device)
        score = drawn.masked_fill(stats.area == 0, float("nan"))
        return {"score": score, "majority": stats.dominant}

    def choose(self, table: PoolTable, basket: Basket, rng: np.random.Generator) -> None:
        classes = np.unique(table["majority"][basket.affordable])
        order = best_first(table["score"])
        of_class = table["majority"][order]
        in_turns(basket, [order[of_class == c] for c in rng.permutation(classes)])


def open_counts(labels: torch.Tensor, num_classes: int, annotated: U8 | None) -> torch.Tensor:
    """int64 [C]: pixels of each predicted class that have no answer yet; labels int [H, W]."""
    chosen = labels.reshape(-1)
    if annotated is not None:
        chosen = labels[torch.from_numpy(annotated == 0).to(labels.device)]
    return torch.bincount(chosen, minlength=num_classes)
