"""Named errors. Each message is one line: what is wrong (file, key or value) and how to fix it.

Everything a user can cause derives from `RegionalALError`; the command line prints its message
without a traceback and exits with `exit_code`.
"""

from __future__ import annotations


class RegionalALError(Exception):
    """Base of every error that a user can cause and fix."""

    exit_code = 2


class ConfigError(RegionalALError):
    """A key or value of the config is unknown, missing or invalid."""


class UnsupportedError(ConfigError):
    """A combination that is not supported, in general or by this engine."""


class DataError(RegionalALError):
    """A file of the data set is missing, unreadable, of the wrong size or contains unknown ids."""


class BudgetError(ConfigError):
    """A budget that cannot be spent: zero, negative, larger than the pool, or in a wrong unit."""


class WorkDirError(RegionalALError):
    """The work dir contains another run, a run that was not meant to be resumed or whose files
    disagree; or it is in use or cannot be written."""


class ScoreError(RegionalALError):
    """Scores or logits that cannot be ranked: NaN or infinite values (the image is named)."""


class EnvironmentProblem(RegionalALError):
    """A required package is missing or incompatible with the others, or the machine lacks something
    (devices, shared memory)."""


class TrainingStopped(RegionalALError):
    """A signal stopped a training, whose state is saved: the same command resumes it."""

    exit_code = 75
