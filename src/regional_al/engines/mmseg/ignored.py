"""`ignore_index` of a config: ids of masks that are neither trained on nor evaluated. No framework.

Label files know one such id, 255. Where the heads of a model ignore another one, its pixels are
void: masks and label files are read so that they become 255, and 255 is what heads ignore.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ConfigError, UnsupportedError
from ...runtime import distributed as dist
from ...types import U8, UNLABELED, LabelSpace
from ..specs import dicts, heads, type_name

log = logging.getLogger("regional_al")
KEY = "ignore_index"
_BORDERS = ("STDCHead", "LabelledSTDCHead")
"""Heads whose labels are borders, which have no class that could be ignored."""
_PADS = ("seg_pad_val", "seg_fill_in", KEY)
"""Keys of transforms and preprocessors that name the id of pixels without a class."""


def ignored_by_heads(model: Any) -> int:
    """The id that all heads of a model config ignore.

    Args:
        model: The config.

    Returns:
        0..255; 255 without `ignore_index`.

    Raises:
        ConfigError: Heads ignore different ids.
        UnsupportedError: It is no id of a mask.

    Example:
        >>> ignored_by_heads({"decode_head": {"type": "FCNHead", "ignore_index": 0}})
        0
    """
    found: dict[str, int] = {}
    for name, head in heads(model):
        if type_name(head) not in _BORDERS:
            found[name] = as_id(f"{name}.{KEY}", head.get(KEY, UNLABELED))
    if not found:
        return UNLABELED
    first, *_ = found
    for name, value in found.items():
        if value != found[first]:
            own = value if value != UNLABELED else found[first]
            raise ConfigError(
                f"{first}.{KEY}={found[first]}, but {name}.{KEY}={value}: all heads must ignore "
                f"the same id, e.g. {own} by {first if value != UNLABELED else name}.{KEY}={own}"
            )
    return found[first]


def ignored_by_metrics(evaluator: Any, key: str) -> int | None:
    """The id that the metrics of an evaluator config leave out.

    Args:
        evaluator: A config of a metric, or a list of them.
        key: Where the config says it.

    Returns:
        0..255; 255 for a metric without `ignore_index`; None without a metric.

    Raises:
        ConfigError: Metrics leave out different ids.
        UnsupportedError: It is no id of a mask.

    Example:
        >>> ignored_by_metrics([{"type": "IoUMetric", "ignore_index": 0}], "val_evaluator")
        0
    """
    metrics = [one for one in dicts(evaluator) if KEY in one or type_name(one) == "IoUMetric"]
    found = {as_id(f"{key}.{KEY}", one.get(KEY, UNLABELED)) for one in metrics}
    if len(found) > 1:
        ids = " and ".join(map(str, sorted(found)))
        raise ConfigError(f"{key}: its metrics have {KEY}={ids}: give all of them the same")
    return found.pop() if found else None


def as_id(key: str, value: Any) -> int:
    """`value` as an id of a mask. Raises UnsupportedError naming `key`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= UNLABELED:
        raise UnsupportedError(
            f"{key}={value!r} must be an id of the masks, 0..254, or {UNLABELED} for void alone"
        )
    return value


def rewrite(model: Any, pipelines: Sequence[Any], ignored: int) -> list[str]:
    """Let a config ignore 255 in place of `ignored`, in place.

    Losses keep an `ignore_index` of their own, which for Dice and Tversky is a class to leave out.

    Args:
        model: Config of the model.
        pipelines: Configs of data sets that are trained on, and of a data preprocessor.
        ignored: See `ignored_by_heads`.

    Returns:
        The heads that have been changed.
    """
    if ignored == UNLABELED:
        return []
    told = []
    for name, head in heads(model):
        if type_name(head) not in _BORDERS:
            told.append(name)
    for key in ("decode_head", "auxiliary_head"):
        for spec in _without_losses(model.get(key)):
            if spec.get(KEY) == ignored:
                spec[KEY] = UNLABELED
        for spec in dicts(model.get(key)):
            if spec.get("ignore_label") == ignored:
                spec["ignore_label"] = UNLABELED
    for spec in dicts([model.get("data_preprocessor"), *pipelines]):
        for key in _PADS:
            if spec.get(key) == ignored and not isinstance(spec[key], bool):
                spec[key] = UNLABELED
        values = spec.get("pad_val")
        if isinstance(values, Mapping) and values.get("seg") == ignored:
            values["seg"] = UNLABELED  # type: ignore[index]
    return told


