"""Masks of a round that every rank makes for its share of the images, by the model of the round
before. Those that are there and right are kept, see `store.made_masks`."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines.base import Prediction, predictions
from ..errors import RegionalALError
from ..runtime import distributed as dist
from ..runtime.progress import progress
from ..store.made_masks import MadeMasks
from ..store.query import read_query
from ..types import I32, U8, PredictRequest

if TYPE_CHECKING:
    from .loop import ActiveLearningLoop


@dataclass(frozen=True)
class Making:
    """How the masks of a round are made.

    Args:
        title: Of the progress bar.
        folder: Round -> folder of its masks.
        masks: Those of the current round.
        needs: What the model predicts beside logits.
        images: Indices of the images that have one.
        origin: Index -> what its mask is made from, see `made_from`; None: it has none after all.
        make: (prediction, origin): writes the mask.
    """

    title: str
    folder: Callable[[int], Path]
    masks: MadeMasks
    needs: PredictRequest
    images: Iterable[int]
    origin: Callable[[int], str | None]
    make: Callable[[Prediction, str], None]


def prepare(loop: ActiveLearningLoop, checkpoint: Path, plan: Callable[[], Making]) -> None:
    """Make the masks of the current round, every rank its share; remove those of the round before.

    Args:
        loop: Of the run.
        checkpoint: Of the model that predicts.
        plan: How to make them; what it raises is raised on all ranks together.

    Raises:
        DataError: A query or a label file is damaged, or the engine predicts at another size.
    """
    error: RegionalALError | None = None
    try:
        making = plan()
        _clear(making.folder(loop.round - 1))
        _make(loop, checkpoint, making)
    except RegionalALError as caught:  # raised on all ranks together, below
        error = caught
    dist.raise_together(error)


def _clear(folder: Path) -> None:
    if dist.is_main():
        shutil.rmtree(folder, ignore_errors=True)


def _make(loop: ActiveLearningLoop, checkpoint: Path, making: Making) -> None:
    """This rank's share of `prepare`."""
    pool = loop.engine.pool
    origins: dict[int, str] = {}
    for index in sorted(making.images)[dist.rank() :: dist.world_size()]:
        origin = making.origin(index)
        if origin is not None and origin != making.masks.made_from(pool[index].key):
            origins[index] = origin
    if not origins:
        return
    found = predictions(loop.engine, checkpoint, list(origins), making.needs)
    for seen in progress(found, making.title, len(origins)):
        making.make(seen, origins[seen.index])


def made_from(arrays: Iterable[U8 | I32], *more: object) -> str:
    """A text that tells masks apart: a hash of the arrays and the other things behind one.

    Example:
        >>> import numpy as np
        >>> made_from([np.zeros((1, 2), np.uint8)], "002", 512) == made_from([], "002", 512)
        False
    """
    digest = hashlib.blake2b(repr(more).encode(), digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def answers(loop: ActiveLearningLoop, index: int) -> tuple[U8, U8] | None:
    """Labels and rounds of an image, uint8 [H, W]; None: nothing has been answered."""
    key = loop.engine.pool[index].key
    labels, rounds = loop.store.read(key), loop.store.annotated(key)
    return None if labels is None or rounds is None else (labels, rounds)


def asked_about(loop: ActiveLearningLoop, kinds: Container[str]) -> dict[int, list[int]]:
    """Image -> rounds up to this one that have asked about its regions.

    Args:
        loop: Of the run.
        kinds: Of answers; queries for others are left out.
    """
    found: dict[int, list[int]] = {}
    for number in loop.work_dir.rounds_with_query():
        if number <= loop.round:
            query = read_query(loop.work_dir.query(number))
            for index in query.keys if query.info.answer in kinds else ():
                found.setdefault(index, []).append(number)
    return found


def model_of(checkpoint: Path) -> str:
    """What tells the models of a run apart: the name of their round's folder."""
    return checkpoint.parent.parent.name
