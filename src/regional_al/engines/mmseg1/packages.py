"""Packages that some families of MMSegmentation 1.x need besides: which, and how to install them.
Imports no mm* package."""

from __future__ import annotations

FAMILIES = {
    "mmpretrain": ("convnext", "poolformer"),
    "mmdet": ("maskformer", "mask2former"),
}
"""Package -> families of configs that need it."""
EXTRA = "models"
"""The extra of this package that brings them, from the maintained forks."""
VISION_MAJOR, VISION_AHEAD = 0, 15
"""torchvision 0.(n + 15) belongs to torch 2.n."""


def commands(torch: str, forked: bool) -> dict[str, str]:
    """Package -> how to install it beside the mmseg that is there.

    Args:
        torch: Version of torch.
        forked: Whether mmseg is that of the maintained forks.

    Example:
        >>> commands("2.13.0+cpu", True)["mmdet"]
        'pip install onedl-mmdetection==3.5.1; on a GPU also onedl-mmcv with its compiled operators'
    """
    fork = "onedl-" if forked else ""
    pretrain, detection = ("1.3.6", "3.5.1") if forked else ("1.2.0", "3.3.0")
    minor = int(torch.split(".")[1])
    vision = f"'torchvision=={VISION_MAJOR}.{minor + VISION_AHEAD}.*' (of the same build as torch)"
    return {
        "dsdl": "pip install dsdl==0.1.10.11",
        "mmpretrain": f"pip install {fork}mmpretrain=={pretrain} {vision}",
        "mmdet": f"pip install {fork}mmdet{'ection' if forked else ''}=={detection}; on a GPU also "
        f"{fork}mmcv with its compiled operators",
    }
