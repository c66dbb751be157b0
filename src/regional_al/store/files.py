"""Whether files outside the work dir are still those that a run was started with."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_WHOLE = 1 << 20  # files up to this size are hashed whole
_PART = 1 << 18
_THREADS = 8
_FEW = 32  # files that are looked up one by one, not in a listing of their folder


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


def stamps(
    paths: Mapping[tuple[str, str], Path], known: Mapping[tuple[str, str], FileStamp]
) -> dict[tuple[str, str], FileStamp]:
    """Stamps of many files. Looked up folder by folder; several threads read those that are new or
    have changed.

    Args:
        paths: (name, kind) -> file.
        known: Earlier stamps, see `stamp`.

    Returns:
        (name, kind) -> stamp, of the files that exist.
    """
    wanted: dict[str, dict[tuple[str, str], str]] = {}
    for name, path in paths.items():
        folder, file = _split(path)
        wanted.setdefault(folder, {})[name] = file
    found: dict[tuple[str, str], FileStamp] = {}
    unknown: list[tuple[str, str]] = []
    for folder, files in wanted.items():
        status = _status(folder, set(files.values()))
        for name, file in files.items():
            one, now = known.get(name), status.get(file)
            if one is not None and one[:2] == now:
                found[name] = one
            elif now is not None:
                unknown.append(name)
    if unknown:
        with ThreadPoolExecutor(_THREADS) as threads:
            new = threads.map(lambda name: stamp(paths[name], known.get(name)), unknown)
            found.update(
                (name, one) for name, one in zip(unknown, new, strict=True) if one is not None
            )
    return found


def _split(path: Path) -> tuple[str, str]:
    """As `os.path.split`, several times faster."""
    folder, slash, name = str(path).rpartition(os.sep)
    return folder or slash, name


def _status(folder: str, files: Set[str]) -> dict[str, tuple[int, int]]:
    """Size and time of some files of a folder: of those that exist."""
    found: dict[str, tuple[int, int]] = {}
    if len(files) < _FEW:  # of a folder that may contain millions
        for file in files:
            with suppress(OSError, ValueError):
                status = os.stat(os.path.join(folder, file))
                found[file] = (status.st_size, status.st_mtime_ns)
        return found
    with suppress(OSError, ValueError), os.scandir(folder or ".") as listing:
        for item in listing:
            if item.name in files:
                with suppress(OSError):
                    status = item.stat()
                    found[item.name] = (status.st_size, status.st_mtime_ns)
    return found


_SAME = {".jpeg": ".jpg", ".tiff": ".tif"}


def overlooked(images: Sequence[Path]) -> list[Path]:
    """Files beside the images of a pool that differ from them in the spelling of the suffix only.

    A data set takes the files of one suffix, and leaves `b.PNG` or `c.jpeg` out without a word.

    Args:
        images: All images of the pool.

    Returns:
        Such files, sorted.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     files = [Path(folder) / name for name in ("a.png", "b.PNG", "c.txt")]
        ...     for file in files:
        ...         file.touch()
        ...     [path.name for path in overlooked(files[:1])]
        ['b.PNG']
    """
    names_of: dict[str, list[str]] = {}
    for folder, name in map(_split, images):
        names_of.setdefault(folder, []).append(name)
    found = []
    for folder, ours in names_of.items():
        suffixes = set(map(_suffix, ours))
        spelt = set(map(_plain_suffix, suffixes))
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        there = list(map(_suffix, names))
        odd = {one for one in set(there) - suffixes if _plain_suffix(one) in spelt}
        if odd:
            pairs = zip(names, there, strict=True)
            found += [Path(folder, name) for name, suffix in pairs if suffix in odd]
    return sorted(found)


def _suffix(name: str) -> str:
    """As `os.path.splitext`, several times faster."""
    dot = name.rfind(".")
    return name[dot:] if dot > 0 else ""


def _plain_suffix(suffix: str) -> str:
    return _SAME.get(suffix.lower(), suffix.lower())
