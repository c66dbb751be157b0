"""The files of a run: the only module that knows where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkDir:
    """Paths below the `work_dir` of a run. Nothing is created or read.

    Args:
        root: The folder of the run.

    Example:
        >>> from pathlib import Path
        >>> WorkDir(Path("work_dirs/demo")).query(3).as_posix()
        'work_dirs/demo/rounds/003/query'
    """

    root: Path

    @property
    def labels(self) -> Path:
        """Folder of the `LabelStore`: one mask per image, itself a valid `ann_dir`."""
        return self.root / "labels"

    @property
    def cache(self) -> Path:
        """Folder of cached partitions, unless `acquisition.cache_dir` names another."""
        return self.root / "cache"

    @property
    def prelabels(self) -> Path:
        """Folder of the copies of machine labels, see `store.prelabels`."""
        return self.root / "prelabels"

    @property
    def training_labels(self) -> Path:
        """Folder of the labels as trainings see them, see `store.prelabels.TrainingLabels`."""
        return self.root / "training_labels"

    @property
    def ledger(self) -> Path:
        """The SQLite file that records finished stages, answers and costs."""
        return self.root / "ledger.sqlite"

    @property
    def answer_log(self) -> Path:
        """The SQLite file of what people have answered on the annotation page."""
        return self.root / "answers.sqlite"

    @property
    def points(self) -> Path:
        """The SQLite file of what a run has reported of its trainings and rounds, see `points`."""
        return self.root / "tracking.sqlite"

    @property
    def trackers(self) -> Path:
        """Folder where the experiment trackers of the config write, unless it names another."""
        return self.root / "vis_data"

    @property
    def annotate_address(self) -> Path:
        """The file that says where `regional-al annotate` serves its page."""
        return self.root / ".annotate.json"

    @property
    def results(self) -> Path:
        """`results.json`: one record per round."""
        return self.root / "results.json"

    @property
    def report(self) -> Path:
        """`report.html`."""
        return self.root / "report.html"

    @property
    def figures(self) -> Path:
        """Folder of the report's figures."""
        return self.root / "figures"

    def round(self, number: int) -> Path:
        """Folder of one round; round 0 is the warm start."""
        return self.root / "rounds" / f"{number:03d}"

    def query(self, number: int) -> Path:
        """Folder of the query of a round (see `store.query`)."""
        return self.round(number) / "query"

    def answers(self, number: int) -> Path:
        """Folder where the `folder` annotator expects the answers of a round."""
        return self.round(number) / "answers"

    def images(self, number: int) -> Path:
        """The file in which the `folder` annotator says where the images of a query are."""
        return self.round(number) / "images.json"

    def exchange(self, number: int) -> Path:
        """Folder of the exports for other labelling tools."""
        return self.round(number) / "exchange"

    def closed(self, number: int) -> Path:
        """The file that says that a round goes on with the answers that are there."""
        return self.round(number) / "closed.json"

    def predictions(self, number: int) -> Path:
        """Folder of what the model predicts in the images of a query: uint8 class indices."""
        return self.round(number) / "predictions"

    def fit(self, number: int) -> Path:
        """Folder of the training of a round: its checkpoint and logs."""
        return self.round(number) / "fit"

    def sieved(self, number: int) -> Path:
        """Folder of the masks of what the training of a round leaves out, see `store.sieved`."""
        return self.round(number) / "sieved"

    def pseudo(self, number: int) -> Path:
        """Folder of the pseudo labels of the training of a round, see `store.pseudo_labels`."""
        return self.round(number) / "pseudo"

    def previews(self, number: int) -> Path:
        """Folder of the score maps that the report shows."""
        return self.round(number) / "preview"

    def scores(self, number: int) -> Path:
        """Folder of what exists only between scoring and selection: pool table, groups of units."""
        return self.round(number) / "scores"

    def rounds_with_query(self) -> list[int]:
        """Rounds that have a query, ascending; also those that are not recorded yet."""
        names = (path.parent.parent.name for path in self.root.glob("rounds/*/query/query.json"))
        return sorted(int(name) for name in names if name.isdigit())
