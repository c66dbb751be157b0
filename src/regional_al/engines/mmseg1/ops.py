"""What mmcv without compiled operators still needs to import: a stand-in for its extension, and
operators written in plain torch.

`import mmcv.ops` fails as a whole where `mmcv._ext` is missing, and whatever imports it (mmdet,
some heads of mmseg) fails with it, although many operators are plain torch. With a stand-in the
import succeeds; calling an operator that is compiled raises an error that says so.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

EXTENSION = "mmcv._ext"
USERS = (
    ("point_sample", "mmseg.models.utils.point_sample"),
    ("point_sample", "mmseg.models.decode_heads.point_head"),
    ("point_sample", "mmseg.models.decode_heads.san_head"),
    ("point_sample", "mmseg.utils.mask_classification"),
    ("CrissCrossAttention", "mmseg.models.decode_heads.cc_head"),
    ("PSAMask", "mmseg.models.decode_heads.psa_head"),
)
"""(name of an operator that needs nothing compiled, module of mmseg that imports it)."""


class NotCompiled(ModuleNotFoundError):
    """A compiled operator was called where there is none; the class that mmcv expects."""


class StandIn(ModuleType):
    """A module in which every operator is a function that raises `NotCompiled`.

    Example:
        >>> StandIn("mmcv._ext").nms(1, 2)
        Traceback (most recent call last):
        regional_al.engines.mmseg1.ops.NotCompiled: nms is a compiled operator of mmcv, ...
    """

    @staticmethod
    def get_compiler_version() -> str:
        """For mmcv's report of the environment."""
        return "n/a"

    get_compiling_cuda_version = get_compiler_version

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> Any:
            raise NotCompiled(
                f"{name} is a compiled operator of mmcv, which is installed without them: install "
                "an mmcv with compiled operators, or use a model that needs none"
            )

        return missing


def compiled() -> bool:
    """Whether mmcv has its extension; mmcv is not imported."""
    spec = importlib.util.find_spec("mmcv")
    folders = spec.submodule_search_locations if spec else None
    return any(file for folder in folders or () for file in Path(folder).glob("_ext*"))


def stand_in() -> None:
    """Make `import mmcv.ops` succeed where mmcv has no extension; before mmseg is imported."""
    if EXTENSION not in sys.modules and not compiled():
        module = StandIn(EXTENSION)
        module.__spec__ = ModuleSpec(EXTENSION, loader=None)  # which mmcv asks for
        sys.modules[EXTENSION] = module


def provide() -> None:
    """Where mmcv has no extension, give mmseg's modules the operators that need nothing compiled:
    the one written here, and what they lack that were imported before `stand_in`."""
    if not isinstance(sys.modules.get(EXTENSION), StandIn):
        return
    ops = importlib.import_module("mmcv.ops")
    for name, user in USERS:
        try:
            module = importlib.import_module(user)
        except ImportError:  # another release of mmseg
            continue
        if name == PSAMask.__name__:
            setattr(module, name, PSAMask)
        elif getattr(module, name, ...) is None:
            setattr(module, name, getattr(ops, name))


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
