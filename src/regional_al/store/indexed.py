"""A folder of label files with the index of what they contain; the base of the label store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..types import I64, JSON, U8, UNLABELED, Bool
from .images import encode_png, read_ids, replacing
from .keys import check_key
from .label_index import (
    Entry,
    Name,
    entry_of,
    hash_bytes,
    hash_pixels,
    load,
    load_counts,
    save,
    stamp_of,
    unpack,
)
from .listing import FOLDERS, LABEL, SIDECAR, Listing, Stamp, walk
from .outside import check_file
from .work_dir import WorkDir

_INDEX = "index.sqlite"


class IndexedFolder:
    """The files of a `LabelStore`, and what is known of them without reading them.

    Args:
        root: The folder; created by the first write.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._rows: dict[str, dict[str, Entry]] = {}  # the index, by kind
        self._read: dict[str, tuple[object, ...]] = {}  # stamp of the file that it was read from
        self._changed: dict[Name, Entry | None] = {}  # rows that are to be saved: what was written,
        self._found: dict[Name, Entry] = {}  # and what was found to be as recorded, or counted
        self._seen: dict[Name, Entry] = {}  # files that are not as the index says
        self._wrong: set[Name] = set()
        self._new_sets: set[str] = set()  # images whose class sets have been written
        self._listed: tuple[bytes, list[str]] | None = None  # what `training_digest` has found
        self._trusted = True

    def __getstate__(self) -> JSON:
        return {"root": self.root}

    def __setstate__(self, state: JSON) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    def path(self, key: str) -> Path:
        """The label file of an image, which need not exist. Raises DataError for a key that cannot
        be a file name, or leads out of the store or into its sidecar folder."""
        check_key(key)
        return self.root / f"{key}.png"

    def sidecar_path(self, key: str) -> Path:
        """The file with the round in which each pixel was answered."""
        self.path(key)
        return self.root / SIDECAR / f"{key}.png"

    def save_index(self) -> None:
        """Write what has changed in the index of a store without a ledger. Failing to write it is
        no error. In a run, `recording` does it, together with the answers."""
        rows = self.unsaved()
        if rows and not self.in_run and save(self._database, rows):
            self.saved()

    def unsaved(self) -> dict[Name, Entry | None]:
        """Rows of the index that are not in its file yet; None: the label file is gone."""
        return {**self._found, **self._changed}

    def saved(self) -> None:
        """The rows of `unsaved` are in the file of the index now."""
        self._changed, self._found, self._new_sets = {}, {}, set()

    def forget_index(self) -> None:
        """Read every file once more, whatever the index says."""
        self._trusted, self._seen = False, {}

    def adopt(self, key: str, round: int) -> None:
        """Take the files of an image that the index does not know as they are, last written in
        `round`; in `unsaved` from then on."""
        for kind in FOLDERS:
            entry = self.entry(kind, key)
            if entry is not None and key not in self._rows_of(kind):
                self._rows_of(kind)[key] = entry = entry._replace(round=round)
                self._found[kind, key] = entry

    def index_is_wrong(self) -> bool:
        """Whether the index had other counts of a file that it describes; the rows that are right
        are `unsaved`."""
        return bool(self._wrong)

    def rows(self, kind: str) -> Mapping[str, Entry]:
        """All rows of the index of a kind, by key: what it says, whatever the files contain now."""
        return self._rows_of(kind)

    def recorded_counts(self, kind: str) -> dict[str, bytes]:
        """Packed counts that the index has of each file of a kind, by key. Of rows that nobody has
        asked for yet only this is read."""
        if kind in self._rows:
            return {key: row.counts for key, row in self._rows[kind].items()}
        return load_counts(self._database, kind) or {}

    def listing(self) -> Listing:
        """Begin to look up which files are not as the index says."""
        return Listing(self._database, self.root)

    def recorded(self, kind: str, key: str) -> Entry | None:
        """What the index says about a file of an image, whatever the file contains now."""
        return self._rows_of(kind).get(key)

    def entry(self, kind: str, key: str, stamp: Stamp | None = None) -> Entry | None:
        """What a file of an image contains now, read only if the index does not know it; None:
        there is no file.

        Args:
            kind: 'label' or 'rounds' (the sidecar).
            key: Of the image.
            stamp: Of the file, when the caller has looked already.

        Raises:
            DataError: The file is damaged.
        """
        if stamp is None:
            try:
                stamp = stamp_of(self.file(kind, key))
            except (FileNotFoundError, NotADirectoryError):
                return None
        if self._trusted:
            row = self._rows_of(kind).get(key)
            if row is not None and row[:3] == stamp:
                return row
        seen = self._seen.get((kind, key))
        if seen is not None and seen[:3] == stamp:
            return seen
        return self._look_into(kind, key, stamp)

    def file(self, kind: str, key: str) -> Path:
        """The file of an image of some kind: `path` or `sidecar_path`."""
        return self.path(key) if kind == LABEL else self.sidecar_path(key)

    @property
    def in_run(self) -> bool:
        """Whether the index is a table of the ledger of a run, and so a record of what it wrote."""
        run = WorkDir(self.root.parent)
        return run.labels == self.root and run.ledger.is_file()

    @property
    def _database(self) -> Path:
        """The SQLite file of the index."""
        return WorkDir(self.root.parent).ledger if self.in_run else self.root / SIDECAR / _INDEX

    def _trained(self, trainable: Bool) -> Iterator[tuple[str, Entry]]:
        """The images with a pixel whose raw id is trainable, sorted by key."""
        other = bytes(v for v in range(256) if v == UNLABELED or not trainable[v])
        for key, entry in self._all(LABEL):
            counts = entry.counts
            if counts[: len(counts) // 5].translate(None, other):
                yield key, entry

    def _all(self, kind: str) -> Iterator[tuple[str, Entry]]:
        """All files of a kind, sorted by key. Only those that have changed are read."""
        known, others = self._compared(kind)
        if others:
            self._rows_of(kind, newest=True)
            known, others = self._compared(kind)
        rows = self._rows_of(kind)
        for key in sorted([*known, *others]):
            entry = self.entry(kind, key, others[key]) if key in others else rows[key]
            if entry is not None:
                yield key, entry

    def _compared(self, kind: str) -> tuple[list[str], dict[str, Stamp]]:
        """Images whose file of a kind is as the index says; key -> stamp of the other files."""
        known: list[str] = []
        others: dict[str, Stamp] = {}
        rows = self._rows_of(kind) if self._trusted else {}
        for key, stamp in walk(self.root, kind):
            row = rows.get(key)
            if row is not None and (row[1], row[0], row[2]) == (stamp[1], stamp[0], stamp[2]):
                known.append(key)
            else:
                others[key] = stamp
        return known, others

    def _look_into(self, kind: str, key: str, stamp: Stamp) -> Entry | None:
        """Read a file. What the index says of it is corrected, but for what is on record."""
        path, row = self.file(kind, key), self._rows_of(kind).get(key)
        check_file(path, self.root)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        if self._trusted and row is not None and row.file == hash_bytes(data):
            entry = row._replace(size=stamp[0], mtime=stamp[1], inode=stamp[2])
        else:
            entry = entry_of(read_ids(path, data), data, stamp)
        same = row is not None and (row.digest == entry.digest or row.file == entry.file)
        if same and row is not None:
            entry = entry._replace(round=row.round, before=row.before)
            if row.counts != entry.counts or (row.file == entry.file and row[4] != entry[4]):
                self._wrong.add((kind, key))
        if (same or not self.in_run) and (self._trusted or (kind, key) in self._wrong):
            self._rows_of(kind)[key] = self._found[kind, key] = entry
        self._seen[kind, key] = entry
        return entry

    def _counts(self, kind: str, key: str) -> I64:
        """int64 [256]: pixels of each value in a file; all 0 where it is missing."""
        self.path(key)
        entry = self.entry(kind, key)
        return np.zeros(256, dtype=np.int64) if entry is None else unpack(entry.counts)

    def _put(self, kind: str, key: str, before: U8 | None, after: U8 | None, round: int) -> None:
        """Make a file contain `after` (None: no file), and record it; write only changes."""
        path, row = self.file(kind, key), self._rows_of(kind).get(key)
        if after is None:
            path.unlink(missing_ok=True)
            if row is not None:
                self._set(kind, key, None)
            return
        if before is None or not np.array_equal(before, after):
            data = encode_png(after)
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        elif row is not None and row.digest == hash_pixels(after):
            return
        else:  # as a process that was killed has left it
            data = path.read_bytes()
        entry = entry_of(after, data, stamp_of(path))
        earlier = None
        if row is not None:
            earlier = row.digest if row.round < round else row.before
            round = max(round, row.round)
        self._set(kind, key, entry._replace(round=round, before=earlier))

    def _set(self, kind: str, key: str, entry: Entry | None) -> None:
        """Change a row of the index, here and at the next save."""
        rows, self._listed = self._rows_of(kind), None
        if entry is None:
            rows.pop(key, None)
        else:
            rows[key] = entry
        self._seen.pop((kind, key), None)
        self._found.pop((kind, key), None)
        self._changed[kind, key] = entry

    def _rows_of(self, kind: str, newest: bool = False) -> dict[str, Entry]:
        """The index of a kind, read once; if `newest`, again when another process has written
        to it since."""
        rows = self._rows.get(kind)
        if rows is not None and not newest:
            return rows
        path = self._database
        try:
            stamp = (path, *stamp_of(path))
        except OSError:
            stamp = (path, 0, 0, 0)
        if rows is None or (stamp != self._read.get(kind) and not self._changed):
            rows = load(path, kind) or {}
            self._found = {name: one for name, one in self._found.items() if name[0] != kind}
            self._rows[kind], self._read[kind] = rows, stamp
        return rows
