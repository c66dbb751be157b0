"""A user's mistakes as data, and damage to whatever is read.

`CASES` is the table; `check(case, empty_folder)` returns None or what is wrong. `READERS` lists
what reads files, and `fuzz(name, examples, seed)` damages what one of them reads and counts the
outcomes.
"""

from mistakes import acquisition, commands, datasets, folders, release0
from mistakes.fuzzing import fuzz
from mistakes.readers import READERS
from mistakes.table import Case, Outcome, check, run_case

__all__ = ["CASES", "READERS", "Case", "Outcome", "check", "fuzz", "run_case"]

CASES: list[Case] = [
    *acquisition.CASES,
    *commands.CASES,
    *datasets.CASES,
    *folders.CASES,
    *release0.CASES,
]
