"""Speed of selection, and what it scales with.

Windows: `select_windows` against the greedy loop as published (torch; two reductions over the full
map and two reads per pick; timed over 16 picks and scaled) and against numpy's flat argmax per
pick. Pool: `CandidateStream` over images x regions against keeping every score and sorting. Equal
picks first; then ratios and results/selection.json. `--quick`: a small map and pool, for a look.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _common import peak_extra_mb, print_table, timed, write_result

from regional_al.selection import CandidateStream, select_units, select_windows
from regional_al.types import PICK_DTYPE, Picks

Array = npt.NDArray[Any]
Rows = list[dict[str, Any]]
SAMPLED = 16  # picks of the published loop that are timed; each costs the same, so it is scaled up


def published(score: torch.Tensor, radius: int, suppress: int, count: int) -> Array:
    """The published loop, from its description: best column, best row, label, suppress, again."""
    score = score.clone()
    labelled = torch.zeros_like(score, dtype=torch.bool)
    picks = []
    for _ in range(count):
        values, rows = torch.max(score, dim=0)
        col = int(torch.max(values, dim=0).indices.item())
        row = int(rows[col].item())
        picks.append((row, col))
        labelled[_square(row, col, radius)] = True
        score[_square(row, col, suppress)] = -torch.inf
    return np.array(picks)


def plain(score: Array, suppress: int, count: int) -> Array:
    """The same with numpy's argmax over the flat map, the fastest simple loop there is."""
    score = score.copy()
    picks = []
    for _ in range(count):
        row, col = divmod(int(score.argmax()), score.shape[1])
        picks.append((row, col))
        score[_square(row, col, suppress)] = -np.inf
    return np.array(picks)


def _square(row: int, col: int, radius: int) -> tuple[slice, slice]:
    return (
        slice(max(0, row - radius), row + radius + 1),
        slice(max(0, col - radius), col + radius + 1),
    )


