"""Answers from a folder, into which a person or any labelling tool puts PNGs at any time, and from
the log of the annotation page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..checks import file_path, integer
from ..errors import ConfigError
from ..store.image_paths import write_image_paths
from ..store.images import replacing
from ..store.labels import LabelStore
from ..store.outside import check_file
from ..store.query import Query
from ..types import U8, UNLABELED, Bool, ImageAnswer, LabelSpace, PoolItem
from .base import ANNOTATORS, VOID, allowed_ids, checked_ids
from .logged import News, logged_answers, news

README = "README.txt"


@ANNOTATORS.register("folder")
class FolderAnnotator:
    """Reads `<answers>/<key>.png`, uint8, of the size of the image.

    255 means not answered yet, `void` answered without a class, any other value is a raw class id.
    Pixels that were not asked for are ignored. Answers may come in parts. Clicks are not known.
    Answers that people give with `regional-al annotate` count first.

    Args:
        pool: Images that may be asked about.
        label_space: Meaning of the ids.
        answers: One folder for all rounds; None: `rounds/NNN/answers` beside the round's query.
        void: Id for "answered, but no class".

    Raises:
        ConfigError: `void` is a class or not in 0..254.

    Example:
        >>> from regional_al.types import LabelSpace
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
        >>> FolderAnnotator([], space, answers="answers", void=254).void
        254
    """

    def __init__(
        self,
        pool: Sequence[PoolItem],
        label_space: LabelSpace,
        answers: str | Path | None = None,
        void: int = VOID,
    ) -> None:
        if integer("annotator.void", void, 0) >= UNLABELED:
            raise ConfigError(f"annotator.void={void} must be an id 0..254 that is no class")
        if label_space.trainable[void]:
            name = label_space.class_names[int(label_space.raw_to_train[void])]
            raise ConfigError(f"annotator.void={void} is class {name!r}: give an id of no class")
        self.answers = None if answers is None else file_path("annotator.answers", answers)
        self.void = void
        self._items = {item.key: item for item in pool}
        self._label_space = label_space
        self._allowed = allowed_ids(label_space)
        self._allowed[void] = True

    def preflight(self) -> None:
        """Raise ConfigError when `answers` is a file. Answers may come later."""
        if self.answers is not None and self.answers.exists() and not self.answers.is_dir():
            raise ConfigError(f"annotator.answers={str(self.answers)!r} is not a folder")

    def folder(self, query: Query) -> Path:
        """Where the answers to a query are expected."""
        return self.answers or query.folder.parent / "answers"

    def request(self, query: Query) -> None:
        """Create the folder, with a README that tells what to put there; beside the query, say
        where its images are, for exports."""
        folder = self.folder(query)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / README) as temporary:
            temporary.write_text(
                instructions(query, self._label_space, self.void, query.info.answer)
            )
        write_image_paths(
            query.folder.parent / "images.json",
            {key: self._items[key].image for key in query.image_keys()},
        )

    def collect(self, query: Query, keys: Sequence[str]) -> Iterator[ImageAnswer]:
        """Answers that exist now, for images with at least one answered pixel.

        Raises:
            DataError: A file has a wrong size or an unknown id, or is a link out of the folder or
                no regular file; or the log belongs to another run.
        """
        logged = dict(logged_answers(query, keys, self._label_space))
        folder = os.fspath(self.folder(query))
        for key in keys:
            given, page = self._filed(folder, key), logged.get(key)
            if given is None:
                if page is not None:
                    yield page
                continue
            answered: Bool = (query.asked(key) > 0) & (given != UNLABELED)
            if page is not None:
                answered &= ~page.answered
                if not answered.any():
                    yield page
                    continue
            answer = ImageAnswer(key, self._labels(given, answered), answered, None)
            if page is not None:
                yield replace(
                    page,
                    labels=np.where(page.answered, page.labels, answer.labels),
                    answered=page.answered | answered,
                    clicks=None,
                    seconds=None,
                )
            elif answered.any():
                yield answer

    def news(self, query: Query, store: LabelStore, after: int) -> News:
        """What people have changed on the annotation page since event `after` of its log."""
        return news(query, self._label_space, store, after)

    def _filed(self, folder: str, key: str) -> U8 | None:
        """The file of an image in a folder, raw ids uint8 [H, W]; None: there is none."""
        path = os.path.join(folder, f"{key}.png")  # many are not there: ten times faster than Path
        if not os.path.lexists(path):  # a broken link is a mistake
            return None
        shape = self._items[key].shape
        check_file(Path(path), Path(folder), shape)
        return checked_ids(Path(path), shape, self._allowed)

    def where(self, query: Query) -> str:
        """Where answers are expected, in one line."""
        return f"put <image>.png files into {self.folder(query)} (see {README} there)"

    def _labels(self, given: U8, answered: Bool) -> U8:
        """Raw ids where answered, 255 for void and elsewhere."""
        classes = answered & (given != self.void)
        return np.where(classes, given, np.uint8(UNLABELED))


def instructions(query: Query, label_space: LabelSpace, void: int, answer: str) -> str:
    """Text of the README: which files, which values."""
    lines = [
        f"Answers of round {query.info.round}: one 8-bit grey PNG per image, of the image's size,",
        "named as below. What is asked: query/asked/<image>.png beside this folder.",
        "",
        "255: not answered yet",
        f"{void}: answered, but no class (void)",
    ]
    for raw in np.flatnonzero(label_space.trainable):
        lines.append(f"{raw}: {label_space.class_names[int(label_space.raw_to_train[raw])]}")
    if answer == "multiclass":
        lines += ["", "A file has one class a pixel: for several classes of a region use the page."]
    if answer == "dominant":
        lines += ["", "Give each region, as a whole, the class that covers most of it."]
    lines += ["", *(f"{key}.png" for key in query.image_keys())]
    return "\n".join(lines) + "\n"
