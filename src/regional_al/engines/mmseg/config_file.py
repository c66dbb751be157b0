"""Reading a config file, and checks of what it describes. Every error is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError, DataError, EnvironmentProblem, RegionalALError
from ...types import U8, LabelSpace
from ..specs import first_line, heads, missing_base


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
    except Exception as error:  # a config is code and may raise anything
        raise ConfigError(f"{path}: {first_line(error)}") from None
    return cfg


def check_classes(model: Any, space: LabelSpace) -> None:
    """Every head of a model's config predicts as many classes as the data set has."""
    for name, head in heads(model):
        if head.get("num_classes") not in (None, space.num_classes):
            raise ConfigError(
                f"{name}.num_classes={head['num_classes']}, but the data set has "
                f"{space.num_classes} classes: set it to {space.num_classes}"
            )


def check_ids(path: Path | str, mask: U8, space: LabelSpace) -> None:
    """Raise DataError, naming the file, when a mask holds an id that is no class and not void."""
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    unknown = [int(value) for value in present if space.raw_to_train[value] < 0]
    if unknown:
        raise DataError(
            f"{path} holds id {unknown[0]}, which is no class (there are {space.num_classes}) and "
            "not void (255)"
        )
