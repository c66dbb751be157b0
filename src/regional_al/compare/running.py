"""Run cells as processes: some at once, each in its own session, none outliving this process.

One thread starts, watches and ends them all. (Linux ends a child with the *thread* that started
it, see `cli.train.end_with_parent`, so there must not be others.)
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from ..errors import RegionalALError
from ..report.table import spell
from ..store import results as records
from . import WITH_PARENT, state
from .grid import Cell
from .machine import now

PATIENCE = 20.0  # seconds that a run has to end by itself
POLL = 0.2

Command = Callable[[Cell], Sequence[str]]
Environment = Callable[[int], Mapping[str, str]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How a cell ended. state: 'done', 'skipped' (was done), 'waiting' for answers, 'failed' (why:
    its last error line) or 'blocked' (why: the run that it needs failed)."""

    cell: Cell
    state: str
    why: str = ""
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        return self.state in ("failed", "blocked")


@dataclass
class Job:
    """A running cell."""

    cell: Cell
    slot: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    offset: int
    since: float = field(default_factory=time.monotonic)


@dataclass
class Runner:
    """Runs cells in order, at most `jobs` at once; a cell waits for the run that it needs.

    command: the arguments of a cell's process; environment: what a slot 0..jobs-1 adds to the
    environment; facts: of the machine, kept in each run's note; done: called after each cell that
    ended well.
    """

    command: Command
    jobs: int = 1
    environment: Environment = lambda slot: {}
    facts: Mapping[str, object] = field(default_factory=dict)
    say: Say = print
    done: Callable[[Cell], None] = lambda cell: None

    def run(self, cells: Sequence[Cell]) -> list[Outcome]:
        """Every cell once. A failing cell stops none but those that need it.

        An interruption (KeyboardInterrupt) ends the running ones first and is raised again.
        """
        outcomes: dict[str, Outcome] = {}
        live: list[Job] = []
        waiting = list(cells)
        total = len(waiting)
        try:
            while waiting or live:
                for job in [j for j in live if j.process.poll() is not None]:
                    live.remove(job)
                    self._note(job, outcomes, total)
                cell = next((c for c in waiting if self._ready(c, outcomes, waiting, live)), None)
                if cell is None or len(live) >= self.jobs:
                    time.sleep(POLL)
                    continue
                waiting.remove(cell)
                outcome = self._without_running(cell, outcomes)
                if outcome is None:
                    slot = next(s for s in range(self.jobs) if s not in {j.slot for j in live})
                    self.say(f"{cell.name}: starts (log: {state.log_path(cell)})")
                    live.append(self._start(cell, slot))
                else:
                    outcomes[cell.name] = outcome
                    text = f"{outcome.state}: {outcome.why}" if outcome.why else "was done before"
                    self.say(f"[{len(outcomes)}/{total}] {cell.name}: {text}")
        finally:
            end(live)
        return list(outcomes.values())

    def _ready(
        self,
        cell: Cell,
        outcomes: Mapping[str, Outcome],
        waiting: Sequence[Cell],
        live: Sequence[Job],
    ) -> bool:
        """What it needs is over, whatever came of it."""
        pending = {c.work_dir for c in waiting} | {j.cell.work_dir for j in live}
        return cell.needs not in pending

    def _without_running(self, cell: Cell, outcomes: Mapping[str, Outcome]) -> Outcome | None:
        """The outcome of a cell that need not or cannot run, else None."""
        try:
            if state.finished(cell):
                return Outcome(cell, "skipped")
        except RegionalALError as error:
            return Outcome(cell, "failed", str(error))
        for outcome in outcomes.values():
            if outcome.cell.work_dir == cell.needs and (outcome.bad or outcome.state == "waiting"):
                what = "what it is trained on" if cell.arm.labels_of else "its start"
                return Outcome(cell, "blocked", f"{what}, {outcome.cell.name}, is not there")
        return None

    def _start(self, cell: Cell, slot: int) -> Job:
        cell.work_dir.mkdir(parents=True, exist_ok=True)
        command = list(self.command(cell))
        log = state.log_path(cell).open("ab")
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
        return Job(cell, slot, process, log, log.tell())

    def _note(self, job: Job, outcomes: dict[str, Outcome], total: int) -> None:
        """What came of a process that has ended."""
        job.log.close()
        cell, seconds = job.cell, time.monotonic() - job.since
        outcome = judge(cell, job.process.returncode, last_error(job), seconds)
        outcomes[cell.name] = outcome
        note = state.read_note(cell.out, cell.arm.name, cell.seed)
        attempts = [
            *note.get("attempts", []),
            {
                "ended": now(),
                "seconds": round(seconds, 1),
                "exit_code": job.process.returncode,
                "jobs": self.jobs,
                **({"error": outcome.why} if outcome.bad else {}),
            },
        ]
        path = state.note_path(cell.out, cell.arm.name, cell.seed)
        state.write_json(path, {"machine": dict(self.facts), "attempts": attempts})
        what = f"{outcome.state} after {spell(seconds)}{reached(outcome)}"
        self.say(
            f"[{len(outcomes)}/{total}] {cell.name}: {what}" + (outcome.why and f": {outcome.why}")
        )
        if outcome.state == "done":
            self.done(cell)


