"""The annotator protocol: who answers a query, immediately or later.

`request` publishes a query; a resumed run publishes it again. `collect` yields the answers that
exist at this moment: all, some or none. The loop stores them. While part of the query is
unanswered the run stops in state 'waiting' with exit code 0; it continues when it is run again.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..registry import Registry
from ..types import ImageAnswer, LabelSpace, PoolItem

if TYPE_CHECKING:
    from ..store.query import Query


class Annotator(Protocol):
    """Answers queries.

    A registered class is constructed as `cls(pool=..., label_space=..., **arguments)` with the
    arguments of `acquisition.annotator`. What kind of answer is wanted, `query.info.answer`
    ('full' or 'dominant'), is part of each query; a constructor with a parameter named `answer`
    gets the kind that the config asks for, too.

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
    spec: str | Mapping[str, Any], pool: Sequence[PoolItem], label_space: LabelSpace
) -> Annotator:
    """Build the annotator of `acquisition.annotator`.

    Args:
        spec: A registered name or `dict(type=name, ...)`; `answer` belongs to the queries and is
            passed on only to a constructor that names it.
        pool: Images that will be asked about.
        label_space: Meaning of the ids.

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
    if "answer" in arguments and arguments.get("type") in ANNOTATORS:
        parameters = inspect.signature(ANNOTATORS.get(arguments["type"])).parameters
        if "answer" not in parameters:
            del arguments["answer"]
    return ANNOTATORS.build(arguments, pool=pool, label_space=label_space)
