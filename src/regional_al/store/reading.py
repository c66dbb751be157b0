"""Reading JSON and NPY files, and typed access to the JSON; each error is one line that names
file and key."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..types import JSON

_MISSING = object()
_MAX_INTEGER = 2**63 - 1
_SPECIAL = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_kind(path: Path) -> None:
    """Refuse what is neither a file nor a folder: reading a FIFO or a device may never end.

    Raises:
        DataError: One line that names it.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # its reader says it
    kind = next((name for test, name in _SPECIAL if test(mode)), None)
    if kind is not None:
        raise DataError(f"{path} is {kind}, not a file: remove it")


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises DataError when it is missing or no JSON."""
    check_kind(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise DataError(f"{path} cannot be read: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {_why(error)}") from None


def read_array(path: Path) -> npt.NDArray[Any]:
    """The array of an NPY file, without executing a pickle or believing its header: an array that
    the file is too small for is refused before memory is taken for it. Raises DataError."""
    check_kind(path)
    try:
        with path.open("rb") as file:
            _checked_header(file)
            file.seek(0)
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except Exception as error:  # whatever the parser of the header raises
        raise DataError(f"{path} cannot be read as an NPY file: {_why(error)}") from None


def array_shape(path: Path) -> tuple[int, ...]:
    """The shape of `read_array`, from the header alone. Raises DataError."""
    check_kind(path)
    try:
        with path.open("rb") as file:
            return _checked_header(file)
    except Exception as error:  # whatever the parser of the header raises
        raise DataError(f"{path} cannot be read as an NPY file: {_why(error)}") from None


def array_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """What the header of an NPY file says: shape and type. Raises ValueError, or what else its
    parser does."""
    if file.read(6) != np.lib.format.MAGIC_PREFIX:
        raise ValueError("it holds no array")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    return shape, dtype


def _checked_header(file: BinaryIO) -> tuple[int, ...]:
    """The shape in the header of an NPY file that is what it says. Raises ValueError."""
    shape, dtype = array_header(file)
    there = os.fstat(file.fileno()).st_size - file.tell()
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > there:
        raise ValueError(f"it ends early: there is no array {list(shape)} of {dtype} in it")
    return shape


def _why(error: Exception) -> str:
    """What an error says, without the data that it could not read."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 (byte {error.start})"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__


class Reader:
    """Typed access to a mapping; each error names where it is and the key."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise DataError(f"{where}: must be an object, not {type(data).__name__}")
        self._data, self._where, self._read = data, where, {"format"}

    def __call__(self, key: str, check: Callable[[Any], Any], default: Any = _MISSING) -> Any:
        """The checked value; a missing or null value is the default, if one is given."""
        self._read.add(key)
        value = self._data.get(key)
        if value is None and default is not _MISSING:
            return default
        if key not in self._data:
            raise DataError(f"{self._where}: key {key!r} is missing")
        try:
            return check(value)
        except ValueError as error:
            raise DataError(f"{self._where}: {key} {error}") from None

    def rest(self) -> JSON:
        return {key: value for key, value in self._data.items() if key not in self._read}


def integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be an integer, not {value!r}")
    if abs(value) > _MAX_INTEGER:
        raise ValueError(f"must have at most 64 bits, not {len(str(value))} digits")
    return value


def number(value: Any) -> float:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(integer(value))
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"must be a number, not {value!r}")
    return float(value)


def share(value: Any) -> float:
    if not 0.0 <= number(value) <= 1.0:
        raise ValueError(f"must lie in 0..1, not {value!r}")
    return float(value)


def at_least_zero(value: Any) -> float:
    """A number of 0 or more."""
    if number(value) < 0:
        raise ValueError(f"must be 0 or more, not {value!r}")
    return float(value)


def share_or_null(value: Any) -> float | None:
    return None if value is None else share(value)


def seconds(value: Any) -> dict[str, float]:
    return {str(k): number(v) for k, v in mapping(value).items() if v is not None}


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {value!r}")
    return value


def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {type(value).__name__}")
    return value


def acquisition(value: Any) -> dict[str, Any]:
    """An `acquisition` as it is kept in files, with what is computed from it checked."""
    for key, check in (("rounds", integer), ("queries", list_of(integer)), ("stop", mapping)):
        if mapping(value).get(key) is not None:
            try:
                check(value[key])
            except ValueError as error:
                raise ValueError(f"{key} {error}") from None
    return mapping(value)


def colour(value: Any) -> tuple[int, int, int]:
    channels = [integer(v) for v in value] if isinstance(value, list) else []
    if len(channels) != 3 or not all(0 <= v <= 255 for v in channels):
        raise ValueError(f"must be three numbers of 0..255, not {value!r}")
    return channels[0], channels[1], channels[2]


def list_of(check: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def checked(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list, not {type(value).__name__}")
        return [check(item) for item in value]

    return checked
