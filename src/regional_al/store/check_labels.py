"""Whether the label files of a run agree with its ledger; a part of `store.check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..types import I64, UNLABELED, Bool, PoolItem
from .findings import Books, Finding
from .images import verify
from .labels import MAX_ROUND, LabelStore
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

    def check(self, found: list[Finding]) -> None:
        store = LabelStore(self.files.labels)
        if self.thorough:
            store.forget_index()
        self.store, self.found = store, found
        self.shapes = {item.key: item.shape for item in self.pool or ()}
        self.labelled, self.annotated = set(store.keys()), set(store.annotated_keys())
        current = self.queries.get(self.books.round)
        self.asked_now = None if current is None else set(current.keys.values())
        for key in sorted({*self.books.answered, *self.labelled, *self.annotated}):
            self._check_image(key)
        if self.thorough and store.index_is_wrong():
            path = self.files.labels / "_annotated" / "index.json"
            message = "is wrong: pixels will be counted anew"
            found.append(Finding("index", path, message, True, blocks=False))
        elif not self.thorough:
            store.save_index()

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
        except (DataError, OSError) as error:
            damaged = side if str(error).startswith(str(side)) else path
            why = str(error).removeprefix(str(damaged)).strip()
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
        self._check_ids(key, path, labels)
        self._check_size(key, path, labels, rounds)
        self._check_unanswered(key, path, labels, rounds)

    def _interrupted(self, key: str) -> bool:
        """Whether a kill may have left more in the files of an image than the ledger knows."""
        here = self.books.stage == "answers"
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
            if key in query.keys.values() and said.any():
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