def score_map(height: int, width: int, kind: str) -> Array:
    """float32 [H, W] without ties (the published loop breaks them by column).

    'noise'; 'scene': blobs some 30 pixels wide with texture, as uncertainty maps are.
    """
    rng = np.random.default_rng([height, width])
    score = rng.random((height, width))
    if kind == "scene":
        coarse = torch.from_numpy(rng.standard_normal((1, 1, height // 32 + 2, width // 32 + 2)))
        blobs = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
        texture = torch.nn.functional.avg_pool2d(torch.from_numpy(score)[None], 3, 1, 1)
        score = (blobs[0, 0] + texture[0]).numpy()
    ranks = np.empty(score.size, dtype=np.float32)
    ranks[np.argsort(score, axis=None)] = np.arange(score.size)  # exact in float32 up to 2^24
    return ranks.reshape(height, width)


def window_rows(cases: list[tuple[str, int, int, int, int, int]], repeats: int) -> Rows:
    """One row per (kind, H, W, label radius, suppression radius, count)."""
    rows: Rows = []
    for kind, height, width, radius, suppress, count in cases:
        score = score_map(height, width, kind)
        tensor = torch.from_numpy(score)
        want = plain(score, suppress, count)
        got = select_windows(score, radius, suppress, count)
        assert np.array_equal(got, want), "picks differ from the greedy definition"
        some = min(count, SAMPLED)
        assert np.array_equal(published(tensor, radius, suppress, some), want[:some])

        def ours(s: Array = score, r: int = radius, p: int = suppress, c: int = count) -> Array:
            return select_windows(s, r, p, c)

        fast = timed(ours, 4 * repeats + 1)["median_s"]
        torch_s = timed(lambda: published(tensor, radius, suppress, some), repeats, 0)["median_s"]  # noqa: B023
        torch_s *= count / some
        numpy_s = timed(lambda: plain(score, suppress, count), repeats, 0)["median_s"]  # noqa: B023
        rows.append(
            {
                "map": kind,
                "size": f"{height}x{width}",
                "windows": count,
                "suppress": suppress,
                "ours_ms": fast * 1e3,
                "published_ms": torch_s * 1e3,
                "argmax_ms": numpy_s * 1e3,
                "x_published": torch_s / fast,
                "x_argmax": numpy_s / fast,
                "peak_extra_mb": peak_extra_mb(ours),
            }
        )
    return rows


def pool(images: int, regions: int, kind: str) -> Iterator[tuple[Picks, Array]]:
    """Candidates and costs, image by image. kind of cost: 'one', 'grid' cells (few values), 'slic'
    areas (many)."""
    picks = np.zeros(regions, dtype=PICK_DTYPE)
    picks["row"] = picks["col"] = -1
    picks["unit"] = np.arange(regions)
    for image in range(images):
        rng = np.random.default_rng([11, image])
        picks = picks.copy()
        picks["image"], picks["score"] = image, rng.random(regions)
        if kind == "one":
            costs = np.ones(regions, dtype=np.int64)
        elif kind == "grid":
            costs = rng.choice([1024, 512, 256], regions, p=[0.9, 0.09, 0.01])
        else:
            costs = rng.integers(500, 1500, regions)
        picks["pixels"] = costs
        yield picks, costs


def pool_row(images: int, regions: int, kind: str, share: float, ranks: int = 4) -> dict[str, Any]:
    """Stream a pool; time spent in the stream only. Equal to sorting everything, and to merging."""
    parts = list(pool(images, regions, kind))
    scores = np.concatenate([picks["score"] for picks, _ in parts])
    costs = np.concatenate([cost for _, cost in parts])
    budget = int(costs.sum() * share)
    start = time.perf_counter()
    order = np.argsort(-scores, kind="stable")
    sort_s = time.perf_counter() - start
    want = select_units(scores, costs, budget)
    del scores, order
    stream, most = CandidateStream(budget), 0
    start = time.perf_counter()
    for picks, cost in parts:
        stream.add(picks, cost)
        most = max(most, len(stream))
    result = stream.result()
    seconds = time.perf_counter() - start
    assert np.array_equal(result["image"].astype(np.int64) * regions + result["unit"], want)
    merged = CandidateStream(budget)
    for rank in range(ranks):
        mine = CandidateStream(budget)
        for picks, cost in parts[rank::ranks]:
            mine.add(picks, cost)
        merged.add(*mine.candidates())
    assert np.array_equal(merged.result(), result), "merging ranks changes the picks"
    del parts, costs, want, merged
    return {
        "costs": kind,
        "images": images,
        "regions": regions,
        "budget": f"{share:.1%}",
        "picks": len(result),
        "stream_s": seconds,
        "sort_alone_s": sort_s,
        "held_at_most": most,
        "kept": len(stream.candidates()[0]),
        "peak_extra_mb": _stream_mb(images, regions, kind, budget),
    }


def _stream_mb(images: int, regions: int, kind: str, budget: int) -> float:
    def run() -> CandidateStream:
        stream = CandidateStream(budget)
        for picks, costs in pool(images, regions, kind):
            stream.add(picks, costs)
        stream.result()
        return stream

    return peak_extra_mb(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(".")[0])
    parser.add_argument("--quick", action="store_true", help="a small map and pool")
    quick = parser.parse_args().quick
    full = (256, 512) if quick else (1024, 2048)
    h, w = full
    n = 128 if quick else 1026  # RIPU's published setting on Cityscapes
    windows = [
        ("scene", h, w, 1, 2, n),  # the bar
        ("noise", h, w, 1, 2, n),
        ("scene", h, w, 1, 2, n // 16),
        ("scene", h, w, 1, 2, n // 4),
        ("scene", h, w, 0, 0, n),
        ("scene", h, w, 0, 32, n // 32),
        ("scene", h // 4, w // 4, 1, 2, n),
        ("scene", h // 2, w // 2, 1, 2, n),
    ]
    if not quick:
        windows += [("scene", h, w, 1, 2, 4 * n), ("scene", 2 * h, 2 * w, 1, 2, n)]
    window_table = window_rows(windows, 1 if quick else 3)
    print_table(window_table)
    n = 300 if quick else 3000
    cases = [(n, "one", 0.01), (n, "grid", 0.01), (n, "slic", 0.01)]
    cases += [(n // 10, "slic", 0.01), (n // 3, "slic", 0.01)]  # pool size
    cases += [(n, "slic", 0.001), (n, "slic", 0.05)]  # budget
    pool_table = [pool_row(images, 2000, kind, share) for images, kind, share in cases]
    print()
    print_table(pool_table)
    name = "selection_quick" if quick else "selection"
    print(f"\nwritten: {write_result(name, window_table, pool=pool_table)}")


if __name__ == "__main__":
    main()
