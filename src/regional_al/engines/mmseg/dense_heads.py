"""Whether a model gives a logit of each class at each pixel. No framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...errors import UnsupportedError
from ..specs import dicts, heads, predicts_sets, type_name


def check_dense(model: Any, key: str, otherwise: str) -> None:
    """Raise UnsupportedError for a model config whose decode head gives no such logits.

    Args:
        model: The config.
        key: What needs them, for the message.
        otherwise: What to do without another head.
    """
    for name, head in heads(model):
        if not name.startswith("model.decode_head"):
            continue
        if predicts_sets(head):
            raise UnsupportedError(
                f"{key} needs logits of each pixel, but {name} ({type_name(head)}) predicts a set "
                f"of masks: use another head, or {otherwise}"
            )
        if 1 in (head.get("num_classes"), head.get("out_channels")):
            raise UnsupportedError(
                f"{key} needs a logit for each class, which {name} with one channel has not: give "
                "it num_classes=2 without out_channels"
            )
        if any(spec.get("use_sigmoid") for spec in dicts(head.get("loss_decode"))):
            raise UnsupportedError(
                f"{key} takes the softmax of logits, but {name}.loss_decode has use_sigmoid=True: "
                "use a CrossEntropyLoss without it"
            )


def check_logits(
    model: Any, logits: Callable[[], torch.Tensor], num_classes: int, key: str, otherwise: str
) -> None:
    """Raise UnsupportedError for a segmentor that gives no such logits.

    Args:
        model: The segmentor.
        logits: Computes those of a batch, [N, C, H, W].
        num_classes: C that there should be.
        key: What needs them, for the message.
        otherwise: What to do without another head.
    """
    head = getattr(model, "decode_head", None)
    last = head[-1] if isinstance(head, nn.ModuleList) and len(head) else head
    who = f"model.decode_head ({type(last).__name__})"
    if head is None or not hasattr(model, "extract_feat"):
        raise UnsupportedError(
            f"{key} needs an EncoderDecoder, with features and a decode head: "
            f"model.type={type(model).__name__!r} has none"
        )
    try:
        with torch.no_grad():
            found = logits()
    except Exception as error:  # heads and backbones raise all kinds
        text = str(error).strip().splitlines()
        raise UnsupportedError(
            f"{key} needs logits [N, C, h, w] of each pixel from {who}: "
            f"{text[0] if text else type(error).__name__}; use a head that gives them, or "
            f"{otherwise}"
        ) from None
    if found.shape[1] != num_classes:
        raise UnsupportedError(
            f"{key}: {who} gives {found.shape[1]} logits a pixel, there are {num_classes} classes"
        )
