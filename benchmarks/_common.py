"""Shared by all benchmarks: machine facts, timing, peak memory, a table, a JSON file.

Benchmarks check equality first and never assert speed. All timings of one script are taken in one
process, and medians are compared, so that ratios hold on a busy machine too.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    "torch",
    "numpy",
    "numba",
    "triton",
    "torch-scatter",
    "scikit-image",
    "opencv-python-headless",
    "opencv-python",
)


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, threads, versions, CUDA device, git revision."""
    import torch

    facts: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {},
        "revision": revision(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    for package in PACKAGES:
        try:
            facts["versions"][package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return facts


def timed(fn: Callable[[], object], repeats: int = 5, warmup: int = 1) -> dict[str, float]:
    """Wall seconds of `fn()`: median_s, min_s, max_s over `repeats` calls after `warmup` ones.

    Synchronises with the CUDA device, if one is in use.
    """
    for _ in range(warmup):
        fn()
    seconds: list[float] = []
    for _ in range(max(1, repeats)):
        _synchronize()
        start = time.perf_counter()
        fn()
        _synchronize()
        seconds.append(time.perf_counter() - start)
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "repeats": len(seconds),
    }


def peak_extra_mb(fn: Callable[[], object]) -> float:
    """MiB by which the process's resident memory rises above its level before `fn()`, at the peak.

    The result of `fn` counts as well. On Linux: the kernel's own high-water mark, reset before the
    call; elsewhere (or where the reset is refused) a sampling thread. Call `fn` once before, so
    that imports and compilation do not count.
    """
    gc.collect()
    _trim()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _sampled_extra_mb(fn)
    before = _status_kb("VmRSS")
    result = fn()
    peak = _status_kb("VmHWM")
    del result
    return max(0.0, (peak - before) / 1024)


def write_result(name: str, rows: Sequence[Mapping[str, Any]], **meta: Any) -> Path:
    """Write benchmarks/results/<name>.json: machine facts, meta and rows; whole or not at all."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    temporary = path.with_name(path.name + ".tmp")
    body = {"name": name, "machine": machine(), **meta, "rows": [dict(row) for row in rows]}
    temporary.write_text(json.dumps(body, indent=1, default=str) + "\n")
    os.replace(temporary, path)
    return path


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows (the keys of all of them, in order of first appearance) as an aligned table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for index, line in enumerate(cells):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
        if index == 0:
            print("  ".join("-" * width for width in widths))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _status_kb(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {key}")


def _trim() -> None:
    """Return freed heap pages to the system, so that new allocations of the call are visible."""
    import ctypes

    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def _sampled_extra_mb(fn: Callable[[], object]) -> float:
    import resource

    unit = 1024 * 1024 if platform.system() == "Darwin" else 1024

    def resident() -> float:
        try:
            return _status_kb("VmRSS") / 1024
        except OSError:  # no /proc: the high-water mark is all there is
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    before, peak, done = resident(), [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    result = fn()
    peak[0] = max(peak[0], resident())
    done.set()
    thread.join()
    del result
    return max(0.0, peak[0] - before)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def revision() -> str | None:
    """Short hash of the commit that is checked out; None outside of a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
