"""Export: what a waiting run asks, as files for a labelling tool."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..annotators.base import allowed_ids, checked_ids
from ..errors import DataError, WorkDirError
from ..store.files import same, stamp
from ..store.image_paths import read_image_paths
from ..store.images import image_size, is_plain, read_rgb
from ..store.lock import FolderLock
from ..store.query import query_hash
from ..types import U8, UNLABELED, Bool
from . import formats  # noqa: F401  registers them
from .archive import MANIFEST, write_zip
from .base import EXCHANGE_FORMATS, Package, Picture, Shape, cropped
from .codecs.bitmap import png_bytes
from .labels import ASK
from .manifest import Entry, Manifest, check, file_name, read, tag_of
from .run import WaitingRun, waiting_run

Prelabels = Callable[[str], "U8 | None"]
"""Key of an image -> raw ids uint8 [H, W] to start from, 255 = none; or None."""
HINT = "wait until it has ended"


def export(
    work_dir: Path | str,
    to: str,
    out: Path | None = None,
    images: Path | None = None,
    prelabels: Path | Prelabels | None = None,
) -> Path:
    """Write what a waiting run asks, and what is not answered yet, as a zip for a labelling tool.

    Args:
        work_dir: Of a run with `annotator='folder'` in state 'waiting'.
        to: Name in `EXCHANGE_FORMATS`.
        out: The zip, which must not exist; None: `rounds/NNN/exchange/<to>.zip`, replaced.
        images: Folder of the images, if they have moved since.
        prelabels: Labels to start from, shown below what is asked: a folder of `<key>.png` with
            raw ids (255 = none), or a function.

    Returns:
        The zip.

    Raises:
        RegionalALError: The run does not wait; an image is missing or has changed; the zip cannot
            be written.

    Example:
        >>> from regional_al.errors import WorkDirError
        >>> try:
        ...     export("no/such/run", "cvat")
        ... except WorkDirError as error:
        ...     print(error)
        no/such/run does not exist: give the --work-dir of a training
    """
    form = EXCHANGE_FORMATS.build(to)
    run = waiting_run(Path(work_dir))
    if out is not None and out.exists():
        raise WorkDirError(f"{out} exists: delete it, or give another --out")
    with FolderLock(run.files.root, hint=HINT).holding():
        run = waiting_run(Path(work_dir))
        package, manifest = build_package(run, images, prelabels)
        files = form.export(package)
        files[MANIFEST] = replace(manifest, to=to).to_bytes()
        kept = run.files.exchange(run.round) / MANIFEST
        earlier = read(kept)
        if earlier is not None and earlier.query == manifest.query:
            entries = {**earlier.entries, **manifest.entries}
            manifest = replace(manifest, entries=entries)
        manifest.write(kept)
        path = out or run.files.exchange(run.round) / f"{to}.zip"
        write_zip(path, files)
    return path


def build_package(
    run: WaitingRun, images: Path | None = None, prelabels: Path | Prelabels | None = None
) -> tuple[Package, Manifest]:
    """What a run asks and is not answered yet, in the terms of all formats.

    Args:
        run: The run.
        images: See `export`.
        prelabels: See `export`.

    Returns:
        The images with their shapes, and what identifies them.

    Raises:
        DataError: An image is missing or has changed.
        WorkDirError: Everything is answered.
    """
    start = _from_folder(run, prelabels) if isinstance(prelabels, Path) else prelabels
    query = query_hash(run.query)
    paths = read_image_paths(run.files.images(run.round)) if images is None else {}
    found = _by_key(images) if images is not None else {}
    pictures, entries = [], {}
    for key in run.outstanding:
        asked = run.query.asked(key) > 0
        size = (int(asked.shape[0]), int(asked.shape[1]))
        if not (asked & (run.answered(key, size) == UNLABELED)).any():
            continue
        path = found.get(key) if images is not None else paths.get(key)
        content, sha256, suffix = _image(run, key, path, size, images)
        tag = tag_of(query, key, sha256)
        file = file_name(key, tag, suffix)
        entries[tag] = Entry(key, file, size, sha256)
        pictures.append(Picture(file, size, content, _shapes_of(run, key, size, start)))
    if not pictures:
        raise WorkDirError(
            f"{run.files.root}: all that round {run.round} asks is answered: resume the run"
        )
    manifest = Manifest(query, run.labels.names, entries, round=run.round)
    check(manifest, query, run.labels, MANIFEST)
    return Package(run.labels, pictures), manifest


def _shapes_of(
    run: WaitingRun, key: str, size: tuple[int, int], start: Prelabels | None
) -> Callable[[], list[Shape]]:
    """The shapes of an image, made when they are needed: one for each label, then what is asked."""

    def shapes() -> list[Shape]:
        asked: Bool = run.query.asked(key) > 0
        answered = run.answered(key, size)
        open_: Bool = asked & (answered == UNLABELED)
        numbers = np.where(asked, run.label_numbers()[answered], np.uint16(0))
        given = None if start is None else start(key)
        if given is not None:
            if given.shape != size or given.dtype != np.uint8:
                raise DataError(
                    f"pre-labels of {key!r} are {given.dtype} {given.shape}, not uint8 {size}"
                )
            known = np.where(run.space.trainable, run.label_numbers(), np.uint16(0))
            numbers = np.where(open_, known[given], numbers)
        return [*shapes_of_map(numbers, run.labels.names), *_some(cropped(ASK, open_))]

    return shapes


def shapes_of_map(numbers: npt.NDArray[np.uint16], names: tuple[str, ...]) -> list[Shape]:
    """One shape for each label of a map.

    Args:
        numbers: uint16 [H, W], 0 = none, i = label `names[i - 1]`.
        names: Of the labels.

    Returns:
        The shapes, by number.

    Example:
        >>> [shape.label for shape in shapes_of_map(np.array([[2, 0, 1]], np.uint16), ("a", "b"))]
        ['a', 'b']
    """
    present = np.flatnonzero(np.bincount(numbers.ravel(), minlength=1)[1:]) + 1
    return [s for n in present for s in _some(cropped(names[n - 1], numbers == n))]


def _some(shape: Shape | None) -> list[Shape]:
    return [] if shape is None else [shape]


def _image(
    run: WaitingRun, key: str, path: Path | None, size: tuple[int, int], images: Path | None
) -> tuple[bytes | Path, str, str]:
    """Content of an image in the export, its SHA-256 and its suffix. A photo that is turned by its
    EXIF orientation is written upright, since tools disagree about the orientation; what Pillow
    cannot read is written as people see it."""
    if path is None or not path.is_file():
        where = f"in {images}" if images is not None else f"at {path}" if path else "known here"
        raise DataError(
            f"the image of {key!r} is not {where}: give the folder of the images with --images"
        )
    recorded = run.stamps.get((key, "image"))
    if recorded is not None and not same(recorded, stamp(path)):
        raise DataError(f"{path} changed after {run.files.root} was started: restore the image")
    if image_size(path) != size:
        raise DataError(
            f"{path} is {image_size(path)} (height, width), it was asked about at {size}"
        )
    if not is_plain(path):
        data = png_bytes(read_rgb(path))
        return data, hashlib.sha256(data).hexdigest(), ".png"
    return path, hashlib.sha256(path.read_bytes()).hexdigest(), path.suffix


def _by_key(images: Path) -> Mapping[str, Path]:
    """The files of a folder, by path below it without suffix."""
    if not images.is_dir():
        raise DataError(f"--images {images} is not a folder")
    return {
        path.relative_to(images).with_suffix("").as_posix(): path
        for path in sorted(images.rglob("*"))
        if path.is_file()
    }


def _from_folder(run: WaitingRun, folder: Path) -> Prelabels:
    if not folder.is_dir():
        raise DataError(f"--prelabels {folder} is not a folder")

    def labels(key: str) -> U8 | None:
        path = folder / f"{key}.png"
        if not path.exists():
            return None
        shape = run.query.asked(key).shape
        return checked_ids(path, (int(shape[0]), int(shape[1])), allowed_ids(run.space))

    return labels
