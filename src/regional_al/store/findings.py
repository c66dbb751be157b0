"""What a check of a work dir reports, and the temporary files that killed processes leave."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..types import JSON
from .files import FileStamp
from .images import is_temporary
from .ledger import Answered, AnswerTuple
from .query import TEMPORARY
from .results import Record
from .work_dir import WorkDir

_CACHE_SECONDS = 3600.0  # other runs may write to a cache: what is younger is theirs


@dataclass(frozen=True)
class Finding:
    """One difference.

    Args:
        kind: 'ledger', 'results', 'query', 'checkpoint', 'label', 'edited' (a label file whose
            labels the run has not written), 'unanswered' (labels that no round has answered),
            'index' (of pixel counts) or 'temporary'.
        path: The file.
        message: What is wrong with it, and what to do where `repair` cannot.
        repairable: Whether `store.repair` mends it, which loses nothing.
        blocks: Whether the run must not be resumed.
        key: The image, of labels.

    Example:
        >>> str(Finding("label", Path("labels/a.png"), "is missing"))
        'labels/a.png is missing'
    """

    kind: str
    path: Path
    message: str
    repairable: bool = False
    blocks: bool = True
    key: str = ""

    def __str__(self) -> str:
        return f"{self.path} {self.message}"


@dataclass
class Books:
    """What the ledger says. answers: see `Ledger.answer_rows`."""

    round: int
    stage: str
    stages: Mapping[tuple[int, str], JSON]
    answers: Sequence[AnswerTuple]
    acquisition: JSON
    head: JSON | None
    records: Sequence[Record] = ()
    writing: int | None = None
    """Round whose label files a process was writing when it was killed, if one was."""
    sets: Mapping[tuple[str, str], FileStamp] = field(default_factory=dict)
    """Stamps of the files with class sets, see `LabelStore.unsaved_sets`."""
    revising: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Hashes of the pixels that a killed process was giving label files, by key of the image."""

    @cached_property
    def answered(self) -> Mapping[str, Mapping[int, Answered]]:
        """What is recorded of each image, by round."""
        found: dict[str, dict[int, Answered]] = {}
        for round, key, *numbers in self.answers:
            found.setdefault(key, {})[round] = Answered(*numbers)
        return found


_ENDS = (".tmp", ".tmp-journal")
_NOTHING: Mapping[Path, Set[str]] = {}


def leftovers(
    files: WorkDir,
    everywhere: bool = False,
    labels: Sequence[Path] | None = None,
    listed: Mapping[Path, Set[str]] | None = None,
) -> list[Path]:
    """Temporary files and folders of processes that were killed, sorted.

    Args:
        files: Of the run, which must not be going on.
        everywhere: Also those of commands other than `train` (report, cached partitions).
        labels: Those among the labels, if somebody has looked already.
        listed: `file_names` of folders in `rounds/`, if somebody has looked already.
    """
    found: list[Path] = []
    if labels is None:
        labels = [path for path in _temporary(files.labels) if is_temporary(path.name)]
    found += labels
    for path in _temporary(files.root / "rounds", listed or _NOTHING):
        if is_temporary(path.name) or path.relative_to(files.root).parts[2:3] == ("fit",):
            found.append(path)
    found += (files.root / "rounds").glob(f"*/query{TEMPORARY}")
    old = {f".{files.ledger.name}.new", f"{files.results.name}.tmp"}  # names of earlier versions
    mine = tuple(f".{one.name}." for one in (files.ledger, files.results, files.points))
    for path in files.root.glob("*"):
        own = path.name.startswith(mine)
        if path.name in old or (is_temporary(path.name) and (own or everywhere)):
            found.append(path)
    if everywhere:
        found += [path for path in _temporary(files.figures) if is_temporary(path.name)]
        before = time.time() - _CACHE_SECONDS
        for path in _temporary(files.cache):
            if is_temporary(path.name) and path.stat().st_mtime < before:
                found.append(path)
    return sorted(found)


def file_names(folder: Path) -> set[str]:
    """All files below a folder, relative to it, with slashes. By name: none is looked at."""
    found: set[str] = set()
    for where, _, names in os.walk(folder):
        prefix = os.path.relpath(where, folder).replace(os.sep, "/")
        found.update(names if prefix == "." else (f"{prefix}/{name}" for name in names))
    return found


def _temporary(folder: Path, listed: Mapping[Path, Set[str]] = _NOTHING) -> Iterator[Path]:
    """Files below a folder whose names end as those of temporary files do, or of their journal.
    listed: `file_names` of some folders below, which are not looked at again."""
    known = {str(one): names for one, names in listed.items()}
    for where, folders, names in os.walk(folder):
        for inner in [name for name in folders if os.path.join(where, name) in known]:
            folders.remove(inner)
            there = known[os.path.join(where, inner)]
            yield from (Path(where, inner, name) for name in there if name.endswith(_ENDS))
        yield from (Path(where, name) for name in names if name.endswith(_ENDS))
