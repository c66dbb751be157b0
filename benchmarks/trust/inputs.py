"""Wrong input and damaged files: the table and the readers of tests/helpers/mistakes."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from jobs import ROOT

Row = dict[str, Any]


def table(every: int = 1) -> Row:
    """Every case of the table (or every `every`-th): one line, the exit code, nothing changed."""
    names = _names("CASES")[::every]
    failures = [f"{name}: {found}" for name, found in _spread(_case, names) if found]
    return {"part": "wrong input", "tried": len(names), "failures": failures}


def readers(examples: int, seed: int) -> Row:
    """Damage what every reader reads: it reads on or refuses in one line."""
    names = _names("READERS")
    counts = {"read": 0, "refused": 0}
    failures = []
    for name, found in _spread(_Fuzz(examples, seed), names):
        if isinstance(found, str):
            failures.append(f"{name}: {found}")
        else:
            counts = {key: counts[key] + found[key] for key in counts}
    return {"part": "damaged files", "tried": len(names) * examples, "readers": len(names),
            **counts, "failures": failures}  # fmt: skip


def _case(name: str) -> str | None:
    from mistakes import CASES, check

    case = next(case for case in CASES if case.name == name)
    with tempfile.TemporaryDirectory(prefix="trust-") as folder:
        return check(case, Path(folder))


class _Fuzz:
    """`fuzz` of one reader; an AssertionError becomes its text."""

    def __init__(self, examples: int, seed: int) -> None:
        self.examples, self.seed = examples, seed

    def __call__(self, name: str) -> dict[str, int] | str:
        from mistakes import fuzz

        try:
            return fuzz(name, self.examples, self.seed)
        except AssertionError as error:
            return str(error)


def _names(of: str) -> list[str]:
    _look_in_helpers()
    import mistakes
    from generation import mmseg_generation

    if of == "READERS":
        return list(mistakes.READERS)
    other = {"mmseg1", "mmseg0"} - {mmseg_generation()}
    return [case.name for case in mistakes.CASES if not other & set(case.marks)]


def _spread(work: Callable[[str], Any], names: Iterable[str]) -> Iterable[tuple[str, Any]]:
    """(name, work(name)) on two processes."""
    names = list(names)
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context, initializer=_look_in_helpers) as pool:
        return list(zip(names, pool.map(work, names, chunksize=4), strict=True))


def _look_in_helpers() -> None:
    for folder in (ROOT / "tests/helpers", ROOT / "src"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
