"""The annotator protocol: who answers a query, immediately or later.

`request` publishes a query; a resumed run publishes it again. `collect` yields the answers that
exist at this moment: all, some or none. The loop stores them. While part of the query is
unanswered the run stops in state 'waiting' with exit code 0; it continues when it is run again.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import ConfigError, DataError
from ..registry import Registry
from ..store.images import read_ids
from ..store.outside import declared_shape
from ..types import U8, UNLABELED, VOID_ANSWER, Bool, ImageAnswer, LabelSpace, PoolItem

if TYPE_CHECKING:
    from ..store.query import Query


VOID = VOID_ANSWER


class Annotator(Protocol):
    """Answers queries.

    A class with `takes_time = False` never says how many seconds an answer has taken. One that
    gives corrections of machine labels has `answer_kinds = ANSWERS` (default: `USUAL_ANSWERS`); the
    labels are `query.machine(key)`.
    An annotator whose answers come from files may have a method `sources()` (key of an image ->
    path): a resumed run then notices that one of them has been replaced.

    A registered class is constructed as `cls(pool=..., label_space=..., **arguments)` with the
    arguments of `acquisition.annotator`. What kind of answer is wanted, `query.info.answer`
    ('full', 'dominant', 'multiclass' or 'correction'), is part of each query; a constructor with a
    parameter named `answer` gets the kind that the config asks for, too, one named `run_seed` the
    seed of the run.

    Example:
        >>> import numpy as np
        >>> from regional_al.types import UNLABELED, ImageAnswer
        >>> @ANNOTATORS.register("doctest_void")
        ... class Void:
        ...     '''Answers every query with "no class".'''
        ...     def __init__(self, pool, label_space): pass
        ...     def preflight(self): pass
        ...     def request(self, query): pass
        ...     def collect(self, query, keys):
        ...         for key in keys:
        ...             asked = query.asked(key) > 0
        ...             yield ImageAnswer(key, np.full(asked.shape, UNLABELED, np.uint8), asked)
        ...     def where(self, query): return "answers come by themselves"
        >>> type(build_annotator({"type": "doctest_void", "answer": "dominant"}, [], None)).__name__
        'Void'
    """

    def preflight(self) -> None:
        """Raise DataError before any training when answers cannot come, for example because the
        ground truth of an image is missing."""

    def request(self, query: Query) -> None:
        """Publish a query. May be called again with the same query."""

    def collect(self, query: Query, keys: Sequence[str]) -> Iterator[ImageAnswer]:
        """Yield the answers that exist now.

        Args:
            query: The published query; `query.asked(key)` is int32 [H, W], 0 = not asked.
            keys: Images of the query without a complete answer.

        Yields:
            One `ImageAnswer` per image at most.
        """

    def where(self, query: Query) -> str:
        """One line telling a person where answers are expected."""


ANNOTATORS: Registry[Annotator] = Registry("annotator")


def build_annotator(
    spec: str | Mapping[str, Any],
    pool: Sequence[PoolItem],
    label_space: LabelSpace,
    run_seed: int = 0,
) -> Annotator:
    """Build the annotator of `acquisition.annotator`.

    Args:
        spec: A registered name or `dict(type=name, ...)`; `answer` belongs to the queries and is
            passed on only to a constructor that names it.
        pool: Images that will be asked about.
        label_space: Meaning of the ids.
        run_seed: Seed of the run, for a constructor that names it.

    Returns:
        The annotator.

    Raises:
        ConfigError: Unknown name or wrong arguments.

    Example:
        >>> from regional_al.annotators import build_annotator
        >>> from regional_al.types import LabelSpace
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
        >>> type(build_annotator({"type": "oracle", "answer": "dominant"}, [], space)).__name__
        'OracleAnnotator'
    """
    arguments = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    for name in ("pool", "label_space", "run_seed"):
        if name in arguments:
            raise ConfigError(f"acquisition.annotator has no key {name!r}: leave it out")
    given: dict[str, Any] = {"pool": pool, "label_space": label_space}
    if arguments.get("type") in ANNOTATORS:
        parameters = inspect.signature(ANNOTATORS.get(arguments["type"])).parameters
        if "answer" not in parameters:
            arguments.pop("answer", None)
        if "run_seed" in parameters:
            given["run_seed"] = run_seed
    return ANNOTATORS.build(arguments, **given)


def allowed_ids(label_space: LabelSpace) -> Bool:
    """bool [256]: raw ids that may occur in a label file or a file of answers; 255 always may."""
    allowed = label_space.raw_to_train >= 0
    allowed[UNLABELED] = True
    return allowed


def read_truth(path: Path, shape: tuple[int, int], label_space: LabelSpace) -> U8:
    """A mask of the data set, in the ids of label files.

    Args:
        path: The mask.
        shape: (H, W) that it must have.
        label_space: Meaning of the ids.

    Returns:
        uint8 [H, W], raw ids.

    Raises:
        DataError: It cannot be read, has another size or an id that is not allowed in masks.
    """
    allowed = label_space.mask_to_train >= 0
    allowed[UNLABELED] = True
    return label_space.raw_of_mask(checked_ids(path, shape, allowed))


def checked_ids(path: Path, shape: tuple[int, int], allowed: Bool) -> U8:
    """A label file as uint8 [H, W].

    Args:
        path: The file.
        shape: (H, W) that it must have.
        allowed: bool [256], the ids that may occur.

    Raises:
        DataError: It cannot be read, has another size or an id that is not allowed.
    """
    declared = declared_shape(path)
    if declared != shape:  # found before memory is taken for the pixels
        raise DataError(
            f"{path} is {_size(declared or ())} (height x width), its image is {_size(shape)}:"
            " save it at the size of the image"
        )
    ids = read_ids(path)
    found = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
    wrong = found[~allowed[found]]
    if wrong.size:
        row, col = np.argwhere(ids == wrong[0])[0]
        raise DataError(
            f"{path} contains id {wrong[0]} (row {row}, column {col}); allowed: {_ranges(allowed)}"
        )
    return ids


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape)


def _ranges(allowed: Bool) -> str:
    """`0-18, 255` for the ids that are set."""
    ids = np.flatnonzero(allowed)
    runs = np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1)
    return ", ".join(str(run[0]) if run.size == 1 else f"{run[0]}-{run[-1]}" for run in runs)
