"""How a command ends badly: one line for a user's mistake, also when several ranks run.

Every rank may meet the same mistake, or one rank a mistake of its own while the others wait in a
collective. A rank started by `regional-al launch` therefore leaves its message in torchelastic's
error file and the launcher prints the first one; nobody else speaks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

LAUNCHED = "REGIONAL_AL_LAUNCHED"
"""Environment variable that `launch` sets for its ranks."""
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
ECHO_SECONDS = 3.0


def one_line(message: str) -> str:
    """`message` with line breaks and runs of blanks folded."""
    return " ".join(message.split())


def say(message: str) -> None:
    """Print `error: <one line>` on stderr."""
    print(f"error: {one_line(message)}", file=sys.stderr, flush=True)


def fail(message: str, code: int) -> int:
    """Report a user's mistake once over all ranks; returns `code`."""
    rank = os.environ.get("RANK", "0")
    file = os.environ.get(ERROR_FILE)
    if file:
        _leave(Path(file), one_line(message))
    if not (file and os.environ.get(LAUNCHED)):
        say(message if rank == "0" else f"[rank {rank}] {message}")
    return code


def crash(error: BaseException) -> int:
    """Re-raise an unexpected error, traceback and all.

    On a rank it may only be the echo of another rank's end (a collective lost its peer): the
    launcher then ends this process within the wait, and the echo is never printed.
    """
    if os.environ.get(LAUNCHED) and os.environ.get("WORLD_SIZE", "1") != "1":
        time.sleep(ECHO_SECONDS)
    raise error


def _leave(file: Path, message: str) -> None:
    """The form that torchelastic reads back into `ProcessFailure.message`."""
    extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
    temporary = file.with_name(file.name + ".tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps({"message": {"message": message, "extraInfo": extra}}))
    os.replace(temporary, file)
