"""What every exchange format speaks: images with shapes, bottom first; and the registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..registry import Registry
from ..types import Bool
from .labels import Labels

if TYPE_CHECKING:
    from .archive import Source

Files = dict[str, "bytes | Path"]
"""Name in the archive -> content, or the file to copy."""

_TAG = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{12}(?![0-9A-Za-z])")
SAVE_AS_MASK = "its outline does not say which pixels belong to it: save it as a mask"


@dataclass(frozen=True)
class Shape:
    """A mask with a label, on an image.

    Args:
        label: Name of the label.
        mask: bool [h, w], the box of the shape.
        top: Row of the image under the first row of the box.
        left: Column likewise.

    Example:
        >>> Shape("car", np.ones((2, 3), bool), top=4, left=5).box
        (4, 5, 6, 8)
    """

    label: str
    mask: Bool
    top: int = 0
    left: int = 0

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right), the latter two exclusive."""
        height, width = self.mask.shape
        return self.top, self.left, self.top + height, self.left + width

    def full(self, size: tuple[int, int]) -> Bool:
        """The mask as bool [H, W] of the whole image."""
        whole = np.zeros(size, bool)
        top, left, bottom, right = self.box
        whole[top:bottom, left:right] = self.mask
        return whole


@dataclass(frozen=True)
class Picture:
    """One image of an export.

    Args:
        file: Its file name in the export, without a folder; carries the image's tag.
        size: (H, W).
        content: The file to copy, or its bytes.
        shapes: Gives the shapes, bottom first, the one that says what is asked last.

    Example:
        >>> Picture("a.png", (2, 3), b"", shapes=list).shapes()
        []
    """

    file: str
    size: tuple[int, int]
    content: bytes | Path = field(repr=False)
    shapes: Callable[[], list[Shape]] = field(repr=False)


@dataclass(frozen=True)
class Package:
    """What is exported.

    Args:
        labels: All labels.
        pictures: The images, in the order of the query.

    Example:
        >>> Package(Labels.of(["car"], [(0, 0, 142)]), ()).labels.names
        ('car', '__void__', '__ask__')
    """

    labels: Labels
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Annotated:
    """What a file of a labelling tool says about one image.

    Args:
        file: Name of the image there, with or without folders.
        size: (H, W) that the tool gives the image.
        shapes: Bottom first; may be read once.
        where: File and entry, for messages.

    Example:
        >>> Annotated("images/a.png", (2, 3), [], "a.json").shapes
        []
    """

    file: str
    size: tuple[int, int]
    shapes: Iterable[Shape]
    where: str


class ExchangeFormat(Protocol):
    """A file format of a labelling tool; constructed without arguments.

    Example:
        >>> from regional_al import exchange
        >>> list(exchange.EXCHANGE_FORMATS)
        ['coco', 'cvat', 'label-studio', 'labelme', 'supervisely', 'voc']
        >>> empty = exchange.Package(Labels.of(["car"], [(0, 0, 142)]), ())
        >>> sorted(exchange.EXCHANGE_FORMATS.build("cvat").export(empty))
        ['annotations.xml', 'labels.json']
    """

    def export(self, package: Package) -> Files:
        """The files of an export."""

    def recognises(self, source: Source) -> bool:
        """Whether files are of this format, by their names and keys."""

    def read(self, source: Source, labels: Labels) -> Iterator[Annotated]:
        """The annotated images of some files; the same image may come several times, the later
        one on top. Raises DataError."""

    def pictures(self, source: Source) -> Iterable[str]:
        """Names of the files that may be copies of the images; no masks."""
        return source.names


EXCHANGE_FORMATS: Registry[ExchangeFormat] = Registry("exchange format")


def cropped(label: str, mask: Bool) -> Shape | None:
    """The shape of a mask, bool [H, W], without empty rows and columns around; None: empty.

    Example:
        >>> cropped("car", np.array([[0, 0], [0, 1]], bool)).box
        (1, 1, 2, 2)
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    cols = np.flatnonzero(mask[top:bottom].any(axis=0))
    left, right = int(cols[0]), int(cols[-1]) + 1
    return Shape(label, np.ascontiguousarray(mask[top:bottom, left:right]), top, left)


def paint(
    shapes: Iterable[Shape], ids: Mapping[str, int], size: tuple[int, int], where: str
) -> npt.NDArray[np.uint16]:
    """Paint shapes over each other.

    Args:
        shapes: Bottom first.
        ids: Of the labels, from 1.
        size: (H, W) of the image.
        where: For messages.

    Returns:
        uint16 [H, W], 0 = nothing.

    Raises:
        DataError: A shape does not lie within the image.

    Example:
        >>> both = [Shape("a", np.ones((1, 2), bool)), Shape("b", np.ones((1, 1), bool))]
        >>> paint(both, {"a": 1, "b": 2}, (1, 3), "here").tolist()
        [[2, 1, 0]]
    """
    canvas = np.zeros(size, np.uint16)
    for shape in shapes:
        top, left, bottom, right = shape.box
        if min(top, left) < 0 or bottom > size[0] or right > size[1]:
            raise DataError(
                f"{where}: a mask of {shape.label!r} (rows {top} to {bottom - 1}, columns {left} to"
                f" {right - 1}) does not lie within the image of {size[0]} rows and {size[1]}"
                " columns"
            )
        canvas[top:bottom, left:right][shape.mask] = ids[shape.label]
    return canvas


def tags_in(text: str) -> list[str]:
    """What may be the tag of an image in a file name, a path or a URL.

    Example:
        >>> tags_in("/data/upload/1/9c01ae2f-town_01-0123456789ab.jpg")
        ['0123456789ab']
    """
    return _TAG.findall(text)


@contextmanager
def mask_of(label: str, where: str) -> Iterator[None]:
    """Turn the ValueError of a codec into a DataError that names the shape."""
    try:
        yield
    except ValueError as error:
        raise DataError(f"{where}: the mask of {label!r} {error}") from None


def rectangle(label: str, edges: Sequence[float], size: tuple[int, int]) -> Shape | None:
    """A rectangle whose edges lie between pixels.

    Args:
        label: Of the shape.
        edges: left, top, right, bottom in pixels; pixel i lies between i and i + 1.
        size: (H, W) of the image.

    Returns:
        The shape; None where an edge cuts a pixel or lies outside the image.

    Example:
        >>> rectangle("car", (1, 0, 3, 1), (4, 4)).box
        (0, 1, 1, 3)
        >>> rectangle("car", (1.5, 0, 3, 1), (4, 4)) is None
        True
    """
    near = [round(edge) for edge in edges]
    if any(abs(edge - whole) > 1e-3 for edge, whole in zip(edges, near, strict=True)):
        return None
    left, top, right, bottom = near
    if not (0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]):
        return None
    return Shape(label, np.ones((bottom - top, right - left), bool), top, left)


def refuse(where: str, kind: Any, label: Any) -> DataError:
    """The error for a shape that is no mask."""
    return DataError(
        f"{where}: a {str(kind)[:40]} of {str(label)[:80]!r} is no mask; {SAVE_AS_MASK}"
    )
