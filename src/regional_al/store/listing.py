"""Which files of a run are not as recorded, by size, time and inode; also in other processes.

Looking at 300,000 files takes a processor longer than all else that opening a run does, and threads
of one Python process do not share it. This module therefore is a script as well, which imports the
standard library only: `Listing` starts it, for labels and for images, beside the process that opens
the run.
"""

import gc
import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

LABEL, ROUNDS = "label", "rounds"
SIDECAR = "_annotated"
FOLDERS = {LABEL: "", ROUNDS: SIDECAR}
"""Folder of each kind of file of an image, below that of the store."""
MAPS = ("_source", "_classes")
"""Folders of `label_maps`, which are in no index."""
_OTHERS = frozenset([*FOLDERS.values(), *MAPS])
SUFFIX = ".png"
TEMPORARY = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.tmp(-journal)?", re.DOTALL)
"""Names of files that are being written, see `images.temporary_name`."""
RECORDED = "folders"
"""Note of the ledger: folder of images -> `folder_digest`."""

Stamp = tuple[int, int, int]
"""Size, time of modification in nanoseconds, inode: what changes when a file is replaced."""
_NULL, _PIPE = subprocess.DEVNULL, subprocess.PIPE
_LARGE = 1 << 21
"""Bytes of a ledger, some 5,000 images, from which on other processes are worth their start."""
_LABELS, _IMAGES = "labels", "images"
"""What a process looks at."""


class Differences(NamedTuple):
    """What a folder of label files has that its index has not.

    Args:
        changed: Kind -> key -> stamp of a file that is new or not as recorded; None: it is gone.
        temporary: Files that processes which were killed have left.
    """

    changed: dict[str, dict[str, Stamp | None]]
    temporary: list[Path]


class Listing:
    """What has changed below a run, looked up in two processes from now on, until it is asked for.
    Of a small run, and where no process can be started, this process looks when asked.

    Args:
        database: The SQLite file with the table of the index.
        root: The folder of label files.
        always: Start processes also where that takes longer than the work itself.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     (Path(folder) / "a.png").touch()
        ...     listing = Listing(Path(folder) / "index.sqlite", Path(folder))
        ...     found = listing.labels()
        ...     list(found.changed["label"]), found.temporary, listing.unchanged_folders()
        (['a'], [], frozenset())
    """

    def __init__(self, database: Path, root: Path, always: bool = False) -> None:
        self.database, self.root = database.absolute(), root.absolute()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        frozen = getattr(sys, "frozen", False)  # then sys.executable is another program
        if not frozen and (always or _size(database) >= _LARGE):
            script = [sys.executable, "-I", "-S", __file__, str(self.database), str(self.root)]
            with suppress(OSError, ValueError):  # then this process does it
                for part in (_LABELS, _IMAGES):
                    self._processes[part] = subprocess.Popen(
                        [*script, part], stdin=_NULL, stdout=_PIPE, stderr=_NULL
                    )

    def labels(self) -> Differences:
        """The label files that are not as the index says. Asked for once."""
        with suppress(ValueError, KeyError, TypeError):
            if _LABELS in self._processes:
                kinds, temporary = self._found(_LABELS)
                changed: dict[str, dict[str, Stamp | None]] = {kind: {} for kind in FOLDERS}
                for kind, files in kinds.items():
                    for key, stamp in files.items():
                        changed[kind][key] = None if stamp is None else tuple(stamp)
                return Differences(changed, [Path(name) for name in temporary])
        return differences(self.database, self.root)

    def unchanged_folders(self) -> frozenset[str]:
        """Folders of images all of whose files are as they were at `Ledger.record_folders`. Others
        may be, too: nobody has looked. Asked for once."""
        with suppress(ValueError, TypeError):
            if _IMAGES in self._processes:
                return frozenset(self._found(_IMAGES))
        return frozenset()

    def close(self) -> None:
        """End the processes."""
        while self._processes:
            _, running = self._processes.popitem()
            with running as process:
                process.kill()

    def _found(self, part: str) -> Any:
        """What a process has found; ValueError where it has failed."""
        with self._processes.pop(part) as process:
            assert process.stdout is not None
            try:
                return json.loads(process.stdout.readline())
            finally:
                process.kill()


