"""A toy model and engine over a folder of images: the loop end to end in seconds, without mm*."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..engines.torch import TorchEngine
from ..store.images import image_size
from ..types import LabelSpace, PoolItem
from . import streets

__all__ = ["ToyNet", "pool_items", "toy_engine"]


class ToyNet(nn.Module):
    """Two convolutions, dropout and a 1x1 head; [N, 3, H, W] -> logits [N, C, H, W], full size.

    Args:
        num_classes: C.
        width: Channels of the convolutions.
        dropout: Share of the channels that dropout sets to 0, 0..1.

    Example:
        >>> ToyNet(num_classes=3)(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 3, 8, 8])
    """

    def __init__(self, num_classes: int, width: int = 12, dropout: float = 0.1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, num_classes, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(images)
        return logits


def pool_items(root: Path, split: str) -> list[PoolItem]:
    """Images of `root/images/<split>`, annotations `root/annotations/<split>/<stem>.png`.

    Args:
        root: The folder.
        split: 'train' or 'val'.

    Returns:
        One item per image, by name; without annotation where there is no such file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     root = streets.generate(Path(folder), train=2, val=1, size=(32, 32))
        ...     [item.shape for item in pool_items(root, "train")]
        [(32, 32), (32, 32)]
    """
    items = []
    for image in sorted((root / "images" / split).iterdir()):
        annotation = root / "annotations" / split / f"{image.stem}.png"
        found = annotation if annotation.exists() else None
        items.append(PoolItem(image.stem, image, found, image_size(image)))
    return items


def toy_engine(
    root: Path, label_space: LabelSpace | None = None, iterations: int = 6, lr: float = 1e-2
) -> TorchEngine:
    """A `TorchEngine` with a `ToyNet` over a folder as `testing.streets.generate` writes it.

    Args:
        root: Folder with `images/{train,val}` and `annotations/{train,val}`.
        label_space: Meaning of the ids; default: the classes of `testing.streets`.
        iterations: Length of one training.
        lr: Learning rate.

    Returns:
        The engine; `regional_al.run` takes it.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     root = streets.generate(Path(folder), train=2, val=1, size=(32, 32))
        ...     len(toy_engine(root).pool)
        2
    """
    space = label_space or LabelSpace.plain(streets.CLASSES, streets.PALETTE)
    return TorchEngine(
        build_model=lambda: ToyNet(space.num_classes),
        pool=pool_items(root, "train"),
        val=pool_items(root, "val"),
        label_space=space,
        iterations=iterations,
        lr=lr,
    )
