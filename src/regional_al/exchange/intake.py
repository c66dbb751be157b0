"""Import: from the files of a labelling tool to the answers that a waiting run reads.

Everything is read and checked before the first file is written. An import answers pixels where
something is asked and the top shape is a class or void; it replaces earlier answers there alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import DataError
from ..store.images import is_temporary, open_image, replace_all
from ..store.lock import FolderLock
from ..store.query import query_hash
from ..types import U8, UNLABELED, Bool
from . import formats  # noqa: F401  registers them
from . import manifest as manifests
from .archive import MANIFEST, Source
from .base import EXCHANGE_FORMATS, Annotated, ExchangeFormat, paint
from .codecs.bitmap import png_bytes
from .manifest import Manifest
from .package import HINT
from .run import WaitingRun, waiting_run


@dataclass(frozen=True)
class Imported:
    """What an import has done.

    Args:
        images: Images with an answer in the files.
        pixels: Pixels answered in them.
        incomplete: Images of the query that are not completely answered now.
        asked: Images of the query.
        ignored: Images in the files that had a complete answer before, which stays.
        answers: Folder with the answers.

    Example:
        >>> Imported(1, 64, incomplete=0, asked=3, ignored=0, answers=Path("answers")).pixels
        64
    """

    images: int
    pixels: int
    incomplete: int
    asked: int
    ignored: int
    answers: Path


def import_answers(
    work_dir: Path | str, files: Sequence[Path], form: str | None = None
) -> Imported:
    """Take over answers from the files of a labelling tool; the run collects them when it resumes.

    Args:
        work_dir: Of a run with `annotator='folder'` in state 'waiting'.
        files: Zips and folders, one after another; other files belong together and come last.
        form: Name in `EXCHANGE_FORMATS`; None: recognised.

    Returns:
        What has been imported.

    Raises:
        RegionalALError: The files are not of this query, its images and classes, or cannot be
            read; nothing has been written then.

    Example:
        >>> from regional_al.errors import WorkDirError
        >>> try:
        ...     import_answers("no/such/run", [Path("answers.zip")])
        ... except WorkDirError as error:
        ...     print(error)
        no/such/run does not exist: give the --work-dir of a training
    """
    if form is not None:
        EXCHANGE_FORMATS.get(form)
    run = waiting_run(Path(work_dir))
    with FolderLock(run.files.root, hint=HINT).holding():
        run = waiting_run(Path(work_dir))
        query = query_hash(run.query)
        kept = manifests.read(run.files.exchange(run.round) / MANIFEST)
        if kept is not None and (kept.query, kept.labels) != (query, run.labels.names):
            kept = None
        intake = _Intake(run)
        for source in Source.open(files):
            manifest = _manifest(run, query, kept, source)
            name = form or _recognised(source, manifests.inside(source))
            intake.take(source, manifest, EXCHANGE_FORMATS.build(name))
        intake.store()
        return intake.summary()


class _Intake:
    """Answers that are not written yet: as bytes of PNG files, so that many images fit."""

    def __init__(self, run: WaitingRun) -> None:
        self.run, self.raw = run, run.raw_ids()
        self.answers: dict[str, bytes] = {}
        self.said: dict[str, U8] = {}  # packed bits of the pixels that the files answer
        self.ignored: set[str] = set()

    def take(self, source: Source, manifest: Manifest, reader: ExchangeFormat) -> None:
        """Read one source, on top of those before."""
        _check_pictures(source, manifest, reader)
        for annotated in reader.read(source, self.run.labels):
            self._add(annotated, manifest)

    def _add(self, annotated: Annotated, manifest: Manifest) -> None:
        where, size = annotated.where, annotated.size
        entry = manifest.find(annotated.file, where)
        asked: Bool = self.run.query.asked(entry.key) > 0
        if not size == entry.size == asked.shape:
            raise DataError(
                f"{where} is {size[1]} x {size[0]} pixels, the exported image "
                f"{asked.shape[1]} x {asked.shape[0]}: label the exported image"
            )
        canvas = np.where(asked, paint(annotated.shapes, self.run.labels.ids, size, where), 0)
        given = self.raw[canvas]
        said: Bool = given != UNLABELED
        if entry.key not in self.run.outstanding:
            self.ignored.add(entry.key)
        elif said.any():
            self.answers[entry.key] = png_bytes(np.where(said, given, self._now(entry.key, size)))
            bits, before = np.packbits(said), self.said.get(entry.key)
            self.said[entry.key] = bits if before is None else bits | before

    def _now(self, key: str, size: tuple[int, int]) -> U8:
        """The answers so far, those of this import included."""
        if key not in self.answers:
            return self.run.answered(key, size)
        with open_image(Path(key), self.answers[key]) as image:
            return np.array(image)

    def store(self) -> None:
        """Write all answers or, when one cannot be written, none. After a kill in between, images
        have their earlier answer or the new one, and the same import ends the work."""
        if self.run.answers.is_relative_to(self.run.files.root):  # nobody else writes here now
            for path in self.run.answers.rglob("*"):
                if is_temporary(path.name):
                    path.unlink(missing_ok=True)
        replace_all({self.run.answer_path(key): data for key, data in self.answers.items()})

    def summary(self) -> Imported:
        """What has been stored."""
        incomplete = 0
        for key in self.run.outstanding:
            asked = self.run.query.asked(key) > 0
            size = (int(asked.shape[0]), int(asked.shape[1]))
            incomplete += bool((asked & (self.run.answered(key, size) == UNLABELED)).any())
        return Imported(
            images=len(self.answers),
            pixels=sum(int(np.unpackbits(bits).sum()) for bits in self.said.values()),
            incomplete=incomplete,
            asked=len(self.run.query.image_keys()),
            ignored=len(self.ignored),
            answers=self.run.answers,
        )


def _manifest(run: WaitingRun, query: str, kept: Manifest | None, source: Source) -> Manifest:
    """What identifies the images of a source: its own manifest, or what the run has exported."""
    own = manifests.inside(source)
    if own is not None:
        manifests.check(own, query, run.labels, f"{source.title}: {MANIFEST}")
        keys = set(run.query.image_keys())
        for entry in own.entries.values():
            if entry.key not in keys:
                raise DataError(f"{source.title}: {MANIFEST}: {entry.key!r} is not asked about")
        return own
    if kept is None:
        raise DataError(
            f"{source.title}: nothing of round {run.round} has been exported: run `regional-al "
            "export` first, and label what it writes"
        )
    return kept


def _recognised(source: Source, own: Manifest | None = None) -> str:
    """The format of some files."""
    if own is not None and own.to in EXCHANGE_FORMATS:
        return own.to
    for name in EXCHANGE_FORMATS:
        if EXCHANGE_FORMATS.build(name).recognises(source):
            return name
    raise DataError(
        f"{source.title} is of no format that is known here ({', '.join(EXCHANGE_FORMATS)}): give "
        "the files that the tool exported, or name the format with --from"
    )


def _check_pictures(source: Source, manifest: Manifest, reader: ExchangeFormat) -> None:
    """Raise DataError when an image among the files is another one than was exported."""
    entries = {entry.file: entry for entry in manifest.entries.values()}
    for name in reader.pictures(source):
        entry = entries.get(PurePosixPath(name).name)
        if entry is not None and source.sha256(name) != entry.sha256:
            raise DataError(
                f"{source.where(name)} is another image than the one of {entry.key!r} that was "
                "exported: label the exported image"
            )
