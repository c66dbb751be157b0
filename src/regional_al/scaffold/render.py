"""A plan as the text of a config, of MMSegmentation 1.x."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__, shipped
from ..errors import DataError
from .layout import Split
from .machine import MODELS, Model
from .proposal import Plan

WIDTH = 96
WORKERS = 2

_PIPELINES = """\
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    # As mmseg's RandomResize and RandomCrop, but no labelled pixel is lost.
    dict(type="SparseRandomResize", scale={scale}, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="LabelledRandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
"""
_LOADERS = """\
train_dataloader = dict(
    batch_size={batch},
    num_workers={workers},
    persistent_workers={persistent},
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        data_prefix={train_prefix},{train_list}
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers={workers},
    persistent_workers={persistent},
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        data_prefix={val_prefix},{val_list}
        pipeline=test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
"""
_MMSEG_MODEL = """\
model = dict(
    data_preprocessor=dict(size=crop_size),{weights}
    decode_head=dict(num_classes=len(classes)),{auxiliary}
)
"""
_WEIGHTS = """
    backbone=dict(
        init_cfg=dict(
            type="Pretrained",
            checkpoint="{folder}/"
            "{file}",
        )
    ),"""
_AUXILIARY = """
    auxiliary_head=dict(num_classes=len(classes)),"""
_ADAMW = """\
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(
            pos_block=dict(decay_mult=0.0), norm=dict(decay_mult=0.0), head=dict(lr_mult=10.0)
        )
    ),
)
"""
_SGD = """\
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005)
)
"""
_SCHEDULE = """\
# Iterations of the training of each round. Another length by
#   --cfg-options acquisition.iterations=1000
param_scheduler = [
    dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end={iterations}, by_epoch=False)
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters={iterations}, val_interval={iterations})
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
"""


def config(plan: Plan, output: Path) -> str:
    """The text of a config.

    Args:
        plan: What it says.
        output: Its file; the lists of images are beside it, see `lists_of`.

    Returns:
        Python source.

    Example:
        >>> from regional_al.scaffold import Labels, Layout, Sizes, Split, propose
        >>> split = Split(Path("/d/images"), Path("/d/masks"), ("a", "b"))
        >>> layout = Layout(Path("/d"), ".jpg", ".png", split, None)
        >>> labels = Labels(("cat", "dog"), ((0, 0, 0), (9, 9, 9)))
        >>> plan = propose(layout, Sizes((96, 128), 96, 128, False), labels, "effnet_lite0")
        >>> text = config(plan, Path("/d/config.py"))
        >>> 'classes = ("cat", "dog")' in text
        True
    """
    model = MODELS[plan.model]
    sections = [
        _head(plan, model, output),
        _data(plan, model),
        _PIPELINES.format(scale=plan.sizes.median[::-1]),
        _loaders(plan, model, output),
        _model(model),
        _schedule(model),
        _shipped("_base_/runtime.py"),
    ]
    text = "\n".join(sections)
    compile(text, str(output), "exec")
    return text


def lists_of(plan: Plan, output: Path) -> dict[str, Path]:
    """Files with the names of images, one in each line, that a config reads.

    Args:
        plan: What it says.
        output: The config.

    Returns:
        Split -> file; empty where the folders say which images belong to a split.

    Example:
        >>> from regional_al.scaffold import Labels, Layout, Sizes, Split, propose
        >>> split = Split(Path("/d/images"), Path("/d/masks"), ("a", "b"))
        >>> layout = Layout(Path("/d"), ".jpg", ".png", split, None)
        >>> labels = Labels(("cat", "dog"), ((0, 0, 0), (9, 9, 9)))
        >>> plan = propose(layout, Sizes((96, 128), 96, 128, False), labels, "effnet_lite0")
        >>> lists_of(plan, Path("/d/config.py"))["val"].as_posix()
        '/d/config_lists/val.txt'
    """
    folder = output.absolute().with_name(f"{output.stem}_lists")
    return {split: folder / f"{split}.txt" for split in plan.lists}


def blank_masks(output: Path) -> Path:
    """The folder of validation masks that say nothing, of a config for images without masks.

    Args:
        output: The config.

    Returns:
        A folder beside it.

    Example:
        >>> blank_masks(Path("/d/config.py")).as_posix()
        '/d/config_val_masks'
    """
    return output.absolute().with_name(f"{output.stem}_val_masks")


def _head(plan: Plan, model: Model, output: Path) -> str:
    people = plan.acquisition.get("annotator", {}).get("type") == "web"
    lines = [
        f"# Written by `regional-al init` {__version__}; yours to change.",
        f"# {len(plan.layout.train.names)} images to choose from, sizes: {plan.sizes}.",
        "#",
        "# To see that it works, in minutes:  regional-al train CONFIG --smoke --work-dir smoke",
        "# To run it:                         regional-al train CONFIG",
        "# On several GPUs:                   regional-al launch CONFIG GPUS",
    ]
    if people:
        lines.append("# To label:                          regional-al annotate WORK_DIR --train")
    if not plan.measured:
        lines += [
            "# The masks of the validation images say nothing (255 everywhere): rounds have no",
            "# mIoU until masks of class ids are in their place.",
        ]
    base = f"_base_ = [{quoted(model.base)}]\n" if "::" in model.base else ""
    key = f"acquisition = {written(plan.acquisition)}\n"
    text = "\n".join(lines).replace("CONFIG", output.name)
    return f"{text}\n{base}{key}"


def _data(plan: Plan, model: Model) -> str:
    labels = plan.labels
    palette = [list(colour) for colour in labels.palette]
    more = [
        ("type", "BaseSegDataset"),
        ("img_suffix", plan.layout.image_suffix),
        ("seg_map_suffix", plan.layout.mask_suffix or ".png"),
    ]
    options = "".join(f"    {key}={quoted(value)},\n" for key, value in more)
    if labels.reduce_zero:
        options += "    reduce_zero_label=True,  # 0 is void, and class i has the id i + 1\n"
    return (
        f"classes = {written(tuple(labels.classes))}\n"
        f"palette = {written(palette)}\n"
        f"crop_size = {plan.sizes.crop(model.crop)}  # height, width\n"
        f"dataset = dict(\n{options}    metainfo=dict(classes=classes, palette=palette),\n)\n"
    )


def _loaders(plan: Plan, model: Model, output: Path) -> str:
    layout = plan.layout
    if layout.val is None:
        raise DataError(f"{layout.root} has no validation images")
    lists = lists_of(plan, output)
    blank = None if plan.measured else blank_masks(output)
    small = max(plan.sizes.median) <= 256  # decoding costs a few ms
    return _LOADERS.format(
        batch=model.batch,
        workers=0 if small else WORKERS,
        persistent=not small,
        train_prefix=_prefix(layout.train, None),
        val_prefix=_prefix(layout.val, blank),
        train_list=_list_line(lists.get("train")),
        val_list=_list_line(lists.get("val")),
    )


def _prefix(split: Split, masks: Path | None) -> str:
    prefix = {"img_path": str(split.images)}
    folder = masks or split.masks
    if folder is not None:
        prefix["seg_map_path"] = str(folder)
    return written(prefix, indent=8)


def _list_line(path: Path | None) -> str:
    return "" if path is None else f"\n        ann_file={quoted(str(path))},"


def _model(model: Model) -> str:
    if "::" in model.base:
        folder, _, file = (model.weights or "").rpartition("/")
        weights = _WEIGHTS.format(folder=folder, file=file) if model.weights else ""
        return _MMSEG_MODEL.format(weights=weights, auxiliary=_AUXILIARY if model.auxiliary else "")
    text = _shipped(f"_base_/models/{model.base}")
    for old, new in (
        ("num_classes=None,", "num_classes=len(classes),"),
        ("seg_pad_val=255,", "seg_pad_val=255,\n        size=crop_size,"),
    ):
        if text.count(old) != 1:
            raise DataError(f"configs/_base_/models/{model.base} has no {old}")
        text = text.replace(old, new)
    return text


def _schedule(model: Model) -> str:
    schedule = _SCHEDULE.format(iterations=model.iterations)
    if model.optimizer == "backbone_kept":
        text = _shipped("_base_/schedules/adamw_50.py")
        return text[: text.index("param_scheduler")] + schedule
    return (_SGD if model.optimizer == "sgd" else _ADAMW) + schedule


def _shipped(name: str) -> str:
    """The text of a config that comes with the package, without its first comment."""
    lines = shipped.config(name).read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "".join(lines[first:])


def quoted(text: str) -> str:
    """A text as a Python literal in double quotes, where it has none itself.

    Args:
        text: Any text.

    Returns:
        A literal.

    Example:
        >>> print(quoted("a"), quoted('say "a"'))
        "a" 'say "a"'
    """
    plain = repr(text)
    return f'"{plain[1:-1]}"' if plain[0] == "'" and '"' not in text else plain


def written(value: Any, indent: int = 0) -> str:
    """A value as Python source, as configs write it: `dict(key=value)`, broken where it is long.

    Args:
        value: Numbers, texts, dicts with names as keys, lists and tuples.
        indent: Columns that the line is indented by.

    Returns:
        Python source.

    Example:
        >>> written({"level": "pixel", "budget": {"amount": 10}})
        'dict(level="pixel", budget=dict(amount=10))'
    """
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    if isinstance(value, Mapping):
        items = [f"{key}={written(item, indent + 4)}" for key, item in value.items()]
        opening, closing = "dict(", ")"
    elif isinstance(value, (list, tuple)):
        items = [written(item, indent + 4) for item in value]
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
        if isinstance(value, tuple) and len(items) == 1:
            closing = ",)"
    else:
        return repr(value)
    line = f"{opening}{', '.join(items)}{closing}"
    if len(line) + indent + 20 <= WIDTH and "\n" not in line:
        return line
    space = " " * indent
    inner = "".join(f"{space}    {item},\n" for item in items)
    return f"{opening}\n{inner}{space}{closing.lstrip(',')}"
