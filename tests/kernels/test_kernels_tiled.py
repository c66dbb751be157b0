"""Tiled scoring gives the numbers of the whole image, bit for bit, within its memory cap."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regional_al import kernels
from regional_al.errors import ScoreError
from regional_al.kernels import maps


@settings(max_examples=25, deadline=None)
@given(
    classes=st.sampled_from([1, 3, 19]),
    height=st.integers(1, 23),
    width=st.integers(1, 19),
    radius=st.sampled_from([0, 1, 4, 30]),
    tile=st.sampled_from([1, 3, 8, 64]),
    pixel=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_tiles_equal_the_whole(
    classes: int, height: int, width: int, radius: int, tile: int, pixel: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(classes, height, width, generator=generator) * 3
    regions = torch.randint(0, 7, (height, width), generator=generator)
    score = torch.full((height, width), float("nan"))
    stats = kernels.TiledRegionStats(8, classes, (height, width))
    for row, col, part in kernels.tiled_ripu(
        lambda r0, r1, c0, c1: logits[:, r0:r1, c0:c1],
        (height, width),
        radius,
        tile=tile,
        pixel=pixel,
    ):
        h, w = part.shape
        score[row : row + h, col : col + w] = part
        place = (slice(row, row + h), slice(col, col + w))
        stats.add(logits[:, place[0], place[1]], regions[place])
    assert torch.equal(score, maps.ripu(logits, radius, pixel=pixel))
    whole, tiled = kernels.region_stats(logits, regions, 8), stats.result()
    assert torch.equal(whole.class_counts, tiled.class_counts)
    assert torch.equal(whole.area, tiled.area)
    assert torch.equal(whole.entropy.nan_to_num(-1), tiled.entropy.nan_to_num(-1))


def test_tile_size_keeps_the_cap() -> None:
    for classes, radius, cap in ((19, 1, 64), (150, 16, 256), (2, 0, 16)):
        side = kernels.tile_size(cap, classes, radius)
        assert (side + 2 * radius) ** 2 * (classes * 4 + 12) <= (cap - 2) * 2**20
        assert (side + 1 + 2 * radius) ** 2 * (classes * 4 + 12) > (cap - 2) * 2**20
    with pytest.raises(ValueError, match="max_mb=3 is too small"):
        kernels.tile_size(3, 19, 400)


def test_reads_stay_inside_and_within_the_cap() -> None:
    seen: list[tuple[int, int, int, int]] = []

    def read(r0: int, r1: int, c0: int, c1: int) -> Tensor:
        seen.append((r0, r1, c0, c1))
        return torch.zeros(2, r1 - r0, c1 - c0)

    shape, covered = (700, 900), 0
    for tile in kernels.tiled_ripu(read, shape, 5, max_mb=4, num_classes=2):
        covered += tile.scores.numel()
    assert covered == 700 * 900
    assert len(seen) > 1
    for r0, r1, c0, c1 in seen:
        assert 0 <= r0 < r1 <= shape[0]
        assert 0 <= c0 < c1 <= shape[1]
        assert (r1 - r0) * (c1 - c0) * (2 * 4 + 12) <= 2 * 2**20


def test_tiled_errors() -> None:
    stats = kernels.TiledRegionStats(3, 2, (4, 4))
    ids = torch.zeros(4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="tile has 3 classes, expected 2"):
        stats.add(torch.zeros(3, 4, 4), ids)
    with pytest.raises(ScoreError, match="big: logits contain NaN"):
        kernels.TiledRegionStats(3, 2, (4, 4)).add(
            torch.full((2, 4, 4), float("inf")), ids, name="big"
        )
    stats.add(torch.zeros(2, 4, 4), ids)
    with pytest.raises(ValueError, match="do they overlap"):
        stats.add(torch.zeros(2, 4, 4), ids)
    with pytest.raises(ValueError, match=r"read_tile\(0, 3, 0, 3\) returned logits \[2, 1, 1\]"):
        next(kernels.tiled_ripu(lambda *_: torch.zeros(2, 1, 1), (4, 4), 1, tile=2))
    with pytest.raises(ValueError, match="num_classes"):
        next(kernels.tiled_ripu(lambda *_: torch.zeros(2, 1, 1), (4, 4), 1))
