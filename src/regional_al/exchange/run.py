"""A run that waits for answers, as export and import see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..annotators.base import VOID as VOID_ID
from ..annotators.base import allowed_ids, checked_ids
from ..errors import UnsupportedError, WorkDirError
from ..store import results as results_file
from ..store.files import FileStamp
from ..store.ledger import Ledger
from ..store.query import Query, read_query
from ..store.work_dir import WorkDir
from ..types import U8, UNLABELED, Bool, LabelSpace
from .labels import ASK, VOID, Labels


@dataclass(frozen=True)
class WaitingRun:
    """A run in state 'waiting', with answers from people.

    Args:
        files: Of the run.
        round: That waits.
        query: What is asked.
        outstanding: Keys of the images without a complete answer, in the order of the query.
        space: Meaning of the ids.
        labels: Labels of the classes that may be answered, in their order.
        answers: Folder of the answers.
        void: Id of "no class" in their files.
        stamps: (key, kind) -> recorded stamp of a file.
    """

    files: WorkDir
    round: int
    query: Query
    outstanding: tuple[str, ...]
    space: LabelSpace
    labels: Labels
    answers: Path
    void: int
    stamps: Mapping[tuple[str, str], FileStamp]

    def answer_path(self, key: str) -> Path:
        """File with the answers about an image."""
        return self.answers / f"{key}.png"

    def answered(self, key: str, size: tuple[int, int]) -> U8:
        """What is answered about an image so far: uint8 [H, W], 255 = nothing. Raises DataError
        for a damaged file."""
        path = self.answer_path(key)
        if not path.exists():
            return np.full(size, UNLABELED, np.uint8)
        allowed: Bool = allowed_ids(self.space)
        allowed[self.void] = True
        return checked_ids(path, size, allowed)

    def raw_ids(self) -> U8:
        """uint8 [number of labels + 1]: the raw id of each label, by its number; 255 for nothing
        and for what is asked. Of several raw ids of a class it is the lowest."""
        table = np.full(len(self.labels.names) + 1, UNLABELED, np.uint8)
        table[1 : 1 + self.labels.num_classes] = self.space.lowest_raw[self.space.offered]
        table[self.labels.ids[VOID]] = self.void
        table[self.labels.ids[ASK]] = UNLABELED
        return table

    def label_numbers(self) -> npt.NDArray[np.uint16]:
        """uint16 [256]: the number of the label of each raw id in a file of answers; 0 for 255, and
        for ids that a data set calls void."""
        table = np.zeros(256, np.uint16)
        trainable, numbers = self.space.trainable, np.cumsum(self.space.offered)
        table[trainable] = numbers[self.space.raw_to_train[trainable]]
        table[self.void] = self.labels.ids[VOID]
        return table


def waiting_run(work_dir: Path) -> WaitingRun:
    """The run in a folder.

    Args:
        work_dir: Of the run.

    Returns:
        What export and import need to know.

    Raises:
        WorkDirError: There is no run, or it does not wait for answers.
        UnsupportedError: Its answers do not come from a folder.
        DataError: One of its files is damaged.
    """
    files = WorkDir(Path(work_dir))
    if not files.root.is_dir():
        raise WorkDirError(f"{work_dir} does not exist: give the --work-dir of a training")
    with Ledger.open(files.root, readonly=True) as ledger:
        round_, stage = ledger.position()
        annotator = json.loads(ledger.meta().get("acquisition", "{}")).get("annotator")
        picks = (ledger.done(round_, "query") or {}).get("picks", 0)
        if stage != "answers" or not picks:
            raise WorkDirError(
                f"{work_dir} is not waiting for answers (next: {stage} of round {round_}): resume "
                "the run until it asks"
            )
        query = read_query(files.query(round_))
        outstanding = tuple(ledger.outstanding(round_, query.image_keys()))
        stamps = ledger.files()
    if not isinstance(annotator, Mapping):
        annotator = {"type": annotator}
    if annotator.get("type") not in ("folder", "web"):
        raise UnsupportedError(
            f"{work_dir}: answers of annotator {annotator.get('type')!r} do not come from files: "
            "export, import and annotate need annotator=dict(type='folder') or 'web'"
        )
    results = results_file.load(files.root)
    table = np.array(results.raw_to_train, dtype=np.int16)
    space = LabelSpace(results.classes, results.palette, table)
    offered = np.flatnonzero(space.offered).tolist()
    return WaitingRun(
        files=files,
        round=round_,
        query=query,
        outstanding=outstanding,
        space=space,
        labels=Labels.of(
            [results.classes[c] for c in offered], [results.palette[c] for c in offered]
        ),
        answers=Path(annotator.get("answers") or files.answers(round_)),
        void=int(annotator.get("void", VOID_ID)),
        stamps=stamps,
    )
