"""Logits of a batch from a network alone, without the data pipeline of a config."""

from __future__ import annotations

from typing import Any

import torch


def dense_logits(model: Any, data: torch.Tensor) -> torch.Tensor:
    """Logits float32 [N, C, H, W] of a batch [N, 3, H, W] as the network takes it (normalised).

    model: a segmentor of MMSegmentation 1.x or 0.x (its `encode_decode`), or any module that
    returns logits. One channel becomes two, [0, z]: softmax then gives the sigmoid.
    """
    if hasattr(model, "encode_decode"):
        size = tuple(data.shape[-2:])
        meta = dict.fromkeys(("ori_shape", "img_shape", "pad_shape"), size)
        logits: torch.Tensor = model.encode_decode(data, [meta] * len(data)).float()
    else:
        logits = model(data).float()
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return logits
