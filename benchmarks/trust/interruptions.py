"""Runs that are killed, that meet another process in their folder, or whose disk is full."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs import Job, Launcher, Setup, different, ending

Row = dict[str, Any]


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
    truth = ending(whole)
    rng = random.Random(f"{seed} {setup.engine} {ranks}")
    plans = [rng.getrandbits(32) for _ in range(3 * count)]  # some moments come after the end
    done = {"kills": 0, "runs": 0, "resumed inside a training": 0}
    failures: list[str] = [] if job.processes[0].exitcode == 0 else [job.said()[-500:]]

    def chain(plan: int) -> tuple[int, int, str | None]:
        return _chain(launcher, setup, folder / f"killed-{plan}", ranks, lasts, plan, truth)

    width = 1 if ranks > 1 else 2
    with ThreadPoolExecutor(width) as threads:
        while done["kills"] < count and plans:
            batch = [plans.pop() for _ in range(min(width, len(plans)))]
            for hit, inside, failure in threads.map(chain, batch):
                done["kills"] += hit
                done["runs"] += hit > 0
                done["resumed inside a training"] += inside
                if failure is not None:
                    failures.append(failure)
    shutil.rmtree(whole)
    if done["kills"] < count:
        failures.append(f"only {done['kills']} of {count} kills came before the end of a run")
    return {
        "part": f"SIGKILL, {setup.engine}, {ranks} process{'es' if ranks > 1 else ''}",
        "tried": done["kills"],
        **done,
        "seconds_unkilled": round(lasts, 2),
        "failures": failures,
    }


def _chain(
    launcher: Launcher,
    setup: Setup,
    work_dir: Path,
    ranks: int,
    lasts: float,
    plan: int,
    truth: dict[str, str],
) -> tuple[int, int, str | None]:
    """Kill a run once, or twice, let it end, compare. Returns kills, how many trainings resumed
    inside, and what went wrong."""
    rng = random.Random(plan)
    hits = 0
    for _ in range(rng.choice((1, 2))):
        job = launcher.start(setup, work_dir, ranks)
        time.sleep(rng.uniform(0, lasts))
        hits += job.kill(rng)
    last = launcher.start(setup, work_dir, ranks)
    code, said = last.wait(), last.said()
    inside = said.count("resumes at iteration")
    name = f"{setup.engine}, {ranks} processes, plan {plan}"
    if code != 0:
        return hits, inside, f"{name}: exit code {code}: {said[-500:]}"
    found = different(truth, ending(work_dir)) + _findings(work_dir)
    if found:
        return hits, inside, f"{name}: {len(found)} differ, such as {found[:3]}"
    shutil.rmtree(work_dir)
    last.log.unlink()
    return hits, inside, None


def _findings(work_dir: Path) -> list[str]:
    from regional_al.store.check import check_run

    return [str(finding) for finding in check_run(work_dir, thorough=True)]


def pairs(launcher: Launcher, setup: Setup, folder: Path, count: int, seed: int) -> Row:
    """Start two processes on one work dir at about the same time: one runs, the other is refused
    in one line, and the run ends as one that was alone."""
    alone = folder / "pairs-alone"
    began = time.monotonic()
    launcher.run(setup, alone)
    lasts = time.monotonic() - began
    truth = ending(alone)
    rng = random.Random(f"{seed} pairs")
    failures, refused = [], 0
    for number in range(count):
        work_dir = folder / f"pair-{number}"
        jobs = [launcher.start(setup, work_dir)]
        # Half of them start together, the others at any time of the first one's run.
        time.sleep(0 if number % 2 else rng.uniform(0, lasts / 2))
        jobs.append(launcher.start(setup, work_dir))
        codes = [job.wait() for job in jobs]
        said = jobs[0].said()
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        wrong = different(truth, ending(work_dir)) if 0 in codes else ["no run finished"]
        if sorted(codes) == [0, 2] and len(lines) == 1 and "(process " in lines[0] and not wrong:
            refused += 1
        elif not (codes == [0, 0] and not lines and not wrong):  # one after the other
            failures.append(
                f"pair {number}: exit codes {codes}, {lines or said[-300:]}, {wrong[:3]}"
            )
        shutil.rmtree(work_dir)
        jobs[0].log.unlink()
    shutil.rmtree(alone)
    return {"part": "two processes on one work dir", "tried": count, "refused": refused,
            "failures": failures}  # fmt: skip


def full_disk(launcher: Launcher, setup: Setup, folder: Path, count: int, seed: int) -> Row:
    """Run on a disk that becomes full at a random moment: one line, exit code 2; with free space
    the run goes on, and ends as one that had it from the start."""
    whole = folder / "disk-whole"
    launcher.run(setup, whole)
    truth = ending(whole)
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    rng = random.Random(f"{seed} disk")
    failures: list[str] = []
    full = 0
    try:
        for number in range(count):
            log = folder / f"disk-{number}.log"
            with small_disk(folder / f"disk-{number}", int(size * 1.5)) as (disk, fill):
                fill(int(size * rng.uniform(0.02, 1.0)))
                job = launcher.run(setup, disk / "run", log=log)
                code, said = int(job.processes[0].exitcode), job.said()
                errors = [line for line in said.splitlines() if line.startswith("error: ")]
                full += code != 0
                fill(None)
                if code not in (0, 2) or (code == 2 and len(errors) != 1) or "Traceback" in said:
                    failures.append(f"disk {number}: exit code {code}, {said[-300:]}")
                    continue
                again = launcher.run(setup, disk / "run", log=log)
                wrong = ["it did not finish"] if again.processes[0].exitcode else []
                wrong = wrong or different(truth, ending(disk / "run"))
                if wrong:
                    failures.append(f"disk {number}, resumed: {wrong[:3]}, {again.said()[-300:]}")
    except PermissionError as error:
        return {"part": "disk full", "tried": 0, "skipped": str(error), "failures": []}
    finally:
        shutil.rmtree(whole, ignore_errors=True)
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
