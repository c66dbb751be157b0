"""Whether heads train on labelled pixels alone, decided by the gradient of all that they add to the
loss.

A head may have losses beside its `loss_decode`. So each built head is tried, on features of a
training batch: without a label its loss must be finite and have no gradient at all, and with some
labels none at the logits of unlabelled pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import nn

from ...errors import UnsupportedError
from ...types import UNLABELED

WINDOW = (48, 64)  # height and width of the label maps on which logits are tried


class Head(NamedTuple):
    """A head of a segmentor: where the config says it, and what mmseg calls its losses."""

    key: str
    prefix: str
    module: nn.Module


class Generation(ABC):
    """What the probe needs of a generation of MMSegmentation. `truth`: labels as its heads take
    them."""

    method: str
    """The method of a head that computes losses from (logits, ..., truth)."""

    @abstractmethod
    def losses(self, model: Any, features: Any, truth: Any) -> dict[str, Any]:
        """All that the heads of a segmentor add to its loss, by name."""

    @abstractmethod
    def mask(self, truth: Any) -> torch.Tensor:
        """int64 [N, H, W]: the labels."""

    @abstractmethod
    def window(self, truth: Any, rows: slice, columns: slice) -> Any:
        """A part of every label map."""

    @abstractmethod
    def at_points(self, arguments: tuple[Any, ...], truth: Any) -> PointCall | None:
        """A call of `method` with labels of `truth`, for a head that compares points of an image
        rather than maps. arguments: of a call that it made. None: it makes other calls."""


class PointCall(NamedTuple):
    """A call of a head's losses on points.

    Args:
        rest: The arguments after the logits [N, C, P].
        labels: int64 [N, P], the labels that it compares them with.
    """

    rest: tuple[Any, ...]
    labels: torch.Tensor


def places(mask: torch.Tensor, count: int) -> torch.Tensor:
    """int64 [count]: flat indices of pixels of label maps [N, H, W], evenly spread.

    Example:
        >>> places(torch.zeros(1, 2, 4), 3).tolist()
        [0, 3, 7]
    """
    last = mask.shape[1] * mask.shape[2] - 1
    return torch.linspace(0, last, count, device=mask.device, dtype=torch.float64).long()


def heads_of(model: Any) -> list[Head]:
    """The decode heads and auxiliary heads of a segmentor."""
    found = []
    for attribute, short in (("decode_head", "decode"), ("auxiliary_head", "aux")):
        module = getattr(model, attribute, None)
        if isinstance(module, nn.ModuleList):
            found += [
                Head(f"model.{attribute}[{index}]", f"{short}_{index}.", one)
                for index, one in enumerate(module)
            ]
        elif isinstance(module, nn.Module):
            found.append(Head(f"model.{attribute}", f"{short}.", module))
    return found


def check_heads(model: Any, generation: Generation, features: Any, blank: Any, sparse: Any) -> None:
    """Raise UnsupportedError naming the first head and loss that sparse labels mislead.

    Args:
        model: The segmentor, in training mode.
        generation: Of MMSegmentation.
        features: What the backbone and neck make of a batch.
        blank: Labels of that batch, every pixel 255.
        sparse: Labels of that batch, some of them 255.
    """
    heads, leaves = heads_of(model), as_leaves(features)
    inputs = list(tensors(leaves)) + [
        one for head in heads for one in head.module.parameters() if one.requires_grad
    ]
    with recorded(heads, generation.method) as calls:
        losses = generation.losses(model, leaves, blank)
    check_blank(heads, losses, inputs)
    window = cut(generation, sparse)
    size = tuple(generation.mask(window).shape[1:])
    generator = torch.Generator().manual_seed(0)
    for head, arguments in calls:
        if len(arguments) == 2 and alike(arguments[1], blank):
            logits = at_size(arguments[0], size, generator)
            check_logits(heads, head, generation, logits, (window,), generation.mask(window))
            continue
        found = generation.at_points(arguments, sparse)
        if found is not None:
            logits = at_size(arguments[0], (), generator)
            check_logits(heads, head, generation, logits, *found)


def alike(labels: Any, truth: Any) -> bool:
    """Whether a head was handed labels of whole images, as `truth` has them."""
    if torch.is_tensor(truth):
        return torch.is_tensor(labels) and labels.shape == truth.shape
    return isinstance(labels, (list, tuple)) and len(labels) == len(truth)


def check_blank(
    heads: Sequence[Head], losses: dict[str, Any], inputs: Sequence[torch.Tensor]
) -> None:
    """Raise UnsupportedError naming the first loss of a batch without labels that is not finite or
    has a gradient. inputs: what gradients are taken with respect to."""
    found = dict(flat(losses))
    total = torch.stack(list(found.values())).sum()
    if torch.isfinite(total) and gradient(total, inputs) == 0:
        return
    for name, loss in found.items():
        size = gradient(loss, inputs)
        if not torch.isfinite(loss) or not torch.isfinite(size):
            refuse(heads, name, "is not finite on a batch without labels")
        if size > 0:
            refuse(heads, name, f"has a gradient of {float(size):.3g} on a batch without labels")


def check_logits(
    heads: Sequence[Head],
    head: Head,
    generation: Generation,
    logits: Any,
    rest: tuple[Any, ...],
    labels: torch.Tensor,
) -> None:
    """Raise UnsupportedError when unlabelled pixels get a gradient.

    Args:
        heads: All heads, for the message.
        head: The one that is tried.
        generation: Of MMSegmentation.
        logits: Leaves [N, C, ...] that the head's method takes first.
        rest: Its other arguments.
        labels: int64 [N, ...] that it compares the logits with.
    """
    unlabelled = labels == UNLABELED
    if unlabelled.all() or not unlabelled.any():
        return
    maps = [one for one in tensors(logits) if one.shape[2:] == labels.shape[1:]]
    for name, loss in flat(getattr(head.module, generation.method)(logits, *rest)):
        if not torch.isfinite(loss).all():
            refuse(heads, head.prefix + name, "is not finite on sparse labels")
        for grad in gradients(loss, maps):
            if grad is None:
                continue
            size = grad.abs().sum(1)[unlabelled.to(grad.device)].sum()
            if not torch.isfinite(size) or size > 0:
                refuse(
                    heads,
                    head.prefix + name,
                    f"has a gradient of {float(size):.3g} at unlabelled pixels",
                )


def refuse(heads: Sequence[Head], name: str, seen: str) -> None:
    """Raise UnsupportedError about the loss of this name among all those of the heads."""
    for head in heads:
        if not name.startswith(head.prefix):
            continue
        short = name[len(head.prefix) :]
        of_config = getattr(head.module, "loss_decode", None)
        modules = list(of_config) if isinstance(of_config, nn.ModuleList) else [of_config]
        kinds = [
            type(one).__name__ for one in modules if short.endswith(getattr(one, "loss_name", "-"))
        ]
        which = f"{short} ({kinds[0]})" if kinds else short
        advice = (
            "use a CrossEntropyLoss in its loss_decode" if kinds else "use a head without this loss"
        )
        if name == "decode.loss_bd":
            advice = "use LabelledGenerateEdge in place of GenerateEdge in the training pipeline"
        raise UnsupportedError(
            f"{head.key} ({type(head.module).__name__}): {which} {seen}, so it cannot train on "
            f"sparse labels: {advice}, or label whole images with acquisition.level='image'"
        )
    raise UnsupportedError(
        f"model: {name} {seen}, so it cannot train on sparse labels: use a model without this "
        "loss, or label whole images with acquisition.level='image'"
    )


def cut(generation: Generation, truth: Any) -> Any:
    """A window of the label maps around their labelled pixels."""
    labelled = (generation.mask(truth) != UNLABELED).any(0)
    places, starts = torch.nonzero(labelled), []
    middle = places[len(places) // 2].tolist() if len(places) else [0, 0]
    for place, extent, size in zip(middle, labelled.shape, WINDOW, strict=True):
        starts.append(max(min(place - size // 2, extent - size), 0))
    rows, columns = (slice(a, a + size) for a, size in zip(starts, WINDOW, strict=True))
    return generation.window(truth, rows, columns)


@contextmanager
def recorded(heads: Sequence[Head], method: str) -> Iterator[list[tuple[Head, tuple[Any, ...]]]]:
    """Inside, calls of the method of these heads are collected."""
    calls: list[tuple[Head, tuple[Any, ...]]] = []

    def wrapped(head: Head, original: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            calls.append((head, (*arguments, *more.values())))
            return original(*arguments, **more)

        return call

    with ExitStack() as stack:
        for head in heads:
            original = getattr(head.module, method, None)
            if original is not None:
                stack.enter_context(
                    patch.object(head.module, method, wrapped(head, original), create=True)
                )
        yield calls


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every floating tensor inside lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


def mapped(value: Any, change: Any) -> Any:
    """The same lists, tuples and dicts with every floating tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [mapped(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def as_leaves(value: Any) -> Any:
    """Copies of tensors, of which gradients can be asked."""
    return mapped(value, lambda one: one.detach().clone().requires_grad_(True))


def at_size(logits: Any, size: tuple[int, ...], generator: torch.Generator) -> Any:
    """Random leaves with the channels of `logits`; maps of this size (empty: of their own)."""

    def drawn(one: torch.Tensor) -> torch.Tensor:
        shape = (*one.shape[:2], *size) if one.dim() == 4 and size else tuple(one.shape)
        return torch.randn(shape, generator=generator).to(one.device).requires_grad_(True)

    return mapped(logits, drawn)


def flat(losses: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, scalar) of every loss of a dict, as mmseg adds them up."""
    for name, value in losses.items():
        if "loss" in name:
            parts = value if isinstance(value, (list, tuple)) else [value]
            yield name, torch.stack([one.mean() for one in parts]).sum()


def gradients(loss: torch.Tensor, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
    """Gradients of a scalar; None where it does not depend on an input."""
    if not loss.requires_grad or not inputs:
        return [None] * len(inputs)
    return list(torch.autograd.grad(loss, list(inputs), retain_graph=True, allow_unused=True))


def gradient(loss: torch.Tensor, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of the absolute gradients of a scalar."""
    found = [one.abs().sum() for one in gradients(loss, inputs) if one is not None]
    return torch.stack(found).sum() if found else torch.zeros(())
