"""What a run promises, tried: `make trust` (benchmarks/trust), under 20 minutes on two cores.

Kills runs at random moments, starts two of them in one folder, fills their disk, gives them false
masks where nobody was asked, starts them on 1, 2 and 4 processes, feeds every reader damaged files
and the command line wrong input, and opens a run with 100,000 images. Prints a table, writes
benchmarks/results/trust.json and exits with 1 if anything ended otherwise than promised.

    python benchmarks/trust              everything; engines that are not installed are left out
    python benchmarks/trust --quick      a few tries of each, toy engine only; nothing is written
    python benchmarks/trust --parts kills --seed 7       some parts, other moments and masks
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import guarantees  # noqa: E402
import inputs  # noqa: E402
import interruptions  # noqa: E402
import page  # noqa: E402
from jobs import ROOT, Launcher, Setup  # noqa: E402

Row = dict[str, Any]
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
    ("torch", 1): (90, 4),
    ("torch", 2): (40, 2),
    ("mmseg1", 1): (24, 0),
    ("mmseg1", 2): (12, 0),
    ("mmseg0", 1): (24, 0),
    ("mmseg0", 2): (12, 0),
}
PARTS = ("kills", "pairs", "disk", "leakage", "processes", "inputs", "readers", "scale")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; see the module's docstring. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Try what a run promises.")
    parser.add_argument("--quick", action="store_true", help="a few tries, toy engine only")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--engines", nargs="+", default=["torch", "mmseg1", "mmseg0"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python0", type=Path, default=ROOT / ".venv-mmseg0/bin/python",
                        help="interpreter with MMSegmentation 0.x")  # fmt: skip
    parser.add_argument("--rows", type=Path, help="write the rows here instead of a result file")
    parser.add_argument("--page", action="store_true",
                        help="only write the last result into docs/reliability.md")  # fmt: skip
    args = parser.parse_args(arguments)
    if args.page:
        print(f"written: {page.write()}")
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trust-") as folder:
        rows = collect(args, Path(folder))
    for row in rows:
        report(row)
    failed = sum(len(row["failures"]) for row in rows)
    seconds = time.monotonic() - began
    print(f"{sum(row['tried'] for row in rows)} tries in {seconds:.0f} s, {failed} failures")
    if args.rows is not None:
        args.rows.write_text(json.dumps(rows))
    elif not args.quick and set(args.parts) == set(PARTS):
        from _common import write_result

        path = write_result("trust", rows, seed=args.seed, seconds=round(seconds))
        print(f"written: {path}, {page.write()}")
    return 1 if failed else 0


def collect(args: argparse.Namespace, folder: Path) -> list[Row]:
    """The rows of all parts that were asked for."""
    from regional_al.testing import streets

    data = streets.generate(folder / "streets", train=8, val=2, size=(64, 96), seed=args.seed)
    toy = Setup("torch", data, ACQUISITION)
    rows: list[Row] = []

    def add(part: str, work: Callable[[], Row | None]) -> None:
        if part not in args.parts:
            return
        began = time.monotonic()
        row = work()
        if row is not None:
            rows.append({**row, "seconds": round(time.monotonic() - began, 1)})
            print(f"... {row['part']}: {row['tried']} in {rows[-1]['seconds']} s", flush=True)

    def size(whole: int, quick: int) -> int:
        return quick if args.quick else whole

    launcher = Launcher("torch") if "torch" in args.engines else None
    for (engine, ranks), (whole, quick) in KILLS.items():
        count = size(whole, quick)
        if engine == "torch" and launcher is not None and count:
            add("kills", lambda n=count, r=ranks: interruptions.kills(
                launcher, toy, folder, r, n, args.seed))  # fmt: skip
    if launcher is not None:
        tries = {"folder": folder, "seed": args.seed}
        few = ["RIPU", "Margin"] if args.quick else []
        add("pairs", lambda: interruptions.pairs(launcher, toy, count=size(32, 2), **tries))
        add("disk", lambda: interruptions.full_disk(launcher, toy, count=size(20, 1), **tries))
        add("leakage", lambda: guarantees.leakage(launcher, toy, names=few, **tries))
        counts = (1, 2) if args.quick else (1, 2, 4)
        add("processes", lambda: guarantees.process_counts(launcher, toy, folder, few, counts))
    add("inputs", lambda: inputs.table(every=size(1, 40)))
    add("readers", lambda: inputs.readers(size(200, 5), args.seed))
    add("scale", lambda: scale(size(100_000, 500), args.seed))
    if not args.quick and "kills" in args.parts:
        rows += mmseg_kills(args, folder, data)
    return rows


def scale(images: int, seed: int) -> Row:
    """Open a run with so many images and do the books of a round, each checked by a recount."""
    from bench_scale import measure

    found = measure(images, seed)
    return {"part": f"a run with {images:,} images", "tried": images, **found, "failures": []}


def mmseg_kills(args: argparse.Namespace, folder: Path, data: Path) -> list[Row]:
    """Kills of runs of MMSegmentation, in this interpreter or, for 0.x, in its own. Each engine
    needs a process of its own, from whose server its runs are forked."""
    rows: list[Row] = []
    for engine, python in (("mmseg1", Path(sys.executable)), ("mmseg0", args.python0)):
        if engine not in args.engines:
            continue
        if not (python.is_file() and _has_mmseg(python)):
            rows.append({"part": f"SIGKILL, {engine}", "tried": 0, "skipped": "not installed",
                         "failures": []})  # fmt: skip
            continue
        out = folder / f"{engine}.json"
        script = [str(python), "-W", "ignore", str(Path(__file__).with_name("mmseg_kills.py"))]
        counts = [str(KILLS[engine, ranks][0]) for ranks in (1, 2)]
        script += [engine, str(data), str(args.seed), str(out), *counts]
        done = subprocess.run(script, capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()[-20:]
            rows.append({"part": f"SIGKILL, {engine}", "tried": 0, "failures": lines})
        else:
            rows += json.loads(out.read_text())
    return rows


def report(row: Row) -> None:
    """Print a row and its failures."""
    left = {key: value for key, value in row.items() if key not in ("part", "tried", "failures")}
    facts = ", ".join(f"{key} {value}" for key, value in left.items())
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
