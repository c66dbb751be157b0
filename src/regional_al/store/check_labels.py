"""Whether the label files of a run agree with its ledger; a part of `store.check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..types import I64, U8, UNLABELED, Bool, PoolItem
from .agreement import disagreeing
from .files import GONE, same
from .files import stamp as stamp_file
from .findings import Books, Finding
from .images import verify
from .label_index import hash_pixels
from .label_maps import CLASSES
from .labels import MAX_ROUND, LabelStore
from .listing import FOLDERS, LABEL, MAPS, ROUNDS, Listing, Stamp, walk
from .query import Query
from .work_dir import WorkDir


@dataclass
class LabelCheck:
    """Compares the label store with the ledger."""

    files: WorkDir
    books: Books
    queries: Mapping[int, Query]
    allowed: Bool | None
    pool: Sequence[PoolItem] | None
    thorough: bool
    store: LabelStore
    listing: Listing | None = None
    """Of the files, if somebody has begun to look them up."""

    def check(self, found: list[Finding]) -> None:
        self.found = found
        self.shapes = {item.key: item.shape for item in self.pool or ()}
        self.temporary: list[Path] = []
        current = self.queries.get(self.books.round)
        self.asked_now = None if current is None else set(current.keys.values())
        self.queried = {r: set(query.keys.values()) for r, query in self.queries.items()}
        self.foreign = b""  # values that no label may have
        if self.allowed is not None:
            self.foreign = np.flatnonzero(~self.allowed).astype(np.uint8).tobytes()
        there: dict[str, Set[str]] = {}
        agreeing: set[str] = set()
        if self.thorough:
            self.store.forget_index()
            for kind in FOLDERS:
                there[kind] = {key for key, _ in walk(self.store.root, kind, self.temporary)}
        else:
            counts = {kind: self.store.recorded_counts(kind) for kind in FOLDERS}
            listing = self.listing or self.store.listing()
            try:
                changed, self.temporary = listing.labels()
            finally:
                if self.listing is None:
                    listing.close()
            for kind, files in changed.items():
                gone = {key for key, stamp in files.items() if stamp is None}
                there[kind] = (counts[kind].keys() | files.keys()) - gone
            agreeing = self._as_recorded(counts, changed)
        self.labelled, self.annotated = there[LABEL], there[ROUNDS]
        answered = {row[1] for row in self.books.answers}
        for key in sorted((answered | self.labelled | self.annotated) - agreeing):
            self._check_image(key)
        self._check_sets()
        if self.thorough and self.store.index_is_wrong():
            message = "has wrong pixel counts of label files: they will be counted anew"
            found.append(Finding("index", self.files.ledger, message, True, blocks=False))

    def _check_sets(self) -> None:
        """Whether the class sets are those that the run has written."""
        recorded = {key: said for (key, _), said in self.books.sets.items()}
        if not recorded:
            return  # there are none, or an earlier version does not say so
        for key in sorted({*recorded, *self.store.class_set_keys()}):
            path, said = self.store.root / CLASSES / f"{key}.png", recorded.get(key, GONE)
            now = stamp_file(path, said) or GONE
            if same(said, now) or self._interrupted(key) or key in self.books.revising:
                continue
            if any(finding.path == path for finding in self.found):
                continue  # it is damaged
            what = "is new" if said is GONE else "is missing" if now is GONE else "has changed"
            self._report(path, f"{what} since the run wrote it: restore it from a backup")

    def _as_recorded(
        self,
        counts: Mapping[str, dict[str, bytes]],
        changed: Mapping[str, Mapping[str, Stamp | None]],
    ) -> set[str]:
        """The images whose files are those in the index, and of which the index says what the
        answers say. Of the others `_check_image` finds out more, a hundred times slower.

        Args:
            counts: Kind -> key -> counts, as the index has them.
            changed: Kind -> key -> stamp, of the files that differ from it.
        """
        differing: set[str] = set()
        for kind, files in changed.items():
            for key, stamp in files.items():
                if stamp is not None and key in counts[kind]:
                    with suppress(DataError, OSError):  # of the same content the row is corrected
                        self.store.entry(kind, key, stamp)
                    row = self.store.recorded(kind, key)
                    if row is not None and row.stamp == stamp:
                        counts[kind][key] = row.counts
                        continue
                differing.add(key)
        label, side = counts[LABEL], counts[ROUNDS]
        known = [key for key in label if key in side and key not in differing]
        areas = None
        if self.pool is not None:
            sizes = {item.key: item.shape[0] * item.shape[1] for item in self.pool}
            areas = [sizes.get(key, -1) for key in known]
        wrong = disagreeing(
            known,
            [label[key] for key in known],
            [side[key] for key in known],
            self.books.answers,
            areas,
            self.foreign,
        )
        return set(known).difference(known[i] for i in wrong)

    def _report(self, path: Path, message: str, kind: str = "label", **how: Any) -> None:
        self.found.append(Finding(kind, path, message, **how))

    def _check_image(self, key: str) -> None:
        try:
            path, side = self.store.path(key), self.store.sidecar_path(key)
        except DataError:
            self._report(self.files.ledger, f"has answers of {key!r}, which cannot be an image")
            return
        try:
            for file in (path, side):
                if self.thorough and file.exists():
                    verify(file)
            labels, rounds = self.store.counts(key)
            for read in (self.store.source, self.store.class_sets) if self.thorough else ():
                read(key)
        except (DataError, OSError) as error:
            maps = [self.store.root / folder / f"{key}.png" for folder in MAPS]
            named = (file for file in (side, *maps) if str(error).startswith(str(file)))
            damaged = next(named, path)
            why = str(error).removeprefix(str(damaged)).strip().removeprefix("is damaged: ")
            self._report(damaged, f"is damaged: {why}; restore it from a backup")
            return
        if not self._rounds_agree(key, side, rounds):
            return
        if key not in self.labelled:
            if rounds[1:].any():
                self._report(path, f"is missing: {int(rounds[1:].sum())} pixels were answered")
            return
        if self.thorough and not self._within_queries(key, side):
            return
        before = len(self.found)
        self._check_ids(key, path, labels)
        self._check_size(key, path, labels, rounds)
        self._check_unanswered(key, path, labels, rounds)
        if not any(finding.blocks for finding in self.found[before:]):
            self._check_edited(key)
            if len(self.found) == before:
                self._adopt(key, rounds)

    def _adopt(self, key: str, rounds: I64) -> None:
        """Take files that the index does not know as what the run wrote: an earlier version has.
        Those that are ahead of the ledger are left to the stage that writes them again."""
        said = {r: one.pixels for r, one in self.books.answered.get(key, {}).items() if one.pixels}
        if {r - 1: int(rounds[r]) for r in np.flatnonzero(rounds) if r} != said:
            return
        if self._interrupted(key):
            label = self.store.read(key)
            settled = settled_pixels(self.store, LABEL, key, self.books.round + 1)
            if label is None or settled is None or not np.array_equal(label, settled):
                return
        self.store.adopt(key, max(said, default=0))

    def _interrupted(self, key: str) -> bool:
        """Whether a kill may have left more in the files of an image than the ledger knows."""
        here = self.books.stage == "answers" and self.books.writing == self.books.round
        return here and (self.asked_now is None or key in self.asked_now)

    def _rounds_agree(self, key: str, side: Path, rounds: I64) -> bool:
        said = self.books.answered.get(key, {})
        if rounds[MAX_ROUND + 2 :].any():
            self._report(side, f"contains a value above {MAX_ROUND + 1}")
            return False
        for round_ in sorted({*said, *(int(r) for r in np.flatnonzero(rounds[1:]))}):
            have = int(rounds[round_ + 1])
            want = said[round_].pixels if round_ in said else 0
            if have == want:
                continue
            ahead = round_ == self.books.round and have > want and self._interrupted(key)
            if ahead:
                continue
            if key not in self.annotated:
                message = f"is missing: the ledger has {want} answered pixels of round {round_}"
            else:
                message = f"has {have} pixels of round {round_}, the ledger has {want}"
            self._report(side, message)
            return False
        return True

    def _within_queries(self, key: str, side: Path) -> bool:
        """Whether all answered pixels were asked for in the round that the sidecar names."""
        sidecar = self.store.annotated(key)
        if sidecar is None:
            return True
        for round_, query in self.queries.items():
            said = sidecar == round_ + 1
            if key in self.queried[round_] and said.any():
                try:
                    asked = query.asked(key)
                except DataError:  # reported with the query
                    continue
                beyond = asked.shape != said.shape or bool((said & (asked == 0)).any())
                if beyond:
                    self._report(side, f"has pixels in round {round_} that were not asked for")
                    return False
        return True

    def _check_ids(self, key: str, path: Path, labels: I64) -> None:
        if self.allowed is None:
            return
        wrong = np.flatnonzero((labels > 0) & ~self.allowed)
        if wrong.size:
            self._report(path, f"contains id {int(wrong[0])}, which is not in the label space")

    def _check_size(self, key: str, path: Path, labels: I64, rounds: I64) -> None:
        pixels, known = int(labels.sum()), key in self.annotated
        if known and pixels != int(rounds.sum()):
            self._report(path, f"has {pixels} pixels, _annotated/{key}.png {int(rounds.sum())}")
        elif self.pool is not None and key not in self.shapes:
            self._report(path, "is not an image of the pool")
        elif key in self.shapes and pixels != self.shapes[key][0] * self.shapes[key][1]:
            height, width = self.shapes[key]
            self._report(path, f"has {pixels} pixels, its image {height}x{width}")

    def _check_edited(self, key: str) -> None:
        """Whether the pixels are those that the run has written. What a process was writing when
        it was killed is left out: then those of earlier rounds."""
        for kind in (LABEL, ROUNDS):
            row, now = self.store.recorded(kind, key), self.store.entry(kind, key)
            if row is None or now is None or row.digest == now.digest or row.file == now.file:
                continue
            if kind == LABEL and now.digest.hex() in self.books.revising.get(key, ()):
                continue
            round_, path = self.books.round, self.store.file(kind, key)
            if self._interrupted(key):
                expected = row.digest if row.round < round_ else row.before
                settled = settled_pixels(self.store, kind, key, round_)
                if expected is None or settled is None or hash_pixels(settled) == expected:
                    continue
            message = "was edited after the run had written it: restore it from a backup"
            if kind == LABEL:
                accept = f"{message}, or accept it with `--accept-labels`"
                self._report(path, accept, "edited", key=key)
            else:
                self._report(path, message)

    def _check_unanswered(self, key: str, path: Path, labels: I64, rounds: I64) -> None:
        """Labels of pixels that nobody has answered; exact if thorough, else by their number."""
        many = int(labels[:UNLABELED].sum()) - int(rounds[1:].sum())
        if self.thorough and key in self.annotated:
            label, sidecar = self.store.read(key), self.store.annotated(key)
            if label is None or sidecar is None or label.shape != sidecar.shape:
                return
            many = int(np.count_nonzero((label != UNLABELED) & (sidecar == 0)))
        if key in self.annotated and many <= 0:
            return
        if self._interrupted(key):
            message = "has labels that a process was writing when it was killed"
            self._report(path, message, "unanswered", repairable=True, blocks=False, key=key)
        else:
            message = f"has labels of {max(many, 0)} pixels that no round has answered"
            self._report(path, f"{message}: move the file away or restore it", "unanswered")


def settled_pixels(store: LabelStore, kind: str, key: str, round: int) -> U8 | None:
    """A file of an image as it was when round `round` began: without what that round and later
    ones have answered, and without labels that nobody has. None: there was none."""
    sidecar = store.annotated(key)
    pixels = store.read(key) if kind == LABEL else sidecar
    if sidecar is None or pixels is None or sidecar.shape != pixels.shape:
        return None
    settled = (sidecar > 0) & (sidecar <= round)
    return np.where(settled, pixels, np.uint8(UNLABELED if kind == LABEL else 0))
