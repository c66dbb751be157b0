"""Labels that the model of the round before gives pixels of regions of which only the classes are
known: one map per image, written by the run.

`rounds/003/pseudo/<key>.png` has raw ids for the training of round 3, 255 = no pseudo label.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..types import U8, UNLABELED, ClassSets
from .made_masks import MadeMasks


class PseudoLabels(MadeMasks):
    """The maps of one round.

    Args:
        root: Their folder.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     pseudo = PseudoLabels(Path(folder) / "pseudo")
        ...     pseudo.write("town/01", np.array([[7, 7, 255]], np.uint8), "model and answers")
        ...     pseudo.read("town/01").tolist(), pseudo.pixels(["town/01", "b"])
        ([[7, 7, 255]], 2)
    """

    def read(self, key: str) -> U8 | None:
        """Raw ids uint8 [H, W], 255 = none; None: there is no file. Raises DataError."""
        return self.read_mask(key)

    def write(self, key: str, labels: U8, made_from: str) -> None:
        """Write the map of an image, raw ids uint8 [H, W]; see `MadeMasks.write_mask`."""
        self.write_mask(key, labels, made_from)

    def pixels(self, keys: Iterable[str]) -> int:
        """How many pixels of these images have a pseudo label."""
        found = (self.read(key) for key in keys)
        return sum(int(np.count_nonzero(one != UNLABELED)) for one in found if one is not None)


def sets_without(sets: ClassSets | None, pseudo: U8 | None) -> ClassSets | None:
    """The regions of which only the classes are known, without those that have pseudo labels.

    Args:
        sets: Of an image; None: there are none.
        pseudo: Raw ids uint8 [H, W], 255 = none; None: none anywhere.

    Returns:
        The others, numbered anew in their order; None: there are none.

    Example:
        >>> sets = ClassSets(np.array([[1, 1, 2]], np.int32), ((0, 7), (1, 3)))
        >>> left = sets_without(sets, np.array([[255, 7, 255]], np.uint8))
        >>> left.regions.tolist(), left.classes
        ([[0, 0, 1]], ((1, 3),))
    """
    if sets is None or pseudo is None:
        return sets
    kept = np.ones(len(sets.classes) + 1, np.bool_)
    kept[sets.regions[pseudo != UNLABELED]] = False
    kept[0] = False
    if not kept.any():
        return None
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    classes = tuple(one for one, keep in zip(sets.classes, kept[1:], strict=True) if keep)
    return ClassSets(np.asarray(numbers[sets.regions]), classes)
