"""Walking through the nested dicts of a config, whatever framework read it. No framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

INNER_HEAD = "kernel_generate_head"


def first_line(error: BaseException) -> str:
    """Kind and first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {' '.join(lines[0].split()) if lines else 'no message'}"


def missing_base(error: FileNotFoundError) -> str:
    """One line for a `_base_` (or another file the config reads) that is not there."""
    if error.filename:
        return f"{error.filename} does not exist (a _base_ or a file that the config reads)"
    return f"{first_line(error)} (a _base_ or a file that the config reads)"


def dicts(value: Any) -> Iterator[Any]:
    """Every dict inside `value`, itself included, parents first."""
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from dicts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from dicts(item)


def type_name(spec: Any) -> str:
    """The name of a `type`, without its scope: 'mmseg.LoadAnnotations' -> 'LoadAnnotations'."""
    kind = spec.get("type") if isinstance(spec, Mapping) else spec
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    return name.rsplit(".", 1)[-1]


def heads(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, config) of every decode and auxiliary head, lists opened; of K-Net's the one inside it
    that computes its losses."""
    for key in ("decode_head", "auxiliary_head"):
        spec = model.get(key)
        items = enumerate(spec) if isinstance(spec, (list, tuple)) else [(None, spec)]
        for index, item in items:
            name = f"model.{key}" if index is None else f"model.{key}[{index}]"
            while isinstance(item, Mapping) and isinstance(item.get(INNER_HEAD), Mapping):
                name, item = f"{name}.{INNER_HEAD}", item[INNER_HEAD]
            if isinstance(item, Mapping):
                yield name, item


def predicts_sets(head: Mapping[str, Any]) -> bool:
    """Whether a head predicts a set of masks (MaskFormer, Mask2Former), by its losses.

    Example:
        >>> predicts_sets({"loss_cls": {}, "loss_mask": {}}), predicts_sets({"loss_decode": {}})
        (True, False)
    """
    return "loss_mask" in head


def without_traceback(error: Any) -> Any:
    """The error itself; one that crossed from a worker holds that worker's traceback, and its own
    line at the end."""
    lines = str(error).strip().splitlines()
    if len(lines) < 2:
        return error
    return type(error)(lines[-1].partition(": ")[2] or lines[-1])
