"""The next round, started by the server: `regional-al annotate --train`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

from ..compare import WITH_PARENT
from ..errors import WorkDirError

LOG = "annotate_train.log"


def resume_arguments(command: Mapping[str, Any] | None, work_dir: Path) -> list[str]:
    """The command line that resumes a run the way it was started.

    Args:
        command: The ledger's note, see `store.ledger.COMMAND`; None: there is none.
        work_dir: Of the run.

    Raises:
        WorkDirError: The run was not started from a command line, or its config is gone.

    Example:
        >>> try:
        ...     resume_arguments(None, Path("run"))
        ... except WorkDirError as error:
        ...     print(str(error)[:40])
        run was not started by `regional-al trai
    """
    if command is None:
        raise WorkDirError(
            f"{work_dir} was not started by `regional-al train` or tools/dist_train.sh, so --train "
            "cannot resume it: leave --train out and resume it yourself"
        )
    config = Path(str(command["config"]))
    if not config.is_file():
        raise WorkDirError(f"{config}, the config of {work_dir}, is gone: restore it, or leave"
                           " --train out")  # fmt: skip
    processes = int(command.get("processes") or 1)
    start = ["launch", str(config), str(processes)] if processes > 1 else ["train", str(config)]
    more = ["--work-dir", os.path.abspath(work_dir), "--resume"]
    for flag in ("amp", "smoke", "no_report"):
        if command.get(flag):
            more.append(f"--{flag.replace('_', '-')}")
    options = [str(option) for option in command.get("cfg_options") or ()]
    if options:
        more += ["--cfg-options", *options]
    return [sys.executable, "-m", "regional_al", *start, *more]


class Training:
    """A process that resumes a run. It ends with the server, and resumes when that comes back.

    Args:
        command: The ledger's note.
        work_dir: Of the run.
    """

    def __init__(self, command: Mapping[str, Any] | None, work_dir: Path) -> None:
        self.log = Path(work_dir) / LOG
        arguments = resume_arguments(command, work_dir)
        assert command is not None
        folder = Path(str(command.get("cwd") or "."))
        environment = {**os.environ, WITH_PARENT: str(os.getpid())}
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            environment.pop(name, None)
        # The system ends the process with the thread that has started it, not with the server, and
        # threads that answer requests end when nobody asks for anything: this one waits for it.
        started: Queue[subprocess.Popen[bytes] | OSError] = Queue()

        def work() -> None:
            try:
                with open(self.log, "wb") as output:
                    process = subprocess.Popen(
                        arguments,
                        cwd=folder if folder.is_dir() else None,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
            except OSError as error:
                started.put(error)
                return
            started.put(process)
            process.wait()

        threading.Thread(target=work, name="training", daemon=True).start()
        made = started.get()
        if isinstance(made, OSError):
            raise WorkDirError(f"{self.log}: {made.strerror}: the next round cannot be started")
        self.process = made

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self.process.poll() not in (None, 0)

    def last_line(self) -> str:
        """The last line that it has printed."""
        return last_line(self.log)

    def stop(self) -> None:
        """End it; a training saves its state first."""
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()


def last_line(path: Path, limit: int = 4000) -> str:
    """The last line of a text file that is not empty; '' when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - limit))
            lines: Sequence[str] = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "")
