"""Which answered pixels a training leaves out: one mask per image, written by the run.

`rounds/003/sieved/<key>.png` is 255 where the training of round 3 leaves out a pixel, else 0.
"""

from __future__ import annotations

import numpy as np

from ..types import Bool
from .made_masks import MadeMasks


class SievedPixels(MadeMasks):
    """The masks of one round.

    Args:
        root: Their folder.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     sieved = SievedPixels(Path(folder) / "sieved")
        ...     sieved.write("town/01", np.array([[True, False]]), "model and answers")
        ...     sieved.read("town/01").tolist(), sieved.made_from("town/01"), sieved.read("b")
        ([[True, False]], 'model and answers', None)
    """

    def read(self, key: str) -> Bool | None:
        """bool [H, W], True where a pixel is left out; None: there is no file.

        Raises:
            DataError: It is damaged.
        """
        found = self.read_mask(key)
        return None if found is None else np.asarray(found > 0)

    def write(self, key: str, left_out: Bool, made_from: str) -> None:
        """Write the mask of an image, bool [H, W]; see `MadeMasks.write_mask`."""
        self.write_mask(key, np.where(left_out, np.uint8(255), np.uint8(0)), made_from)
