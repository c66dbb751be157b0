"""Where round 0 gets its labels: fresh ones, or those of another run.

- `FreshStart`: random units, answered by the annotator (or none at all: `warm_start=None`).
- `SharedStart` (`warm_start=dict(run=WORK_DIR)`): query and checkpoint of round 0 of another run
  of the same config, so that strategies are compared from one initial model. The answers are not
  copied; the annotator gives them again.
- `PrelabelledStart` (`warm_start=dict(prelabels=FOLDER)`): masks that a machine has made, alone or
  beside fresh labels; see `loop.prelabels`.
- `TakenLabels` (`warm_start=dict(labels=WORK_DIR)`): all labels of another run, with their costs.
  Its config may differ, and so may its pool, as long as this pool contains every labelled image.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..annotators.base import allowed_ids, checked_ids
from ..config.changes import changes
from ..config.grammar import Acquisition
from ..errors import DataError, WorkDirError
from ..runtime import distributed as dist
from ..runtime.progress import progress
from ..store.check import is_cut
from ..store.images import replacing
from ..store.labels import LabelStore
from ..store.ledger import Ledger, pool_fingerprint
from ..store.outside import check_file, declared_shape
from ..store.prelabels import Prelabels
from ..store.query import copy_query, read_query
from ..store.recording import AnswerRow, recording
from ..store.work_dir import WorkDir
from ..types import JSON, ImageAnswer
from . import prelabels, stages
from .resume import config_tree

if TYPE_CHECKING:
    from .loop import ActiveLearningLoop


class WarmStart(Protocol):
    """The first three stages of round 0; see `stages` for what they return."""

    def check(self, loop: ActiveLearningLoop, ledger: Ledger | None) -> None:
        """Rank 0, before anything is trained: raise WorkDirError when what the start needs is
        missing. ledger: of the run that is resumed, if any."""

    def preflight(self, loop: ActiveLearningLoop) -> None:
        """Rank 0, before anything is trained: raise DataError for a file that cannot be used."""

    def query(self, loop: ActiveLearningLoop) -> JSON | None: ...

    def answers(self, loop: ActiveLearningLoop) -> JSON | None: ...

    def fit(self, loop: ActiveLearningLoop) -> JSON | None: ...


def build_warm_start(config: Acquisition) -> WarmStart:
    """The warm start that `acquisition.warm_start` names."""
    warm = config.warm_start
    if warm is not None and warm.run is not None:
        return SharedStart(warm.run)
    if warm is not None and warm.labels is not None:
        return TakenLabels(warm.labels)
    if warm is not None and warm.prelabels is not None:
        return PrelabelledStart(warm.prelabels)
    return FreshStart()


class FreshStart:
    """Random units of the pool, or no labels with `warm_start=None`."""

    def check(self, loop: ActiveLearningLoop, ledger: Ledger | None) -> None:
        """Nothing is needed."""

    def preflight(self, loop: ActiveLearningLoop) -> None:
        """Nothing is read."""

    def query(self, loop: ActiveLearningLoop) -> JSON | None:
        return stages.select(loop) if loop.config.asks_at_first else stages.NO_PICKS

    def answers(self, loop: ActiveLearningLoop) -> JSON | None:
        return stages.collect(loop)

    def fit(self, loop: ActiveLearningLoop) -> JSON | None:
        return stages.train(loop)


class SharedStart(FreshStart):
    """Query and checkpoint of round 0 of the run in `other`."""

    def __init__(self, other: Path) -> None:
        self.other = WorkDir(other)

    def check(self, loop: ActiveLearningLoop, ledger: Ledger | None) -> None:
        if ledger is not None and ledger.done(0, "fit") is not None:
            return  # copied already
        root, where = self.other.root, f"acquisition.warm_start.run={self.other.root}"
        if not Ledger.exists(root):
            raise WorkDirError(
                f"{where} contains no run: give the work dir of a run, e.g. one with rounds=0"
            )
        with Ledger.open(root, readonly=True) as theirs:
            meta, fit = theirs.meta(), theirs.done(0, "fit")
        if meta["pool"] != pool_fingerprint(loop.engine.pool):
            raise WorkDirError(f"{where} was made from other pool images; use the same data set")
        own = config_tree(loop.records.origin.text, {})
        differing = changes(config_tree(meta["config"], {}), own, trained=True)
        if differing:
            what = "" if differing[0].name == "text" else f" ({differing[0]})"
            raise WorkDirError(
                f"{where} was made with another config{what}; only its acquisition may differ"
            )
        if fit is None:
            raise WorkDirError(f"{where} has not finished round 0: run it to its end first")
        if fit.get("checkpoint") is None or not self.other.query(0).is_dir():
            raise WorkDirError(f"{where} has no labels of its own in round 0: give it a warm_start")
        checkpoint = root / fit["checkpoint"]
        check_file(checkpoint, root)
        if not checkpoint.is_file() or is_cut(checkpoint, thorough=False):
            raise WorkDirError(f"{where}: its checkpoint {checkpoint} is gone or damaged")

    def query(self, loop: ActiveLearningLoop) -> JSON | None:
        def copy() -> JSON:
            query, pool = read_query(self.other.query(0)), loop.engine.pool
            for index, key in query.keys.items():
                if index >= len(pool) or pool[index].key != key:
                    raise WorkDirError(
                        f"{query.folder} asks about image {key!r}, which is not in this pool"
                    )
            copy_query(query, loop.work_dir.query(0))
            return {"picks": len(query.picks)}

        with loop.watch("select"):
            return dist.on_main(copy)

    def fit(self, loop: ActiveLearningLoop) -> JSON | None:
        out_dir = stages.empty_folder(loop.work_dir.fit(0))

        def copy() -> JSON:
            with Ledger.open(self.other.root, readonly=True) as theirs:
                fit = theirs.done(0, "fit") or {}
            target = out_dir / Path(str(fit["checkpoint"])).name
            with replacing(target) as temporary:
                shutil.copyfile(self.other.root / fit["checkpoint"], temporary)
            kept = {key: fit[key] for key in ("iterations", "label_share")}
            return {"checkpoint": str(target.relative_to(loop.work_dir.root)), **kept}

        with loop.watch("fit"):
            return dist.on_main(copy)


class PrelabelledStart(FreshStart):
    """Machine labels in `folder`, and random units beside them where the config has an amount.

    They are copied in the first stage of round 0; from then on the run needs `folder` no more, but
    is not resumed when something else stands in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, loop: ActiveLearningLoop, ledger: Ledger | None) -> None:
        taken = None if ledger is None else ledger.noted(prelabels.NOTE)
        if ledger is not None and taken is None and ledger.done(0, "query") is not None:
            raise WorkDirError(
                f"{ledger.path.parent} was started without acquisition.warm_start.prelabels: leave "
                "it out, or choose another work_dir"
            )
        if ledger is None or taken is None:
            prelabels.check_folder(self.folder, loop.engine.pool)
        else:
            prelabels.check_copies(loop.work_dir, loop.engine.pool, ledger)
            prelabels.check_unchanged(self.folder, loop.engine.pool, ledger)

    def preflight(self, loop: ActiveLearningLoop) -> None:
        if not Prelabels(loop.work_dir.prelabels).complete:
            prelabels.check_masks(self.folder, loop.engine.pool, loop.engine.label_space)

    def query(self, loop: ActiveLearningLoop) -> JSON | None:
        with loop.watch("prepare"):
            taken = dist.on_main(lambda: prelabels.take(self.folder, loop))
        found = super().query(loop)
        return None if found is None else {**found, "prelabels": taken}