def judge(cell: Cell, code: int, error: str, seconds: float) -> Outcome:
    """The outcome of a process that ended with `code`."""
    if code < 0 or code > 128:
        name = signal_name(-code if code < 0 else code - 128)
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return Outcome(cell, "failed", error or f"ended by {name}{hint}", seconds)
    if code:
        return Outcome(cell, "failed", error or f"exit code {code}", seconds)
    if state.finished(cell):
        return Outcome(cell, "done", "", seconds)
    if not (cell.work_dir / records.FILE).is_file():
        return Outcome(cell, "failed", f"ended well but left no {records.FILE}", seconds)
    if records.load(cell.work_dir).stopped is None:
        return Outcome(cell, "waiting", "for answers", seconds)
    return Outcome(cell, "failed", "ended well but before its rounds were done", seconds)


def reached(outcome: Outcome) -> str:
    """The mIoU of the last round of a run that is done."""
    if outcome.state != "done":
        return ""
    miou = records.load(outcome.cell.work_dir).records[-1].miou
    return "" if miou is None else f", {100 * miou:.2f} % mIoU"


def last_error(job: Job) -> str:
    """The last line of this attempt that says `error:`, else the last line that says anything."""
    with state.log_path(job.cell).open("rb") as log:
        log.seek(job.offset)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    told = [line for line in lines if line.lower().startswith("error:")]
    said = told or [line for line in lines if line]
    return said[-1].removeprefix("error:").strip() if said else ""


def end(jobs: Sequence[Job]) -> None:
    """End processes: SIGTERM, then SIGKILL for them and what they have started.

    A second Ctrl-C does not cut this short: it would leave processes behind.
    """
    if not jobs:
        return
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


def slot_environment(
    slot: int,
    jobs: int,
    processes: int,
    cores: int,
    devices: Sequence[str],
    given: Mapping[str, str],
) -> dict[str, str]:
    """Cores and CUDA devices of a slot, where several run at once: cores shared equally; devices
    in turn, shared when there are fewer than runs. What the user has set stays."""
    added = {"OMP_NUM_THREADS": str(max(1, cores // (jobs * processes)))}
    if jobs > 1 and len(devices) > 1:
        first = slot * processes
        mine = [devices[(first + i) % len(devices)] for i in range(min(processes, len(devices)))]
        added["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    return {k: v for k, v in added.items() if k != "OMP_NUM_THREADS" or k not in given}


def train_command(cell: Cell, processes: int, options: Sequence[str], amp: bool) -> list[str]:
    """`regional-al train` (or `launch` on several processes) for a cell."""
    whole = json.dumps({"_delete_": True, **cell.acquisition()}, sort_keys=True)
    place = ["train", str(cell.arm.config)]
    if processes > 1:
        place = ["launch", str(cell.arm.config), str(processes)]
    return [
        sys.executable,
        "-m",
        "regional_al",
        *place,
        "--work-dir",
        str(cell.work_dir),
        "--resume",
        "--no-report",
        *(["--amp"] if amp else []),
        "--cfg-options",
        *options,
        f"acquisition={whole}",
    ]


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
