"""What acquisition costs on a GPU: kernels, and a whole round beside the network's forward pass.

Needs a CUDA device with torch (its wheels bring Triton along), numpy and numba; a round also needs
pillow and rich. Equality with the CPU comes first; any difference ends the script with exit code 1.
Then, for each size and type of logits:

- one read of the logits at the bandwidth of a large device-to-device copy, which no kernel can
  beat, and what `pixel_stats`, `region_stats` and `ripu` take as a share of it;
- RIPU as published and region statistics by softmax + scatter_add, on the same device, and these
  by torch_scatter where it is installed;
- a round: the engine's forward passes over a pool in GPU memory, alone and with everything that
  acquisition adds (labels read, regions loaded, scored, selected, the query written).

Writes results/gpu_<device>.json. `bash benchmarks/gpu.sh` runs the GPU tests first.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import print_table, timed, write_result
from bench_kernels import dense_ripu, scatter_stats, scene, wavy_regions

from regional_al import kernels
from regional_al.kernels import maps

Rows = list[dict[str, Any]]
TYPES = (torch.float32, torch.float16, torch.bfloat16)
# 33 classes are too many to be kept in registers, 65 to be counted as bits, 300 for uint8.
SHAPES = [(1, 4, 5), (5, 21, 27), (33, 40, 50), (65, 30, 65), (300, 9, 9), (19, 512, 777)]
KINDS: tuple[Any, ...] = ("entropy", "margin", "least_confidence", "bvsb")


def check() -> Rows:
    """CUDA against the CPU, bit for bit: number of comparisons and of differences."""
    compared = different = 0
    generator = torch.Generator().manual_seed(0)
    for classes, height, width in SHAPES:
        regions, number = wavy_regions(height, width, 50)
        noise = torch.randint(0, number, (height, width), generator=generator)
        for dtype in TYPES:
            flat = (torch.randn(classes, height, width, generator=generator) * 5).to(dtype)
            strided = flat.permute(1, 2, 0).contiguous().permute(2, 0, 1)
            for logits in (flat, strided):
                for ours, theirs in _pairs(logits, (regions, noise), number):
                    compared += 1
                    different += not torch.equal(ours.cpu().nan_to_num(-1), theirs.nan_to_num(-1))
    return [{"what": "CUDA and CPU, bit for bit", "compared": compared, "different": different}]


def _pairs(
    logits: torch.Tensor, partitions: tuple[torch.Tensor, ...], number: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(on the GPU, on the CPU) of every kernel."""
    device = logits.cuda()
    for kind in KINDS if logits.dtype == torch.float32 else KINDS[:1]:
        yield maps.pixel_scores(device, kind), maps.pixel_scores(logits, kind)
    yield maps.pixel_stats(device)[1], maps.pixel_stats(logits)[1]
    for radius in (1, 3):
        for pixel in (False, True):
            on_cpu = maps.ripu(logits, radius, pixel=pixel)
            yield maps.ripu(device, radius, pixel=pixel), on_cpu
    label = maps.pixel_stats(logits)[1]
    classes = logits.shape[0]
    on_cpu = maps.region_impurity(label, classes, 2)
    yield maps.region_impurity(label.cuda(), classes, 2), on_cpu
    for ids in partitions:
        ours = kernels.region_stats(device, ids.cuda(), number)
        theirs = kernels.region_stats(logits, ids, number)
        yield ours.entropy, theirs.entropy
        yield ours.class_counts, theirs.class_counts
        yield ours.impurity, theirs.impurity
        yield ours.dominant, theirs.dominant
        values = logits[0].float()
        on_cpu = kernels.region_mean(values, ids, number)
        yield kernels.region_mean(values.cuda(), ids.cuda(), number), on_cpu


def device_us(call: Callable[[], object], repeats: int = 40) -> float:
    """Median microseconds on the device, between events, with a cold L2 cache."""
    scratch = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    times = []
    for _ in range(5):
        call()
    for _ in range(repeats):
        scratch.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)


