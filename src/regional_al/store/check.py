"""Whether the books of a run agree with its files: ledger, results, queries, checkpoints, labels.

A run does this whenever it starts, from its index of label files (`label_index`); `regional-al
check` reads every file.
What a kill leaves at any moment is no difference: the files may be ahead of the ledger within the
stage that was interrupted, never behind it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import differences
from ..errors import DataError, RegionalALError, WorkDirError
from ..types import JSON, UNLABELED, Bool, LabelSpace, PoolItem
from . import results as results_file
from .check_labels import LabelCheck
from .findings import Books, Finding, file_names, leftovers
from .images import verify
from .label_maps import SETS
from .labels import LabelStore
from .ledger import HEAD, Answered, Ledger
from .listing import Listing
from .query import Query, read_query
from .results import Results
from .schema import REVISING, WITHOUT_INDEX, WRITING
from .work_dir import WorkDir

_MAY_CHANGE = frozenset({"rounds", "stop", "cache_dir", "previews", "iterations"})
"""Keys of `acquisition` that may lag behind in results.json when a resume was killed."""


def check_run(
    work_dir: Path,
    label_space: LabelSpace | None = None,
    pool: Sequence[PoolItem] | None = None,
    rounds: int | None = None,
    thorough: bool = False,
    store: LabelStore | None = None,
    listing: Listing | None = None,
) -> list[Finding]:
    """Compare the ledger of a run with its files. Reads only.

    Args:
        work_dir: Of the run.
        label_space: Ids that labels may have; None: as results.json says.
        pool: The images, for their sizes; None: not known.
        rounds: How many are planned; None: as results.json says.
        thorough: Read every file instead of trusting what is recorded of those whose size, time
            and inode are as recorded.
        store: The label store; default: a new one.
        listing: Of its files, if somebody has begun to look them up.

    Returns:
        What was found, most serious first; an empty list when all is well.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with Ledger.create(Path(folder), config="", pool="", acquisition={}) as ledger:
        ...         ledger.mark(0, "query", {"picks": 1}, seconds=0.5)
        ...     [finding.path.name for finding in check_run(Path(folder))]
        ['results.json', 'query']
    """
    files = WorkDir(Path(work_dir))
    found: list[Finding] = []
    temporary: list[Path] | None = None
    listed: dict[Path, Set[str]] = {}
    if not files.ledger.exists():
        found += without_ledger(files)
    else:
        books = _read_books(files, thorough, found)
        if books is not None:
            results = _check_results(files, books, found)
            allowed = _allowed(label_space, results, books.head)
            queries = _check_queries(files, books, thorough, found, listed)
            if rounds is None:
                known = books.acquisition if results is None else results.acquisition
                rounds = int(known.get("rounds") or 0)
            _check_checkpoints(files, books, rounds, thorough, found)
            store = store or LabelStore(files.labels)
            check = LabelCheck(files, books, queries, allowed, pool, thorough, store, listing)
            check.check(found)
            temporary = check.temporary
    found += [
        Finding("temporary", path, "was left by a process that was killed", True, blocks=False)
        for path in leftovers(files, thorough, temporary, listed)
    ]
    return sorted(found, key=lambda finding: not finding.blocks)


def refuse_differences(
    work_dir: Path,
    label_space: LabelSpace,
    pool: Sequence[PoolItem],
    rounds: int,
    store: LabelStore | None = None,
    listing: Listing | None = None,
) -> list[Path]:
    """Raise WorkDirError, in one line, when a run must not be resumed as it is. Otherwise the
    index is brought up to date with files that are as recorded under another time or inode, and
    the temporary files that killed processes have left are returned."""
    store = store or LabelStore(WorkDir(work_dir).labels)
    found = check_run(work_dir, label_space, pool, rounds, store=store, listing=listing)
    serious = [finding for finding in found if finding.blocks]
    if serious:
        more = f" (and {len(serious) - 1} more)" if len(serious) > 1 else ""
        raise WorkDirError(f"{serious[0]}{more}: run `regional-al check {work_dir}`")
    if store.unsaved() and store.in_run:
        with suppress(WorkDirError), Ledger.open(work_dir) as ledger:
            ledger.record_labels(store.unsaved())
            store.saved()
    return [finding.path for finding in found if finding.kind == "temporary"]


def without_ledger(files: WorkDir) -> list[Finding]:
    """What is wrong with a folder that has no ledger: nothing, unless a run has worked in it."""
    store = LabelStore(files.labels)
    pixels = images = 0
    for key in store.annotated_keys():
        try:
            answered = int(store.counts(key)[1][1:].sum())
        except RegionalALError:
            answered = 1
        pixels += answered
        images += answered > 0
    rounds = files.rounds_with_query()
    if images:
        what = f"labels/ contains {pixels} annotated pixels of {images} images"
    elif store.keys():
        what = f"labels/ contains {len(store.keys())} label files"
    elif rounds:
        what = f"rounds/ contains {len(rounds)} queries"
    else:
        return []
    return [
        Finding(
            "ledger",
            files.ledger,
            f"is missing, but {what}: restore it from a backup, or choose another work dir",
        )
    ]


def _read_books(files: WorkDir, thorough: bool, found: list[Finding]) -> Books | None:
    """The content of the ledger; None when it cannot be read."""
    try:
        with Ledger.open(files.root, readonly=True) as ledger:
            for fault in ledger.faults(thorough):
                found.append(
                    Finding("ledger", files.ledger, f"is damaged: {fault}; restore a backup")
                )
            if found:
                return None
            round_, stage = ledger.position()
            stages = ledger.payloads()
            head, writing = ledger.noted(HEAD), ledger.noted(WRITING)
            if ledger.meta()["format"] in WITHOUT_INDEX:
                writing = {"round": round_}  # an earlier version does not say so
            pixels = head["pool"]["pixels"] if head else 0
            books = Books(
                round_,
                stage,
                stages,
                ledger.answer_rows(),
                ledger.acquisition(),
                head,
                results_file.records_of(ledger, pixels),
                writing=None if writing is None else int(writing["round"]),
                sets=ledger.files(SETS),
                revising=dict((ledger.noted(REVISING) or {}).get("files") or {}),
            )
    except (WorkDirError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = str(error).removeprefix(str(files.ledger)).lstrip(": ")
        if not isinstance(error, WorkDirError):
            why = f"is damaged: {error!r}; restore it from a backup"
        found.append(Finding("ledger", files.ledger, why))
        return None
    begun = round_ if stage == "query" else round_ + 1
    late = sorted({r for r in {row[0] for row in books.answers} if r >= begun})
    if late:
        message = f"has answers of round {late[0]}, whose query it does not know"
        found.append(Finding("ledger", files.ledger, message))
    return books


def _check_results(files: WorkDir, books: Books, found: list[Finding]) -> Results | None:
    """The content of results.json; None when it cannot be read."""
    path, mendable = files.results, books.head is not None

    def report(message: str, repairable: bool = False) -> None:
        found.append(Finding("results", path, message, repairable))

    if not path.is_file():
        if books.stages:
            report("is missing", mendable)
        return None
    try:
        results = results_file.load(files.root)
    except DataError as error:
        report(f"is damaged: {str(error).removeprefix(str(path)).lstrip(': ')}", mendable)
        return None
    said = {record.round: record for record in results.records}
    for expected in books.records:
        record = said.pop(expected.round, None)
        if record is None:  # the last one may be missing after a kill
            if (expected.round + 1, "query") != (books.round, books.stage):
                report(f"lacks the record of round {expected.round}", mendable)
            continue
        one, other = results_file.to_json(_only(record)), results_file.to_json(_only(expected))
        if books.head is None:  # of an earlier version: the size of the pool is not known
            for side in (one, other):
                side["records"][0].pop("labelled_fraction")
        for name, here, there in differences(other["records"][0], one["records"][0], "record"):
            what = name.removeprefix("record.")
            mine, theirs = json.dumps(here), json.dumps(there)
            report(f"has {what} {theirs} in round {expected.round}, the ledger has {mine}")
            break
    if said:
        report(f"has a record of round {min(said)}, which the ledger has not finished")
    if books.head is not None:
        one = results_file.to_json(results)
        for key in ("classes", "palette", "raw_to_train", "pool", "acquisition"):
            for name, here, there in differences(books.head[key], one[key], key):
                if key != "acquisition" or name.split(".")[1] not in _MAY_CHANGE:
                    was, now = (json.dumps(value)[:60] for value in (there, here))
                    report(f"has {name} {was}, the ledger has {now}")
                    break
    return results


def _only(record: results_file.Record) -> Results:
    """Results that consist of one record, without unknown keys: to compare it as JSON."""
    plain = results_file.Record(**{**vars(record), "extra": {}})
    return Results("", {}, (), (), (), 0, 0, "", records=(plain,))


def _allowed(space: LabelSpace | None, results: Results | None, head: JSON | None) -> Bool | None:
    """bool [256]: raw ids that labels may contain; None: not known."""
    table: Any = space.raw_to_train if space is not None else None
    if table is None and results is not None:
        table = results.raw_to_train
    if table is None and head is not None:
        table = head["raw_to_train"]
    if table is None:
        return None
    allowed: Bool = np.asarray(table) >= 0
    allowed[UNLABELED] = True
    return allowed


def _check_queries(
    files: WorkDir,
    books: Books,
    thorough: bool,
    found: list[Finding],
    listed: dict[Path, Set[str]],
) -> dict[int, Query]:
    """The queries of finished 'query' stages that can be read; their id maps, by folder, are added
    to `listed`."""
    queries: dict[int, Query] = {}
    for (round_, stage), payload in books.stages.items():
        if stage != "query" or not payload.get("picks"):
            continue
        folder = files.query(round_)

        def report(path: Path, message: str) -> None:
            found.append(Finding("query", path, message))

        if not folder.is_dir():
            report(folder, f"is missing: the ledger has {payload['picks']} picks")
            continue
        try:
            query = read_query(folder)
        except DataError as error:
            report(folder, f"is damaged: {str(error).removeprefix(f'{folder}/')}")
            continue
        queries[round_] = query
        if query.info.round != round_:
            report(folder, f"is the query of round {query.info.round}")
        if len(query.picks) != payload["picks"]:
            ours = payload["picks"]
            report(folder / "picks.npy", f"has {len(query.picks)} picks, the ledger has {ours}")
        if set(np.unique(query.picks["image"]).tolist()) != query.keys.keys():
            report(folder / "picks.npy", "asks about other images than query.json")
        listed[folder / "asked"] = there = file_names(folder / "asked")
        if not thorough and there.issuperset([f"{key}.png" for key in query.keys.values()]):
            continue  # as nearly always
        for key in query.image_keys():
            if f"{key}.png" not in there:
                report(folder / "asked" / f"{key}.png", "is missing")
            elif thorough:
                path = folder / "asked" / f"{key}.png"
                wrong = _asked_fault(path, query, key, books.answered.get(key, {}).get(round_))
                if wrong:
                    report(path, wrong)
    for round_ in files.rounds_with_query():
        if round_ > books.round:
            message = f"is a query of round {round_}, the ledger is in round {books.round}"
            found.append(Finding("query", files.query(round_), message))
    return queries


def _asked_fault(path: Path, query: Query, key: str, answered: Answered | None) -> str:
    """What is wrong with the id map of one image of a query, or ''."""
    try:
        verify(path)
        asked = query.asked(key)
    except DataError as error:
        return f"is damaged: {str(error).removeprefix(str(path)).strip()}"
    items, pixels = len(query.items(key)), int(np.count_nonzero(asked))
    if int(asked.max(initial=0)) > items:
        return f"has item {int(asked.max())}, the query has {items} items of this image"
    if answered is not None and answered.complete and pixels != answered.pixels:
        return f"asks for {pixels} pixels, the ledger has {answered.pixels} answered"
    return ""


def _check_checkpoints(
    files: WorkDir, books: Books, rounds: int, thorough: bool, found: list[Finding]
) -> None:
    """The checkpoint that the next stage reads. Others may have been deleted to save space."""
    if books.stage == "evaluate":
        round_ = books.round
    else:
        round_ = books.round - 1
        continues = books.acquisition.get("round_init") == "continue"
        chained = continues or books.acquisition.get("queries") is not None
        if not chained if books.stage != "query" else books.round > rounds:
            return
    name = (books.stages.get((round_, "fit")) or {}).get("checkpoint")
    if name is None:
        return
    path = files.root / str(name)
    fault = ""
    if not path.is_file():
        fault = f"is missing: the run needs the checkpoint of round {round_} to go on"
    elif is_cut(path, thorough):
        fault = f"is damaged: the run needs the checkpoint of round {round_} to go on"
    if fault:
        found.append(Finding("checkpoint", path, f"{fault}; restore it from a backup"))


def is_cut(path: Path, thorough: bool) -> bool:
    """Whether a checkpoint is empty or, as the archive that torch writes, not complete."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith(b"PK"):
        return not start
    if not zipfile.is_zipfile(path):
        return True
    if not thorough:
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return True
