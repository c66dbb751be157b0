"""Training pipelines whose transforms keep sparse labels, by config. No framework."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...runtime import distributed as dist
from ..specs import dicts, type_name

log = logging.getLogger("regional_al")


def replace_lossy(
    specs: Any,
    key: str,
    substitutes: Mapping[str, str],
    is_stock: Callable[[Any], bool],
    keep: bool,
) -> None:
    """Put transforms that keep sparse labels in place of those that lose them, and say so once.

    Args:
        specs: Configs of the training data sets; changed in place.
        key: Where the config says them, for the message.
        substitutes: Name of a transform -> name of the one that keeps labels.
        is_stock: Whether a `type` is the framework's own class of that name.
        keep: Only say what may be lost (`acquisition.keep_pipeline`).
    """
    found: dict[str, str] = {}
    for spec, name in lossy(specs, substitutes, is_stock):
        old = type_name(spec[name])
        found[old] = type_name(substitutes[old])
        if not keep:
            spec[name] = substitutes[old]
    if not found or not dist.is_main():
        return
    pairs = ", ".join(f"{old} by {new}" for old, new in found.items())
    if keep:
        log.warning(
            "%s: %s may lose sparse labels (label_share in results.json says how many); without "
            "acquisition.keep_pipeline=True they are replaced",
            f"{key}.pipeline",
            " and ".join(found),
        )
    else:
        log.warning(
            "%s: %s, so that sparse labels are not lost (acquisition.keep_pipeline=True leaves "
            "them)",
            f"{key}.pipeline",
            pairs,
        )


def lossy(
    specs: Any, substitutes: Mapping[str, str], is_stock: Callable[[Any], bool]
) -> Iterator[tuple[Any, str]]:
    """(config of a transform, its key that names a class that loses sparse labels)."""
    for pipeline in pipelines(specs):
        for spec in dicts(pipeline):
            for name in ("type", "resize_type"):
                kind = spec.get(name)
                if kind is not None and type_name(kind) in substitutes and is_stock(kind):
                    yield spec, name


def pipelines(specs: Any) -> Iterator[Any]:
    """The `pipeline` of every data set inside."""
    for spec in dicts(specs):
        if spec.get("pipeline"):
            yield spec["pipeline"]
