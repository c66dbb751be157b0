"""The annotator protocol: who answers a query, now or later.

`request` publishes a query (idempotent: a resumed run publishes again). `collect` yields what is
there at this moment: all, part or nothing. The loop stores what came, and while something asked is
still unanswered the run stops in state 'waiting' with exit code 0 and goes on when run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from ..registry import Registry
from ..types import ImageAnswer, LabelSpace, PoolItem

if TYPE_CHECKING:
    from ..store.query import Query


class Annotator(Protocol):
    """Answers queries. Built with pool, label_space and the keyword arguments of the config."""

    def preflight(self) -> None:
        """Raise DataError when answers cannot come (missing or wrong-size ground truth, ...)."""

    def request(self, query: Query) -> None: ...

    def collect(self, query: Query, keys: Sequence[str]) -> Iterator[ImageAnswer]:
        """Answers that exist now for these images (keys of the query), each at most once."""

    def where(self, query: Query) -> str:
        """One line for a person: where answers are expected."""


ANNOTATORS: Registry[Annotator] = Registry("annotator")


class AnnotatorArgs(Protocol):
    """Constructor arguments that every annotator takes."""

    pool: Sequence[PoolItem]
    label_space: LabelSpace
