"""Whether files outside the work dir are still those that a run was started with."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from .listing import folder_digest, folder_status

_WHOLE = 1 << 20  # files up to this size are hashed whole
_PART = 1 << 18
_THREADS = 8
_FEW = 32  # files that are looked up one by one, not in a listing of their folder,
_MOST = 4  # and neither are files that are fewer than a quarter of their folder's

T = TypeVar("T")
Named = tuple[str, str]
"""(name, kind) of a file."""


class FileStamp(NamedTuple):
    """What identifies the content of a file.

    Args:
        size: In bytes.
        mtime: Of its last modification, in nanoseconds.
        digest: Of its content; for files above 1 MiB of its first, middle and last 256 KiB.
    """

    size: int
    mtime: int
    digest: str


GONE = FileStamp(0, 0, "")
"""Recorded of a file that has been removed."""


@contextmanager
def no_collection() -> Iterator[None]:
    """Inside, the garbage collector does not run: it would go through hundreds of thousands of
    small objects again and again, of which none is garbage yet."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def stamp(path: Path | str, known: FileStamp | None = None) -> FileStamp | None:
    """The stamp of a file; None when there is none.

    Args:
        path: The file.
        known: An earlier stamp: a file of its size and time is not read again.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a"
        ...     _ = file.write_bytes(b"abc")
        ...     first = stamp(file)
        ...     stamp(file, first) == first, stamp(file.with_name("b"))
        (True, None)
    """
    try:
        status = os.stat(path)
        if not os.path.isfile(path):
            return None
        if known is not None and (known.size, known.mtime) == (status.st_size, status.st_mtime_ns):
            return known
        with open(path, "rb") as file:
            digest = hashlib.blake2b(digest_size=16)
            if status.st_size <= _WHOLE:
                digest.update(file.read())
            else:
                for start in (0, (status.st_size - _PART) // 2, status.st_size - _PART):
                    file.seek(start)
                    digest.update(file.read(_PART))
    except (OSError, ValueError):  # ValueError: a name with a null character
        return None
    return FileStamp(status.st_size, status.st_mtime_ns, digest.hexdigest())


def same(old: FileStamp | None, new: FileStamp | None) -> bool:
    """Whether two stamps are of the same content."""
    if old is None or new is None:
        return False
    return (old.size, old.digest) == (new.size, new.digest)


class Found(NamedTuple):
    """What `look_up` has found.

    Args:
        stamps: Of the files that exist, by name.
        folders: Folder -> `listing.folder_digest`, of those that were listed as a whole.
    """

    stamps: dict[Named, FileStamp]
    folders: dict[str, str]


def look_up(paths: Mapping[str, Mapping[Named, str]], known: Mapping[Named, FileStamp]) -> Found:
    """Stamps of many files. Looked up folder by folder; several threads read those that are new or
    have changed.

    Args:
        paths: Folder -> (name, kind) -> name of the file.
        known: Earlier stamps, see `stamp`.
    """
    found = Found({}, {})
    unknown: dict[Named, str] = {}
    for folder, files in paths.items():
        status = _status(folder, set(files.values()), found.folders)
        for name, file in files.items():
            one, now = known.get(name), status.get(file)
            if one is not None and one[:2] == now:
                found.stamps[name] = one
            elif now is not None:
                unknown[name] = os.path.join(folder, file)
    if unknown:
        with ThreadPoolExecutor(_THREADS) as threads:
            new = threads.map(lambda name: stamp(unknown[name], known.get(name)), unknown)
            for name, another in zip(unknown, new, strict=True):
                if another is not None:
                    found.stamps[name] = another
    return found


def by_folder(paths: Iterable[tuple[T, Path]]) -> dict[str, dict[T, str]]:
    """Folder -> what stands for a path -> name of the file.

    Example:
        >>> by_folder([(0, Path("a/1.png")), (1, Path("b/1.png")), (2, Path("a/2.png"))])
        {'a': {0: '1.png', 2: '2.png'}, 'b': {1: '1.png'}}
    """
    found: dict[str, dict[T, str]] = {}
    for one, path in paths:
        folder, slash, name = str(path).rpartition(os.sep)  # faster than os.path.split
        found.setdefault(folder or slash, {})[one] = name
    return found


def _status(folder: str, files: Set[str], digests: dict[str, str]) -> Mapping[str, tuple[int, int]]:
    """Size and time of some files of a folder: of those that exist. If they are most of its files,
    its digest is added."""
    found: dict[str, tuple[int, int]] = {}
    with suppress(OSError, ValueError):
        if len(files) >= _FEW and len(os.listdir(folder or ".")) < _MOST * len(files):
            status = folder_status(folder)
            digests[folder] = folder_digest(status)
            return status
    for file in files:  # of a folder that may contain millions
        with suppress(OSError, ValueError):
            status_ = os.stat(os.path.join(folder, file))
            found[file] = (status_.st_size, status_.st_mtime_ns)
    return found


_SAME = {".jpeg": ".jpg", ".tiff": ".tif"}


def overlooked(images: Mapping[str, Iterable[str]]) -> list[Path]:
    """Files beside the images of a pool that differ from them in the spelling of the suffix only.

    A data set takes the files of one suffix, and leaves `b.PNG` or `c.jpeg` out without a word.

    Args:
        images: Folder -> names, of all images of the pool.

    Returns:
        Such files, sorted.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("a.png", "b.PNG", "c.txt"):
        ...         (Path(folder) / name).touch()
        ...     [path.name for path in overlooked({folder: ["a.png"]})]
        ['b.PNG']
    """
    found = []
    for folder, names in images.items():
        ours = set(names)
        try:
            others = set(os.listdir(folder or ".")) - ours
        except OSError:
            continue
        if others:
            suffixes = set(map(_suffix, ours))
            spelt = set(map(_plain_suffix, suffixes))
            for name in others:
                suffix = _suffix(name)
                if suffix not in suffixes and _plain_suffix(suffix) in spelt:
                    found.append(Path(folder, name))
    return sorted(found)


def _suffix(name: str) -> str:
    """As `os.path.splitext`, several times faster."""
    dot = name.rfind(".")
    return name[dot:] if dot > 0 else ""


def _plain_suffix(suffix: str) -> str:
    return _SAME.get(suffix.lower(), suffix.lower())