def differences(database: Path, root: Path) -> Differences:
    """Compare all label files with the index. Reads only.

    Args:
        database: The SQLite file with the table of the index; one that is missing or cannot be
            read records nothing.
        root: The folder.
    """
    temporary: list[Path] = []
    changed: dict[str, dict[str, Stamp | None]] = {}
    for kind in FOLDERS:
        there: dict[str, Stamp | None] = dict(walk(root, kind, temporary))
        for key, stamp in _recorded(database, kind):
            now = there.pop(key, None)
            if now != stamp:
                there[key] = now
        changed[kind] = there
    for folder in MAPS:
        for where, _, names in os.walk(os.path.join(root, folder)):
            temporary += [Path(where, name) for name in names if TEMPORARY.fullmatch(name)]
    return Differences(changed, temporary)


def scan(root: Path, kind: str) -> dict[str, Stamp]:
    """Key -> stamp of all files of a kind, in no order."""
    return dict(walk(root, kind))


def walk(root: Path, kind: str, temporary: list[Path] | None = None) -> Iterator[tuple[str, Stamp]]:
    """(key, stamp) of all files of a kind, looked up folder by folder. Temporary files among them
    are appended to `temporary`."""
    end = -len(SUFFIX)
    open_ = [("", os.path.join(root, FOLDERS[kind]))]
    while open_:
        prefix, folder = open_.pop()
        with suppress(FileNotFoundError, NotADirectoryError), _entries(folder) as listing:
            for item in listing:
                name = item.name
                if item.is_dir(follow_symlinks=False):
                    if prefix or kind != LABEL or name not in _OTHERS:
                        open_.append((f"{prefix}{name}/", os.path.join(folder, name)))
                elif name.endswith(SUFFIX) and name[0] != ".":
                    try:
                        status = item.stat()
                    except FileNotFoundError:
                        continue
                    stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
                    yield prefix + name[:end], stamp
                elif temporary is not None and TEMPORARY.fullmatch(name):
                    temporary.append(Path(folder, name))


@contextmanager
def _entries(folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The files of a folder. By its descriptor, as far as the system can, their `stat` is a third
    faster, and their `path` the name alone."""
    if os.scandir not in os.supports_fd:
        with os.scandir(folder) as listing:
            yield listing
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as listing:
            yield listing
    finally:
        os.close(descriptor)


def _recorded(database: Path, kind: str) -> list[tuple[str, Stamp]]:
    """(key, stamp) of each row of the index of a kind."""
    try:
        with reading(database) as db:
            rows = db.execute("SELECT key, size, mtime, inode FROM labels WHERE kind = ?", (kind,))
            return [(key, (size, mtime, inode)) for key, size, mtime, inode in rows]
    except (sqlite3.Error, ValueError):
        return []


def folder_status(folder: str) -> dict[str, tuple[int, int]]:
    """Size and time of modification of each file of a folder, by name. Raises OSError."""
    found: dict[str, tuple[int, int]] = {}
    with _entries(folder or ".") as listing:
        for item in listing:
            with suppress(OSError):
                status = item.stat()
                found[item.name] = (status.st_size, status.st_mtime_ns)
    return found


def folder_digest(status: Mapping[str, tuple[int, int]]) -> str:
    """Hash of `folder_status`."""
    text = repr(sorted(status.items())).encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _unchanged(database: Path) -> list[str]:
    """The folders that are as recorded."""
    found = []
    with reading(database) as db:
        ((text,),) = db.execute("SELECT value FROM meta WHERE key = ?", (RECORDED,))
    for folder, digest in json.loads(text).items():
        with suppress(OSError):
            if folder_digest(folder_status(folder)) == digest:
                found.append(folder)
    return found


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads."""
    # mode=rw: SQLite must be able to roll back what a killed writer left.
    uri = f"{database.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=60.0)) as db:
        db.execute("PRAGMA query_only = ON")
        yield db


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return 0


def main(database: str, root: str, part: str) -> None:
    """Print what a method of `Listing` reads, as a line of JSON."""
    if part == _IMAGES:
        print(json.dumps(_unchanged(Path(database))))
        return
    changed, temporary = differences(Path(database), Path(root))
    print(json.dumps([changed, [os.fspath(path) for path in temporary]]))


if __name__ == "__main__":
    gc.disable()
    main(*sys.argv[1:])
