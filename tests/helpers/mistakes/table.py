"""What a case of the table is, and how it is run: in a folder of its own, as a command would.

A case starts from a folder ('data', or a 'run', ...), spoils something in it, gives an entry what a
user would, and says which line must come of it. Everything about it is data.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import io
import logging
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from mistakes import entries
from mistakes.damage import spoil

LONGEST = 500
"""Characters of an error, the folder of the case not counted."""
ERROR = re.compile(r"(regional-al( \w+)?: )?error: ")
_UNWATCHED = ("/.lock", "/labels/_annotated/index.sqlite", "/images.json")
"""A lock, and a cache that readers bring up to date."""


@dataclass(frozen=True)
class Case:
    """A mistake of a user.

    Args:
        name: Unique.
        entry: In `entries.ENTRIES`: what reads the input.
        given: What the entry is given.
        match: Regular expression that the line must match.
        start: Folder to start from, in `entries.STARTS`.
        spoil: What is done to it before, see `damage.spoil`.
        code: Exit code.
        stream: Where the line is printed; on stdout nothing else is looked at.
        writes: Regular expression of files that it may change all the same.
        marks: 'slow', 'mmseg1', 'mmseg0'.
        environment: Variables that are set.
    """

    name: str
    entry: str
    given: Any
    match: str
    start: str = "data"
    spoil: tuple[tuple[Any, ...], ...] = ()
    code: int = 2
    stream: str = "stderr"
    writes: str = ""
    marks: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


class Outcome(NamedTuple):
    """How a case ended."""

    code: int
    stdout: str
    stderr: str


def run_case(case: Case, folder: Path) -> Outcome:
    """Run a case in an empty folder."""
    prepare(case, folder)
    return _run(case, folder)


def prepare(case: Case, folder: Path) -> None:
    """Copy what a case starts from, and spoil it."""
    if case.start:
        shutil.copytree(template(case.start), folder, symlinks=True, dirs_exist_ok=True)
    for one in case.spoil:
        spoil(folder, one)


def check(case: Case, folder: Path) -> str | None:
    """Run a case in an empty folder.

    Returns:
        None when it ends as the table says, else what is wrong, in a few words.
    """
    prepare(case, folder)
    before = tree(folder)
    code, stdout, stderr = _run(case, folder)
    shown = [text.replace(str(folder), "") for text in (stdout, stderr)]
    if any("Traceback (most recent call last)" in text for text in shown):
        return f"a traceback: {shown[0]}{shown[1]}"
    lines = [line for line in shown[1].splitlines() if ERROR.match(line)]
    if case.stream == "stdout":
        if lines:
            return f"an error on stderr: {lines}"
        lines = [line for line in shown[0].splitlines() if re.search(case.match, line)]
    elif len(lines) != 1:
        return f"{len(lines)} lines of errors, exit code {code}: {shown[1]!r}"
    if not lines or not re.search(case.match, lines[0]):
        return f"does not match {case.match!r}: {shown[1] or shown[0]!r}"
    if case.stream == "stderr" and shown[1].rstrip().splitlines()[-1] != lines[0]:
        return f"more lines follow: {shown[1]!r}"
    if len(lines[0]) >= LONGEST:
        return f"{len(lines[0])} characters: {lines[0]}"
    if code != case.code:
        return f"exit code {code}, not {case.code}"
    changed = sorted(name for name, one in tree(folder).items() if before.get(name) != one)
    changed = [name for name in changed if not name.startswith("/w/") or "/rounds/" in name]
    changed = [name for name in changed if not (case.writes and re.search(case.writes, name))]
    gone = sorted(before.keys() - tree(folder).keys())
    return f"changed {changed}, removed {gone}" if changed or gone else None


def tree(folder: Path) -> dict[str, str]:
    """Name -> hash of every file below a folder, but for locks and caches."""
    found = {}
    for root, _, files in os.walk(folder):
        for file in files:
            path = Path(root) / file
            name = str(path).removeprefix(str(folder))
            if not name.endswith(_UNWATCHED) and path.is_file():
                try:
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
                except OSError:
                    found[name] = "unreadable"
    return found


def _run(case: Case, folder: Path) -> Outcome:
    stdout, stderr = io.StringIO(), io.StringIO()
    environment = {name: value.format(root=folder) for name, value in case.environment}
    act: Callable[[Path, Any], int] = entries.ENTRIES[case.entry]
    here = os.getcwd()
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        _quiet(),
    ):
        try:
            os.chdir(folder)
            code = act(folder, filled(case.given, folder))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except Exception:
            traceback.print_exc(file=stderr)
            code = 1
        finally:
            os.chdir(here)
    return Outcome(code, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the handlers and modules that a framework or a config leaves behind."""
    before = list(logging.getLogger().handlers)
    path = list(sys.path)
    try:
        yield
    finally:
        logging.getLogger().handlers[:] = before
        sys.path[:] = path


def filled(value: Any, folder: Path) -> Any:
    """`value` with {root} in its texts replaced by the folder."""
    if isinstance(value, str):
        return value.replace("{root}", str(folder))
    if isinstance(value, Mapping):
        return {key: filled(item, folder) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(filled(item, folder) for item in value)
    return value


@functools.cache
def template(name: str) -> Path:
    """The folder that cases with this `start` begin with, made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix=f"mistakes-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        entries.STARTS[name](folder)
    return folder
