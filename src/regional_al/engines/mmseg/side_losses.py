"""Side maps at the loss: heads that know those of a batch, and losses added to a head's own. Only
torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import nn

from ...errors import UnsupportedError
from ...types import UNLABELED
from .domains import mixed

Sides = Mapping[str, torch.Tensor]
"""Name of a side map -> int32 [N, H, W], aligned with the labels of a batch."""
AddedLoss = Callable[[torch.Tensor, torch.Tensor, Sides], Mapping[str, torch.Tensor]]
"""(logits float32 [N, C, H, W], labels int64 [N, H, W], side maps) -> losses by name. The names are
always the same."""


class KnowsSides:
    """Base of the mixins of heads.

    Attributes:
        sides: Side maps of the batch whose loss is being computed, also for pixel samplers, which
            hold the head as `context`; empty otherwise.
        added: Losses beside the head's own.
    """

    sides: Sides = {}  # noqa: RUF012 - never changed in place
    added: tuple[AddedLoss, ...] = ()
    align_corners: bool

    def with_added(
        self, losses: Mapping[str, Any], logits: Any, labels: torch.Tensor
    ) -> dict[str, Any]:
        """The losses of the head and the added ones.

        Args:
            losses: Of the head.
            logits: [N, C, h, w], as the head compares them with labels.
            labels: int64 [N, H, W].

        Raises:
            UnsupportedError: The head compares something else with labels.
        """
        found = dict(losses)
        if not self.added:
            return found
        if not isinstance(logits, torch.Tensor) or logits.dim() != 4:
            raise UnsupportedError(
                f"model.decode_head ({type(self).__name__}) has no map of logits [N, C, h, w]: "
                "use another head, or leave out what adds losses to its own"
            )
        full = nnf.interpolate(
            logits.float(), labels.shape[1:], mode="bilinear", align_corners=self.align_corners
        )
        for one in self.added:
            found.update(one(full, labels, self.sides))
        return found


def modules(model: Any, name: str) -> list[Any]:
    """The heads of a segmentor that stand under a name, such as 'decode_head'."""
    found = getattr(model, name, None)
    if found is None:
        return []
    return list(found) if isinstance(found, nn.ModuleList) else [found]


def install(model: Any, mixin: Any, added: Sequence[AddedLoss] = ()) -> None:
    """Let all heads of a segmentor know the side maps of a batch, in place.

    Args:
        model: The segmentor.
        mixin: Of heads; a `KnowsSides`.
        added: Losses beside those of the (last) decode head.
    """
    heads = [*modules(model, "decode_head"), *modules(model, "auxiliary_head")]
    for head in heads:
        if not isinstance(head, mixin):
            head.__class__ = mixed(mixin, type(head))
    last = modules(model, "decode_head")[-1:]
    for head in last:
        head.__dict__["added"] = tuple(added)


def aligned(value: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
    """A side map int32 [1, h, w] of a sample at the size of its padded labels [1, H, W], below and
    to the right of which batches are padded; None: zeros."""
    if value is None:
        return torch.zeros_like(labels, dtype=torch.int32)
    more = [labels.shape[-1] - value.shape[-1], labels.shape[-2] - value.shape[-2]]
    return nnf.pad(value, (0, more[0], 0, more[1]))


def without_labels(side: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A side map [N, H, W] that is 0 where there is a label."""
    return side.masked_fill(labels != UNLABELED, 0)


def names(samples: Sequence[Mapping[str, Any]], prefix: str) -> Iterator[str]:
    """Keys of samples that begin so, each once."""
    yield from dict.fromkeys(
        key for one in samples for key in one if isinstance(key, str) and key.startswith(prefix)
    )
