"""An import that is killed at any of its writes: no answer is half stored, and the same import
goes on to the same end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from exchange_run import start, truths
from exchange_tools import draw

from regional_al import exchange
from regional_al.exchange.run import waiting_run
from regional_al.store.check import check_run
from regional_al.store.images import is_temporary


def killed_import(work_dir: Path, files: Path, at: int) -> bool:
    """Import in a child that dies before its `at`-th change of a file. Returns whether it ended
    before."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            count = 0

            def hook(event: str, arguments: tuple[Any, ...]) -> None:
                nonlocal count
                changes = event in ("os.rename", "os.remove", "os.link", "os.mkdir")
                if event == "open":
                    mode, flags = arguments[1], arguments[2] or 0
                    writes = os.O_WRONLY | os.O_RDWR
                    changes = bool(flags & writes) or (mode or "r")[0] in "wax"
                if changes and str(work_dir) in str(arguments[0]):
                    count += 1
                    if count == at:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            exchange.import_answers(work_dir, [files])
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == 0


def stored(work_dir: Path) -> dict[str, bytes]:
    folder = work_dir / "rounds/000/answers"
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not is_temporary(p.name)]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.slow
def test_an_import_that_is_killed_at_any_write(data: Path, run: Path, tmp_path: Path) -> None:
    drawn = truths(data, run)
    exported, first = exchange.export(run, "coco"), next(iter(drawn))
    early = {first: [("sky", waiting_run(run).query.asked(first) > 0)]}
    exchange.import_answers(run, [draw("coco", exported, tmp_path / "1.zip", early)])
    files, before = draw("coco", exported, tmp_path / "2.zip", drawn), stored(run)
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    exchange.import_answers(whole, [files])
    after = stored(whole)
    assert len(after) > 2
    assert after[f"{first}.png"] != before[f"{first}.png"]
    mixed, at = 0, 0
    while True:
        at += 1
        work_dir = Path(shutil.copytree(run, tmp_path / f"killed{at}"))
        ended = killed_import(work_dir, files, at)
        there = stored(work_dir)
        assert before.keys() <= there.keys()
        for name, content in there.items():  # as before, or as after
            assert content in (before.get(name), after[name])
        mixed += there not in (before, after)
        if not ended and at % 4 == 0:
            assert [f for f in check_run(work_dir) if f.blocks] == []
            assert start(data, work_dir).status == "waiting" or there == after
            shutil.rmtree(work_dir)
            continue
        exchange.import_answers(work_dir, [files])
        assert stored(work_dir) == after
        assert not [p for p in (work_dir / "rounds").rglob("*") if is_temporary(p.name)]
        shutil.rmtree(work_dir)
        if ended:
            break
    assert at > 3 * len(after)
    assert mixed > 0