def kernel_us(call: Callable[[], object], repeats: int = 30) -> float:
    """Mean microseconds that the kernels of a call run, without the gaps between them, with a cold
    L2 cache."""
    from torch.profiler import ProfilerActivity, profile

    scratch, other = (torch.empty(1 << 27, dtype=torch.uint8, device="cuda") for _ in range(2))
    for _ in range(5):
        call()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(repeats):
            scratch.copy_(other)  # not a kernel but a "Memcpy"
            call()
        torch.cuda.synchronize()
    kernel_time = sum(
        event.self_device_time_total
        for event in profiler.key_averages()
        if "CUDA" in str(event.device_type) and not event.key.startswith(("Memcpy", "Memset"))
    )
    return kernel_time / repeats


def peak_mb(call: Callable[[], object]) -> float:
    """MiB of GPU memory that the call allocates at its peak."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def bandwidth() -> float:
    """Bytes per microsecond, read and written, of a copy of 1 GiB."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / device_us(lambda: target.copy_(source), 20)


def kernel_rows(quick: bool) -> Rows:
    """Every kernel at every size and type, and the plain definitions in float32."""
    per_us = bandwidth()
    rows: Rows = []
    sizes = [(19, 512, 1024)] if quick else [(19, 512, 1024), (19, 1024, 2048), (150, 512, 512)]
    for size in sizes:
        host = scene(*size)
        ids, number = wavy_regions(size[1], size[2], 2000)
        ids = ids.cuda()
        for dtype in TYPES:
            logits = host.to("cuda", dtype)
            read = logits.numel() * logits.element_size() / per_us
            for what, ours, plain in _calls(logits, ids, number):
                row: dict[str, Any] = {
                    "what": what,
                    "size": "x".join(map(str, size)),
                    "type": str(dtype).removeprefix("torch."),
                    "one_read_us": read,
                    "kernels_us": kernel_us(ours),
                    "call_us": device_us(ours),
                    "peak_mb": peak_mb(ours),
                }
                row["bandwidth_percent"] = 100 * read / row["kernels_us"]
                if plain is not None and dtype == torch.float32:
                    row["plain_us"] = device_us(plain, 10)
                    row["ratio"] = row["plain_us"] / row["call_us"]
                    row["plain_peak_mb"] = peak_mb(plain)
                if what == "region_stats" and "torch_scatter" in kernels.available_backends():
                    other = partial(
                        kernels.region_stats, logits, ids, number, backend="torch_scatter"
                    )
                    row["torch_scatter_us"] = device_us(other, 10)
                rows.append(row)
    return rows


def _calls(
    logits: torch.Tensor, ids: torch.Tensor, number: int
) -> list[tuple[str, Callable[[], object], Callable[[], object] | None]]:
    """(what, our call, the plain definition)."""
    return [
        ("pixel_stats", lambda: maps.pixel_stats(logits), None),
        (
            "region_stats",
            lambda: kernels.region_stats(logits, ids, number),
            lambda: scatter_stats(logits, ids, number),
        ),
        ("ripu k=1", lambda: maps.ripu(logits, 1), lambda: dense_ripu(logits, 1)),
        ("ripu k=16", lambda: maps.ripu(logits, 16), None),
    ]


def report(quick: bool, checked: Rows, measured: Rows, rounds: Rows) -> None:
    """Write the result file, if this is no quick look."""
    if quick:
        return
    properties = torch.cuda.get_device_properties(0)
    device = re.sub(r"[^a-z0-9]+", "_", properties.name.lower()).strip("_")
    facts = {
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gb": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "cuda_runtime": torch.version.cuda,
        "copy_gb_per_s": bandwidth() / 1e3,
    }
    path = write_result(f"gpu_{device}", measured, device=facts, equality=checked, round=rounds)
    print(f"written: {path}\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one size; no result file")
    quick = parser.parse_args().quick
    if not torch.cuda.is_available():
        print("error: no CUDA device: torch.cuda.is_available() is False", file=sys.stderr)
        return 2
    if "triton" not in kernels.available_backends():
        print("error: Triton 3 is missing: pip install triton", file=sys.stderr)
        return 2
    checked = check()
    print_table(checked)
    if checked[0]["different"]:
        return 1
    print(flush=True)
    measured = kernel_rows(quick)
    print_table(measured)
    print(flush=True)
    report(quick, checked, measured, [])  # a failure in what follows does not lose it
    try:
        from gpu_round import round_rows
    except ModuleNotFoundError as error:
        print(f"rounds: not measured, {error.name} is missing")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        rounds = round_rows(Path(folder), quick, timed)
    print_table(rounds)
    report(quick, checked, measured, rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
