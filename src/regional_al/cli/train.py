"""`regional-al train`: a run in one process, or one rank of it."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from ..checks import whole_number
from ..compare import WITH_PARENT
from ..errors import ConfigError, TrainingStopped
from ..types import JSON
from .options import parse_options
from .outcome import LAUNCHED, PID_FILE, ended_before, stopped

RESTARTS = "TORCHELASTIC_RESTART_COUNT"
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


def run(args: argparse.Namespace) -> int:
    """Run or resume `args.config`; see `loop.runner.run_training`. Returns the exit code."""
    follow_parent()
    check_config(args.config)
    options = parse_options(args.cfg_options)
    settle_launcher(args.launcher)
    set_threads(processes_here())
    launcher = os.environ.get(LAUNCHED)
    restarted = launcher is not None and int(os.environ.get(RESTARTS) or 0) > 0
    if launcher:
        end_with_parent()
        ended = ended_before(Path(launcher)) if restarted else None
        if ended is not None:
            return ended
        name = PID_FILE.format(os.environ.get("RANK", "0"))
        (Path(launcher) / name).write_text(str(os.getpid()))
    end_when_warned()
    from ..loop.runner import run_training

    return run_training(
        args.config,
        args.work_dir,
        args.resume or restarted,
        options,
        args.amp,
        report=not args.no_report,
        smoke=args.smoke,
        command=command(args),
    )


def command(args: argparse.Namespace) -> JSON:
    """How the run was started, so that `regional-al annotate --train` can resume it."""
    return {
        "config": os.path.abspath(args.config),
        "cwd": os.getcwd(),
        "cfg_options": list(args.cfg_options),
        "amp": bool(args.amp),
        "smoke": bool(args.smoke),
        "processes": processes_here(),
        "no_report": bool(args.no_report),
    }


def processes_here() -> int:
    """Number of processes of the run on this machine."""
    if "WORLD_SIZE" not in os.environ:
        return 1
    here = os.environ.get("LOCAL_WORLD_SIZE") or os.environ["WORLD_SIZE"]
    return whole_number("LOCAL_WORLD_SIZE", here or "1")


def set_threads(processes: int) -> None:
    """Divide the cores among the processes of this machine, and let waiting threads spin briefly
    only: OpenMP's default of milliseconds doubles the CPU time where others compete."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (cores or 1) // processes)))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def check_config(config: os.PathLike[str]) -> None:
    """Raise ConfigError for a missing config before anything heavy is imported."""
    if not os.path.isfile(config):
        what = "is a folder, not" if os.path.isdir(config) else "does not exist: give"
        raise ConfigError(f"{os.fspath(config)} {what} a config file")


def settle_launcher(launcher: str | None) -> None:
    """Make the environment variables, from which ranks are read, agree with --launcher."""
    missing = [name for name in _RANK_VARIABLES if name not in os.environ]
    if launcher == "pytorch" and missing:
        raise ConfigError(
            f"--launcher pytorch needs torchrun's {missing[0]}, which is not set: start with "
            "`bash tools/dist_train.sh CONFIG GPUS`"
        )
    if launcher == "slurm":
        from .slurm import ranks

        os.environ.update(ranks(os.environ))
        cores = os.environ.get("SLURM_CPUS_PER_TASK", "")
        if cores.isascii() and cores.isdigit():
            os.environ.setdefault("OMP_NUM_THREADS", cores)
        return
    if launcher == "none":
        for name in _RANK_VARIABLES:
            os.environ.pop(name, None)
        return
    for name in _RANK_VARIABLES:
        whole_number(name, os.environ.get(name) or "1", int(name == "WORLD_SIZE"))
    if not missing and int(os.environ["RANK"]) >= int(os.environ["WORLD_SIZE"]):
        raise ConfigError(
            f"RANK={os.environ['RANK']} must be below WORLD_SIZE={os.environ['WORLD_SIZE']}"
        )


def end_when_warned() -> None:
    """SIGUSR1, a scheduler's warning, ends the process with the exit code that asks for a resume.
    A training that can save its state puts a handler of its own in this place meanwhile."""
    if not hasattr(signal, "SIGUSR1"):
        return

    code = TrainingStopped.exit_code

    def end(number: int, _: FrameType | None) -> None:
        try:
            stopped("stopped by SIGUSR1; run the same command with --resume", code)
        finally:  # as a kill would, which any stage survives; whatever was interrupted
            os._exit(code)

    signal.signal(signal.SIGUSR1, end)


def follow_parent() -> None:
    """End together with the `compare` that started this process, if one did."""
    parent = os.environ.pop(WITH_PARENT, "")
    if parent:
        end_with_parent()
        if os.getppid() != int(parent):  # it has ended already
            sys.exit(143)


def end_with_parent() -> None:
    """On Linux, receive SIGTERM when the parent dies, even by SIGKILL, so that no rank survives."""
    if sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
        ctypes.CDLL(None).prctl(parent_death_signal, int(signal.SIGTERM), 0, 0, 0)
