"""Masks of another kind as index masks, in a new folder beside them; nothing is overwritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..runtime.progress import progress
from ..store.images import image_size, temporary_name, write_png
from ..types import UNLABELED
from .layout import Layout
from .masks import RGB, Masks, read_codes, translated

SUFFIX = "_ids"


def new_folders(layout: Layout) -> dict[Path, Path]:
    """Where index masks of a layout go: `masks_ids` beside `masks`.

    Args:
        layout: With masks.

    Returns:
        Old folder -> new folder.

    Example:
        >>> from regional_al.scaffold.layout import Split
        >>> split = Split(Path("d/images/train"), Path("d/masks/train"), ("a",))
        >>> new = new_folders(Layout(Path("d"), ".jpg", ".png", split, None))
        >>> [path.as_posix() for path in new.values()]
        ['d/masks/train_ids']
    """
    folders = {split.masks for split in layout.splits() if split.masks is not None}
    if len(folders) > 1:  # d/masks/train, d/masks/val -> d/masks_ids/train, ...
        shared = Path(os.path.commonpath(folders))
        if shared not in folders | {layout.root, Path(shared.anchor)}:
            beside = shared.with_name(shared.name + SUFFIX)
            return {folder: beside / folder.relative_to(shared) for folder in folders}
    return {folder: folder.with_name(folder.name + SUFFIX) for folder in folders}


def convert(layout: Layout, masks: Masks, table: Mapping[int | RGB, int]) -> Layout:
    """Write the masks of a layout as PNG files of ids.

    Args:
        layout: With masks.
        masks: What they contain.
        table: Value -> id 0..C-1, or 255.

    Returns:
        The layout with the new masks.

    Raises:
        DataError: A mask cannot be read or has a value that the table has not, or a new folder is
            there already with other contents; nothing has been written then.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.scaffold import look, recognise
        >>> from regional_al.store.images import read_ids
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("images/a.png", "masks/a.png"):
        ...         write_png(Path(folder) / name, np.array([[0, 255]], np.uint8))
        ...     layout = look(Path(folder))
        ...     new = convert(layout, recognise(layout.all_masks()), {0: 0, 255: 1})
        ...     read_ids(new.all_masks()[0]).tolist()
        [[0, 1]]
    """
    codes = {masks.code(value): index for value, index in table.items()}
    folders = new_folders(layout)
    written: dict[Path, Path] = {}
    new = layout.with_masks(folders, ".png")
    try:
        for split, after in zip(layout.splits(), new.splits(), strict=True):
            if split.masks is None or after.masks is None or not split.names:
                continue
            temporary = written.setdefault(after.masks, temporary_name(after.masks))
            for name in progress(split.names, f"writing {after.masks.name}"):
                path = layout.mask(split, name)
                ids = translated(read_codes(path)[0], codes, path)
                write_png(temporary / f"{name}.png", ids)
        for folder, temporary in written.items():
            if folder.exists() and not _same(temporary, folder):
                raise DataError(
                    f"{folder} is there already, with other files than the index masks of this "
                    "data: move it away, or give the masks that are to be used by --masks"
                )
        for folder, temporary in written.items():
            if not folder.exists():
                os.replace(temporary, folder)
    finally:
        for temporary in written.values():
            shutil.rmtree(temporary, ignore_errors=True)
    return new


def blank(layout: Layout, names: tuple[str, ...], folder: Path) -> None:
    """Write masks that say nothing, 255 everywhere; those that are there already stay.

    Args:
        layout: Of the images.
        names: Images of its validation split.
        folder: Where the masks go.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.scaffold import look
        >>> from regional_al.store.images import read_ids
        >>> with TemporaryDirectory() as folder:
        ...     write_png(Path(folder) / "a.png", np.zeros((1, 2), np.uint8))
        ...     blank(look(Path(folder)), ("a",), Path(folder) / "new")
        ...     read_ids(Path(folder) / "new" / "a.png").tolist()
        [[255, 255]]
    """
    split = layout.val or layout.train
    for name in names:
        path = folder / f"{name}.png"
        if not path.exists():
            size = image_size(layout.image(split, name))
            write_png(path, np.full(size, UNLABELED, dtype=np.uint8))


def _same(new: Path, old: Path) -> bool:
    """Whether two folders have the same files."""
    if not old.is_dir():
        return False
    mine = {path.relative_to(new): path for path in new.rglob("*") if path.is_file()}
    there = {path.relative_to(old): path for path in old.rglob("*") if path.is_file()}
    return set(mine) == set(there) and all(
        mine[name].read_bytes() == there[name].read_bytes() for name in mine
    )
