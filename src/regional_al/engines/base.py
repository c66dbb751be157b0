"""The engine protocol: everything the loop asks of a training framework.

An engine is stateless between calls: what a call needs comes in as a checkpoint path, so that a
run killed anywhere goes on from files. It is called on every rank; `predict` is local to a rank
(no collective inside), `fit` and `evaluate` may use the process group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..types import I64, FeatureMap, LabelSpace, PoolItem, PredictRequest, RoundInit

if TYPE_CHECKING:
    from ..store.labels import LabelStore


@dataclass(frozen=True)
class FitRequest:
    """One training stretch.

    init: 'scratch' = the model as the config builds it (with its init_cfg / pretrained backbone);
    'pretrained' = weights from the config's `load_from`, every round; 'continue' = weights of
    `previous` (round 0: `load_from` if set). Optimizer and schedule start afresh in all three.
    until: None for a training of its own. Else one stretch of a continuous run (`queries=[...]`):
    restore model, optimizer, schedule and iteration count from `previous` (None: start as `init`
    says) and stop at this iteration of the config's own schedule; -1 = at the schedule's end.
    iterations: length of this training instead of the config's own, its schedule stretched with it.
    out_dir: an empty folder of this stretch; the engine leaves its final checkpoint and logs there.
    """

    round: int
    seed: int
    store: LabelStore
    out_dir: Path
    init: RoundInit = "scratch"
    previous: Path | None = None
    until: int | None = None
    iterations: int | None = None


@dataclass(frozen=True)
class FitResult:
    """checkpoint: file that `predict`, `evaluate` and the next `fit` take. iterations: optimizer
    steps of this stretch. label_share: labelled pixels that reached the loss / labelled pixels of
    the samples that were drawn (1.0 = none lost to resizing or cropping), NaN if unknown."""

    checkpoint: Path
    iterations: int
    label_share: float
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """index into the pool; logits float [C, H, W] at annotation resolution (any device); `more`:
    an iterator over such tensors, one a further view: first all passes, then all passes of the
    flip (flipped back), then the ensemble; features when asked for: a
    tensor float [D, h, w] whose cells cover the image evenly, or a FeatureMap."""

    index: int
    logits: torch.Tensor
    more: Iterator[torch.Tensor] | None = None
    features: torch.Tensor | FeatureMap | None = None


class Engine(Protocol):
    """A training framework, seen from the loop."""

    label_space: LabelSpace
    pool: Sequence[PoolItem]
    """Images of the training data set, in its own order; keys are unique."""

    def preflight(self) -> None:
        """Raise ConfigError / DataError / UnsupportedError before any training: model and losses
        that cannot take sparse labels, validation files missing or of the wrong size or ids,
        unreadable images. Never opens the pool's annotations (the oracle checks those)."""

    def fit(self, request: FitRequest) -> FitResult: ...

    def predict(
        self, checkpoint: Path | None, indices: Sequence[int], request: PredictRequest
    ) -> Iterator[Prediction]:
        """Un-augmented, streamed, in the order of `indices`; checkpoint None = the config start."""

    def evaluate(self, checkpoint: Path | None) -> I64:
        """Confusion matrix int64 [C, C], rows = truth, over the validation set, void left out."""


def has_source(engine: Engine) -> bool:
    """True when the engine also trains on a labelled source data set, so that `fit` works before
    there are labels. Said by an attribute `has_source`; an engine without it has none."""
    return bool(getattr(engine, "has_source", False))
