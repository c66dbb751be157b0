"""Archives: zip files with the same bytes for the same content, and careful reading of others'."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..errors import DataError
from ..store.images import replacing

MANIFEST = "manifest.json"
"""Name of the file in an export that says what it is."""
MAX_MEMBERS = 200_000
MAX_MEMBER = 1 << 30
"""Bytes of one file that is read."""
MAX_TOTAL = 1 << 37
"""Bytes of all files of an archive."""
MAX_RATIO = 200
"""Unpacked / packed size of a file above `SMALL` bytes; images and run lengths stay far below."""
SMALL = 1 << 26
_PEEKED = 8
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DATE = (1980, 1, 1, 0, 0, 0)
_PACKED = (".png", ".jpg", ".jpeg", ".webp")


def write_zip(path: Path, files: Mapping[str, bytes | Path]) -> None:
    """Write a zip, atomically; equal files give equal bytes.

    Args:
        path: Where to.
        files: Name -> content, or the file to copy.

    Raises:
        WorkDirError: It cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.zip"
        ...     write_zip(path, {"b": b"2", "a": b"1"})
        ...     source = Source.open([path])[0]
        ...     source.names, source.read("b")
        (('a', 'b'), b'2')
    """
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
    ):
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            packed = name.lower().endswith(_PACKED)
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            content = files[name]
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())


class Source:
    """Files to import: those of a zip, of a folder, or some files on their own.

    Args:
        title: For messages.
        names: Of the files, with '/'.

    Example:
        >>> Source("nothing", ()).names
        ()
    """

    def __init__(self, title: str, names: Sequence[str]) -> None:
        self.title, self.names = title, tuple(names)
        self._peeked: dict[str, Any] = {}

    @staticmethod
    def open(paths: Sequence[Path]) -> list[Source]:
        """Each zip and each folder is a source; all other files together are one.

        Raises:
            DataError: A path does not exist, or a zip is damaged or not safe to read.
        """
        found: list[Source] = []
        loose: dict[str, Path] = {}
        last: Path | None = None
        for path in paths:
            if path.is_dir():
                found.append(_folder(path))
            elif not path.is_file():
                raise DataError(f"{path} does not exist: give the files that the tool exported")
            elif path.suffix.lower() == ".zip":
                found.append(ZipSource(path))
            elif path.name in loose:
                raise DataError(f"{path}: another file has the same name {path.name!r}")
            else:
                loose[path.name] = last = path
        if loose:
            title = str(last) if len(loose) == 1 else f"{len(loose)} files"
            found.append(PathSource(title, loose))
        return found

    def read(self, name: str) -> bytes:
        """The content of a file. Raises DataError when it is too large or damaged."""
        with self.stream(name) as file, self._reading(name):
            data = file.read(MAX_MEMBER + 1)
        if len(data) > MAX_MEMBER:
            raise DataError(f"{self.where(name)} has more than {MAX_MEMBER} bytes")
        return data

    def head(self, name: str) -> bytes:
        """The first bytes of a file."""
        with self.stream(name) as file, self._reading(name):
            return file.read(4096)

    def stream(self, name: str) -> IO[bytes]:
        """The opened file."""
        raise DataError(f"{self.where(name)} does not exist")

    def sha256(self, name: str) -> str:
        """Of the content of a file."""
        digest = hashlib.sha256()
        with self.stream(name) as file, self._reading(name):
            while part := file.read(1 << 20):
                digest.update(part)
        return digest.hexdigest()

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self.where(name)} cannot be read: {error}") from None

    def where(self, name: str) -> str:
        """A file, for messages."""
        return f"{self.title}: {name}"

    def ending(self, suffix: str) -> list[str]:
        """Names with a suffix (in lower case), sorted."""
        return sorted(name for name in self.names if name.lower().endswith(suffix))

    def json(self, name: str) -> Any:
        """A JSON file. Raises DataError."""
        try:
            return json.loads(self.read(name).decode("utf-8-sig"))
        except RecursionError:
            raise DataError(f"{self.where(name)} is nested too deeply") from None
        except ValueError as error:
            raise DataError(f"{self.where(name)} is not JSON: {error}") from None

    def jsons(self) -> Iterator[tuple[str, Any]]:
        """All JSON files but the manifest: (name, content)."""
        for name in self.ending(".json"):
            if PurePosixPath(name).name != MANIFEST:
                yield name, self._peeked[name] if name in self._peeked else self.json(name)

    def peek(self) -> list[Any]:
        """The contents of the first JSON files, enough to recognise a format; they are kept."""
        if not self._peeked:
            self._peeked = dict(islice(self.jsons(), _PEEKED))
        return list(self._peeked.values())


class PathSource(Source):
    """Files of a folder, or on their own: name -> path."""

    def __init__(self, title: str, paths: Mapping[str, Path]) -> None:
        super().__init__(title, tuple(paths))
        self._paths = paths

    def stream(self, name: str) -> IO[bytes]:
        try:
            return open(self._paths[name], "rb")
        except OSError as error:
            raise DataError(f"{self.where(name)} cannot be read: {error.strerror}") from None

    def where(self, name: str) -> str:
        return str(self._paths[name])


class ZipSource(Source):
    """The files of a zip, after a look at its directory."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise DataError(f"{path} is not a readable zip: {error}") from None
        self._entries = _safe_entries(path, self._zip.infolist())
        super().__init__(str(path), tuple(self._entries))

    def stream(self, name: str) -> IO[bytes]:
        try:
            return self._zip.open(self._entries[name])
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{self.where(name)} cannot be read: {error}") from None


