"""A segmentor that trains on batches of two domains: the sum of both domains' own losses.

Everything stays one forward pass of the model that mmengine wraps, so DistributedDataParallel,
mixed precision and gradient accumulation work as they are. Parameters keep their names.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmseg.registry import MODELS

DOMAIN = "domain"  # key of a sample's metainfo; absent: target
SOURCE, TARGET = "source", "target"


class SplitByDomain:
    """Mixin of a data preprocessor: in training, each domain is stacked on its own (they may have
    different sizes). {'inputs': {domain: [N, 3, H, W]}, 'data_samples': {domain: [...]}}."""

    def forward(self, data: Any, training: bool = False) -> Any:
        """As the parent, a domain at a time."""
        parent: Any = super()
        if not training:
            return parent.forward(data, training)
        places: dict[str, list[int]] = {}
        for place, sample in enumerate(data["data_samples"]):
            places.setdefault(sample.get(DOMAIN, TARGET), []).append(place)
        parts = {
            domain: parent.forward(
                {key: [values[i] for i in mine] for key, values in data.items()}, training
            )
            for domain, mine in places.items()
        }
        keys = next(iter(parts.values()))
        return {key: {domain: part[key] for domain, part in parts.items()} for key in keys}


class SumOfDomains:
    """Mixin of a segmentor: loss(target) + source_weight * loss(source), each by the parent's
    `loss` on that domain alone: averaged over its own labelled pixels, with batch norm over its
    own images. The source's entries are named 'source.<name>'."""

    source_weight: float

    def loss(self, inputs: Any, data_samples: Any) -> dict[str, Any]:
        """Losses of all domains of the batch, the source first."""
        parent: Any = super()
        if not isinstance(inputs, Mapping):
            whole: dict[str, Any] = parent.loss(inputs, data_samples)
            return whole
        losses: dict[str, Any] = {}
        if SOURCE in inputs:
            own = parent.loss(inputs[SOURCE], data_samples[SOURCE])
            for name, value in own.items():
                # By its name, as mmengine's parse_losses tells losses from what is only logged.
                weight = self.source_weight if "loss" in name else 1.0
                losses[f"{SOURCE}.{name}"] = scaled(value, weight)
        if TARGET in inputs:
            losses.update(parent.loss(inputs[TARGET], data_samples[TARGET]))
        return losses


def scaled(value: Any, weight: float) -> Any:
    """A loss tensor, or a list of them, times `weight`."""
    if isinstance(value, torch.Tensor):
        return value * weight
    return [item * weight for item in value]


@MODELS.register_module(name="WithSource")  # type: ignore[untyped-decorator]
def with_source(segmentor: Any, weight: float, data_preprocessor: Any = None) -> Any:
    """Build a segmentor from its config and make it train on both domains.

    data_preprocessor: of the config's top level, for a segmentor that has none of its own.
    """
    spec = copy.deepcopy(segmentor)
    if data_preprocessor is not None:
        spec.setdefault("data_preprocessor", data_preprocessor)
    model = MODELS.build(spec)
    model.__class__ = mixed(SumOfDomains, type(model))
    model.source_weight = weight
    preprocessor = model.data_preprocessor
    preprocessor.__class__ = mixed(SplitByDomain, type(preprocessor))
    return model


def mixed(mixin: Any, parent: Any) -> Any:
    """A class of the parent's name that has the mixin's methods before its own."""
    return type(parent.__name__, (mixin, parent), {})
