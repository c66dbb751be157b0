"""Errors of a command: one line for a user's mistake, also with several ranks.

All ranks may find the same mistake, or one rank its own while the others wait in a collective. A
rank started by `regional-al launch` therefore writes its message to torchelastic's error file; the
launcher prints the first one and the ranks print nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from ..errors import TrainingStopped

LAUNCHED = "REGIONAL_AL_LAUNCHED"
"""Environment variable that `launch` sets for its ranks: the folder where they leave `PID_FILE`,
`STOPPED_FILE` and `FAILED_FILE`."""
PID_FILE, STOPPED_FILE, FAILED_FILE = "pid-{}", "stopped", "failed"
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
SETTLE_SECONDS = 3.0
LONGEST = 1000
"""Characters of a line; the longest message of our own has two paths and a command to copy."""


def one_line(message: str) -> str:
    """`message` with all white space collapsed to single blanks; one that is very long, since it
    quotes a value of any length, loses its middle."""
    text = " ".join(message.split())
    if len(text) <= LONGEST:
        return text
    half = (LONGEST - 3) // 2
    return f"{text[: LONGEST - 3 - half]}...{text[-half:]}"


def say(message: str) -> None:
    """Print `error: <one line>` on stderr."""
    print(f"error: {one_line(message)}", file=sys.stderr, flush=True)


def fail(message: str, code: int) -> int:
    """Report a user's mistake once for all ranks. Returns `code`."""
    rank = os.environ.get("RANK", "0")
    file, folder = os.environ.get(ERROR_FILE), os.environ.get(LAUNCHED)
    if file:
        _write_error_file(Path(file), one_line(message))
    if file and folder:
        _leave(Path(folder) / FAILED_FILE, f"{code} {one_line(message)}")
    else:
        say(message if rank == "0" else f"[rank {rank}] {message}")
    return code


def stopped(message: str, code: int) -> int:
    """Say once for all ranks that a signal stopped a training, whose state is saved. Returns
    `code`."""
    file, folder = os.environ.get(ERROR_FILE), os.environ.get(LAUNCHED)
    if file:
        _write_error_file(Path(file), one_line(message))
    if file and folder:
        _leave(Path(folder) / STOPPED_FILE, one_line(message))
    elif os.environ.get("RANK", "0") == "0":
        print(one_line(message), file=sys.stderr, flush=True)
    return code


def ended_before(folder: Path) -> int | None:
    """The exit code of a run that was started again though it cannot go on: by a signal, which
    asked it to stop, or by a mistake, which would be met again. None: it can.

    Args:
        folder: `LAUNCHED`.
    """
    stopped_file, failed_file = folder / STOPPED_FILE, folder / FAILED_FILE
    if stopped_file.is_file():
        return stopped(stopped_file.read_text(), TrainingStopped.exit_code)
    if failed_file.is_file():
        code, message = failed_file.read_text().split(" ", 1)
        return fail(message, int(code))
    return None


def crash(error: BaseException) -> int:
    """Re-raise an unexpected error with its traceback.

    On a rank it may be a consequence of another rank's end (a collective lost its peer). The
    launcher then ends this process during the wait, and the consequence is not printed.
    """
    if os.environ.get(LAUNCHED) and os.environ.get("WORLD_SIZE", "1") != "1":
        time.sleep(SETTLE_SECONDS)
    raise error


def _leave(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(text)
    os.replace(temporary, file)


def _write_error_file(file: Path, message: str) -> None:
    """Write the message in the form that torchelastic reads into `ProcessFailure.message`."""
    extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
    _leave(file, json.dumps({"message": {"message": message, "extraInfo": extra}}))
