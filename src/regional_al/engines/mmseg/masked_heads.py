"""What heads with losses of their own derive from label maps, as far as sparse labels say it. Only
torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...types import UNLABELED


class PresentClasses:
    """Mixin for mmseg's EncHead, whose semantic encoding loss learns which classes an image holds:
    a class without a label is unknown in an image that has unlabelled pixels."""

    @staticmethod
    def _convert_to_onehot_labels(seg_label: torch.Tensor, num_classes: int) -> torch.Tensor:
        """Labels [N, ...] -> int64 [N, num_classes]: 1 present, 0 absent, 255 unknown."""
        return classes_present(seg_label, num_classes)


def classes_present(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Which classes images hold, as far as their labels say.

    Args:
        label: int64 [N, ...], 255 = unlabelled.
        num_classes: C.

    Returns:
        int64 [N, C]: 1 = present; 0 = absent, of images without an unlabelled pixel; 255 = unknown.

    Example:
        >>> classes_present(torch.tensor([[0, 0, 2], [0, 1, 255]]), 3).tolist()
        [[1, 0, 1], [1, 1, 255]]
    """
    found = []
    for one in label.flatten(1):
        absent = UNLABELED if bool((one == UNLABELED).any()) else 0
        present = torch.bincount(one.clamp(0, UNLABELED), minlength=num_classes)[:num_classes] > 0
        found.append(torch.where(present, 1, absent))
    return torch.stack(found).long()


def unknown_details(label: torch.Tensor) -> torch.Tensor:
    """Where STDC's detail target depends on an unlabelled pixel.

    The target is 1 where the 3x3 Laplacian of the label map, taken at strides 1, 2 and 4, sees a
    border.

    Args:
        label: [N, 1, H, W], 255 = unlabelled.

    Returns:
        bool [N, 1, H, W]: the pixel itself or one that any of the three looks at is unlabelled.

    Example:
        >>> label = torch.zeros(1, 1, 1, 12)
        >>> label[..., 0] = 255
        >>> unknown_details(label).flatten().int().tolist()
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    unlabelled = (label == UNLABELED).float()
    found = unlabelled
    for stride in (1, 2, 4):
        seen = F.max_pool2d(unlabelled, 3, stride, padding=1)
        found = torch.maximum(found, F.interpolate(seen, label.shape[2:], mode="nearest"))
    return found > 0