class TakenLabels(FreshStart):
    """All labels of the run in `other`; round 0 trains on them and queries nothing."""

    def __init__(self, other: Path) -> None:
        self.other = WorkDir(other)

    def check(self, loop: ActiveLearningLoop, ledger: Ledger | None) -> None:
        if ledger is not None and ledger.done(0, "answers") is not None:
            return  # copied already
        root, where = self.other.root, f"acquisition.warm_start.labels={self.other.root}"
        if not Ledger.exists(root):
            raise WorkDirError(f"{where} contains no run: give the work dir of a run")
        with Ledger.open(root, readonly=True) as theirs:
            keys = {key for _, key, *_ in theirs.answers()}
        if not keys:
            raise WorkDirError(f"{where} has no labels yet")
        foreign = sorted(keys - {item.key for item in loop.engine.pool})
        if foreign:
            raise WorkDirError(
                f"{where} has labels of {len(foreign)} images that are not in this pool, such as "
                f"{foreign[0]!r}: give a config whose training images include them"
            )

    def query(self, loop: ActiveLearningLoop) -> JSON | None:
        return stages.NO_PICKS

    def answers(self, loop: ActiveLearningLoop) -> JSON | None:
        with loop.watch("annotate"):
            return dist.on_main(lambda: self._copy(loop))

    def _copy(self, loop: ActiveLearningLoop) -> JSON:
        """Store their labels as answers of round 0, with the costs. Safe to repeat.

        Raises DataError for a label file that is missing, a link out of that run, of another size
        than its image, or with an id that is unknown to this data set.
        """
        ledger = loop.records.ledger
        assert ledger is not None
        shapes = {item.key: item.shape for item in loop.engine.pool}
        allowed = allowed_ids(loop.engine.label_space)
        labels_of = LabelStore(self.other.labels)
        with Ledger.open(self.other.root, readonly=True) as theirs:
            taken = theirs.answers()
        spent: dict[str, list[tuple[int, int | None, int, float | None]]] = {}
        for round_, key, clicks, regions, seconds in taken:
            spent.setdefault(key, []).append((round_, clicks, regions, seconds))
        with recording(loop.store, ledger, 0) as rows:
            for key, costs in progress(spent.items(), "Copying labels", len(spent)):
                path = labels_of.path(key)
                for file in (path, labels_of.sidecar_path(key)):
                    check_file(file, self.other.root, shapes[key])
                if not path.is_file():
                    raise DataError(
                        f"{path} is gone: {self.other.root} has lost its labels of {key!r}"
                    )
                labels = checked_ids(path, shapes[key], allowed)
                sidecar = labels_of.sidecar_path(key)
                if sidecar.is_file() and declared_shape(sidecar) != shapes[key]:
                    raise DataError(f"{sidecar} is not of the size of {path}")
                rounds = labels_of.annotated(key)
                # What their ledger does not know was being written when that run was killed.
                recorded = np.array([round_ + 1 for round_, *_ in costs], dtype=np.uint8)
                answered = np.isin(0 if rounds is None else rounds, recorded)
                known = [clicks for _, clicks, _, _ in costs if clicks is not None]
                times = [seconds for *_, seconds in costs if seconds is not None]
                rows.append(
                    AnswerRow(
                        key,
                        pixels=loop.store.write(ImageAnswer(key, labels, answered), 0),
                        clicks=sum(known) if len(known) == len(costs) else None,
                        complete=True,
                        regions=sum(regions for _, _, regions, _ in costs),
                        seconds=sum(times) if len(times) == len(costs) else None,
                    )
                )
        return {"outstanding": 0, "images": len(spent)}
