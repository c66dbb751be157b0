"""Masks that a machine has made: checked, copied into the run, and compared when it is resumed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..annotators.base import read_truth
from ..errors import DataError, WorkDirError
from ..runtime.progress import progress
from ..store.files import FileStamp, by_folder, look_up, same
from ..store.ledger import Ledger
from ..store.outside import check_file
from ..store.prelabels import Prelabels
from ..store.work_dir import WorkDir
from ..types import JSON, U8, LabelSpace, PoolItem

if TYPE_CHECKING:
    from .loop import ActiveLearningLoop

KEY = "acquisition.warm_start.prelabels"
NOTE = "prelabels"
"""Note of the ledger: what `Prelabels.finish` has said."""
KIND, COPY = "prelabel", "prelabel copy"
"""Of the stamps in the ledger of the files that were copied, and of the copies."""


def mask_of(folder: Path, key: str) -> Path:
    """The mask of an image."""
    return folder / f"{key}.png"


def check_folder(folder: Path, pool: Sequence[PoolItem]) -> None:
    """Raise DataError unless the folder holds a mask of an image of the pool."""
    if not folder.is_dir():
        raise DataError(f"{KEY}={folder} is not a folder: give the folder of the masks")
    if pool and not any(mask_of(folder, item.key).exists() for item in pool):
        raise DataError(
            f"{KEY}={folder} holds no mask of the {len(pool)} images of the pool: that of the "
            f"first would be {mask_of(folder, pool[0].key)}"
        )


def masks(
    folder: Path, pool: Sequence[PoolItem], space: LabelSpace
) -> Iterator[tuple[PoolItem, U8 | None]]:
    """Each image of the pool with its mask in the ids of label files; None: it has none.

    Raises:
        DataError: A mask cannot be read, is a link out of the folder, has another size than its
            image or an id that masks of the data set do not have.
    """

    def read(item: PoolItem) -> U8 | None:
        path = mask_of(folder, item.key)
        check_file(path, folder, item.shape)
        return read_truth(path, item.shape, space) if path.exists() else None

    with ThreadPoolExecutor(4) as threads:
        size = 64  # few at once: a pool may have any number
        for start in range(0, len(pool), size):
            part = pool[start : start + size]
            yield from zip(part, threads.map(read, part), strict=True)


def check_masks(folder: Path, pool: Sequence[PoolItem], space: LabelSpace) -> None:
    """Raise DataError for the first mask that `masks` refuses, and where no pixel of all has a
    class."""
    trainable, some = space.trainable, False
    for _, mask in progress(masks(folder, pool, space), "Checking prelabels", len(pool)):
        some = some or (mask is not None and bool(trainable[mask].any()))
    if not some:
        raise DataError(f"{KEY}={folder}: no pixel of its masks has a class")


def take(folder: Path, loop: ActiveLearningLoop) -> JSON:
    """Copy the masks into the run, on rank 0. Safe to repeat: copies that are complete stay.

    Returns:
        images: With a mask; missing: without; pixels: of each raw id.
    """
    ledger, pool = loop.records.ledger, loop.engine.pool
    assert ledger is not None
    noted = ledger.noted(NOTE)
    if noted is not None:
        return noted
    stamps = look(folder, pool, {})
    shutil.rmtree(loop.work_dir.prelabels, ignore_errors=True)  # of a process that was killed
    copies, missing = Prelabels(loop.work_dir.prelabels), 0
    found = masks(folder, pool, loop.engine.label_space)
    for item, mask in progress(found, "Copying prelabels", len(pool)):
        if mask is None:
            missing += 1
        else:
            copies.write(item.key, mask)
    summary = copies.finish(missing)
    with ledger.transaction():
        ledger.record_files({**stamps, **look(copies.root, pool, {}, COPY)})
        ledger.note(NOTE, summary)
    have = f"{summary['images']} of {len(pool)} images have a mask"
    print(f"prelabels: {have} in {folder}", flush=True)
    return summary


def look(
    folder: Path,
    pool: Sequence[PoolItem],
    known: dict[tuple[str, str], FileStamp],
    kind: str = KIND,
) -> dict[tuple[str, str], FileStamp]:
    """Stamps of the masks that exist, as the ledger keeps them."""
    paths = by_folder(((item.key, kind), mask_of(folder, item.key)) for item in pool)
    return look_up(paths, known).stamps


def check_copies(work_dir: WorkDir, pool: Sequence[PoolItem], ledger: Ledger) -> None:
    """Raise WorkDirError, naming a file, when the copies are not those that the run has made."""
    copies = Prelabels(work_dir.prelabels)
    copies.counts()  # the summary is there
    found = _changed(copies.root, pool, ledger, COPY)
    if found is not None:
        path, what = found
        raise WorkDirError(f"{path} {what}: restore it from a backup, or start a new run")


def check_unchanged(folder: Path, pool: Sequence[PoolItem], ledger: Ledger) -> None:
    """Raise WorkDirError, naming a mask, when the folder is there and holds other masks than those
    that were copied. Files of the same size and time are not read."""
    if not folder.is_dir():
        return
    found = _changed(folder, pool, ledger, KIND)
    if found is not None:
        path, what = found
        raise WorkDirError(
            f"{KEY}: {path} {what} since {ledger.path.parent} was started: restore the folder, or "
            "choose another work_dir"
        )


def _changed(
    folder: Path, pool: Sequence[PoolItem], ledger: Ledger, kind: str
) -> tuple[Path, str] | None:
    """The first mask that is not as the ledger has it, and what has become of it."""
    known = ledger.files(kind)
    now = look(folder, pool, known, kind)
    for item in pool:
        then, there = known.get((item.key, kind)), now.get((item.key, kind))
        if then != there and not same(then, there):
            what = "is new" if then is None else "is gone" if there is None else "has changed"
            return mask_of(folder, item.key), what
    return None
