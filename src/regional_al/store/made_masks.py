"""Masks that a run makes of the images of a round: PNGs, each with what it was made from.

That stands in the text chunk `made_from` of the PNG, so that a run that was killed while it made
them keeps those that are right and makes the others. They may be deleted.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..types import U8
from .images import open_image, replacing
from .keys import check_key
from .outside import check_file

_TEXT = "made_from"


class MadeMasks:
    """A folder of such masks. Cheap to construct.

    Args:
        root: The folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     masks = MadeMasks(Path(folder))
        ...     masks.write_mask("town/01", np.array([[7, 255]], np.uint8), "model and answers")
        ...     masks.read_mask("town/01").tolist(), masks.made_from("town/01")
        ([[7, 255]], 'model and answers')
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, key: str) -> Path:
        """The file of an image, which need not exist."""
        check_key(key)
        return self.root / f"{key}.png"

    def read_mask(self, key: str) -> U8 | None:
        """uint8 [H, W]; None: there is no file.

        Raises:
            DataError: It is damaged.
        """
        path = self.path(key)
        check_file(path, self.root)
        if not path.exists():
            return None
        with open_image(path) as image:
            found = np.array(image)
        if found.ndim != 2 or found.dtype != np.uint8:
            raise DataError(f"{path} is damaged: it is not a mask. Delete it, it is made again")
        return found

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

    def write_mask(self, key: str, mask: U8, made_from: str) -> None:
        """Write the mask of an image, atomically.

        Args:
            key: Of the image.
            mask: uint8 [H, W].
            made_from: Tells masks of other answers and models apart.
        """
        from PIL import Image, PngImagePlugin

        info = PngImagePlugin.PngInfo()
        data = io.BytesIO()
        info.add_text(_TEXT, made_from)
        Image.fromarray(mask).save(data, "PNG", pnginfo=info, compress_level=1)
        with replacing(self.path(key)) as temporary:
            temporary.write_bytes(data.getvalue())
