"""Reading a config file, and checks of what it describes. Every error is one line."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...config.grammar import KEYS
from ...errors import (
    ConfigError,
    DataError,
    EnvironmentProblem,
    RegionalALError,
    UnsupportedError,
)
from ...runtime import distributed as dist
from ...types import I64, U8, UNLABELED, LabelSpace
from ..specs import first_line, heads, missing_base, type_name

log = logging.getLogger("regional_al")


def read_config(
    path: Path,
    load: Callable[[str], Any],
    options: dict[str, Any],
    change: Callable[[Any], None] | None = None,
) -> Any:
    """A config file, then `change` on its dict, then overrides.

    Args:
        path: The file.
        load: Reads it (`Config.fromfile` of mmcv or mmengine).
        options: Overrides, by dotted keys.
        change: Called with the nested dict of the config before the overrides.

    Returns:
        The config object of `load`.

    Raises:
        ConfigError: The file or one that it reads does not exist, or raises an error.
        EnvironmentProblem: A module that it imports is missing.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: give a config file")
    try:
        cfg = load(str(path))
        if change is not None:
            change(cfg._cfg_dict)
        check_options(options, cfg._cfg_dict, path)
        if options:
            cfg.merge_from_dict(options)
    except RegionalALError:
        raise
    except SyntaxError as error:
        where = Path(error.filename).name if error.filename else path.name
        raise ConfigError(f"{path} is not valid Python: {error.msg} ({where})") from None
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: {missing_base(error)}") from None
    except ImportError as error:
        raise EnvironmentProblem(f"{path}: {first_line(error)}") from None
    except (Exception, SystemExit) as error:  # a config is code and may raise anything
        raise ConfigError(f"{path}: {first_line(error)}") from None
    return cfg


