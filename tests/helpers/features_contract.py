"""What both MMSegmentation engines promise of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from regional_al.heuristics.diversity import region_features
from regional_al.types import PredictRequest


def units_get_their_own_features(engine: Any, trained: Path, size: tuple[int, int]) -> None:
    """Features that say where in the network's input they are end up at that place in the image,
    whatever the padding of the input. `size`: (h, w) of the input without padding."""
    model = engine.network(trained)

    def positions(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0].clone()
        h, w = x.shape[-2:]
        input_h, input_w = seen[0]
        x[:, 0] = ((torch.arange(h) + 0.5) * input_h / h)[:, None]
        x[:, 1] = ((torch.arange(w) + 0.5) * input_w / w)[None, :]
        return (x,)

    seen: list[tuple[int, int]] = []
    entry = model.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(tuple(args[0].shape[-2:]))
    )
    hook = model.decode_head.conv_seg.register_forward_pre_hook(positions)
    try:
        (prediction,) = engine.predict(trained, [0], PredictRequest(features=True))
    finally:
        entry.remove()
        hook.remove()
    assert seen[0] != size, "the input has no padding: the test shows nothing"
    height, width = engine.pool[0].shape
    regions = torch.arange(height * width).reshape(height, width)
    found = region_features(prediction.features, regions, height * width)[:, :2]
    cell = max(a / b for a, b in zip(seen[0], prediction.features.values.shape[-2:], strict=True))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([(y + 0.5) * size[0] / height, (x + 0.5) * size[1] / width], dim=-1)
    assert (found - place.reshape(-1, 2)).abs().max() <= cell / 2 + 1
