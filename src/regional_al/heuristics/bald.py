"""BALD: what several predictions of one image disagree about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from .. import functional
from ..checks import integer
from ..errors import ConfigError
from ..types import PredictRequest
from .base import HEURISTICS, Heuristic, Observation


@HEURISTICS.register("BALD")
class BALD(Heuristic):
    """Mutual information between the label and the model: certain passes that contradict.

    Source: Houlsby et al., arXiv 1112.5745; passes by MC dropout: Gal et al., "Deep Bayesian Active
        Learning with Image Data", ICML 2017.
    Score: H[mean_t p_t] - mean_t H[p_t] of a pixel over T predictions, in nats, 0..ln C; mean over
        a region, window or image.
    Cost: T passes of the heads and one of the backbone (T of both where a backbone has dropout);
        memory of two running sums (C H W and H W), and of an image's features (1 GiB at most; what
        is beyond is computed T times).
    Deviations: units and windows take the mean of the pixels' scores, not a joint score of a batch.
    Example: dict(level='region', heuristic=dict(type='BALD', passes=10))

    `passes` predictions are made with dropout layers switched on; a model without any is refused.
    The noise depends on image and pass alone, so it is the same on any number of processes. With
    `checkpoints`, files of the same model, the T predictions are those of the current model and of
    each file, without dropout, and `passes` is not used.
    """

    def __init__(self, passes: int = 10, checkpoints: Sequence[str | Path] | None = None) -> None:
        integer("heuristic BALD: passes", passes, 2)
        if checkpoints is None:
            self.needs = PredictRequest(passes=passes)
        else:
            self.needs = PredictRequest(ensemble=existing(checkpoints))

    def pixel_scores(self, seen: Observation) -> torch.Tensor:
        return functional.bald(seen.views())


def existing(checkpoints: Sequence[str | Path], where: str = "heuristic BALD") -> tuple[Path, ...]:
    """The files as paths. Raises ConfigError for none at all and for one that is not there."""
    if isinstance(checkpoints, (str, Path)) or not checkpoints:
        raise ConfigError(f"{where}: checkpoints={checkpoints!r} must be a list of files")
    paths = tuple(Path(path) for path in checkpoints)
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{where}: checkpoints: {path} does not exist")
    return paths
