"""`--smoke`: any config cut down until three rounds of it fit a coffee break on a CPU.

To see that data, model and acquisition go together, never to measure anything. Works on the nested
dict that a config is, of MMSegmentation 0.x or 1.x; no framework.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from ..config.schedule import stretch_policy, stretch_schedule
from .specs import dicts, type_name

ITERATIONS = 10
SIDE = 128  # pixels, of the longer side of a training crop
BATCH = 2
TRAIN_IMAGES = 8
VAL_IMAGES = 4
CLIP = 1.0  # norm of gradients
ROUNDS = 3  # after the warm start

STEP = 32  # pixels: crops stay multiples of the deepest stride of most networks
LEAST = {"LRASPPHead": 416}  # pixels of the shorter side of a crop, for the head's fixed pooling

_SIZES = ("crop_size", "img_scale", "stride")


def shrink(tree: Any) -> list[str]:
    """Cut a config down in place. Returns what was changed, a line each, for people to read.

    Trainings of 10 iterations (or 1 epoch), schedules shortened with them; crops and images scaled
    to about 128 pixels; 2 images a batch, read by the main process; the first 8 training and 4
    validation images; weights left out that come from the network or are not there, and gradients
    clipped then; 3 rounds after the warm start, pool-wide budgets in plain numbers as 1 % (image
    level: one image).
    """
    told: list[str] = []
    ratio = _lengths(tree, told)
    _sizes(tree, told)
    _loaders(tree, told)
    _images(tree, told)
    before = len(told)
    _weights(tree.get("model"), "model", told)
    if len(told) > before:
        _gradients(tree, told)
    if isinstance(tree.get("acquisition"), dict):
        _acquisition(tree["acquisition"], ratio, told)
    return told


def _lengths(tree: Any, told: list[str]) -> float:
    """Shorten the training; returns how much shorter."""
    ratio, before = 1.0, None
    for where in ("runner", "train_cfg", ""):
        holder = tree if not where else tree.get(where)
        if not isinstance(holder, dict):
            continue
        for key, least in (
            ("max_iters", ITERATIONS),
            ("total_iters", ITERATIONS),
            ("max_epochs", 1),
        ):
            if isinstance(holder.get(key), int) and holder[key] > least:
                ratio, before = least / holder[key], (holder[key], least, key == "max_epochs")
                name = f"{where}.{key}" if where else key
                told.append(f"{name}: {holder[key]} -> {least}")
                holder[key] = least
        if where == "train_cfg" and "val_interval" in holder:
            holder["val_interval"] = min(holder["val_interval"], ITERATIONS)
    if before is not None:
        _schedules(tree, *before)
    logger = (tree.get("default_hooks") or {}).get("logger")
    for item in (tree.get("log_config"), logger):
        if isinstance(item, dict) and isinstance(item.get("interval"), int):
            item["interval"] = min(item["interval"], ITERATIONS // 2)
    return ratio


def _schedules(tree: Any, old: int, new: int, epochs: bool) -> None:
    """Stretch learning rate schedules from `old` to `new` iterations, or epochs."""
    for key in ("lr_config", "momentum_config"):
        if isinstance(tree.get(key), Mapping):
            tree[key] = stretch_policy(tree[key], old, new, by_epoch=None)
    found = tree.get("param_scheduler")
    if not found:
        return
    items = list(found) if isinstance(found, (list, tuple)) else [found]
    stretched: list[Any] = []
    for by_epoch in (False, True):
        same = [item for item in items if bool(item.get("by_epoch", True)) == by_epoch]
        stretched += stretch_schedule(same, old, new, capped=by_epoch == epochs)
    tree["param_scheduler"] = stretched


def _sizes(tree: Any, told: list[str]) -> None:
    """Scale crops, image scales, paddings, windows and the image size of transformers alike."""
    specs = list({id(spec): spec for spec in dicts(tree)}.values())
    crops = [spec["crop_size"] for spec in specs if "type" in spec and spec.get("crop_size")]
    scales = [
        spec[key]
        for spec in specs
        for key in ("img_scale", "scale")
        if "type" in spec and spec.get(key)
    ]
    longest = max([*map(_longer, crops), *map(_shorter, scales)], default=0)
    factor = SIDE / max(longest, 1)
    least = max((LEAST.get(type_name(spec), 0) for spec in dicts(tree.get("model"))), default=0)
    if crops:
        factor = max(factor, least / max(1, min(map(_shorter, crops))))
    if factor >= 1:
        return
    fixed = {(side, side) for side in crops if isinstance(side, int)}
    fixed |= {tuple(side) for side in crops if isinstance(side, (list, tuple))}
    for spec in specs:
        kind = type_name(spec)
        keys = [key for key in _SIZES if key in spec and not (key == "stride" and "type" in spec)]
        keys += ["scale", "scales"] if "Resize" in kind or "MultiScale" in kind else []
        keys += ["size"] if kind in ("Pad", "SegDataPreProcessor") else []
        for key in keys:
            if spec.get(key) is not None:
                step = STEP if key in ("crop_size", "size") else 1
                spec[key] = _scaled(spec[key], factor, 1 if key == "stride" else STEP, step)
    for spec in dicts(tree.get("model")):
        size = spec.get("img_size")
        if (size, size) in fixed or (isinstance(size, (list, tuple)) and tuple(size) in fixed):
            spec["img_size"] = _scaled(size, factor, STEP, STEP)
    told.append(f"image scales, crops and windows: x {factor:.3g}")


def _longer(size: Any) -> int:
    """The longer side of a size, or of the largest of several."""
    if isinstance(size, (list, tuple)):
        return max(map(_longer, size), default=0)
    return size if isinstance(size, int) else 0


def _shorter(scale: Any) -> int:
    """The shorter side of an image scale (the longer one is often only a bound), or of the largest
    of several."""
    if isinstance(scale, (list, tuple)) and scale:
        several = isinstance(scale[0], (list, tuple))
        return max(map(_shorter, scale)) if several else min(map(_longer, scale))
    return _longer(scale)


def _scaled(size: Any, factor: float, least: int, step: int = 1) -> Any:
    """A size, or each of several, to a multiple of `step`."""
    if isinstance(size, (list, tuple)):
        return type(size)(_scaled(item, factor, least, step) for item in size)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        return size
    return max(least, round(size * factor / step) * step)


def _loaders(tree: Any, told: list[str]) -> None:
    """Small batches, read in the main process (workers take longer to start than this lasts)."""
    data = tree.get("data") if isinstance(tree.get("data"), dict) else {}
    for name, holder in (("data", data), ("", tree)):
        loaders = {
            f"{part}_dataloader": holder.get(f"{part}_dataloader")
            for part in ("train", "val", "test", "source")
        }
        if name:
            loaders[""] = holder
        for inner, loader in loaders.items():
            if not isinstance(loader, dict):
                continue
            where = ".".join(part for part in (name, inner) if part)
            for key in ("samples_per_gpu", "batch_size"):
                if isinstance(loader.get(key), int) and loader[key] > BATCH:
                    told.append(f"{where}.{key}: {loader[key]} -> {BATCH}")
                    loader[key] = BATCH
            for key in ("workers_per_gpu", "num_workers"):
                if loader.get(key):
                    loader[key] = 0
            if loader.get("persistent_workers"):
                loader["persistent_workers"] = False
            loader.pop("prefetch_factor", None)


def _images(tree: Any, told: list[str]) -> None:
    """The first images only: 0.x by a key that the engine reads, 1.x by `indices` of data sets."""
    told.append(f"images: the first {TRAIN_IMAGES} for training, {VAL_IMAGES} for validation")
    if "data" in tree:
        tree["smoke"] = {"train_images": TRAIN_IMAGES, "val_images": VAL_IMAGES}
        return
    for part, count in (
        ("train", TRAIN_IMAGES),
        ("val", VAL_IMAGES),
        ("test", VAL_IMAGES),
        ("source", TRAIN_IMAGES),
    ):
        for spec in dicts((tree.get(f"{part}_dataloader") or {}).get("dataset")):
            if "pipeline" in spec and not {"dataset", "datasets"} & set(spec):
                spec.setdefault("indices", count)


def _weights(model: Any, key: str, told: list[str]) -> None:
    """Leave out pretrained weights that would be downloaded, or are no file here."""
    if isinstance(model, dict):
        for name, value in list(model.items()):
            source = value.get("checkpoint") if isinstance(value, Mapping) else value
            if (
                name in ("pretrained", "init_cfg")
                and isinstance(source, str)
                and ("://" in source or not os.path.isfile(source))
            ):
                told.append(f"{key}.{name}: {source!r} -> None (random weights)")
                model[name] = None
            else:
                _weights(value, f"{key}.{name}", told)
    elif isinstance(model, (list, tuple)):
        for index, item in enumerate(model):
            _weights(item, f"{key}.{index}", told)


def _gradients(tree: Any, told: list[str]) -> None:
    """Clip gradients, unless the config does: those of a deep network with random weights can be
    so large that it predicts NaN after one step."""
    for key, name in (("optim_wrapper", "clip_grad"), ("optimizer_config", "grad_clip")):
        if isinstance(tree.get(key), dict) and not tree[key].get(name):
            tree[key][name] = {"max_norm": CLIP}
            told.append(f"{key}.{name}: -> {tree[key][name]} (random weights)")


def _acquisition(acquisition: Any, ratio: float, told: list[str]) -> None:
    """Fewer rounds; budgets that fit a pool of a few images."""

    def change(key: str, value: Any) -> None:
        told.append(f"acquisition.{key}: {acquisition.get(key, 'default')} -> {value}")
        acquisition[key] = value

    queries = acquisition.get("queries")
    if isinstance(queries, (list, tuple)) and all(isinstance(q, int) for q in queries):
        change("queries", _queries(list(queries)[:ROUNDS], ratio))
        acquisition.pop("rounds", None)
    elif not isinstance(acquisition.get("rounds", 5), int) or acquisition.get("rounds", 5) > ROUNDS:
        change("rounds", ROUNDS)
    if acquisition.get("iterations") is not None:
        change("iterations", ITERATIONS)
    unlabeled = acquisition.get("unlabeled")
    size = unlabeled.get("batch_size") if isinstance(unlabeled, Mapping) else None
    if isinstance(size, int) and size > BATCH:
        change("unlabeled", {**unlabeled, "batch_size": BATCH})
    level = acquisition.get("level", "region")
    warm = acquisition.get("warm_start")
    if isinstance(warm, Mapping) and "labels" in warm:  # of images that are left out
        change("warm_start", {"level": "pixel", "amount": 20})
    for key in ("budget", "warm_start"):
        budget = acquisition.get(key)
        whole = isinstance(budget, Mapping)
        if not whole and not isinstance(budget, int):
            continue
        unit = budget.get("unit") if whole else None
        own = budget.get("level", level) if whole else level
        amount = budget.get("amount") if whole else budget
        scope = budget.get("scope") if whole else None
        if scope is None:
            scope = "image" if own == "pixel" else "pool"
        if isinstance(amount, int) and scope == "pool":
            less: Any = 1 if unit == "image" or (unit is None and own == "image") else "1%"
            change(key, {**budget, "amount": less} if whole else less)


def _queries(queries: list[int], ratio: float) -> list[int]:
    """Scaled, still strictly rising, and before the end of the training."""
    found: list[int] = []
    for query in queries:
        least = found[-1] + 1 if found else 0
        found.append(max(least, min(math.floor(query * ratio), ITERATIONS - len(queries))))
    return found
