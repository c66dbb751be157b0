"""What an export was made of: the query, the labels, and for each image a tag in its file name.

Every labelling tool returns the name of an image, few return anything else. The tag there, twelve
digits of a hash of query, key and content, tells an import which image of which query it reads,
also from files that the tool wrote without our manifest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError
from ..store import reading
from ..store.images import replacing
from ..store.reading import Reader
from ..types import JSON
from .archive import MANIFEST, Source
from .base import tags_in
from .labels import Labels, plain

FORMAT = 1
_ODD = re.compile(r"[\s\\/:*?\"'<>|%&#;,+=]+")
_LONGEST = 80  # bytes of the readable part of a file name


@dataclass(frozen=True)
class Entry:
    """An image of an export.

    Args:
        key: Of the image.
        file: Its name in the export.
        size: (H, W).
        sha256: Of the file.
    """

    key: str
    file: str
    size: tuple[int, int]
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What one or several exports of a query contain.

    Args:
        query: Hash of the query.
        labels: Names of all labels.
        entries: Tag -> image.
        to: Name of the format; '' in the work dir.
        round: Of the query, for messages.
    """

    query: str
    labels: tuple[str, ...]
    entries: Mapping[str, Entry] = field(default_factory=dict)
    to: str = ""
    round: int = 0

    def find(self, file: str, where: str) -> Entry:
        """The image with a file name.

        Args:
            file: Its name, with whatever a tool has added.
            where: For messages.

        Returns:
            The image.

        Raises:
            DataError: It has no tag, or that of another query.
        """
        tags = tags_in(file)
        for tag in reversed(tags):
            if tag in self.entries:
                return self.entries[tag]
        if not tags:
            raise DataError(
                f"{where}: no tag in the image's name {file[-100:]!r}: keep the names of the export"
            )
        raise DataError(
            f"{where}: {file[-100:]!r} was exported for another query, run or version of the image"
        )

    def to_bytes(self) -> bytes:
        """As JSON."""
        classes = len(self.labels) - 2
        content: JSON = {
            "format": FORMAT,
            "to": self.to,
            "round": self.round,
            "query": self.query,
            "labels": [
                {"id": i + 1, "name": name, "class": i if i < classes else None}
                for i, name in enumerate(self.labels)
            ],
            "images": {
                tag: {
                    "key": entry.key,
                    "file": entry.file,
                    "height": entry.size[0],
                    "width": entry.size[1],
                    "sha256": entry.sha256,
                }
                for tag, entry in sorted(self.entries.items())
            },
        }
        return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"

    def write(self, path: Path) -> None:
        """To a file, atomically."""
        with replacing(path) as temporary:
            temporary.write_bytes(self.to_bytes())


def parse(content: Any, where: str) -> Manifest:
    """Inverse of `Manifest.to_bytes`, from the JSON in it. Raises DataError."""
    get = Reader(content, where)
    if get("format", reading.integer) != FORMAT:
        raise DataError(f"{where}: format {content['format']}, this version reads {FORMAT}")
    entries: dict[str, Entry] = {}
    for tag, item in get("images", reading.mapping).items():
        one = Reader(item, f"{where}: images: {tag[:20]!r}")
        size = (one("height", reading.integer), one("width", reading.integer))
        texts = (one(name, reading.text) for name in ("key", "file", "sha256"))
        key, file, sha256 = texts
        entries[tag] = Entry(key, file, size, sha256)
    labels = get("labels", reading.list_of(reading.mapping))
    names = tuple(Reader(item, f"{where}: labels")("name", reading.text) for item in labels)
    round_ = get("round", reading.integer, 0)
    return Manifest(get("query", reading.text), names, entries, get("to", reading.text, ""), round_)


def read(path: Path) -> Manifest | None:
    """The manifest in a file; None: there is no such file. Raises DataError."""
    if not path.is_file():
        return None
    return parse(reading.read_json(path), str(path))


def inside(source: Source) -> Manifest | None:
    """The manifest among files to import; None: there is none. Raises DataError."""
    names = [name for name in source.names if PurePosixPath(name).name == MANIFEST]
    return parse(source.json(names[0]), source.where(names[0])) if names else None


def check(found: Manifest, query: str, labels: Labels, where: str) -> None:
    """Raise DataError, naming what differs, unless a manifest is of this query and its classes."""
    for mine, theirs in zip(labels.names, found.labels, strict=False):
        if mine != theirs:
            raise DataError(
                f"{where} was exported with class {theirs!r} where this run has {mine!r}"
            )
    if len(found.labels) != len(labels.names):
        count = len(found.labels) - 2
        raise DataError(f"{where} was exported with {count} classes, not {labels.num_classes}")
    if found.query != query:
        raise DataError(
            f"{where} was exported for another query (of round {found.round}): import the answers "
            "to the one that the run waits for"
        )
    for tag, entry in found.entries.items():
        if tag != tag_of(query, entry.key, entry.sha256):
            raise DataError(f"{where}: the entry of {entry.key!r} has been changed")


def tag_of(query: str, key: str, sha256: str) -> str:
    """The tag of an image in the export of a query.

    Args:
        query: Hash of the query.
        key: Of the image.
        sha256: Of its file in the export.

    Returns:
        Twelve hexadecimal digits.

    Example:
        >>> len(tag_of("q", "town/01", "0"))
        12
    """
    return hashlib.sha256(f"{query}\0{key}\0{sha256}".encode()).hexdigest()[:12]


def file_name(key: str, tag: str, suffix: str) -> str:
    """File name of an image in an export: readable, without folders, ending with the tag.

    Example:
        >>> file_name("town/01 a", "0123456789ab", ".JPG")
        'town_01_a-0123456789ab.jpg'
    """
    text = _ODD.sub("_", plain(key)).strip("._-")
    short = text.encode()[:_LONGEST].decode(errors="ignore")
    return f"{short or 'image'}-{tag}{suffix.lower()}"
