"""Run a grid: one process per run, several at once, none outliving this process.

One thread starts, watches and ends them all. (Linux ends a child with the *thread* that started
it, see `cli.train.end_with_parent`, so there must not be others.)
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO

from .. import __version__
from ..errors import RegionalALError
from ..report.table import spell
from ..store import results as records
from ..store.work_dir import WorkDir
from ..types import JSON
from . import WITH_PARENT, state
from .plan import PlannedRun

PATIENCE = 20.0  # seconds that a run has to end by itself
POLL = 0.2
PACKAGES = (
    "torch",
    "numpy",
    "numba",
    "scikit-image",
    "onedl-mmcv",
    "onedl-mmengine",
    "onedl-mmsegmentation",
    "mmcv",
    "mmcv-full",
    "mmengine",
    "mmsegmentation",
)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. state: 'done', 'skipped' (was done), 'waiting' for answers, 'failed' (why:
    its last error line) or 'blocked' (why: the run that it depends on failed)."""

    run: PlannedRun
    state: str
    why: str = ""
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        return self.state in ("failed", "blocked")


@dataclass
class _Job:
    """A run in progress. slot: 0..jobs-1; offset: where this attempt begins in the log."""

    run: PlannedRun
    slot: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    offset: int
    since: float = field(default_factory=time.monotonic)


@dataclass
class Runner:
    """Runs a grid in order, at most `jobs` runs at once; a run waits for the one it depends on.

    Args:
        command: Returns the command line of a run's process.
        jobs: Number of runs at a time.
        environment: Returns what a slot 0..jobs-1 adds to the environment.
        machine: Facts of the machine, kept in each run's note.
        say: Prints a line of progress.
        on_done: Called after each run that ended well.
    """

    command: Callable[[PlannedRun], Sequence[str]]
    jobs: int = 1
    environment: Callable[[int], Mapping[str, str]] = lambda slot: {}
    machine: Mapping[str, object] = field(default_factory=dict)
    say: Callable[[str], None] = print
    on_done: Callable[[PlannedRun], None] = lambda run: None

    def run(self, runs: Sequence[PlannedRun]) -> list[Outcome]:
        """Run each once. A failing run stops only those that depend on it.

        Args:
            runs: In the order in which they are started.

        Returns:
            One outcome per run.

        Raises:
            KeyboardInterrupt: When interrupted, after ending the runs in progress.
        """
        outcomes: list[Outcome] = []
        jobs: list[_Job] = []
        waiting = list(runs)

        def settle(outcome: Outcome, text: str) -> None:
            outcomes.append(outcome)
            why = f": {outcome.why}" if outcome.why else ""
            self.say(f"[{len(outcomes)}/{len(runs)}] {outcome.run.name}: {text}{why}")

        try:
            while waiting or jobs:
                for job in [j for j in jobs if j.process.poll() is not None]:
                    jobs.remove(job)
                    outcome = self._close(job)
                    text = f"{outcome.state} after {spell(outcome.seconds)}"
                    if outcome.state == "done":
                        miou = records.load(job.run.work_dir).records[-1].miou
                        text += "" if miou is None else f", {100 * miou:.2f} % mIoU"
                    settle(outcome, text)
                    if outcome.state == "done":
                        self.on_done(job.run)
                pending = {r.work_dir for r in (*waiting, *(j.run for j in jobs))}
                run = next((r for r in waiting if r.depends_on not in pending), None)
                if run is None or len(jobs) >= self.jobs:
                    time.sleep(POLL)
                    continue
                waiting.remove(run)
                known = _without_running(run, outcomes)
                if known is not None:
                    settle(known, "already done" if known.state == "skipped" else known.state)
                    continue
                slot = next(s for s in range(self.jobs) if s not in {j.slot for j in jobs})
                self.say(f"{run.name}: started (log: {run.log})")
                jobs.append(self._start(run, slot))
        finally:
            _end(jobs)
        return outcomes

    def _start(self, run: PlannedRun, slot: int) -> _Job:
        run.work_dir.mkdir(parents=True, exist_ok=True)
        command = list(self.command(run))
        log = run.log.open("ab")
        log.write(f"\n$ {shlex.join(command)}\n".encode())
        log.flush()
        environment = {**os.environ, WITH_PARENT: str(os.getpid()), **self.environment(slot)}
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            log.close()
            raise
        return _Job(run, slot, process, log, log.tell())

    def _close(self, job: _Job) -> Outcome:
        """The outcome of a process that has ended, also written to the run's note."""
        job.log.close()
        run, code = job.run, job.process.returncode
        seconds = time.monotonic() - job.since
        outcome = outcome_of(run, code, _last_error(job), seconds)
        attempt = {
            "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(seconds, 1),
            "exit_code": code,
            "jobs": self.jobs,
            **({"error": outcome.why} if outcome.bad else {}),
        }
        earlier = state.read_note(run.out, run.arm.name, run.seed).get("attempts", [])
        note = {"machine": dict(self.machine), "attempts": [*earlier, attempt]}
        state.write_json(state.note_path(run.out, run.arm.name, run.seed), note)
        return outcome


