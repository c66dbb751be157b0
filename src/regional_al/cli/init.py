"""`regional-al init FOLDER`: look at images and masks, ask what is open, write a config."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..checks import choice
from ..engines.loading import generation
from ..errors import ConfigError, RegionalALError
from ..scaffold import (
    MODELS,
    Labels,
    Layout,
    Masks,
    Plan,
    Sizes,
    blank,
    config,
    convert,
    find,
    labels_of,
    lists_of,
    look,
    model_for,
    propose,
    recognise,
    sizes_of,
)
from ..scaffold.classes import names_from, split_names
from ..scaffold.convert import new_folders
from ..scaffold.masks import RGB
from ..scaffold.proposal import budget_of
from ..scaffold.render import blank_masks
from ..store.images import replacing
from ..types import JSON, LEVELS, UNLABELED

T = TypeVar("T")
_COLOUR = re.compile(r"#?([0-9a-f]{6})", re.IGNORECASE)


def run(args: argparse.Namespace) -> int:
    """Look, ask, write. Returns the exit code."""
    if not args.yes and not sys.stdin.isatty():
        raise ConfigError(
            "init asks questions, and this is no terminal: add --yes to take the defaults"
        )
    if args.output.suffix != ".py":
        raise ConfigError(f"--output {args.output}: the name of a config ends in .py")
    if os.path.lexists(args.output) and not args.force:
        raise ConfigError(f"{args.output} exists: choose another --output, or add --force")
    layout = look(args.folder, args.masks)
    sizes = sizes_of(layout.all_images())
    pairs = [(layout.mask(s, n), layout.image(s, n)) for s in layout.splits() for n in s.names]
    masks = recognise(*zip(*pairs, strict=True)) if pairs else None
    _say(found(layout, sizes, masks))
    ask = Questions(args.yes)
    labels = _labels(args, ask, layout, masks)
    plan = _plan(args, ask, layout, sizes, labels)
    if masks is not None and labels.table is not None:
        folders = new_folders(layout)
        _agree(ask, masks, folders)
        convert(layout, masks, labels.table)
        plan = replace(plan, layout=plan.layout.with_masks(folders, ".png"))
    _write(plan, args.output)
    return 0


class Questions:
    """Questions in a terminal; each has a default and a check.

    Args:
        silent: Take the defaults.
    """

    def __init__(self, silent: bool) -> None:
        self.silent = silent

    def __call__(self, question: str, default: str, check: Callable[[str], T]) -> T:
        """Ask until the answer passes `check`, which raises what is wrong with it."""
        while not self.silent:
            try:
                said = input(f"{question} [{default}]: ").strip()
            except EOFError:
                raise ConfigError("no answer: add --yes to take the defaults") from None
            try:
                return check(said or default)
            except RegionalALError as error:
                print(f"  {error}")
        return check(default)


def found(layout: Layout, sizes: Sizes, masks: Masks | None) -> list[str]:
    """What was found, line by line.

    Example:
        >>> from regional_al.scaffold import Split
        >>> layout = Layout(Path("d"), ".jpg", "", Split(Path("d"), None, (), ("a", "b")), None)
        >>> print(*found(layout, Sizes((96, 128), 96, 128, False), None), sep="\\n")
        train: 2 *.jpg images in d, without masks
        sizes: all 96x128 (height x width)
        masks: none
    """
    lines = []
    for name, split in (("train", layout.train), ("val", layout.val)):
        if split is None:
            continue
        many = len(split.names) + len(split.bare)
        has = "without masks"
        if split.names:
            has = f"{len(split.names)} with masks *{layout.mask_suffix} in {split.masks}"
        kind = counted(many, f"*{layout.image_suffix} image")
        lines.append(f"{name}: {kind} in {split.images}, {has}")
        if split.names and split.bare:
            lines.append(f"  without a mask: {len(split.bare)}, such as {split.bare[0]}")
    lines += [f"note: {note}" for note in layout.notes]
    lines.append(f"sizes: {sizes}")
    if masks is None:
        return [*lines, "masks: none"]
    read = f"{masks.seen} of {masks.files}" if masks.seen < masks.files else f"all {masks.files}"
    return [*lines, f"masks: {masks.what} ({read} were read)"]


def table(masks: Masks, labels: Labels) -> list[str]:
    """Values of masks, their share of the pixels, and their classes, line by line."""
    lines = [f"{'value':>7}  {'colour':7}  {'pixels':>7}  class"]
    shift = int(labels.reduce_zero)
    for place, value in enumerate(masks.values):
        if labels.table is not None:
            index = labels.table[value.value]
        else:
            index = UNLABELED if value.value in masks.void else int(value.value) - shift  # type: ignore[arg-type]
        name = labels.classes[index] if 0 <= index < len(labels.classes) else "(no class)"
        colour = "" if value.colour is None else "#{:02x}{:02x}{:02x}".format(*value.colour)
        shown = value.value if isinstance(value.value, int) else ""
        lines.append(f"{shown:>7}  {colour:7}  {100 * masks.share(place):6.2f}%  {name}")
    seen = {value.value for value in masks.values}
    if labels.table is None:
        absent = [n for i, n in enumerate(labels.classes) if i + shift not in seen]
        lines += [f"  in no mask: {', '.join(absent)}"] if absent else []
    return lines


def counted(number: int, thing: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "image"), counted(2, "image")
        ('1 image', '2 images')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def ignored(text: str) -> list[int | RGB]:
    """The values of --ignore.

    Example:
        >>> ignored("0, #e0e0c0")
        [0, (224, 224, 192)]
    """
    values: list[int | RGB] = []
    for part in split_names(text):
        colour = _COLOUR.fullmatch(part)
        if part.isascii() and part.isdigit() and len(part) < 6:
            values.append(int(part))
        elif colour:
            code = int(colour[1], 16)
            values.append((code >> 16, code >> 8 & 255, code & 255))
        else:
            raise ConfigError(f"--ignore {part!r} is no value: give numbers, or colours as #e0e0c0")
    return values


def _labels(
    args: argparse.Namespace, ask: Questions, layout: Layout, masks: Masks | None
) -> Labels:
    """The classes: by --classes, a classes.txt, or a question."""
    ignore = ignored(args.ignore) if args.ignore else []

    def named(text: str) -> Labels:
        return labels_of(masks, split_names(text) if text else None, ignore)

    if args.classes is not None:
        labels = named(args.classes or ",")
    elif masks is None:
        labels = ask("class names, with commas between them", "", named)
    else:
        labels = labels_of(masks, ignore=ignore)
        names = names_from(layout.root) or []
        if len(names) == len(labels.classes):
            labels = labels_of(masks, names, ignore)
    if masks is None:
        return labels
    _say(table(masks, labels))
    if args.classes is not None:
        return labels
    return ask("class names", ",".join(labels.classes), named)


def _plan(
    args: argparse.Namespace, ask: Questions, layout: Layout, sizes: Sizes, labels: Labels
) -> Plan:
    """Who answers, level, budget and model: by flag, question, or default."""
    annotator = args.annotator or ("oracle" if layout.train.names else "web")
    if args.annotator is None and layout.train.names:
        question = "who answers: oracle (the masks do, to try it out) or web (people)"
        annotator = ask(question, annotator, _one_of("oracle", "web"))
    level = args.level or "region"
    if args.level is None:
        level = ask("level: what is asked, region, image or pixel", level, _one_of(*LEVELS))
    budget = args.budget
    if budget is None and not args.yes:
        many = len(layout.train.names or layout.train.bare)
        usual = budget_text(budget_of(level, None, many, annotator == "web"))
        budget = ask("budget of each round", usual, lambda text: _budget(level, text, usual))
    machine, model = find(), args.model
    if model is None:
        if not args.yes:
            _say([f"  {name}: {one.what}" for name, one in MODELS.items()])
        model = ask(f"model, for {machine}", model_for(machine), _one_of(*MODELS))
    print(f"model: {model}, {MODELS[model].what} ({machine})")
    superpixels = importlib.util.find_spec("skimage") is not None
    if level == "region" and not superpixels:
        print(
            "scikit-image is not installed: grid cells instead of superpixels "
            "(pip install scikit-image)"
        )
    plan = propose(layout, sizes, labels, model, level, budget, annotator, superpixels)
    if layout.val is None and plan.layout.val is not None:
        held = counted(len(plan.layout.val.names), "image")
        print(f"there is no val/: each round is measured on {held}, which stay out of the pool")
    return plan


def budget_text(budget: JSON) -> str:
    """A budget as it is typed.

    Example:
        >>> budget_text({"amount": 10, "unit": "pixel", "scope": "image"})
        '10 pixels'
    """
    return f"{budget['amount']} {budget['unit']}s"


def _budget(level: str, text: str, usual: str) -> str | None:
    """`text` if it is a budget; None for the usual one."""
    if text == usual:
        return None
    budget_of(level, text)
    return text


def _one_of(*options: str) -> Callable[[str], str]:
    return lambda said: choice("answer", said, options)


def _agree(ask: Questions, masks: Masks, folders: dict[Path, Path]) -> None:
    """Say what will be written, and ask for consent."""
    where = ", ".join(map(str, folders.values()))
    print(f"the library reads masks of class ids 0, 1, 2, ...; these have {masks.what}")
    if ask(f"write {masks.files} masks of ids to {where}", "yes", _one_of("yes", "no")) == "no":
        raise ConfigError(
            "the masks cannot be read as they are: save them as PNG files of one channel with the "
            "ids 0, 1, 2, ... and 255 for void, and give their folder by --masks"
        )


def _write(plan: Plan, output: Path) -> None:
    """Lists of images, blank masks, and the config, which comes last."""
    text = config(plan, output)
    for split, path in lists_of(plan, output).items():
        with replacing(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in plan.lists[split]))
        print(f"{split}: {counted(len(plan.lists[split]), 'image')}, listed in {path}")
    if not plan.measured and plan.layout.val is not None:
        blank(plan.layout, plan.layout.val.names, blank_masks(output))
        print(
            f"nobody has labelled the {counted(len(plan.layout.val.names), 'validation image')}: "
            f"rounds have no mIoU until masks of ids replace those in {blank_masks(output)}"
        )
    with replacing(output) as temporary:
        temporary.write_text(text)
    print(f"written: {output}")
    if generation() != "mmseg1":
        print(
            "note: it is for MMSegmentation 1.x, which is not installed here: "
            "pip install 'regional-al[mmseg1]'"
        )
    print(f"next: regional-al train {output} --smoke --work-dir work_dirs/smoke")


def _say(lines: Sequence[str]) -> None:
    print("\n".join(lines), flush=True)
