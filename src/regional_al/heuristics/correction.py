"""Where the labels of a machine are probably wrong: SIM."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..checks import choice, flag
from ..types import F64, I64, UNLABELED
from .base import HEURISTICS, Observation, UnitHeuristic


@HEURISTICS.register("SIM")
class SIM(UnitHeuristic):
    """Regions whose machine labels the model does not believe, and that one correction mends.

    It needs the labels of a machine: `warm_start=dict(prelabels=FOLDER)`.

    Args:
        representative: What a region's pixels are compared with: 'mean', the mean softmax (A2LC),
            or 'pixel', the softmax of the pixel that is most similar to it (ALC).
        class_weight: Weigh pixels by the class of their label, rare classes more (A2LC).

    Source:
        Kim et al., "Active Label Correction for Semantic Segmentation with Foundation Models"
        (ALC), ICML 2024; Jeon et al., "A2LC: Active and Automated Label Correction for Semantic
        Segmentation", AAAI 2026, arXiv 2506.11599.
    Score:
        sum over the region's pixels x of cos(p(x), r) (1 - p_y(x)), p the softmax, y the machine's
        label of the pixel, cos the cosine similarity (below 0: left out) and r the mean p over the
        pixels that are predicted as the region's most frequent predicted class. With
        `class_weight` each term times (n_min / n_y)^(K^3), n the pixels of each class in the
        machine's labels of the pool, n_min the smallest number above 0, and K the Kullback-Leibler
        divergence, in nats, of their shares from equal shares of the classes that occur.
    Cost:
        One prediction, and the softmax of an image in memory.
    Deviations:
        A pixel that the machine has not labelled counts as labelled by the prediction, as in the
        published code. Pixels that people have answered add nothing: the published code leaves out
        whole regions. n counts all of the machine's labels, in the published code those that have
        not been corrected. A class that the machine has nowhere has the weight 1, there 0.
    Config:
        dict(level='region', heuristic=dict(type='SIM', class_weight=True),
            warm_start=dict(prelabels='data/machine'),
            annotator=dict(type='oracle', answer='correction'))
    Raises:
        ConfigError: An argument is unknown.

    Example:
        >>> import torch
        >>> from regional_al.heuristics import SIM, Observation
        >>> logits = torch.tensor([[[0.9, 0.9, 0.9]], [[0.1, 0.1, 0.1]]]).log()
        >>> said = np.array([[0, 1, 1]], np.uint8)  # two of three against the model
        >>> seen = Observation(logits, prelabels=said)
        >>> [round(s, 2) for s in SIM().unit_scores(seen, torch.tensor([[0, 0, 1]]), 2).tolist()]
        [1.0, 0.9]
    """

    needs_prelabels = True

    def __init__(self, representative: str = "mean", class_weight: bool = False) -> None:
        where = "heuristic SIM: representative"
        self.representative = choice(where, representative, ("mean", "pixel"))
        self.class_weight = flag("heuristic SIM: class_weight", class_weight)

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        device, shape = seen.logits.device, tuple(seen.logits.shape[-2:])
        labels = torch.full(shape, UNLABELED, dtype=torch.uint8, device=device)
        if seen.prelabels is not None:
            labels = torch.from_numpy(seen.prelabels).to(device)
        open_ = torch.ones(shape, dtype=torch.bool, device=device)
        if seen.annotated is not None:
            open_ = torch.from_numpy(seen.annotated == 0).to(device)
        weights = None
        if self.class_weight and seen.prelabel_counts is not None:
            weights = torch.from_numpy(class_weights(seen.prelabel_counts)).to(device)
        one = self.representative == "pixel"
        return sim(seen.logits, labels, regions, num_regions, open_, weights, one)


def sim(
    logits: Tensor,
    labels: Tensor,
    regions: Tensor,
    num_regions: int,
    open_: Tensor,
    weights: Tensor | None = None,
    one_pixel: bool = False,
) -> Tensor:
    """SIM of each region; see the class.

    Args:
        logits: float [C, H, W].
        labels: uint8 [H, W], the machine's class of each pixel, 255: none.
        regions: int [H, W], ids below `num_regions`.
        num_regions: R.
        open_: bool [H, W], pixels that count.
        weights: float [C], of the classes; None: 1.
        one_pixel: Compare with a pixel, not with the mean.

    Returns:
        float32 [R]; NaN for regions without a pixel.

    Raises:
        ScoreError: A logit is NaN or infinite.
        ValueError: Ids out of range.
    """
    stats = kernels.region_stats(logits, regions, num_regions)
    predicted = kernels.pixel_stats(logits)[1].long()
    where = regions.to(logits.device).long()
    p = torch.softmax(logits.float(), dim=0)
    core = predicted == stats.dominant.to(predicted)[where]
    apart = torch.where(core, where, num_regions).to(torch.int32)  # the others in a region more
    centre = torch.stack([kernels.region_mean(q, apart, num_regions + 1)[:-1] for q in p])
    similar = cosine(p, centre, where)
    if one_pixel:
        centre = p.flatten(1)[:, best_pixels(similar, core, where, num_regions)]
        similar = cosine(p, centre, where)
    said = torch.where(labels == UNLABELED, predicted, labels.long())
    value = similar.clamp(min=0.0) * (1.0 - p.gather(0, said[None])[0])
    if weights is not None:
        value = value * weights.float()[said]
    value = torch.where(open_, value, 0.0)
    return kernels.region_mean(value, regions, num_regions) * stats.area.to(value)


def cosine(p: Tensor, centre: Tensor, where: Tensor) -> Tensor:
    """Cosine similarity of each pixel with the centre of its region; class by class.

    Args:
        p: float32 [C, H, W].
        centre: float32 [C, R].
        where: int64 [H, W], 0..R-1.

    Returns:
        float32 [H, W].
    """
    dot, length = torch.zeros_like(p[0]), torch.zeros_like(p[0])
    for q, c in zip(p, centre, strict=True):
        dot += q * c[where]
        length += q * q
    return dot / (length.sqrt() * centre.square().sum(dim=0).sqrt()[where])


def best_pixels(similar: Tensor, core: Tensor, where: Tensor, num_regions: int) -> Tensor:
    """int64 [R]: the most similar pixel of each region, of equal ones the first; 0 where a region
    has none.

    Args:
        similar: float32 [H, W].
        core: bool [H, W], pixels to choose from.
        where: int64 [H, W], 0..R-1.
        num_regions: R.
    """
    of, values = where[core], similar[core]
    best = values.new_full((num_regions,), -torch.inf).scatter_reduce(0, of, values, "amax")
    at = core.flatten().nonzero()[:, 0]
    top = values == best[of]
    last = core.numel()
    first = torch.full((num_regions,), last, device=of.device)
    first = first.scatter_reduce(0, of[top], at[top], "amin")
    return first.masked_fill(first == last, 0)


def class_weights(counts: I64) -> F64:
    """(n_min / n)^(K^3), K the divergence of the shares of n from equal shares.

    Args:
        counts: int64 [C], n.

    Returns:
        float64 [C], in (0, 1]; 1 for classes without a pixel.

    Example:
        >>> class_weights(np.array([5, 5, 0])).tolist()
        [1.0, 1.0, 1.0]
        >>> class_weights(np.array([9, 1])).round(3).tolist()  # K = 0.368
        [0.896, 1.0]
    """
    found = np.ones(len(counts))
    there = counts > 0
    if not there.any():
        return found
    n = counts[there].astype(np.float64)
    shares = n / n.sum()
    divergence = float((shares * np.log(shares * len(shares))).sum())
    found[there] = (n.min() / n) ** max(0.0, divergence) ** 3
    return found
