"""A labelled source data set beside the pool: what both generations of MMSegmentation share.

Active domain adaptation (Ning et al., ICCV 2021; Xie et al., CVPR 2022): the loss of a training
iteration is that of the labelled part of the pool plus a weight times that of a batch of the
source, which is labelled throughout. No framework.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import ConfigError
from ...runtime import distributed as dist
from ...types import LabelSpace

KEY = "source_dataloader"
SOURCE, TARGET = "source", "target"
log = logging.getLogger("regional_al")


def of_source(losses: Mapping[str, Any], weight: float) -> dict[str, Any]:
    """The source's entries of a model's losses: weighted, and named 'source.<name>'.

    Args:
        losses: Tensors or lists of them by name; what has no 'loss' in its name is only logged.
        weight: Of the source's losses.

    Example:
        >>> of_source({"decode.loss_ce": torch.tensor(4.0), "decode.acc_seg": 0.5}, 0.25)
        {'source.decode.loss_ce': tensor(1.), 'source.decode.acc_seg': 0.5}
    """
    found = {}
    for name, value in losses.items():
        # By its name, as mmseg tells losses from what is only logged.
        found[f"{SOURCE}.{name}"] = scaled(value, weight) if "loss" in name else value
    return found


def scaled(value: Any, weight: float) -> Any:
    """A loss tensor, or a list of them, times `weight`."""
    if isinstance(value, torch.Tensor):
        return value * weight
    return [item * weight for item in value]


def mixed(mixin: Any, parent: Any) -> Any:
    """A class of the parent's name that has the mixin's methods before its own."""
    return type(parent.__name__, (mixin, parent), {})


def loss_weight(value: Any) -> float:
    """`source_dataloader.loss_weight`. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigError(f"{KEY}.loss_weight={value!r} must be a number above 0")
    return float(value)


def check_label_space(source: LabelSpace, target: LabelSpace, pool: str, option: str) -> None:
    """The source's train ids must mean the pool's classes; other names at the same places are only
    told, because data sets call one thing by several names.

    Args:
        source: Of the source data set.
        target: Of the pool.
        pool: The key of the pool's data set.
        option: How a data set is given classes, with {} for them.

    Raises:
        ConfigError: Another number of classes, or the same names in another order.
    """
    if source.num_classes != target.num_classes:
        raise ConfigError(
            f"{KEY}.dataset has {source.num_classes} classes, {pool} "
            f"{target.num_classes}: give it {option.format('...')} of the latter, and masks with "
            "its ids"
        )
    pairs = zip(source.class_names, target.class_names, strict=True)
    other = [(ours, theirs) for ours, theirs in pairs if ours != theirs]
    if other and set(source.class_names) == set(target.class_names):
        raise ConfigError(
            f"{KEY}.dataset has the classes of {pool} in another order "
            f"({other[0][0]!r} where {other[0][1]!r} is): give it "
            f"{option.format(target.class_names)}"
        )
    if other and dist.is_main():
        log.warning(
            "%s.dataset: class %r is trained as %r%s",
            KEY,
            other[0][0],
            other[0][1],
            f", and {len(other) - 1} more" if other[1:] else "",
        )
