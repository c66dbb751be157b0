"""Runs that are killed, that meet another process in their folder, or whose disk is full."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import (
    STAGES,
    STATE,
    Job,
    Launcher,
    Setup,
    different,
    ending,
    seconds_of,
    stopped_in,
)

Row = dict[str, Any]


@dataclass
class _Chain:
    """A run that was killed, went on and ended: what was hit, and what went wrong."""

    stages: list[str]
    inside: int = 0
    failure: str | None = None


@dataclass
class _Kills:
    """How runs of one setup are killed, and how they must end."""

    launcher: Launcher
    setup: Setup
    folder: Path
    ranks: int
    lasts: float
    training: float
    truth: dict[str, str]

    def chain(self, plan: int) -> _Chain:
        """Kill a run once, or twice, let it end, compare."""
        rng = random.Random(plan)
        work_dir = self.folder / f"killed-{plan}"
        done = _Chain([])
        for _ in range(rng.choice((1, 2))):
            job = self.launcher.start(self.setup, work_dir, self.ranks)
            self._wait(job, work_dir, rng)
            if job.kill(rng):
                done.stages.append(stopped_in(work_dir))
        last = self.launcher.start(self.setup, work_dir, self.ranks)
        code, said = last.wait(), last.said()
        done.inside = said.count("resumes at iteration")
        name = f"{self.setup.engine}, {self.ranks} processes, plan {plan}, hit {done.stages}"
        if code != 0:
            done.failure = f"{name}: exit code {code}: {said[-500:]}"
            return done
        found = different(self.truth, ending(work_dir)) + _findings(work_dir)
        if found:
            done.failure = f"{name}: {len(found)} differ, such as {found[:3]}"
            return done
        shutil.rmtree(work_dir)
        last.log.unlink()
        return done

    def _wait(self, job: Job, work_dir: Path, rng: random.Random) -> None:
        """Until the moment of a kill: anywhere in the run, or (one in two) in a training that has
        saved a state in this process."""
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, self.lasts))
            return
        began, skipped = time.time(), rng.randrange(3)  # trainings that it passes
        seen: set[Path] = set()
        while job.alive() and len(seen) <= skipped:
            for state in work_dir.glob(f"rounds/*/fit/{STATE}"):
                with suppress(FileNotFoundError):
                    if state.stat().st_mtime > began:
                        seen.add(state)
            time.sleep(0.01)
        time.sleep(rng.uniform(0, self.training))


def kills(launcher: Launcher, setup: Setup, folder: Path, ranks: int, count: int, seed: int) -> Row:
    """Kill runs by SIGKILL at random moments, half of them again while they resume, and compare
    each with a run that was left alone.

    Args:
        launcher: Of the engine.
        setup: What is run.
        folder: Where.
        ranks: Processes of each run.
        count: At least so many kills.
        seed: Of the moments.
    """
    whole = folder / f"{setup.engine}-{ranks}"
    launcher.run(setup, folder / f"{setup.engine}-{ranks}-warm", ranks)
    began = time.monotonic()
    job = launcher.run(setup, whole, ranks)
    lasts = time.monotonic() - began
    name = f"SIGKILL, {setup.engine}, {ranks} process{'es' if ranks > 1 else ''}"
    if job.processes[0].exitcode != 0:
        return {"part": name, "tried": 0, "failures": [f"without a kill: {job.said()[-500:]}"]}
    training = seconds_of(whole, "fit") / 2  # the average; the state is saved within it
    how = _Kills(launcher, setup, folder, ranks, lasts, training, ending(whole))
    rng = random.Random(f"{seed} {setup.engine} {ranks}")
    plans = [rng.getrandbits(32) for _ in range(3 * count)]  # some moments come after the end
    width = 1 if ranks > 1 else 2
    chains: list[_Chain] = []
    with ThreadPoolExecutor(width) as threads:
        while sum(len(chain.stages) for chain in chains) < count and plans:
            batch = [plans.pop() for _ in range(min(width, len(plans)))]
            chains += threads.map(how.chain, batch)
    shutil.rmtree(whole)
    stages = Counter(stage for chain in chains for stage in chain.stages)
    return {
        "part": name,
        "tried": stages.total(),
        "runs": sum(bool(chain.stages) for chain in chains),
        "killed again": sum(len(chain.stages) > 1 for chain in chains),
        "killed in": {name: stages[name] for name in ("start", *STAGES, "end") if stages[name]},
        "resumed inside a training": sum(chain.inside for chain in chains),
        "seconds_unkilled": round(lasts, 2),
        "failures": [chain.failure for chain in chains if chain.failure] + shy(chains, count),
    }


_MANY = 8


def shy(chains: list[_Chain], count: int) -> list[str]:
    """What makes the kills of a setup worth less than they claim: too few, or all elsewhere."""
    stages = Counter(stage for chain in chains for stage in chain.stages)
    found = []
    if stages.total() < count:
        found.append(f"only {stages.total()} of {count} kills came before the end of a run")
    if count >= _MANY:
        if not sum(chain.inside for chain in chains):
            found.append("no training was killed after it had saved a state, and resumed inside")
        # Nearly all of a run is training: eight kills may well all fall there.
        if not stages["fit"] or (count >= 2 * _MANY and stages.total() == stages["fit"]):
            found.append(f"kills were not spread over a run: {dict(stages)}")
        if not any(len(chain.stages) > 1 for chain in chains):
            found.append("no run was killed again while it resumed")
    return found


def _findings(work_dir: Path) -> list[str]:
    from regional_al.store.check import check_run

    return [str(finding) for finding in check_run(work_dir, thorough=True)]


def pairs(launcher: Launcher, setup: Setup, folder: Path, count: int, seed: int) -> Row:
    """Start two processes on one work dir at about the same time: one runs, the other is refused
    in one line, and the run ends as one that was alone."""
    alone = folder / "pairs-alone"
    launcher.run(setup, folder / "pairs-warm")
    began = time.monotonic()
    launcher.run(setup, alone)
    lasts = time.monotonic() - began
    truth = ending(alone)

    def pair(number: int) -> tuple[bool, str | None]:
        rng = random.Random(f"{seed} pairs {number}")
        work_dir = folder / f"pair-{number}"
        jobs = [launcher.start(setup, work_dir)]
        # Half of them start together, the others at any time of the first one's run.
        time.sleep(0 if number % 2 else rng.uniform(0, lasts / 2))
        jobs.append(launcher.start(setup, work_dir))
        codes = [job.wait() for job in jobs]
        said = jobs[0].said()
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        wrong = different(truth, ending(work_dir)) if 0 in codes else ["no run finished"]
        shutil.rmtree(work_dir, ignore_errors=True)
        if sorted(codes) == [0, 2] and len(lines) == 1 and "(process " in lines[0] and not wrong:
            return True, None
        if codes == [0, 0] and not lines and not wrong:  # one after the other
            return False, None
        return False, f"pair {number}: exit codes {codes}, {lines or said[-300:]}, {wrong[:3]}"

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(pair, range(count)))
    shutil.rmtree(alone)
    refused = sum(one for one, _ in found)
    failures = [failure for _, failure in found if failure]
    if not refused:
        failures.append("no two processes met: nobody was refused")
    return {"part": "two processes on one work dir", "tried": count, "refused": refused,
            "failures": failures}  # fmt: skip


def full_disk(launcher: Launcher, setup: Setup, folder: Path, count: int, seed: int) -> Row:
    """Run on a disk that becomes full at a random moment: one line, exit code 2; with free space
    the run goes on, and ends as one that had it from the start."""
    whole = folder / "disk-whole"
    launcher.run(setup, whole)
    truth = ending(whole)
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())

    def fill_up(number: int) -> tuple[bool, str | None]:
        rng = random.Random(f"{seed} disk {number}")
        log = folder / f"disk-{number}.log"
        with small_disk(folder / f"disk-{number}", int(size * 1.5)) as (disk, fill):
            fill(int(size * rng.uniform(0.02, 1.0)))
            job = launcher.run(setup, disk / "run", log=log)
            code, said = job.processes[0].exitcode, job.said()
            errors = [line for line in said.splitlines() if line.startswith("error: ")]
            fill(None)
            if code not in (0, 2) or (code == 2 and len(errors) != 1) or "Traceback" in said:
                return True, f"disk {number}: exit code {code}, {said[-300:]}"
            again = launcher.run(setup, disk / "run", log=log)
            wrong = ["it did not finish"] if again.processes[0].exitcode else []
            wrong = wrong or different(truth, ending(disk / "run"))
            said = again.said()[-300:]
            failure = f"disk {number}, resumed: {wrong[:3]}, {said}" if wrong else None
            return code != 0, failure

    try:
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(fill_up, range(count)))
    except PermissionError as error:
        return {"part": "disk full", "tried": 0, "skipped": str(error), "failures": []}
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    full = sum(one for one, _ in found)
    failures = [failure for _, failure in found if failure]
    if not full:
        failures.append("no disk became full")
    return {"part": "disk full", "tried": count, "became full": full, "failures": failures}


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[tuple[Path, Any]]:
    """A tmpfs of so many bytes, and a function that leaves so many of them free (None: all).

    Raises:
        PermissionError: This process may not mount.
    """
    folder.mkdir(parents=True)
    size = max(size, 1 << 20)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PermissionError(str(error)) from None
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    ballast = folder / "ballast"

    def fill(free: int | None) -> None:
        ballast.unlink(missing_ok=True)
        if free is not None:
            with ballast.open("wb") as file:
                left = shutil.disk_usage(folder).free - free
                while left > 0:
                    left -= file.write(b"\0" * min(left, 1 << 20))

    try:
        yield folder, fill
    finally:
        subprocess.run(["umount", str(folder)], check=True)


__all__ = ["Job", "full_disk", "kills", "pairs"]
