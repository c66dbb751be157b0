"""The state of a training that is under way: one file, from which it is resumed after a kill.

The file is a checkpoint of the engine whose meta data say which training it belongs to.
It is replaced as a whole, so that it is always the state of one iteration.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..types import JSON

FILE = "resume.pth"
KEY = "stretch"
"""Of the checkpoint's `meta`: a dict with `identity`, `iteration`, and what the engine adds."""
_NAMES = {
    "processes": "the number of processes",
    "config": "the config",
    "labels": "the labels",
}


class UnusableStateError(Exception):
    """Why a state cannot be resumed, in a few words. Not an error of a run: it starts anew."""


def write(folder: Path, save: Callable[[Path], None]) -> None:
    """Replace the state in a folder, or leave it as it is.

    Args:
        folder: Of the training.
        save: Writes the checkpoint to the path that it is given.
    """
    temporary = folder / (FILE + ".tmp")
    save(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, folder / FILE)


def read(folder: Path, identity: JSON | None) -> JSON | None:
    """The entry `KEY` of the state in a folder; None when there is no state.

    Args:
        folder: Of the training.
        identity: Of the training that is to be resumed; None: there is nothing to resume.

    Raises:
        UnusableStateError: The file is damaged or belongs to another training.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     state = {"meta": {KEY: {"identity": {"round": 1}, "iteration": 500}}}
        ...     write(Path(name), lambda path: torch.save(state, path))
        ...     found = read(Path(name), {"round": 1})
        ...     found["iteration"], read(Path(name) / "other", {"round": 1})
        (500, None)
    """
    path = folder / FILE
    if identity is None or not path.is_file():
        return None
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        state: JSON = content["meta"][KEY]
        theirs, _ = state["identity"], int(state["iteration"])
    except Exception:  # whatever zip, unpickler and torch raise
        raise UnusableStateError(f"{path} is damaged") from None
    changed = differing(theirs, identity)
    if changed is not None:
        raise UnusableStateError(f"{_NAMES.get(changed, changed)} changed since it was interrupted")
    return state


def differing(then: Any, now: JSON) -> str | None:
    """The first key in which two identities differ, or None."""
    old: Mapping[str, Any] = then if isinstance(then, Mapping) else {}
    return next((key for key in sorted({*old, *now}) if old.get(key) != now.get(key)), None)


def remove(folder: Path) -> None:
    """Delete the state in a folder, if there is one."""
    for name in (FILE, FILE + ".tmp"):
        (folder / name).unlink(missing_ok=True)
