"""A simulated person: the oracle's answers, with the time that they take and with errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..checks import check_keys, integer, within
from ..errors import ConfigError
from ..store.query import Query
from ..types import ImageAnswer, LabelSpace, PoolItem
from .base import ANNOTATORS
from .effort import Seconds, skimage_measure, work_of
from .noise import Errors, draws, with_errors
from .oracle import OracleAnnotator, true_answer

MAX_SECONDS = 86400.0
MAX_RADIUS = 32


@ANNOTATORS.register("simulated")
class SimulatedAnnotator(OracleAnnotator):
    """Answers immediately, as a person would: with time spent, and with errors if asked for.

    Answers and clicks are the oracle's. The time follows from what a person does on the annotation
    page for the right answer, see `annotators.effort`; errors take no time and save none, so that
    runs with and without them can be compared at equal cost. Errors depend on the seed, the image,
    the round and the item or pixel, and on nothing else.

    Args:
        pool: Images that may be asked about.
        label_space: Meaning of the ids.
        seconds: `image`, `look`, `key`, `vertex`, see `annotators.effort.Seconds`.
        errors: `boundary`, `radius`, `wrong_class`, `void`, `confusion`, see
            `annotators.noise.Errors`; None: none.
        seed: Of the errors; None: that of the run.
        run_seed: Seed of the run.

    Raises:
        ConfigError: A key or value of `seconds`, `errors` or `seed` is invalid.

    Example:
        >>> from regional_al.types import LabelSpace
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
        >>> person = SimulatedAnnotator([], space, seconds={"key": 0.2}, errors={"boundary": 0.3})
        >>> person.seconds.key, person.seconds.look, person.errors.radius
        (0.2, 1.35, 2)
    """

    takes_time = True

    def __init__(
        self,
        pool: Sequence[PoolItem],
        label_space: LabelSpace,
        seconds: Mapping[str, float] | None = None,
        errors: Mapping[str, Any] | None = None,
        seed: int | None = None,
        run_seed: int = 0,
    ) -> None:
        super().__init__(pool, label_space)
        self.seconds = _seconds(seconds or {})
        self.errors = _errors(errors or {}, label_space.num_classes)
        self.seed = run_seed if seed is None else integer("annotator.seed", seed, 0)

    def preflight(self) -> None:
        """As the oracle's; raise EnvironmentProblem when scikit-image is missing."""
        skimage_measure()
        super().preflight()

    def collect(self, query: Query, keys: Sequence[str]) -> Iterator[ImageAnswer]:
        """One complete answer per image, in the order of `keys`."""
        kind, space = query.info.answer, self._label_space
        for key in keys:
            asked, truth = self.look(query, key)
            answer = true_answer(kind, key, asked, truth, space, query.machine(key))
            work = work_of(kind, asked, truth, answer.clicks or 0, space)
            draw = draws(self.seed, query.info.round, key)
            given = with_errors(answer, kind, asked, truth, space, self.errors, draw)
            yield replace(given, seconds=self.seconds.of(work))

    def where(self, query: Query) -> str:
        """Where answers are expected, in one line."""
        return "a simulated person answers from the annotation files of the pool"


def _seconds(given: Mapping[str, float]) -> Seconds:
    known = tuple(field.name for field in fields(Seconds))
    check_keys("annotator.seconds", given, known)
    return Seconds(
        **{k: within(f"annotator.seconds.{k}", v, 0, MAX_SECONDS) for k, v in given.items()}
    )


def _errors(given: Mapping[str, Any], num_classes: int) -> Errors:
    check_keys("annotator.errors", given, tuple(field.name for field in fields(Errors)))
    found: dict[str, Any] = {}
    for key, value in given.items():
        where = f"annotator.errors.{key}"
        if key == "confusion":
            found[key] = None if value is None else _confusion(where, value, num_classes)
        elif key == "radius":
            found[key] = integer(where, value, 1)
            if value > MAX_RADIUS:
                raise ConfigError(f"{where}={value} must be at most {MAX_RADIUS} pixels")
        else:
            found[key] = within(where, value, 0, 1)
    if num_classes < 2 and found.get("wrong_class"):
        raise ConfigError(
            f"annotator.errors.wrong_class={found['wrong_class']}: the data set has one class, "
            "which cannot be taken for another; leave it out"
        )
    return Errors(**found)


def _confusion(where: str, value: Any, num_classes: int) -> tuple[tuple[float, ...], ...]:
    rows = value.tolist() if isinstance(value, np.ndarray) else value
    shape = f"{num_classes} rows of {num_classes} numbers, one for each class"
    if not isinstance(rows, (list, tuple)) or len(rows) != num_classes:
        raise ConfigError(f"{where} must be {shape}")
    checked = []
    for i, row in enumerate(rows):
        if not isinstance(row, (list, tuple)) or len(row) != num_classes:
            raise ConfigError(f"{where}[{i}] must be one of {shape}")
        checked.append(tuple(within(f"{where}[{i}]", v, 0, 1e12) for v in row))
    return tuple(checked)
