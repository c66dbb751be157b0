"""Seeing one image in several ways: dropout passes, the classifier's input, readable failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import RegionalALError, UnsupportedError
from .base import PredictRequest
from .specs import first_line

DROPOUT = nn.modules.dropout._DropoutNd


def dropouts(model: Any) -> list[Any]:
    """The model's dropout layers that do something."""
    return [m for m in model.modules() if isinstance(m, DROPOUT) and m.p > 0]


@contextmanager
def dropout_on(model: Any, seed: int, device: torch.device) -> Iterator[None]:
    """Dropout layers on, with noise of this seed alone; torch's generators stay as they were."""
    layers = dropouts(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()


def pass_seed(index: int, number: int) -> int:
    """Seed of one dropout pass over one image: the same whatever rank sees it."""
    return 1_000_003 * (index + 1) + number


def order(request: PredictRequest) -> list[tuple[int, bool]]:
    """(pass, flipped) of each view of one model: all passes, then all passes of the flip."""
    flips = (False, True) if request.flip else (False,)
    return [(number, flipped) for flipped in flips for number in range(request.passes)]


def refuse_without_dropout(model: Any, passes: int, fix: str) -> None:
    """Raise UnsupportedError for several passes of a model without dropout: all would be one."""
    if passes > 1 and not dropouts(model):
        raise UnsupportedError(
            f"{passes} passes need dropout, but the model has no dropout layer: {fix}"
        )


def classifier(model: Any) -> Any:
    """The layer that makes logits: `conv_seg` of the last decode head, or, in a model without
    heads, its last Conv2d. None where there is none."""
    head = getattr(model, "decode_head", None)
    if head is None:
        return next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Conv2d)), None)
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    return getattr(head, "conv_seg", None)


@contextmanager
def captured(model: Any, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """What enters the `classifier`, float [D, h, w] a call; empty for models without one and, so
    that all images of a pool are alike, for sliding windows, whatever number an image takes."""
    found: list[torch.Tensor] = []
    layer = classifier(model)
    slides = dict(getattr(model, "test_cfg", None) or {}).get("mode") == "slide"
    if not wanted or layer is None or slides:
        yield found
        return
    handle = layer.register_forward_pre_hook(lambda _, args: found.append(args[0][0].float()))
    try:
        yield found
    finally:
        handle.remove()


def sample_or_reason(make: Any, path: str) -> Any:
    """What `make()` gives, or one line naming the image that it failed on (exceptions would cross
    data workers as tracebacks)."""
    try:
        return make()
    except RegionalALError as error:
        return str(error)
    except Exception as error:  # cv2, Pillow and transforms raise all kinds on a damaged image
        return f"{path} cannot be read or transformed: {first_line(error)}"


def same(value: Any) -> Any:
    """A collate function that does nothing."""
    return value
