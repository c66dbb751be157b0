"""Runs of a tiny config that report to trackers, whole or killed, for both generations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regional_al import engines
from regional_al.engines.mmseg.training import LabelCount
from regional_al.loop import runner


class Killed(BaseException):
    """In place of SIGKILL."""


def run(root: Path, work_dir: Path, options: Any = None) -> None:
    """Start or resume a run of `root`/tiny.py."""
    loaded = engines.load(root / "tiny.py", options or {}, work_dir)
    engine, text = loaded.build(), loaded.text
    runner.run(engine, loaded.acquisition, work_dir, text=text, report=False, title="tiny")


def killed_run(root: Path, work_dir: Path, at: int) -> None:
    """A run that is killed in its first training, when it has counted so many iterations."""

    def put(self: Any, value: int) -> None:
        self.__dict__["steps"] = value
        if value == at:
            raise Killed

    with pytest.MonkeyPatch.context() as patched:
        steps = property(lambda self: int(self.__dict__.get("steps", 0)), put)
        patched.setattr(LabelCount, "steps", steps, raising=False)
        with pytest.raises(Killed):
            run(root, work_dir)
