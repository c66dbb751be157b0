"""Named errors. Each message is one line: what is wrong (file, key or value) and what mends it.

Everything a user can cause derives from `RegionalALError`; the command line prints its message
without a traceback and exits with `exit_code`.
"""

from __future__ import annotations


class RegionalALError(Exception):
    """Base of every error that a user can cause and mend."""

    exit_code = 2


class ConfigError(RegionalALError):
    """A key or value of the config is unknown, missing or senseless."""


class UnsupportedError(ConfigError):
    """A combination that makes no sense or that this engine cannot do (named in the message)."""


class DataError(RegionalALError):
    """A file of the data set is missing, unreadable, of the wrong size or holds unknown ids."""


class BudgetError(ConfigError):
    """A budget that cannot be spent: zero, negative, above the pool, or of the wrong unit."""


class WorkDirError(RegionalALError):
    """The work_dir holds another run, or a run that was not asked to be resumed."""


class ScoreError(RegionalALError):
    """Scores or logits that cannot be ranked: NaN or infinite values (the image is named)."""


class EnvironmentProblem(RegionalALError):
    """A package that is needed is missing or does not fit the others."""
