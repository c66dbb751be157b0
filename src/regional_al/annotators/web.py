"""Answers from people in a browser: `regional-al annotate` shows what is asked."""

from __future__ import annotations

from ..store.query import Query
from ..store.work_dir import WorkDir
from .base import ANNOTATORS
from .folder import FolderAnnotator


@ANNOTATORS.register("web")
class WebAnnotator(FolderAnnotator):
    """Waits for answers that people give on the page of `regional-al annotate WORK_DIR`.

    The page keeps them in `answers.sqlite` in the work dir, with who has given them and in what
    time. What is in the folder of answers is taken, too, where the page has no answer, so that a
    part can be labelled with another tool (`regional-al export` and `import`).

    Args:
        pool: Images that may be asked about.
        label_space: Meaning of the ids.
        answers: One folder for all rounds; None: `rounds/NNN/answers` beside the round's query.
        void: Id for "answered, but no class" in files of that folder.

    Raises:
        ConfigError: `void` is a class or not in 0..254.

    Example:
        >>> from regional_al.types import LabelSpace
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
        >>> WebAnnotator([], space).wants_predictions
        True
    """

    wants_predictions = True

    def where(self, query: Query) -> str:
        """Where answers are expected, in one line."""
        work_dir = WorkDir(query.folder.parents[2]).root
        return f"run `regional-al annotate {work_dir}` and open the page that it names"
