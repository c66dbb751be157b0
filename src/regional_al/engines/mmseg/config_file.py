"""Reading a config file: whatever goes wrong is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import ConfigError, EnvironmentProblem, RegionalALError
from ..specs import first_line, missing_base


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
