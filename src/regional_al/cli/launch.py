"""`regional-al launch CONFIG GPUS [train arguments]`: torchrun with clear errors.

torchrun's agent starts and monitors the ranks. This module gives it its arguments and turns what it
raises into one line and an exit code.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from ..checks import whole_number
from ..errors import ConfigError, RegionalALError, TrainingStopped
from .outcome import LAUNCHED, PID_FILE, STOPPED_FILE, say
from .train import check_config, follow_parent, set_threads

MAX_RESTARTS = "--max-restarts"
DEFAULT_PORT = "29500"  # torchrun's, for several machines, where all must agree beforehand


def run(config: Path, gpus: str, rest: Sequence[str]) -> int:
    """Train `config` on `gpus` processes of this machine; returns the exit code of the run."""
    follow_parent()
    check_config(config)
    processes = whole_number("GPUS", gpus)
    check_devices(processes)
    set_threads(processes)
    restarts, rest = split_restarts(rest)
    if restarts:  # else ranks read where those of the attempt before have listened
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    worker = ["-m", "regional_al", "train", str(config), "--launcher", "pytorch", *rest]
    # torch before 2.2 checks its ranks every 5 s only, longer than `outcome.crash` waits.
    watch = ["--monitor-interval", "0.1"]
    with tempfile.TemporaryDirectory(prefix="regional-al-") as logs:
        os.environ[LAUNCHED] = logs
        pass_on_warnings(Path(logs))
        arguments = torchrun_arguments(processes, os.environ, elastic=restarts > 0)
        arguments += [*watch, "--log-dir", logs]
        arguments += ["--max-restarts", str(restarts)]
        return _elastic([*arguments, *worker], Path(logs))


def split_restarts(rest: Sequence[str]) -> tuple[int, list[str]]:
    """How often ranks may be started again (`--max-restarts N`), and the other arguments.

    Example:
        >>> split_restarts(["--resume", "--max-restarts", "3"])
        (3, ['--resume'])
    """
    found, others, given = 0, [], iter(rest)
    for argument in given:
        name, _, value = argument.partition("=")
        if name == MAX_RESTARTS:
            found = whole_number(MAX_RESTARTS, value if "=" in argument else next(given, ""), 0)
        else:
            others.append(argument)
    return found, others


def pass_on_warnings(folder: Path) -> None:
    """Send SIGUSR1, a scheduler's warning, to the ranks, which have left their ids in `folder`.
    (torchrun itself passes on SIGTERM.)"""

    def forward(number: int, _: FrameType | None) -> None:
        for file in folder.glob(PID_FILE.format("*")):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), number)

    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, forward)


def check_devices(processes: int) -> None:
    """NCCL needs one device per rank."""
    import torch

    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if devices and processes > devices:
        raise ConfigError(
            f"GPUS={processes} but this machine has {devices} CUDA device(s): give at most "
            f"{devices}, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        )


def torchrun_arguments(
    processes: int, environment: Mapping[str, str], elastic: bool = False
) -> list[str]:
    """torchrun's arguments for NNODES, NODE_RANK, MASTER_ADDR and PORT of `environment`.

    On one machine without PORT the agent itself binds a free port and keeps it, so that two runs
    started at the same time do not collide.

    Args:
        processes: On this machine.
        environment: The variables.
        elastic: Whether several machines must be able to meet again, after a restart. torchrun then
            numbers the machines itself.
    """
    nodes = whole_number("NNODES", environment.get("NNODES") or "1")
    arguments = ["--nproc-per-node", str(processes), "--nnodes", str(nodes)]
    port = environment.get("PORT")
    if nodes == 1 and not port:
        return [*arguments, "--standalone"]
    rank = environment.get("NODE_RANK") or "0"
    if not (rank.isascii() and rank.isdigit() and len(rank) < 20) or int(rank) >= nodes:
        raise ConfigError(f"NODE_RANK={rank!r} must be a whole number from 0 to {nodes - 1}")
    address = environment.get("MASTER_ADDR") or "127.0.0.1"
    if nodes > 1 and "MASTER_ADDR" not in environment:
        raise ConfigError(f"NNODES={nodes} needs MASTER_ADDR, the address of the first machine")
    port = str(whole_number("PORT", port or DEFAULT_PORT))
    if int(port) > 65535:
        raise ConfigError(f"PORT={port} must be a port from 1 to 65535")
    if elastic and nodes > 1:
        meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{address}:{port}"]
        host = f"is_host={int(int(rank) == 0)}"
        return [*arguments, *meet, "--rdzv-id", "regional_al", "--rdzv-conf", host]
    where = ["--node-rank", rank, "--master-addr", address, "--master-port", port]
    return [*arguments, *where]


def _elastic(arguments: list[str], folder: Path) -> int:
    import torch.distributed.run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    torchrun: Any = torch.distributed.run
    logging.disable(logging.ERROR)  # the agent logs every failure that is reported below
    try:
        torchrun.run(torchrun.parse_args(arguments))
    except ChildFailedError as error:
        return _report(error)
    except SignalException as error:
        from . import RESUME_HINT

        stopped = folder / STOPPED_FILE
        if stopped.is_file():
            return _say_stopped(stopped.read_text())
        say(RESUME_HINT)
        return 128 + int(error.sigval)
    except RuntimeError as error:
        if "already in use" not in str(error):
            raise
        raise RegionalALError(
            f"port {os.environ.get('PORT') or DEFAULT_PORT} is in use: unset PORT to use a "
            "free one, or choose another"
        ) from None
    return 0


def _say_stopped(message: str) -> int:
    """A training was stopped by a signal: no error."""
    print(message, file=sys.stderr, flush=True)
    return TrainingStopped.exit_code


def _report(error: Any) -> int:
    """One line for the first rank that failed, and its exit code."""
    reported = [f for f in error.failures.values() if isinstance(f.message, dict)]
    rank, first = error.get_first_failure()
    first = min(reported, key=lambda f: int(f.timestamp)) if reported else first
    code = int(first.exitcode)
    if code == TrainingStopped.exit_code and reported:
        return _say_stopped(str(first.message.get("message", "")))
    if reported:
        say(str(first.message.get("message", "")))
    elif code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        say(
            f"rank {rank} was ended by {name}{hint}; run the same command with --resume to continue"
        )
    else:
        say(f"rank {rank} failed with exit code {code}; see its output above")
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    from . import main

    sys.exit(main(["launch", *sys.argv[1:]]))
