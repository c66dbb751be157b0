"""One process at a time writes to a folder: the lock of a work dir, and of a comparison.

A kernel lock on `FOLDER/.lock`, which the system releases however its holder ends; the file also
contains process and host of the holder, to name it. Where the file system has no locks, the
holder is the process named in `FOLDER/.lock.held`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import WorkDirError

NAME = ".lock"
HELD = f"{NAME}.held"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

# POSIX locks do not exclude the threads of one process, and closing any descriptor of the file
# releases them: what this process holds is kept here. (They are not inherited by fork, so that
# data workers which outlive a killed run do not hold its work dir. flock would be.)
_mine: set[tuple[int, str]] = set()
_mutex = threading.Lock()


class FolderLock:
    """An exclusive lock on a folder. The same object may take it repeatedly; it is held until it
    has been released as often.

    Args:
        folder: Created by `acquire` if necessary.
        user: What holds it, for the error of the others.
        hint: What they can do.
        name: Of the file; locks of other names do not exclude each other.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     lock = FolderLock(Path(folder))
        ...     with lock.holding():
        ...         lock.held
        True
        >>> lock.held
        False
    """

    def __init__(
        self,
        folder: Path,
        user: str = "another run",
        hint: str = "wait until it has ended, or choose another work dir",
        name: str = NAME,
    ) -> None:
        self.folder, self.user, self.hint, self.name = folder, user, hint, name
        self._depth = 0
        self._file: int | None = None
        self._key = (0, "")

    @property
    def held(self) -> bool:
        """True while this object holds the lock."""
        return self._depth > 0

    def acquire(self) -> None:
        """Take the lock. Raises WorkDirError when another process, or another object of this one,
        holds it, and when the folder cannot be written."""
        if not self._depth:
            self._key = (os.getpid(), str(self.folder.resolve() / self.name))
            with _mutex:
                if self._key in _mine:
                    raise self._in_use(f"{os.getpid()} on {socket.gethostname()}")
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    self._take()
                except (FileExistsError, NotADirectoryError):
                    raise WorkDirError(
                        f"{self.folder} is not a folder: choose another one"
                    ) from None
                except OSError as error:
                    why = error.strerror or str(error)
                    raise WorkDirError(
                        f"{error.filename or self.folder} cannot be written: {why}"
                    ) from None
                _mine.add(self._key)
        self._depth += 1

    def release(self) -> None:
        """Give back one `acquire`; without one, nothing happens."""
        if self._depth > 1:
            self._depth -= 1
        elif self._depth:
            self._depth = 0
            if self._key[0] == os.getpid():  # not in a forked child, which does not hold it
                with _mutex:
                    self._give()
                    _mine.discard(self._key)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Hold the lock within a block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def __del__(self) -> None:
        if getattr(self, "_depth", 0):
            self._depth = 1
            self.release()

    def _take(self) -> None:
        file = os.open(self.folder / self.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _text(file)
            os.close(file)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise self._in_use(holder) from None
            if error.errno not in _UNSUPPORTED:
                raise
            self._take_by_name()
            return
        self._file = file
        _overwrite(file, _me())

    def _give(self) -> None:
        if self._file is None:
            (self.folder / f"{self.name}.held").unlink(missing_ok=True)
            return
        with suppress(OSError):  # a full disk: the lock ends all the same
            os.ftruncate(self._file, 0)
        os.close(self._file)
        self._file = None

    def _take_by_name(self) -> None:
        """Without locks: whoever creates the file holds the folder. A file whose process has ended
        on this host is put aside."""
        path = self.folder / f"{self.name}.held"
        for _ in range(3):
            try:
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileExistsError:
                with suppress(FileNotFoundError):
                    holder = _named(path)
                    if not _ended(holder):
                        raise self._in_use(f"{holder}; if it has ended, delete {path}") from None
                    aside = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
                    path.rename(aside)
                    if _named(aside) != holder:
                        os.link(aside, path)  # another process was faster: it holds the folder
                    aside.unlink()
                continue
            _overwrite(file, _me())
            os.close(file)
            return
        raise self._in_use("unknown")

    def _in_use(self, holder: str) -> WorkDirError:
        return WorkDirError(
            f"{self.folder} is in use by {self.user} (process {holder or 'unknown'}): {self.hint}"
        )


def holder(folder: Path, name: str = NAME) -> str:
    """Who holds the lock of a folder, without touching it.

    Args:
        folder: Of the lock.
        name: Of its file.

    Returns:
        `PID on HOST` ('unknown' where the file does not say so); '' when nobody does.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, FolderLock(Path(folder)).holding():
        ...     holder(Path(folder)) == f"{os.getpid()} on {socket.gethostname()}"
        True
    """
    if (os.getpid(), str(folder.resolve() / name)) in _mine:
        return _me()  # closing a descriptor of the file would release the lock
    with suppress(OSError):
        named = _named(folder / f"{name}.held")
        return "" if _ended(named) else named or "unknown"
    try:
        file = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        found = _text(file)
        if sys.platform != "linux":
            return "" if _ended(found) else found
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))[0]
        return "" if kind == fcntl.F_UNLCK else found or "unknown"
    except OSError:  # the file system has no locks
        return ""
    finally:
        os.close(file)


def _me() -> str:
    return f"{os.getpid()} on {socket.gethostname()}"


def _text(file: int) -> str:
    return " ".join(os.pread(file, 100, 0).decode(errors="replace").split())


def _named(path: Path) -> str:
    """What a lock file says, cut to the length of a name."""
    with path.open("rb") as file:
        return " ".join(file.read(100).decode(errors="replace").split())


def _overwrite(file: int, text: str) -> None:
    data = f"{text}\n".encode()
    os.pwrite(file, data, 0)
    os.ftruncate(file, len(data))


def _ended(holder: str) -> bool:
    """Whether `PID on HOST` names a process of this host that does not run any more."""
    number, _, host = holder.partition(" on ")
    if host != socket.gethostname() or not (number.isascii() and number.isdigit()):
        return False
    pid = int(number)
    if pid == os.getpid():  # of an earlier process with this number: what we hold is in `_mine`
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False
