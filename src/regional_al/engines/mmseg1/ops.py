"""Operators of `mmcv.ops` that need nothing compiled, for an mmcv that has no compiled ones.

`import mmcv.ops` fails as a whole where its extension is missing, and mmseg then takes every
operator for missing. Some are plain torch: their files are loaded by themselves. `PSAMask` is
written here.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import mmcv
import torch
from torch import nn

FILES = {"point_sample": "point_sample", "CrissCrossAttention": "cc_attention"}
"""Name -> file in mmcv.ops without its suffix."""

USERS = (
    ("point_sample", "mmseg.models.utils.point_sample"),
    ("point_sample", "mmseg.models.decode_heads.point_head"),
    ("point_sample", "mmseg.models.decode_heads.san_head"),
    ("point_sample", "mmseg.utils.mask_classification"),
    ("CrissCrossAttention", "mmseg.models.decode_heads.cc_head"),
    ("PSAMask", "mmseg.models.decode_heads.psa_head"),
)
"""(name, module of mmseg that would have imported it)."""


def provide() -> None:
    """Give mmseg's modules the operators that they lack, as far as those need nothing compiled."""
    for name, user in USERS:
        try:
            module = importlib.import_module(user)
        except ImportError:  # another release of mmseg
            continue
        if getattr(module, name, ...) is None:
            setattr(module, name, load(name))


@cache
def load(name: str) -> Any:
    """A function or class of mmcv.ops, from its file alone."""
    if name == "PSAMask":
        return PSAMask
    path = Path(mmcv.__file__).parent / "ops" / f"{FILES[name]}.py"
    spec = importlib.util.spec_from_file_location(f"_regional_al_{FILES[name]}", path)
    assert isinstance(spec, ModuleSpec)
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


class PSAMask(nn.Module):
    """PSANet's attention over the places around each pixel, as one over the whole map (Zhao et al.,
    2018, https://hszhao.github.io/papers/eccv18_psanet.pdf); arguments of mmcv's operator.

    Args:
        psa_type: 'collect' (what a pixel takes from others) or 'distribute' (what it gives them).
        mask_size: (h, w) of the places around a pixel, the pixel in their middle.

    Example:
        >>> mask = PSAMask("collect", (1, 1))
        >>> mask(torch.tensor([[[[5.0, 7.0]]]])).flatten(2)[0].tolist()
        [[5.0, 0.0], [0.0, 7.0]]
    """

    def __init__(self, psa_type: str, mask_size: tuple[int, int]) -> None:
        super().__init__()
        self.psa_type, self.mask_size = psa_type, mask_size

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[N, h * w, H, W] -> [N, H * W, H, W]; 0 for places that are not around a pixel."""
        (high, wide), (height, width) = self.mask_size, input.shape[2:]
        rows = _offsets(height, high, input.device)[:, None, :, None]
        columns = _offsets(width, wide, input.device)[None, :, None, :]
        around = (rows >= 0) & (rows < high) & (columns >= 0) & (columns < wide)
        places = torch.where(around, rows * wide + columns, 0).reshape(height * width, -1)
        found = input.flatten(2).gather(1, places.expand(len(input), -1, -1))
        found = found * around.reshape(height * width, -1)
        if self.psa_type == "distribute":
            found = found.transpose(1, 2)
        return found.reshape(len(input), -1, height, width)


def _offsets(size: int, mask: int, device: torch.device) -> torch.Tensor:
    """int64 [size, size]: place of the first index in a mask around the second."""
    places = torch.arange(size, device=device)
    return places[:, None] - places[None, :] + (mask - 1) // 2
