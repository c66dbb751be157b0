"""Disagreement of several predictions of one image: BALD, EquAL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from .. import functional
from ..checks import integer
from ..errors import ConfigError
from ..types import PredictRequest
from .base import HEURISTICS, Observation, PixelHeuristic


@HEURISTICS.register("BALD")
class BALD(PixelHeuristic):
    """Mutual information between label and model: passes that are certain but contradict.

    The noise depends on image and pass alone, so it is the same on any number of processes.

    Args:
        passes: Number T of predictions, made with dropout layers switched on; a model without any
            is refused.
        checkpoints: Files of the same model. The T predictions are then those of the current model
            and of each file, without dropout, and `passes` is not used.

    Source:
        Houlsby et al., arXiv 1112.5745; passes by MC dropout: Gal et al., "Deep Bayesian Active
        Learning with Image Data", ICML 2017.
    Score:
        H[mean_t p_t] - mean_t H[p_t] of a pixel over T predictions, in nats, 0..ln C; mean over a
        region, window or image.
    Cost:
        T passes of the heads and one of the backbone (T of both where a backbone has dropout);
        memory of two running sums (C H W and H W), and of an image's features (1 GiB at most; what
        exceeds that is computed T times).
    Deviations:
        Units and windows take the mean of the pixels' scores, not a joint score of a batch.
    Config:
        dict(level='region', heuristic=dict(type='BALD', passes=10))
    Example:
        >>> import torch
        >>> from regional_al.heuristics import BALD, Observation
        >>> first = torch.tensor([[[9.0]], [[-9.0]]])
        >>> seen = Observation(first, more=iter([-first]))
        >>> round(BALD(passes=2).pixel_scores(seen).item(), 3)
        0.693
    """

    def __init__(self, passes: int = 10, checkpoints: Sequence[str | Path] | None = None) -> None:
        integer("heuristic BALD: passes", passes, 2)
        if checkpoints is None:
            self.needs = PredictRequest(passes=passes)
        else:
            self.needs = PredictRequest(ensemble=existing_files(checkpoints))

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.bald(seen.views())


def existing_files(
    checkpoints: Sequence[str | Path], where: str = "heuristic BALD"
) -> tuple[Path, ...]:
    """The files as paths. Raises ConfigError for none at all and for one that does not exist."""
    if isinstance(checkpoints, (str, Path)) or not checkpoints:
        raise ConfigError(f"{where}: checkpoints={checkpoints!r} must be a list of files")
    paths = tuple(Path(path) for path in checkpoints)
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{where}: checkpoints: {path} does not exist")
    return paths


@HEURISTICS.register("EquAL")
class EquAL(PixelHeuristic):
    """Entropy of the predictions for the image and its mirror image.

    Source:
        Golestaneh and Kitani, "Importance of Self-Consistency in Active Learning for Semantic
        Segmentation", BMVC 2020.
    Score:
        (H(p) + H(p')) / 2 of a pixel, nats, 0..ln C, with p' the prediction for the horizontally
        flipped image, flipped back before padding or crops are undone; mean over a region, window
        or image.
    Cost:
        Two forward passes and one pass over the logits of each.
    Deviations:
        The paper also trains with a loss that draws p and p' together; only the acquisition is
        here.
    Example:
        >>> import torch
        >>> from regional_al.heuristics import EquAL, Observation
        >>> sure, unsure = torch.tensor([[[99.0]], [[0.0]]]), torch.zeros(2, 1, 1)
        >>> round(EquAL().pixel_scores(Observation(sure, more=iter([unsure]))).item(), 4)
        0.3466
    """

    needs = PredictRequest(flip=True)

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return torch.stack([functional.entropy(view) for view in seen.views()]).mean(0)
