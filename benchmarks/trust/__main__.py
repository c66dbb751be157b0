"""What a run promises, tried: `make trust` (benchmarks/trust), about 20 minutes on two cores.

Kills runs at random moments, starts two of them in one folder, fills their disk, gives them false
masks where nobody was asked, starts them on 1, 2 and 4 processes, feeds every reader damaged files
and the command line wrong input, and opens a run with 100,000 images. Prints a table, writes
benchmarks/results/trust.json and exits with 1 if anything ended otherwise than promised.

    python benchmarks/trust              everything; engines that are not installed are left out
    python benchmarks/trust --quick      a few tries of each, toy engine only; nothing is written
    python benchmarks/trust --only disk pairs            these parts anew
    python benchmarks/trust --resume     what is missing, after an interruption

Every part that has ended is kept in work_dirs/trust/rows.json. `--only` replaces its parts there;
once all parts are there, the result file is written.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import guarantees  # noqa: E402
import inputs  # noqa: E402
import interruptions  # noqa: E402
import page  # noqa: E402
from _common import revision, write_result  # noqa: E402
from jobs import ENGINES, ROOT, Launcher, Setup  # noqa: E402

Row = dict[str, Any]
Kept = dict[str, list[Row]]
"""Rows by part."""
ROWS = ROOT / "work_dirs/trust/rows.json"
ACQUISITION = {
    "level": "region",
    "region": {"type": "slic", "n_segments": 40},
    "heuristic": "RIPU",
    "budget": "4%",
    "rounds": 2,
    "previews": 0,
}
# Kills by engine and number of processes: (all, quick).
KILLS = {
    ("torch", 1): (124, 4),
    ("torch", 2): (36, 2),
    ("mmseg1", 1): (16, 0),
    ("mmseg1", 2): (8, 0),
    ("mmseg0", 1): (16, 0),
    ("mmseg0", 2): (8, 0),
}
PARTS = ("kills", "pairs", "disk", "leakage", "processes", "inputs", "readers", "scale")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; see the module's docstring. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Try what a run promises.")
    parser.add_argument("--quick", action="store_true", help="a few tries, toy engine only")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                        help=f"some of the parts: {', '.join(PARTS)}")  # fmt: skip
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--resume", action="store_true", help="keep parts that have ended without "
                        "a failure at this revision, with this seed")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python0", type=Path, default=ROOT / ".venv-mmseg0/bin/python",
                        help="interpreter with MMSegmentation 0.x")  # fmt: skip
    parser.add_argument("--page", action="store_true",
                        help="only write the last result into docs/reliability.md")  # fmt: skip
    args = parser.parse_args(arguments)
    if args.page:
        print(f"written: {page.write()}")
        return 0
    began = time.monotonic()
    whole = set(args.only) == set(PARTS) and set(args.engines) == set(ENGINES)
    kept = {} if args.quick or (whole and not args.resume) else read()
    if args.resume:
        args.keep = {name for name, rows in kept.items() if all(map(good(args.seed), rows))}
    with tempfile.TemporaryDirectory(prefix="trust-") as folder:
        tried = collect(args, Path(folder), kept)
    rows = [row for name in tried for row in kept[name]]
    for row in rows:
        report(row)
    failed = sum(len(row["failures"]) for row in rows)
    seconds = time.monotonic() - began
    print(f"{sum(row['tried'] for row in rows)} tries in {seconds:.0f} s, {failed} failures")
    if not args.quick:
        finish(kept)
    return 1 if failed else 0


def parts_of(only: Sequence[str], engines: Sequence[str], quick: bool) -> list[str]:
    """Names of the parts to try, in order: 'kills torch', 'kills mmseg1', ..., 'pairs', ..."""
    found = []
    for part in PARTS:
        if part not in only:
            continue
        if part == "kills":
            found += [f"kills {engine}" for engine in ENGINES
                      if engine in engines and (engine == "torch" or not quick)]  # fmt: skip
        elif part in _WITHOUT_ENGINE or "torch" in engines:
            found.append(part)
    return found


_WITHOUT_ENGINE = ("inputs", "readers", "scale")


def collect(args: argparse.Namespace, folder: Path, kept: Kept) -> list[str]:
    """Try the parts that were asked for; their rows replace those in `kept`. Returns their names.

    A part that raises an exception has failed; the others are tried all the same.
    """
    from regional_al.testing import streets

    data = streets.generate(folder / "streets", train=8, val=2, size=(64, 96), seed=args.seed)
    names = parts_of(args.only, args.engines, args.quick)
    kept_names = getattr(args, "keep", ())
    with contextlib.ExitStack() as stack:
        if "scale" in names and "scale" not in kept_names:
            run = ScaleRun(folder / "run-of-scale", _images(args.quick), args.seed)
            args.run_of_scale = stack.enter_context(contextlib.closing(run))
        for name in names:
            if name in kept_names:
                print(f"... {name}: kept", flush=True)
                continue
            began, place = time.monotonic(), folder / name.replace(" ", "-")
            place.mkdir()
            try:
                rows = attempt(name, args, place, data)
            except Exception:
                traceback.print_exc()
                lines = traceback.format_exc().strip().splitlines()
                rows = [{"part": name, "tried": 0, "failures": [f"it did not end: {lines[-1]}"]}]
            seconds = round(time.monotonic() - began, 1)
            kept[name] = [
                {"seconds": seconds, **row, "revision": revision(), "seed": args.seed}
                for row in rows
            ]
            if not args.quick:
                save(kept)
            shutil.rmtree(place, ignore_errors=True)
            tried = sum(row["tried"] for row in rows)
            failed = sum(len(row["failures"]) for row in rows)
            print(f"... {name}: {tried} in {seconds} s, {failed} failures", flush=True)
    return names


def attempt(name: str, args: argparse.Namespace, folder: Path, data: Path) -> list[Row]:
    """The rows of one part."""
    quick, seed = args.quick, args.seed

    def size(whole: int, few: int) -> int:
        return few if quick else whole

    if name.startswith("kills mmseg"):
        return mmseg_kills(name.split()[1], args, folder, data)
    if name == "inputs":
        return [inputs.table(every=size(1, 40))]
    if name == "readers":
        return [inputs.readers(size(200, 5), seed)]
    if name == "scale":
        return [scale(args.run_of_scale)]
    launcher, toy = Launcher("torch"), Setup("torch", data, ACQUISITION)
    few = ["RIPU", "Margin"] if quick else []
    if name == "pairs":
        return [interruptions.pairs(launcher, toy, folder, size(32, 2), seed)]
    if name == "disk":
        return [interruptions.full_disk(launcher, toy, folder, size(20, 2), seed)]
    if name == "leakage":
        return [guarantees.leakage(launcher, toy, folder, few, seed)]
    if name == "processes":
        return [
            guarantees.process_counts(launcher, toy, folder, few, (1, 2) if quick else (1, 2, 4))
        ]
    rows = []
    for ranks in (1, 2):
        began, count = time.monotonic(), size(*KILLS["torch", ranks])
        row = interruptions.kills(launcher, toy, folder, ranks, count, seed)
        rows.append({**row, "seconds": round(time.monotonic() - began, 1)})
    return rows


def _images(quick: bool) -> int:
    return 500 if quick else 100_000


class ScaleRun:
    """A run with many images, made by another process while other parts are tried.

    Args:
        folder: Where.
        images: Of its pool.
        seed: Of its labels.
    """

    def __init__(self, folder: Path, images: int, seed: int) -> None:
        self.folder, self.images, self.seed = folder, images, seed
        script = ROOT / "benchmarks/bench_scale.py"
        options = ["--images", str(images), "--seed", str(seed), "--prepare", str(folder)]
        self._process = subprocess.Popen([sys.executable, "-W", "ignore", str(script), *options])

    def wait(self) -> Path:
        """The folder, once it is complete. Raises RuntimeError if the process has failed."""
        code = self._process.wait()
        if code:
            raise RuntimeError(f"bench_scale.py --prepare ended with exit code {code}")
        return self.folder

    def close(self) -> None:
        """End the process, if it has not ended."""
        self._process.kill()
        self._process.wait()


def scale(run: ScaleRun) -> Row:
    """Open a run with so many images and do the books of a round, each checked by a recount."""
    from bench_scale import measure

    took, images = {}, run.images
    found = measure(images, run.seed, brief=True, prepared=run.wait())
    for row in found["rows"]:  # type: ignore[attr-defined]
        if row["goal_s"]:
            seconds, goal = row["median_s"], row["goal_s"]
            missed = "" if seconds < goal else ", missed"
            took[row["what"].strip()] = f"{seconds:.2f} s (goal {goal:g} s{missed})"
    return {"part": f"a run with {images:,} images", "tried": images, "took": took, "failures": []}


def mmseg_kills(engine: str, args: argparse.Namespace, folder: Path, data: Path) -> list[Row]:
    """Kills of runs of MMSegmentation, in this interpreter or, for 0.x, in its own. Each engine
    needs a process of its own, from whose server its runs are forked."""
    python = args.python0 if engine == "mmseg0" else Path(sys.executable)
    if not (python.is_file() and _has_mmseg(python)):
        return [{"part": f"SIGKILL, {engine}", "tried": 0, "skipped": "not installed",
                 "failures": []}]  # fmt: skip
    out = folder / f"{engine}.json"
    script = [str(python), "-W", "ignore", str(Path(__file__).with_name("mmseg_kills.py"))]
    counts = [str(KILLS[engine, ranks][0]) for ranks in (1, 2)]
    script += [engine, str(data), str(args.seed), str(out), *counts]
    done = subprocess.run(script, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-20:]
        return [{"part": f"SIGKILL, {engine}", "tried": 0, "failures": ["\n".join(lines)]}]
    rows: list[Row] = json.loads(out.read_text())
    return rows


def good(seed: int) -> Callable[[Row], bool]:
    """Whether a row need not be tried again."""
    now = revision()
    return lambda row: not row["failures"] and (row["revision"], row["seed"]) == (now, seed)


def read() -> Kept:
    """The rows of the parts that have ended."""
    kept: Kept = json.loads(ROWS.read_text()) if ROWS.is_file() else {}
    return kept


def save(kept: Kept) -> None:
    """Keep the rows of the parts that have ended; whole or not at all."""
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    temporary = ROWS.with_name(f"{ROWS.name}.tmp")
    temporary.write_text(json.dumps(kept, indent=1))
    os.replace(temporary, ROWS)


def finish(kept: Kept) -> None:
    """Write the result file and the page once all parts have ended."""
    names = parts_of(PARTS, ENGINES, quick=False)
    missing = [name for name in names if name not in kept]
    if missing:
        print(f"no result file yet: {', '.join(missing)} have not been tried")
        return
    rows = [row for name in names for row in kept[name]]
    path = write_result("trust", rows, kills=kills_of(rows), seconds=round(sum(
        row["seconds"] for row in rows)))  # fmt: skip
    print(f"written: {path}, {page.write()}")


def kills_of(rows: Sequence[Row]) -> int:
    """SIGKILLs in all."""
    return sum(row["tried"] for row in rows if row["part"].startswith("SIGKILL"))


def report(row: Row) -> None:
    """Print a row and its failures."""
    left = {key: value for key, value in row.items() if key not in ("part", "tried", "failures")}
    facts = ", ".join(f"{key} {page.text_of(value)}" for key, value in left.items())
    outcome = f"{len(row['failures'])} FAILED" if row["failures"] else "ok"
    print(f"{row['part']:<45} {row['tried']:>6}  {outcome:<9} {facts}")
    for failure in row["failures"]:
        print(f"    {failure}")


def _has_mmseg(python: Path) -> bool:
    if python == Path(sys.executable):
        return importlib.util.find_spec("mmseg") is not None
    return subprocess.run([str(python), "-c", "import mmseg"], capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
