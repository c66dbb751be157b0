"""Operators for an mmcv without compiled ones."""

from __future__ import annotations

import importlib
import subprocess
import sys

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


def test_modules_that_were_imported_before_get_what_they_lack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if ops.compiled():
        pytest.skip("this mmcv has compiled operators")
    ops.stand_in()
    modules = [(importlib.import_module(user), name) for name, user in ops.USERS]
    for module, name in modules:
        monkeypatch.setattr(module, name, None)
    ops.provide()
    assert all(callable(getattr(module, name)) for module, name in modules)
    assert [getattr(module, name) for module, name in modules if name == "PSAMask"] == [ops.PSAMask]


def test_mmcv_ops_can_be_imported_without_their_extension() -> None:
    """In a fresh process: operators of plain torch work, compiled ones say what is missing."""
    code = """
import torch
from regional_al.engines.mmseg1 import ops
assert not ops.compiled()
ops.stand_in()
import mmcv.ops
points = torch.tensor([[[0.5, 0.5], [0.75, 0.25]]])
image = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
print(mmcv.ops.point_sample(image, points)[0, 0].tolist())
try:
    mmcv.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except ImportError as error:
    print(type(error).__name__, error)
from mmcv.utils import collect_env
print(collect_env()["MMCV Compiler"])
"""
    if ops.compiled():
        pytest.skip("this mmcv has compiled operators")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "[3.0, 2.0]"
    assert lines[1].startswith("NotCompiled nms is a compiled operator of mmcv")
    assert lines[2:] == ["n/a"]
