"""BAAL's heuristics by name (`baal.BALD`, ...). BAAL is imported when one of them is built."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import kernels
from ...checks import choice, integer
from ...errors import ConfigError, EnvironmentProblem, ScoreError, UnsupportedError
from ...heuristics.base import HEURISTICS, Heuristic, Observation, PixelHeuristic
from ...heuristics.disagreement import existing_files
from ...registry import nearest
from ...types import F32, F64, PredictRequest

PIP = "pip install 'regional-al[baal]'"
REDUCTIONS = ("none", "mean", "sum", "max", "min")
FIRST_MOMENT = ("Entropy", "Margin", "Certainty")
"""Classes of BAAL that look at the mean over the passes alone."""

_STOCHASTIC = "use dict(type='Stochastic', heuristic='baal.BALD', kind={!r}, beta=1/temperature)"
REFUSED = {
    "AbstractHeuristic": "is the base class; name one derived from it",
    "BatchBALD": "scores a batch from the predictions of the whole pool at once, [N, C, T], which "
    "are never kept; use dict(type='Stochastic', heuristic='baal.BALD')",
    "EPIG": "takes [N, C, T] and the predictions of a second data set; use 'baal.BALD'",
    "Precomputed": "takes scores, not predictions; register a heuristic of your own",
    "CombineHeuristics": "is for models with several outputs; use dict(type='Combine', parts=...)",
    "StochasticHeuristic": _STOCHASTIC.format("power"),
    "PowerSampling": _STOCHASTIC.format("power"),
    "GibbsSampling": _STOCHASTIC.format("softmax"),
    "RankBasedSampling": _STOCHASTIC.format("rank"),
}
"""Classes of BAAL that cannot score one image after another, with what to use instead."""

IN_MEMORY = 1 << 28
"""Bytes of passes of one image up to which they stay in memory; above, a temporary file."""
CHUNK = 1 << 21
"""Probabilities that are handed to BAAL at a time."""


class BaalHeuristic(PixelHeuristic):
    """A `baal.active.heuristics` object, fed with the probabilities of one image after another.

    Source: the object's own `compute_score` (BAAL, https://github.com/baal-org/baal), on
        probabilities float64 [1, C, rows, W, T]; never logits, which some of its classes would take
        for probabilities and others turn into some by guessing.
    Score: of a pixel, what the object computes, negated where BAAL ranks low values first (Margin,
        Certainty), and averaged over classes where it gives one a class (Variance); over a region
        or image its mean, or what `reduction` says.
    Cost: T forward passes. Classes that need all passes at once keep them for one image at a time:
        4 C H W T bytes in memory, above 256 MiB in a temporary file.
    Deviations: with several classes BAAL ranks whole images alone, and `reduction` is over an
        image's pixels; here it is over the pixels of a unit. Its `shuffle_prop` is refused, since
        it draws from numpy's global generator.
    Example: dict(level='region', heuristic=dict(type='baal.BALD', passes=10))

    passes: predictions with dropout layers switched on; None: 1 for Entropy, Margin and Certainty,
    else 10. checkpoints: files of the same model, an ensemble with the current one instead of
    passes. reduction: 'mean' (also: 'none'), 'sum', 'max' or 'min'; None: the object's own. Windows
    take the mean alone. Raises ConfigError, UnsupportedError.
    """

    def __init__(
        self,
        heuristic: Any,
        passes: int | None = None,
        checkpoints: Sequence[str | Path] | None = None,
        reduction: str | None = None,
    ) -> None:
        self.baal = heuristic
        self.may_be_negative = not heuristic.reversed
        self.name = f"baal.{type(heuristic).__name__}"
        where = f"heuristic {self.name}"
        if getattr(heuristic, "shuffle_prop", 0.0) > 0:
            raise UnsupportedError(
                f"{where}: shuffle_prop={heuristic.shuffle_prop} is not offered: leave it out, or "
                "use dict(type='Stochastic', heuristic=...), which is seeded"
            )
        given = reduction or getattr(heuristic, "_reduction_name", "none")
        self.reduction = choice(f"{where}: reduction", given, REDUCTIONS)
        if self.reduction not in ("none", "mean"):
            self.regions = ("units",)
        self.may_be_negative = not getattr(heuristic, "reversed", True)  # low values first: negated
        self.mean_alone = _is_baal(heuristic) and type(heuristic).__name__ in FIRST_MOMENT
        least = 1 if self.mean_alone else 2
        if passes is None:
            passes = 1 if self.mean_alone else 10
        needs = PredictRequest(passes=integer(f"{where}: passes", passes, least))
        if checkpoints is not None:
            needs = PredictRequest(ensemble=existing_files(checkpoints, where))
        self.needs, self.views = needs, needs.views

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        passes = probabilities(seen.views(), self.views, self.mean_alone)
        _, classes, height, width = passes.shape
        rows = max(1, CHUNK // (len(passes) * classes * width))
        out = np.empty((height, width), dtype=np.float32)
        for top in range(0, height, rows):
            part = passes[:, :, top : top + rows].astype(np.float64)
            out[top : top + rows] = self.score(np.moveaxis(part, 0, -1)[None])
        return torch.from_numpy(out).to(seen.logits.device)

    def score(self, predictions: F64) -> F64:
        """Probabilities [1, C, H, W, T] -> scores [H, W], higher = ask for it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                raw = np.asarray(self.baal.compute_score(predictions), dtype=np.float64)
        except Exception as error:  # whatever BAAL or a class derived from it raises
            raise ScoreError(
                f"heuristic {self.name!r} fails on probabilities of shape "
                f"{list(predictions.shape)}: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from None
        shape = predictions.shape[2:4]
        if raw.shape[:1] != (1,) or raw.shape[-2:] != shape:
            raise ScoreError(
                f"heuristic {self.name!r} gives scores of shape {list(raw.shape)} for an image of "
                f"{list(shape)} pixels; only scores of pixels can be used"
            )
        if not np.isfinite(raw).all():
            raise ScoreError(f"heuristic {self.name!r} gives scores that are NaN or infinite")
        per_class = raw.reshape(-1, *shape)
        how: dict[str, Any] = {"sum": np.sum, "max": np.max, "min": np.min}
        scores: F64 = how.get(self.reduction, np.mean)(per_class, axis=0)
        return scores if self.baal.reversed else -scores

    def unit_scores(
        self, seen: Observation, regions: torch.Tensor, num_regions: int
    ) -> torch.Tensor:
        scores = self.pixel_scores(seen)
        if self.reduction in ("none", "mean"):
            return kernels.region_mean(scores, regions, num_regions)
        ids = regions.to(scores.device).long().ravel()
        if self.reduction == "sum":
            area = torch.bincount(ids, minlength=num_regions)
            return kernels.region_mean(scores, regions, num_regions) * area
        largest = (self.reduction == "max") == bool(self.baal.reversed)  # of the score, signed
        empty = torch.full((num_regions,), float("nan"), device=scores.device)
        how = "amax" if largest else "amin"
        return empty.scatter_reduce(0, ids, scores.ravel(), how, include_self=False)


def probabilities(views: Iterator[torch.Tensor], count: int, mean_alone: bool) -> F32:
    """Softmax of the logits [C, H, W] of `count` views: float32 [count, C, H, W], or their mean,
    [1, C, H, W]. Raises ScoreError for NaN or infinite logits."""
    out: F32 | None = None
    for number, logits in enumerate(views):
        if not bool(torch.isfinite(logits).all()):
            raise ScoreError("logits hold NaN or infinite values: has the training diverged?")
        p = torch.softmax(logits.detach().float(), dim=0).cpu().numpy()
        if out is None:
            out = _room((1 if mean_alone else count, *p.shape))
        if mean_alone:
            out[0] += p
        else:
            out[number] = p
    assert out is not None
    return np.divide(out, count, out=out) if mean_alone else out


def _room(shape: tuple[int, ...]) -> F32:
    """Zeros; in a temporary file, gone when it is, where they would fill the memory."""
    if 4 * int(np.prod(shape)) <= IN_MEMORY:
        return np.zeros(shape, dtype=np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, mode="w+", shape=shape)


def find(name: str) -> Callable[..., Heuristic]:
    """What builds `baal.<name>`. Raises EnvironmentProblem without BAAL, ConfigError for a name
    that it does not have, UnsupportedError for one that cannot work here."""
    if name in REFUSED:
        raise UnsupportedError(f"heuristic 'baal.{name}' {REFUSED[name]}")
    if name == "Random":
        return _random
    known = _classes(name)
    if name not in known:
        raise ConfigError(f"BAAL has no heuristic {name!r}.{nearest(name, {*known, 'Random'})}")
    return partial(_build, known[name])


def _build(
    of: Callable[..., Any],
    passes: int | None = None,
    checkpoints: Sequence[str | Path] | None = None,
    **arguments: Any,
) -> Heuristic:
    where = f"heuristic baal.{getattr(of, '__name__', of)}"
    if "reduction" in arguments:
        choice(f"{where}: reduction", arguments["reduction"], REDUCTIONS)
    reduction = arguments.pop("reduction", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BaalHeuristic(of(**arguments), passes, checkpoints, reduction)


def _random(reduction: str = "none", seed: int | None = None) -> Heuristic:
    """BAAL's Random is ours: no prediction, uniform."""
    if seed is not None:
        raise ConfigError(
            f"heuristic baal.Random: seed={seed} is not offered: the draw follows acquisition.seed"
        )
    return HEURISTICS.build("Random")


def _classes(name: str) -> dict[str, Callable[..., Any]]:
    """Classes of baal.active.heuristics that work here, by name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from baal.active import heuristics
    except ImportError as error:
        raise EnvironmentProblem(f"heuristic 'baal.{name}' needs BAAL ({error}): {PIP}") from None
    base = heuristics.AbstractHeuristic
    found = {n: c for n, c in vars(heuristics).items() if isinstance(c, type)}
    return {n: c for n, c in found.items() if issubclass(c, base) and n not in REFUSED}


def _is_baal(heuristic: Any) -> bool:
    return type(heuristic).__module__.partition(".")[0] == "baal"
