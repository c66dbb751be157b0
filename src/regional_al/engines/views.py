"""Seeing one image in several ways: dropout passes, the classifier's input, readable failures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_map

from ..errors import RegionalALError, UnsupportedError
from ..types import PredictRequest
from .specs import first_line

DROPOUT = nn.modules.dropout._DropoutNd
KEPT = 1 << 30
"""Bytes of features that are kept of an image."""


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


class Passes:
    """Dropout passes over one image. Where all dropout is in the heads, which it is in most
    segmentors, backbone and neck see the image once: their features are the same in every pass.
    They are kept up to `KEPT` bytes; windows beyond are seen again."""

    def __init__(self, model: Any, index: int, device: torch.device) -> None:
        self.model, self.index, self.device = model, index, device
        self.kept = Kept() if heads_alone(model) else None
        self.flipped = False

    @contextmanager
    def on(self, number: int, flipped: bool) -> Iterator[None]:
        """One pass: dropout with noise of this image and pass alone, features from an earlier one
        of the same orientation if there was one."""
        with dropout_on(self.model, pass_seed(self.index, number), self.device):
            if self.kept is None:
                yield
                return
            if flipped != self.flipped:
                self.forget()
                self.flipped = flipped
            with self.kept.used_by(self.model):
                yield

    def forget(self) -> None:
        """Free the memory of the features."""
        if self.kept is not None:
            self.kept = Kept()


class Kept:
    """Features of one image by the number of the call in a pass: the windows of sliding inference
    come in order."""

    def __init__(self) -> None:
        self.found: dict[int, Any] = {}
        self.bytes = 0

    @contextmanager
    def used_by(self, model: Any) -> Iterator[None]:
        """`model.extract_feat` computes what is not kept yet and hands out copies, which a head may
        change."""
        extract, calls = model.extract_feat, itertools.count()

        def once(*args: Any, **kwargs: Any) -> Any:
            call = next(calls)
            if call in self.found:
                return copied(self.found[call])
            features = extract(*args, **kwargs)
            size = bytes_of(features)
            if self.bytes + size > KEPT:
                return features
            self.bytes += size
            self.found[call] = features
            return copied(features)

        model.extract_feat = once  # hides the method
        try:
            yield
        finally:
            del model.extract_feat


def heads_alone(model: Any) -> bool:
    """Whether what a segmentor does before its heads is the same in every dropout pass."""
    heads = [getattr(model, name, None) for name in ("decode_head", "auxiliary_head")]
    inside = {id(m) for head in heads if isinstance(head, nn.Module) for m in dropouts(head)}
    return hasattr(model, "extract_feat") and all(id(m) in inside for m in dropouts(model))


def copied(features: Any) -> Any:
    """A tensor, or tuples, lists and dicts of tensors, with memory of their own."""
    return tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, features)


def bytes_of(features: Any) -> int:
    """Memory of all tensors in tuples, lists and dicts."""
    return sum(x.nbytes for x in tree_flatten(features)[0] if isinstance(x, torch.Tensor))


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
def captured(model: Any, wanted: bool, head: bool = True) -> Iterator[list[torch.Tensor]]:
    """Features of an image, float [D, h, w] a call: what enters the `classifier`, or, without the
    head, the last feature map of the backbone. Empty for models without one and, so that all images
    of a pool are alike, for sliding windows, whatever number an image takes."""
    found: list[torch.Tensor] = []
    slides = dict(getattr(model, "test_cfg", None) or {}).get("mode") == "slide"
    backbone, layer = getattr(model, "backbone", None), classifier(model)
    if not wanted or slides:
        handle = None
    elif not head and isinstance(backbone, nn.Module):
        handle = backbone.register_forward_hook(lambda _, args, out: found.extend(last_map(out)))
    elif layer is not None:
        handle = layer.register_forward_pre_hook(lambda _, args: found.append(args[0][0].float()))
    else:
        handle = None
    try:
        yield found
    finally:
        if handle is not None:
            handle.remove()


def last_map(out: Any) -> list[torch.Tensor]:
    """The last feature map [D, h, w] of the first image that a backbone gives; none where its last
    output is no map."""
    last = out[-1] if isinstance(out, (list, tuple)) and out else out
    if isinstance(last, torch.Tensor) and last.ndim == 4:
        return [last[0].float()]
    return []


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


def dense_logits(model: Any, data: torch.Tensor) -> torch.Tensor:
    """Logits float32 [N, C, H, W] of a batch [N, 3, H, W] as the network takes it (normalised).

    model: a segmentor of MMSegmentation 1.x or 0.x (its `encode_decode`), or any module that
    returns logits. One channel becomes two, see `two_channels`.
    """
    if hasattr(model, "encode_decode"):
        size = tuple(data.shape[-2:])
        meta = dict.fromkeys(("ori_shape", "img_shape", "pad_shape"), size)
        logits: torch.Tensor = model.encode_decode(data, [meta] * len(data)).float()
    else:
        logits = model(data).float()
    return two_channels(logits, threshold_of(model), dim=1)


def threshold_of(model: Any) -> float:
    """The probability above which a one-channel head predicts its class; 0.5 for other models."""
    found = getattr(getattr(model, "decode_head", None), "threshold", None)
    return 0.5 if found is None else float(found)


def two_channels(logits: torch.Tensor, threshold: float = 0.5, dim: int = 0) -> torch.Tensor:
    """Logits of a one-channel head as those of two classes; others as they are.

    Args:
        logits: With C along `dim`.
        threshold: Probability above which the head predicts its class.
        dim: Of the channels.

    Returns:
        [b, z], where z are the logits and b is that of the threshold: the larger one is what the
        head predicts, and pixels at the threshold are the uncertain ones. At 0.5, b is 0 and
        softmax gives the sigmoid.

    Example:
        >>> two_channels(torch.tensor([[0.5, 2.0]]), 0.8).argmax(0).tolist()
        [0, 1]
    """
    if logits.shape[dim] != 1:
        return logits
    bound = torch.logit(torch.tensor(threshold, dtype=torch.float64), eps=1e-6)
    return torch.cat([torch.full_like(logits, float(bound)), logits], dim)
