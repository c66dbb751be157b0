"""Side maps in samples and heads of MMSegmentation 1.x; see `engines.mmseg.side_maps`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.structures import PixelData

from ...types import I32
from ..mmseg.side_losses import AddedLoss, KnowsSides, aligned, install, names
from ..mmseg.side_maps import PREFIX


def attach(sample: Any, maps: Mapping[str, I32]) -> None:
    """Put side maps, by name, into a packed sample."""
    sample["data_samples"].set_data(
        {PREFIX + name: PixelData(data=torch.from_numpy(one[None])) for name, one in maps.items()}
    )


def sides_of(samples: Sequence[Any]) -> dict[str, torch.Tensor]:
    """The side maps of a batch by name, int32 [N, H, W]; zeros where a sample has none."""
    found = {}
    for key in names([dict.fromkeys(sample.keys()) for sample in samples], PREFIX):
        each = []
        for sample in samples:
            own = sample.get(key)
            each.append(aligned(None if own is None else own.data, sample.gt_sem_seg.data))
        found[key.removeprefix(PREFIX)] = torch.cat(each)
    return found


class HeadWithSides(KnowsSides):
    """Mixin of a head."""

    def loss_by_feat(
        self, seg_logits: Any, batch_data_samples: Any, *more: Any, **named: Any
    ) -> Any:
        """The head's losses, and the added ones."""
        parent: Any = super()
        self.sides = sides_of(batch_data_samples)
        try:
            losses = parent.loss_by_feat(seg_logits, batch_data_samples, *more, **named)
            if not self.added:
                return losses
            labels = torch.cat([sample.gt_sem_seg.data for sample in batch_data_samples])
            return self.with_added(losses, seg_logits, labels)
        finally:
            self.sides = {}


class SideMapHook(Hook):  # type: ignore[misc]
    """Lets the heads of a training know side maps.

    Args:
        added: Losses beside those of the decode head.
    """

    priority = "VERY_HIGH"

    def __init__(self, added: Sequence[AddedLoss] = ()) -> None:
        self.added = tuple(added)

    def before_train(self, runner: Any) -> None:
        """Install them."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        install(model, HeadWithSides, self.added)