def check_options(options: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> None:
    """Refuse an override of a key of `acquisition` that lacks this prefix, such as `level=pixel`:
    nothing would read it. Keys that the config has itself are its own.

    Args:
        options: Overrides, by dotted keys.
        config: Of the file, before them.
        path: The file, for the message.

    Raises:
        ConfigError: Names the key that was probably meant.
    """
    for key in options:
        first = key.partition(".")[0]
        if "acquisition" in config and first in KEYS and first not in config:
            raise ConfigError(f"{path} has no key {first!r}: did you mean acquisition.{key}?")


def import_custom(
    wanted: Any, path: Path, load: Callable[..., Any], commands: Mapping[str, str]
) -> None:
    """Import the modules that `custom_imports` names.

    Args:
        wanted: The value of `custom_imports`.
        path: The config file, for messages.
        load: `import_modules_from_strings` of mmengine or mmcv.
        commands: Name of a package -> how to install it, for those that configs of mmseg import.

    Raises:
        EnvironmentProblem: A module is missing or fails, with the cause that mm* leave out, and
            with the command that installs it, where that is known.
        ConfigError: `wanted` is no `dict(imports=[...])`.
    """
    if not wanted:
        return
    if not isinstance(wanted, Mapping):
        raise ConfigError(
            f"{path}: custom_imports={wanted!r} must be dict(imports=['module', ...])"
        )
    imports = wanted.get("imports")
    for name in imports if isinstance(imports, list) else [imports]:
        try:
            load(**{**wanted, "imports": name})
        except (Exception, SystemExit) as error:  # modules are code
            cause: BaseException = error
            if isinstance(error, ImportError) and error.__context__ is not None:
                cause = error.__context__  # mmengine and mmcv replace the import's own error
            lacking = getattr(cause, "name", None) if isinstance(cause, ImportError) else None
            command = commands.get(str(name).partition(".")[0])
            if command and lacking is not None:
                raise EnvironmentProblem(
                    f"{path}: custom_imports: {name} needs {lacking}, which is not installed: "
                    f"{command}"
                ) from None
            raise EnvironmentProblem(
                f"{path}: custom_imports: {name} cannot be imported: {first_line(cause)}"
                f"{_place(cause)}"
            ) from None


def _place(error: BaseException) -> str:
    """' (file.py, line 3)': where code that was being imported has failed; '' for no such code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename]
    if not own or own[-1].name != "<module>":
        return ""
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def check_classes(model: Any, space: LabelSpace) -> None:
    """Every head of a model's config predicts as many classes as the data set has; but
    STDC's detail head tells borders from the rest."""
    for name, head in heads(model):
        if type_name(head) in ("STDCHead", "LabelledSTDCHead"):
            continue
        known = {None, space.num_classes}
        if space.num_classes == 2 and head.get("out_channels", 1) == 1:
            known.add(1)  # a sigmoid: background and the one class
        if head.get("num_classes") not in known:
            raise ConfigError(
                f"{name}.num_classes={head['num_classes']}, but the data set has "
                f"{space.num_classes} classes: set it to {space.num_classes}"
            )


def check_ids(path: Path | str, mask: U8, space: LabelSpace) -> I64:
    """Pixels of each id of a mask, int64 [256]. Raises DataError, naming the file, when it holds an
    id that is no class and not void."""
    counts: I64 = np.bincount(mask.ravel(), minlength=256).astype(np.int64)
    present = np.flatnonzero(counts)
    unknown = [int(value) for value in present if space.mask_to_train[value] < 0]
    if unknown:
        raise DataError(
            f"{path} holds id {unknown[0]}, which is no class (there are {space.num_classes}) and "
            "not void (255)"
        )
    return counts


def space_of(
    class_names: Sequence[str],
    palette: Sequence[Sequence[int]] | None,
    ids: Any,
    ignored: int,
    dataset: Any,
) -> LabelSpace:
    """The label space of a data set.

    Args:
        class_names: By train id.
        palette: RGB of each class; None: black.
        ids: int [256], what MMSegmentation makes of the ids of masks.
        ignored: The train id that is void, see `ignored`.
        dataset: The data set, for messages.

    Raises:
        UnsupportedError: There are too many classes, or a class has the id 255 in masks and label
            files have no id left for it.
    """
    count = len(class_names)
    if count >= UNLABELED:
        raise UnsupportedError(f"{count} classes do not fit label ids 0..254")
    void = (ids == UNLABELED) | (ids == ignored)
    table = np.where(void, UNLABELED, np.where(ids < count, ids, -1)).astype(np.int16)
    colours = tuple((int(r), int(g), int(b)) for r, g, b in palette or [(0, 0, 0)] * count)
    names = tuple(str(name) for name in class_names)
    try:
        return LabelSpace.of_masks(names, colours, table)
    except ValueError as error:
        raise UnsupportedError(
            f"{type(dataset).__name__} makes {names[int(table[UNLABELED])]!r} of the id "
            f"{UNLABELED} of its masks, which marks pixels without a label in label files, and "
            f"{error} to stand for it there: write another id into the masks"
        ) from None


class MaskCounts:
    """What the masks of a data set contain: pixels of each id and of each class, int64 [2, 256]."""

    def __init__(self) -> None:
        self.pixels: I64 = np.zeros((2, 256), dtype=np.int64)

    def add(self, counts: I64, space: LabelSpace) -> None:
        """The pixels of each id of one mask."""
        present = np.flatnonzero(counts)
        self.pixels[0] += counts
        np.add.at(self.pixels[1], space.mask_to_train[present], counts[present])

    def judge(self, space: LabelSpace, key: str, ignored: int = UNLABELED) -> None:
        """Tell what is unlikely to be intended, over the masks of all ranks, which call this
        together; ignored: the class that the evaluation leaves out. Raises DataError for masks of 0
        and 255 alone, of which one is void."""
        raw, classes = dist.sum_array(self.pixels)
        total, void = int(classes.sum()), int(classes[UNLABELED])
        table = space.mask_to_train
        if (
            space.num_classes == 2
            and set(np.flatnonzero(raw)) == {0, UNLABELED}
            and (table[0], table[UNLABELED]) == (0, UNLABELED)
        ):
            raise DataError(
                f"the masks of {key} hold the ids 0 and 255 alone, and 255 is void: class "
                f"{space.class_names[1]!r} would have no pixel; write 1 in place of 255 into the "
                "masks, those of the training images too (regional-al init FOLDER "
                "makes such copies), or give the data set's class label_map={0: 0, 255: 1}"
            )
        if not dist.is_main() or not total:
            return
        if void > 0.95 * total:
            log.warning(f"{key}: {100 * void / total:.1f}% of the pixels of the masks are void")
        absent = [
            name for i, name in enumerate(space.class_names) if not classes[i] and i != ignored
        ]
        if absent:
            names = ", ".join(map(repr, absent))
            which = f"classes {names} occur" if absent[1:] else f"class {names} occurs"
            log.warning(f"{key}: {which} in no mask, so the mIoU says nothing about them")