def _safe_entries(path: Path, entries: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by name. Raises DataError for what no labelling tool writes."""
    if len(entries) > MAX_MEMBERS:
        raise DataError(f"{path} has {len(entries)} files, more than {MAX_MEMBERS}")
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for entry in entries:
        name = entry.filename
        if not entry.flag_bits & 0x800 and not entry.orig_filename.isascii():
            raise DataError(f"{path}: the name {name!r} is not marked as UTF-8: zip it anew")
        parts = name.rstrip("/").split("/")
        if "\\" in entry.orig_filename or ":" in parts[0] or _CONTROL.search(entry.orig_filename):
            raise DataError(f"{path}: the name {entry.orig_filename!r} is not allowed in a zip")
        if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise DataError(f"{path}: the name {name!r} leads out of the zip")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{path}: {name!r} is a link or a device, not a file")
        if entry.is_dir():
            continue
        if entry.flag_bits & 1:
            raise DataError(f"{path}: {name!r} is encrypted: zip it without a password")
        if name in found:
            raise DataError(f"{path}: {name!r} is in it twice")
        if entry.file_size > MAX_MEMBER:
            raise DataError(f"{path}: {name!r} has {entry.file_size} bytes, more than {MAX_MEMBER}")
        if entry.file_size > max(SMALL, MAX_RATIO * entry.compress_size):
            raise DataError(
                f"{path}: {name!r} unpacks from {entry.compress_size} to {entry.file_size} bytes, "
                "which no labelling tool writes"
            )
        found[name] = entry
        total += entry.file_size
    if total > MAX_TOTAL:
        raise DataError(f"{path} has {total} bytes unpacked, more than {MAX_TOTAL}")
    return found


def _folder(root: Path) -> PathSource:
    paths: dict[str, Path] = {}
    for folder, folders, files in os.walk(root):  # does not follow links
        for name in (*folders, *files):
            path = Path(folder) / name
            if name.startswith("."):
                continue
            if path.is_symlink():
                raise DataError(f"{path} is a link: put the file there, or leave it out")
            if path.is_file():
                paths[path.relative_to(root).as_posix()] = path
    if len(paths) > MAX_MEMBERS:
        raise DataError(f"{root} has {len(paths)} files, more than {MAX_MEMBERS}")
    return PathSource(str(root), dict(sorted(paths.items())))
