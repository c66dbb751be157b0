"""Operators for an mmcv without compiled ones."""

from __future__ import annotations

import importlib

import pytest
import torch

pytest.importorskip("mmengine")

from regional_al.engines.mmseg1 import ops

pytestmark = pytest.mark.mmseg1


@pytest.mark.parametrize("kind", ["collect", "distribute"])
@pytest.mark.parametrize("mask", [(3, 5), (7, 9), (2, 1)])
def test_attention_masks_by_the_definition(kind: str, mask: tuple[int, int]) -> None:
    """Place by place, as mmcv's kernel writes it."""
    height, width = 4, 5
    given = torch.rand(2, mask[0] * mask[1], height, width)
    expected = torch.zeros(2, height * width, height, width)
    for row in range(height):
        for column in range(width):
            for i in range(mask[0]):
                for j in range(mask[1]):
                    y, x = row + i - (mask[0] - 1) // 2, column + j - (mask[1] - 1) // 2
                    if not (0 <= y < height and 0 <= x < width):
                        continue
                    value = given[:, i * mask[1] + j, row, column]
                    if kind == "collect":
                        expected[:, y * width + x, row, column] = value
                    else:
                        expected[:, row * width + column, y, x] = value
    assert torch.equal(ops.PSAMask(kind, mask)(given), expected)


def test_mmseg_is_given_what_it_lacks() -> None:
    ops.provide()
    for name, user in ops.USERS:
        assert getattr(importlib.import_module(user), name) is not None


def test_points_are_sampled_bilinearly() -> None:
    """The middle of four pixels, and the centre of one."""
    sample = ops.load("point_sample")
    image = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    points = torch.tensor([[[0.5, 0.5], [0.75, 0.25]]])
    assert sample(image, points)[0, 0].tolist() == [3.0, 2.0]
