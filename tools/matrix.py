"""The core tests with several versions of Python and torch, each in an environment of its own.

    python tools/matrix.py                      # every cell whose Python is installed here
    python tools/matrix.py 3.12:2.13.0 3.10:2.4.1 --index https://download.pytorch.org/whl/cpu

The core needs torch, numpy, pillow and rich alone: no MMSegmentation, numba or scikit-image.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CELLS = ("3.10:2.13.0", "3.11:2.13.0", "3.12:2.13.0", "3.13:2.13.0")
CORE = (
    *("tests/test_functional.py", "tests/test_metrics.py", "tests/test_import_bare.py"),
    *("tests/kernels", "tests/selection", "tests/partitions", "tests/heuristics", "tests/store"),
    *("tests/annotators", "tests/acquisition", "tests/scaffold"),
)
"""Tests of the core; what needs more skips itself."""
FAST = ("-m", "not slow and not gpu")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells and print a table. Returns 0 if none has failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cells", nargs="*", default=CELLS, metavar="PYTHON:TORCH")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".venv-matrix", help="of environments"
    )
    parser.add_argument("--index", metavar="URL", help="package index that torch is taken from")
    parser.add_argument("--list", action="store_true", help="print the core tests and do nothing")
    args = parser.parse_args(arguments)
    if args.list:
        print(*CORE)
        return 0
    results = {cell: run(cell, args.folder, args.index) for cell in args.cells}
    width = max(map(len, results))
    for cell, said in results.items():
        print(f"{cell:<{width}}  {said}")
    return int(any(said.startswith("failed") for said in results.values()))


def run(cell: str, folder: Path, index: str | None) -> str:
    """Make the environment of a cell, run the tests in it, and say how they ended."""
    version, _, torch = cell.partition(":")
    interpreter = shutil.which(f"python{version}")
    if not torch:
        return "failed: give PYTHON:TORCH, such as 3.12:2.13.0"
    if interpreter is None or subprocess.run([interpreter, "-V"], capture_output=True).returncode:
        return f"skipped: python{version} is not installed"
    place = folder / cell.replace(":", "-torch")
    python = place / "bin" / "python"
    for command in commands(interpreter, place, torch, index):
        print("+", *command, flush=True)
        if subprocess.run(command, cwd=ROOT).returncode:
            return f"failed: {' '.join(command)}"
    start = time.monotonic()
    done = subprocess.run([str(python), "-m", "pytest", *FAST, *CORE], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    print(done.stdout, flush=True)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    word = "failed" if done.returncode else "passed"
    return f"{word}: {last} ({time.monotonic() - start:.0f} s)"


def commands(interpreter: str, place: Path, torch: str, index: str | None) -> list[list[str]]:
    """What builds an environment: the newest torch that was asked for, the package, its tests."""
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q", "--no-compile"]
    numpy = "numpy<2" if tuple(map(int, torch.split(".")[:2])) < (2, 3) else "numpy"
    return [
        [interpreter, "-m", "venv", str(place)],
        [*pip, f"torch=={torch}", *(["--index-url", index] if index else [])],
        [*pip, numpy, "-e", ".[test]"],
    ]


if __name__ == "__main__":
    sys.exit(main())