def _without_running(run: PlannedRun, outcomes: Sequence[Outcome]) -> Outcome | None:
    """The outcome of a run that need not or cannot be started, else None."""
    try:
        if state.finished(run):
            return Outcome(run, "skipped")
    except RegionalALError as error:
        return Outcome(run, "failed", str(error))
    for other in outcomes:
        if other.run.work_dir == run.depends_on and (other.bad or other.state == "waiting"):
            return Outcome(run, "blocked", f"it depends on {other.run.name}, which is not finished")
    return None


def outcome_of(run: PlannedRun, code: int, error: str, seconds: float) -> Outcome:
    """The outcome of a process that ended with exit code `code` and `error` as its last line."""
    if code:
        why = f"exit code {code}"
        if code < 0 or code > 128:
            number = -code if code < 0 else code - 128
            names = {int(known): known.name for known in signal.Signals}
            why = f"ended by {names.get(number, f'signal {number}')}"
            why += " (out of memory?)" if number == signal.SIGKILL else ""
        return Outcome(run, "failed", error or why, seconds)
    if state.finished(run):
        return Outcome(run, "done", "", seconds)
    results = WorkDir(run.work_dir).results
    if not results.is_file():
        return Outcome(run, "failed", f"exit code 0, but there is no {results.name}", seconds)
    if records.load(run.work_dir).stopped is None:
        return Outcome(run, "waiting", "for answers", seconds)
    return Outcome(run, "failed", "exit code 0, but not all rounds are done", seconds)


def _last_error(job: _Job) -> str:
    """The last line of this attempt that starts with `error:`, else its last line with text."""
    with job.run.log.open("rb") as log:
        log.seek(job.offset)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    found = errors or [line for line in lines if line]
    return found[-1].removeprefix("error:").strip() if found else ""


def _end(jobs: Sequence[_Job]) -> None:
    """End processes: SIGTERM, then SIGKILL for them and what they have started.

    A second Ctrl-C does not cut this short: it would leave processes behind.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for job in jobs:
            job.process.terminate()
        until = time.monotonic() + PATIENCE
        for job in jobs:
            with suppress(subprocess.TimeoutExpired):
                job.process.wait(max(0.0, until - time.monotonic()))
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()
            job.log.close()
    finally:
        signal.signal(signal.SIGINT, before)


def train_command(run: PlannedRun, processes: int, options: Sequence[str], amp: bool) -> list[str]:
    """`regional-al train` (or `launch` with several processes) for a run."""
    acquisition = json.dumps({"_delete_": True, **run.acquisition()}, sort_keys=True)
    command = ["train", str(run.arm.config)]
    if processes > 1:
        command = ["launch", str(run.arm.config), str(processes)]
    return [
        *(sys.executable, "-m", "regional_al", *command),
        *("--work-dir", str(run.work_dir), "--resume", "--no-report"),
        *(["--amp"] if amp else []),
        *("--cfg-options", *options, f"acquisition={acquisition}"),
    ]


def slot_environment(
    slot: int,
    jobs: int,
    processes: int,
    cores: int,
    devices: Sequence[str],
    given: Mapping[str, str],
) -> dict[str, str]:
    """Share of a slot in cores and CUDA devices: cores equally, devices in turn, shared if there
    are fewer than runs. What the user's environment sets is kept."""
    added = {}
    if "OMP_NUM_THREADS" not in given:
        added["OMP_NUM_THREADS"] = str(max(1, cores // (jobs * processes)))
    if jobs > 1 and len(devices) > 1:
        first = slot * processes
        mine = [devices[(first + i) % len(devices)] for i in range(min(processes, len(devices)))]
        added["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    return added


def machine_facts() -> JSON:
    """Processor, device, versions and git revision of this machine, as JSON; nothing that names a
    person, host or path."""
    import torch

    versions = {"python": platform.python_version(), "regional_al": __version__}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "revision": _revision(),
    }


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _revision() -> str | None:
    """Short git revision of the package's own source, `-dirty` with changes to tracked files;
    None for an installed package."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return done.stdout.strip()

    try:
        if not git("ls-files", "--error-unmatch", Path(__file__).name):
            return None
        return git("describe", "--always", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
