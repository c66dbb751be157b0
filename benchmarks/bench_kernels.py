"""Speed and memory of RIPU maps and region statistics, and what they scale with.

Equality with the plain definitions first, then one table of ratios per question and
results/kernels.json. The opponents are written from the definitions: RIPU as published (softmax,
-p log(p + 1e-6), one-hot, depthwise convolution with ones) and region statistics by softmax and
one-hot scatter_add. `--quick`: an eighth of the pixels, for a first look.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from _common import peak_extra_mb, print_table, timed, write_result
from torch import Tensor

from regional_al import functional, kernels
from regional_al.kernels import maps

CLASSES = 19
Rows = list[dict[str, Any]]


def dense_ripu(logits: Tensor, radius: int, epsilon: float = 1e-6) -> Tensor:
    """RIPU as published, from its definition: [C, H, W] -> [H, W]."""
    classes = logits.shape[0]
    log_c = torch.log(torch.tensor(float(classes)))
    p = torch.softmax(logits, dim=0)
    entropy = torch.sum(-p * torch.log(p + epsilon), dim=0) / log_c
    one_hot = torch.nn.functional.one_hot(p.argmax(0), classes).permute(2, 0, 1).to(p.dtype)
    side = 2 * radius + 1
    ones = torch.ones(classes, 1, side, side, dtype=p.dtype, device=p.device)
    convolve = torch.nn.functional.conv2d
    counts = convolve(one_hot[None], ones, padding=radius, groups=classes)[0]
    area = counts.sum(0)
    share = counts / area
    impurity = torch.sum(-share * torch.log(share + epsilon), dim=0) / log_c
    mean = convolve(entropy[None, None], ones[:1], padding=radius)[0, 0] / area
    return impurity * mean


def scatter_stats(logits: Tensor, regions: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """(area, mean entropy, class counts) by softmax, one-hot and scatter_add."""
    p = torch.softmax(logits, dim=0)
    entropy = -(p * torch.log(p.clamp_min(1e-30))).sum(0).flatten()
    index = regions.flatten().long()
    one_hot = torch.nn.functional.one_hot(p.argmax(0).flatten(), logits.shape[0]).to(p.dtype)
    area = p.new_zeros(number).scatter_add_(0, index, torch.ones_like(entropy))
    total = p.new_zeros(number).scatter_add_(0, index, entropy)
    wide = index[:, None].expand(-1, logits.shape[0])
    counts = p.new_zeros(number, logits.shape[0]).scatter_add_(0, wide, one_hot)
    return area, total / area, counts


def scene(classes: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Logits like a network's: smooth class areas of some 64 pixels, and noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, height // 64 + 2, width // 64 + 2, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return smooth.mul_(6).add_(torch.randn(classes, height, width, generator=generator))


def wavy_regions(height: int, width: int, number: int) -> tuple[Tensor, int]:
    """About `number` regions with curved borders, as SLIC makes them, and their count."""
    cell = max(1.0, (height * width / number) ** 0.5)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    row = ((y + 0.2 * cell * torch.sin(x / cell * 3)).clamp(0, height - 1) / cell).int()
    col = ((x + 0.2 * cell * torch.sin(y / cell * 3)).clamp(0, width - 1) / cell).int()
    ids = row * (int(col.max()) + 1) + col
    return ids, int(ids.max()) + 1


def check(logits: Tensor, regions: Tensor, number: int) -> None:
    """Equality before speed: definitions in float64, and the backends among themselves."""
    for radius in (1, 5):
        exact = dense_ripu(logits.double(), radius, epsilon=1e-30).float()
        scores = [maps.ripu(logits, radius, backend=name) for name in cpu_backends()]
        torch.testing.assert_close(scores[0], exact, rtol=1e-5, atol=1e-7)
        if not all(torch.equal(scores[0], other) for other in scores):
            raise SystemExit("the backends' RIPU maps differ")
        published = dense_ripu(logits, radius)
        torch.testing.assert_close(scores[0], published, rtol=1e-3, atol=1e-4)
    area, entropy, counts = scatter_stats(logits.double(), regions, number)
    for name in cpu_backends():
        stats = kernels.region_stats(logits, regions, number, backend=name)
        torch.testing.assert_close(stats.area.float(), area.float())
        torch.testing.assert_close(stats.class_counts.float(), counts.float())
        torch.testing.assert_close(
            stats.entropy, entropy.float(), rtol=1e-5, atol=1e-6, equal_nan=True
        )
    print("equality: definitions and backends agree\n", flush=True)


def cpu_backends() -> list[str]:
    return [n for n in ("numba", "torch", "torch_scatter") if n in kernels.available_backends()]


def bars(height: int, width: int, repeats: int) -> Rows:
    """Our backends and the plain definitions (dense k=16 takes minutes: once, no warm-up)."""
    logits = scene(CLASSES, height, width)
    size = f"{CLASSES}x{height}x{width}"
    read = timed(lambda: logits.sum(), repeats)["median_s"]
    rows: Rows = [{"what": "read the logits once (sum)", "size": size, "ours_s": read}]
    for radius in (1, 16):
        dense = timed(_dense(logits, radius), 1 if radius > 4 else 3, warmup=0)
        for name in cpu_backends():
            call = _ripu(logits, radius, name)
            ours = timed(call, repeats)
            rows.append(_ratio(f"ripu k={radius} [{name}]", size, ours, dense))
            rows[-1]["peak_extra_mb"] = peak_extra_mb(call)
        rows[-1]["opponent_peak_mb"] = peak_extra_mb(_dense(logits, 1)) if radius == 1 else None
    regions, number = wavy_regions(height, width, 2000)
    plain = timed(lambda: scatter_stats(logits, regions, number), 3)
    for name in cpu_backends():
        scatter = _stats(logits, regions, number, name)
        ours = timed(scatter, repeats)
        rows.append(_ratio(f"region_stats R={number} [{name}]", size, ours, plain))
        rows[-1]["peak_extra_mb"] = peak_extra_mb(scatter)
    return rows


def scaling(height: int, width: int, repeats: int) -> Rows:
    """Vary one quantity at a time, the others as in the bars; default backend."""
    rows: Rows = []

    def add(varied: str, value: int, logits: Tensor, radius: int = 1, wanted: int = 2000) -> None:
        regions, number = wavy_regions(logits.shape[1], logits.shape[2], wanted)
        ripu = timed(_ripu(logits, radius, None), repeats)["median_s"]
        stats = timed(_stats(logits, regions, number, None), repeats)["median_s"]
        values = logits.numel()
        rows.append(
            {
                "varied": varied,
                "value": value,
                "ripu_s": ripu,
                "region_stats_s": stats,
                "ripu_ns_per_logit": ripu / values * 1e9,
                "region_stats_ns_per_logit": stats / values * 1e9,
            }
        )

    for divisor in (4, 2, 1):
        h, w = height // divisor, width // divisor
        add("H*W", h * w, scene(CLASSES, h, w))
    half = (height // 2, width // 2)
    for classes in (2, 19, 64, 150, 255):
        add("C", classes, scene(classes, *half))
    logits = scene(CLASSES, *half)
    for radius in (0, 1, 4, 16, 64, 256):
        add("k", radius, logits, radius=radius)
    for wanted in (10, 100, 1000, 10_000, 100_000):
        add("regions", wanted, logits, wanted=wanted)
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        add(name, 16, logits.to(dtype))
    noise = torch.randn(CLASSES, *half, generator=torch.Generator().manual_seed(1))
    for radius in (1, 16):  # the worst case for the sliding histogram: no two neighbours alike
        add("k, pure noise", radius, noise, radius=radius)
    return rows


def passes(height: int, width: int) -> Rows:
    """BALD: memory must not grow with the number of passes."""
    rows: Rows = []
    for count in (2, 4, 8):
        call = _bald(count, height // 4, width // 4)
        call()
        rows.append({"passes": count, "peak_extra_mb": peak_extra_mb(call)})
    return rows


def _dense(logits: Tensor, radius: int) -> Callable[[], Tensor]:
    return lambda: dense_ripu(logits, radius)


def _ripu(logits: Tensor, radius: int, backend: str | None) -> Callable[[], Tensor]:
    return lambda: maps.ripu(logits, radius, backend=backend)


def _stats(logits: Tensor, ids: Tensor, number: int, backend: str | None) -> Callable[[], object]:
    return lambda: kernels.region_stats(logits, ids, number, backend=backend)


def _bald(count: int, height: int, width: int) -> Callable[[], Tensor]:
    logits = scene(CLASSES, height, width)
    return lambda: functional.bald(logits for _ in range(count))


def _ratio(what: str, size: str, ours: dict[str, float], other: dict[str, float]) -> dict[str, Any]:
    return {
        "what": what,
        "size": size,
        "ours_s": ours["median_s"],
        "opponent_s": other["median_s"],
        "ratio": other["median_s"] / ours["median_s"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="an eighth of the pixels")
    arguments = parser.parse_args()
    height, width = (362, 724) if arguments.quick else (1024, 2048)
    repeats = 3 if arguments.quick else 5
    check(scene(CLASSES, 96, 131), *wavy_regions(96, 131, 40))
    table = bars(height, width, repeats)
    print_table(table)
    print(flush=True)
    scaled = scaling(height, width, repeats)
    print_table(scaled)
    mc = passes(height, width)
    print()
    print_table(mc)
    name = "kernels_quick" if arguments.quick else "kernels"
    print(f"\nwritten: {write_result(name, table, scaling=scaled, passes=mc, repeats=repeats)}")


if __name__ == "__main__":
    main()