def _without_losses(value: Any) -> Iterator[Any]:
    """Every dict inside, but for those of losses."""
    if isinstance(value, Mapping):
        yield value
        for key, item in value.items():
            if not str(key).startswith("loss"):
                yield from _without_losses(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _without_losses(item)


def tell(space: LabelSpace, ignored: int, told: Sequence[str], evaluated: int, key: str) -> None:
    """Say once what is ignored.

    Args:
        space: Of the pool.
        ignored: By the heads.
        told: Names of the heads.
        evaluated: The id that the evaluation leaves out.
        key: Where the config says the latter.
    """
    if not dist.is_main():
        return
    if ignored != UNLABELED:
        log.warning(
            "%s.%s=%d: %s is void, neither trained on nor asked for; heads and paddings get 255 "
            "in its place",
            ", ".join(told),
            KEY,
            ignored,
            _named(space, ignored),
        )
    if evaluated not in (ignored, UNLABELED) or (ignored != UNLABELED and evaluated == UNLABELED):
        log.warning(
            "%s=%d, but the heads ignore %d: as in MMSegmentation, %s",
            key,
            evaluated,
            ignored,
            f"{_named(space, evaluated)} is trained on and left out of the metrics"
            if evaluated != UNLABELED
            else f"{_named(space, ignored)} is evaluated without having been trained on; {key}="
            f"{ignored} leaves it out",
        )


def _named(space: LabelSpace, train_id: int) -> str:
    names = space.class_names
    return f"class {names[train_id]!r}" if train_id < len(names) else f"id {train_id}"


def check_dataset(dataset: Any, ignored: int, key: str, fix: str) -> None:
    """Raise UnsupportedError for a data set with an `ignore_index` that MMSegmentation does not
    read there, unless it is what is ignored anyway.

    Args:
        dataset: The data set.
        ignored: The id that is ignored.
        key: Of its config.
        fix: What to write instead, with {} for the id.
    """
    own = getattr(dataset, KEY, UNLABELED)
    if own not in (UNLABELED, ignored):
        raise UnsupportedError(
            f"{key}.{KEY}={own!r}, which MMSegmentation does not read there: leave it out, and to "
            f"ignore that id set {fix.format(own)}"
        )


def label_table(own: Any, space: LabelSpace) -> U8 | None:
    """uint8 [256]: what the raw ids of label files become for training; None: what a data set's own
    pipeline makes of them.

    Args:
        own: int16 [256], what that pipeline makes of ids.
        space: Of the data set.
    """
    if np.array_equal(own, space.raw_to_train):
        return None
    return np.where(space.raw_to_train < 0, UNLABELED, space.raw_to_train).astype(np.uint8)


class MakeVoid:
    """A transform of a pipeline, after the one that loads labels: an id becomes 255.

    Args:
        key: Of the label map in a sample.
        ignored: The id.
    """

    def __init__(self, key: str, ignored: int) -> None:
        self.key, self.ignored = key, ignored

    def __call__(self, sample: Any) -> Any:
        mask = sample[self.key]
        sample[self.key] = np.where(mask == self.ignored, np.uint8(UNLABELED), mask)
        return sample


def make_void(transforms: list[Any], key: str, ignored: int) -> None:
    """Put `MakeVoid` behind each transform that loads labels, in place."""
    if ignored == UNLABELED:
        return
    loads: Callable[[Any], bool] = lambda one: "LoadAnnotations" in type(one).__name__  # noqa: E731
    for place in reversed([i for i, one in enumerate(transforms) if loads(one)]):
        transforms.insert(place + 1, MakeVoid(key, ignored))


def without(target: Any, ignored: int) -> Any:
    """Train ids, an array or a tensor, with 255 in place of `ignored`."""
    if ignored == UNLABELED:
        return target
    if isinstance(target, np.ndarray):
        return np.where(target == ignored, UNLABELED, target)
    return target.masked_fill(target == ignored, UNLABELED)
