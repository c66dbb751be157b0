"""Side maps in samples and heads of MMSegmentation 0.x; see `engines.mmseg.side_maps`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.parallel import DataContainer

from ...types import I32
from ..mmseg.domains import mixed
from ..mmseg.side_losses import AddedLoss, KnowsSides, install, modules, names
from ..mmseg.side_maps import PREFIX


def attach(sample: Any, maps: Mapping[str, I32]) -> None:
    """Put side maps, by name, into a collected sample."""
    for name, one in maps.items():
        sample[PREFIX + name] = DataContainer(torch.from_numpy(one[None]), stack=True)


def complete(samples: Sequence[Any], labels: str) -> None:
    """Give samples that lack a side map of others in their batch one of nothing, in place. labels:
    key of their labels."""
    for key in names([one for one in samples if isinstance(one, dict)], PREFIX):
        for sample in samples:
            if key not in sample:
                shape = sample[labels].data.shape
                nothing = torch.zeros(shape, dtype=torch.int32)
                sample[key] = DataContainer(nothing, stack=True)


class HeadWithSides(KnowsSides):
    """Mixin of a head."""

    def losses(self, seg_logit: Any, seg_label: Any, *more: Any, **named: Any) -> Any:
        """The head's losses, and the added ones."""
        parent: Any = super()
        losses = parent.losses(seg_logit, seg_label, *more, **named)
        return self.with_added(losses, seg_logit, seg_label[:, 0]) if self.added else losses


class WithSides:
    """Mixin of a segmentor that hands the side maps of a batch to its heads."""

    def forward_train(self, img: Any, img_metas: Any, *truth: Any, **more: Any) -> Any:
        """Losses of a batch."""
        parent: Any = super()
        keys = [key for key in more if key.startswith(PREFIX)]
        sides = {key.removeprefix(PREFIX): more.pop(key)[:, 0] for key in keys}
        heads = [one for name in ("decode_head", "auxiliary_head") for one in modules(self, name)]
        for head in heads:
            head.sides = sides
        try:
            return parent.forward_train(img, img_metas, *truth, **more)
        finally:
            for head in heads:
                head.sides = {}


def with_sides(model: Any, added: Sequence[AddedLoss] = ()) -> None:
    """Let the heads of a segmentor know side maps, in place. added: losses beside those of the
    decode head. Mixins that train it on further images must come after this one."""
    install(model, HeadWithSides, added)
    if not isinstance(model, WithSides):
        model.__class__ = mixed(WithSides, type(model))
