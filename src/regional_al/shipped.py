"""Where the files are that come with the package: configs, and scripts that start processes.

A wheel has them inside the package; in a clone of the repository, and in an editable installation
of it, they lie beside `src/`.
"""

from __future__ import annotations

from pathlib import Path

from .errors import EnvironmentProblem

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """A folder that comes with the package.

    Args:
        name: `'configs'` or `'tools'`.

    Returns:
        Its path, absolute.

    Raises:
        EnvironmentProblem: It is neither in the package nor beside its source tree.

    Example:
        >>> (folder("configs") / "streets" / "region_ripu_window.py").is_file()
        True
    """
    for place in (_PACKAGE / name, _PACKAGE.parents[1] / name):
        if place.is_dir():
            return place
    raise EnvironmentProblem(
        f"the folder {name} of regional-al is missing beside {_PACKAGE}: "
        "pip install --force-reinstall --no-deps regional-al"
    )


def config(name: str) -> Path:
    """A config that comes with the package.

    Args:
        name: Its path below `configs/`, with `/`.

    Returns:
        Its path, absolute.

    Raises:
        EnvironmentProblem: The installation is damaged.

    Example:
        >>> config("_base_/runtime.py").name
        'runtime.py'
    """
    path = folder("configs") / name
    if not path.is_file():
        raise EnvironmentProblem(
            f"{path} is missing: pip install --force-reinstall --no-deps regional-al"
        )
    return path
