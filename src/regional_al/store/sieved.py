"""Which answered pixels a training leaves out: one mask per image, written by the run.

`rounds/003/sieved/<key>.png` is 255 where the training of round 3 leaves out a pixel, else 0. What
it was made from stands in the text chunk `made_from` of the PNG, so that a run that was killed
while it made them keeps those that are right and makes the others. They may be deleted.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..types import Bool
from .images import open_image, replacing
from .keys import check_key
from .outside import check_file

_TEXT = "made_from"


class SievedPixels:
    """The masks of one round. Cheap to construct.

    Args:
        root: Their folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     sieved = SievedPixels(Path(folder) / "sieved")
        ...     sieved.write("town/01", np.array([[True, False]]), "model and answers")
        ...     sieved.read("town/01").tolist(), sieved.made_from("town/01"), sieved.read("b")
        ([[True, False]], 'model and answers', None)
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, key: str) -> Path:
        """The file of an image, which need not exist."""
        check_key(key)
        return self.root / f"{key}.png"

    def read(self, key: str) -> Bool | None:
        """bool [H, W], True where a pixel is left out; None: there is no file.

        Raises:
            DataError: It is damaged.
        """
        path = self.path(key)
        check_file(path, self.root)
        if not path.exists():
            return None
        with open_image(path) as image:
            found = np.array(image)
        if found.ndim != 2:
            raise DataError(f"{path} is damaged: it is not a mask. Delete it, it is made again")
        return np.asarray(found > 0)

    def made_from(self, key: str) -> str:
        """What the file of an image was made from; empty where there is no sound one."""
        path = self.path(key)
        check_file(path, self.root)
        if not path.exists():
            return ""
        try:
            with open_image(path) as image:
                image.load()
                return str(getattr(image, "text", {}).get(_TEXT, ""))
        except DataError:  # it is made again
            return ""

    def write(self, key: str, left_out: Bool, made_from: str) -> None:
        """Write the mask of an image, atomically.

        Args:
            key: Of the image.
            left_out: bool [H, W].
            made_from: Tells masks of other answers and models apart.
        """
        from PIL import Image, PngImagePlugin

        info = PngImagePlugin.PngInfo()
        data = io.BytesIO()
        info.add_text(_TEXT, made_from)
        pixels = np.where(left_out, np.uint8(255), np.uint8(0))
        Image.fromarray(pixels).save(data, "PNG", pnginfo=info, compress_level=1)
        with replacing(self.path(key)) as temporary:
            temporary.write_bytes(data.getvalue())
