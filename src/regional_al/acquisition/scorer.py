"""Scores of one image after another: the engine's logits through a heuristic."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from ..engines.base import Engine, Prediction, predictions
from ..errors import RegionalALError
from ..heuristics import (
    GroupsUnits,
    Heuristic,
    MergesUnits,
    Observation,
    PixelHeuristic,
    PoolHeuristic,
    ProposesPixels,
    UnitHeuristic,
    pixel_units,
)
from ..runtime.overlap import overlapped
from ..store.images import replacing, write_array
from ..store.labels import LabelStore
from ..store.outside import check_file
from ..store.prelabels import Prelabels
from ..store.reading import read_array
from ..types import F32, I32, I64, JSON, PoolItem
from .target import SelectionRequest, Target

T = TypeVar("T")


@dataclass
class Scorer:
    """Scores the units of a target's partition, or, without one, a dense map of windows or pixels.

    Args:
        engine: Predicts.
        store: Says what is annotated.
        target: What is scored.
        seed: Of the run.
        prelabels: Labels of a machine, for a heuristic that compares with them; else None.
    """

    engine: Engine
    store: LabelStore
    target: Target
    seed: int
    prelabels: Prelabels | None = None

    def each(
        self,
        request: SelectionRequest,
        indices: Sequence[int],
        work: Callable[[int, Observation], T],
    ) -> Generator[T, None, None]:
        """work(index, what the heuristic may know of the image), one image after another.

        For a heuristic that needs no model the logits are [1, H, W] without storage. On a GPU the
        work on an image runs while the model predicts the next one. Raises DataError, naming the
        image, for logits of another size than the image.
        """

        def on(prediction: Prediction) -> T:
            return work(prediction.index, self._observation(prediction, request.round))

        return overlapped(on, self._predictions(request, indices), apart)

    def _predictions(
        self, request: SelectionRequest, indices: Sequence[int]
    ) -> Iterator[Prediction]:
        if request.heuristic.needs is None:
            for index in indices:
                yield Prediction(index, torch.zeros(1).expand(1, *self.engine.pool[index].shape))
            return
        needs = request.heuristic.needs
        yield from predictions(self.engine, request.checkpoint, indices, needs)

    def unit_scores(
        self, item: PoolItem, seen: Observation, heuristic: Heuristic, groups: Path | None = None
    ) -> tuple[torch.Tensor, I32]:
        """Scores [R] of the units of an image and the unit ids [H, W]. Where the heuristic joins
        units, of the groups; the group of each unit is then written below `groups`."""
        regions, count, ids = self._regions(item, seen, heuristic, groups)
        if isinstance(heuristic, GroupsUnits):
            scores, of_unit = heuristic.regroup(seen, regions, count)
            table = of_unit.to("cpu", torch.int32).numpy()
            if groups is not None:
                write_groups(groups, item.key, table)
            return scores, table[ids]
        if isinstance(heuristic, PoolHeuristic):
            return heuristic.describe(seen, regions, count)["score"], ids
        assert isinstance(heuristic, (PixelHeuristic, UnitHeuristic))
        return heuristic.unit_scores(seen, regions, count), ids

    def describe(
        self,
        item: PoolItem,
        seen: Observation,
        heuristic: PoolHeuristic,
        groups: Path | None = None,
    ) -> tuple[dict[str, torch.Tensor], I32]:
        """The heuristic's columns for the units of an image, and the unit ids [H, W]; of groups
        as in `unit_scores`."""
        regions, count, ids = self._regions(item, seen, heuristic, groups)
        return heuristic.describe(seen, regions, count), ids

    def describe_pixels(
        self, seen: Observation, heuristic: ProposesPixels
    ) -> tuple[dict[str, torch.Tensor], I64]:
        """The heuristic's columns for the pixels of an image that it proposes, and their row-major
        positions, int64 [m] ascending; the last row of each column is all other pixels."""
        assert isinstance(heuristic, PoolHeuristic)
        pixels = np.sort(heuristic.propose_pixels(seen))
        return heuristic.describe(seen, pixel_units(pixels, seen), len(pixels) + 1), pixels

    def dense(self, seen: Observation, heuristic: Heuristic) -> torch.Tensor:
        """Scores [H, W] of the pixels (level 'pixel') or of the windows around them."""
        assert isinstance(heuristic, PixelHeuristic)
        if self.target.level == "pixel":
            return heuristic.pixel_scores(seen)
        return heuristic.window_scores(seen, self.target.radius)

    def write_previews(self, folder: Path, request: SelectionRequest, first: Sequence[int]) -> None:
        """Score maps of some images for the report: `<key>.npy` float16 and `index.json`; a unit's
        score is on all of its pixels."""

        def write(index: int, seen: Observation) -> JSON:
            item = self.engine.pool[index]
            if self.target.partition is None:
                score: F32 = self.dense(seen, request.heuristic).to("cpu", torch.float32).numpy()
            else:
                scores, ids = self.unit_scores(item, seen, request.heuristic)
                score = scores.to("cpu", torch.float32).numpy()[ids]
            path = folder / f"{item.key}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_array(path, score.astype(np.float16))
            return {"key": item.key, "image": str(item.image), "score": f"{item.key}.npy"}

        entries = list(self.each(request, first, write))
        if entries:
            with replacing(folder / "index.json") as temporary:
                temporary.write_text(json.dumps(entries, indent=1) + "\n")

    def _regions(
        self, item: PoolItem, seen: Observation, heuristic: Heuristic, groups: Path | None
    ) -> tuple[torch.Tensor, int, I32]:
        """The units to be scored: those of the partition, or what the heuristic merges them to."""
        assert self.target.partition is not None
        ids = self.target.partition.ids(item)
        count = int(ids.max()) + 1  # arrays are indexed by id, gaps included
        regions = torch.from_numpy(ids).to(seen.logits.device)
        if isinstance(heuristic, MergesUnits):
            of_unit = heuristic.merge_units(seen, regions, count).to(torch.int32)
            table = of_unit.cpu().numpy()
            if groups is not None:
                write_groups(groups, item.key, table)
            regions, ids = of_unit.to(regions.device)[regions.long()], table[ids]
            count = int(table.max()) + 1
        return regions, count, ids

    def _observation(self, prediction: Prediction, round_: int) -> Observation:
        item, machine = self.engine.pool[prediction.index], self.prelabels
        space = self.engine.label_space
        return Observation(
            logits=prediction.logits,
            rng=np.random.default_rng([self.seed, round_, prediction.index]),  # on any rank
            more=prediction.more,
            features=prediction.features,
            annotated=self.store.annotated(item.key),
            image=item.image,
            prelabels=None if machine is None else machine.classes(item.key, space),
            prelabel_counts=None if machine is None else machine.class_counts(space),
        )


def apart(prediction: Prediction) -> bool:
    """Whether the work on a prediction can run beside the next forward pass: on a GPU the CPU is
    free then. Further views are predicted while they are read, so they have to wait."""
    return prediction.logits.is_cuda and prediction.more is None


@contextmanager
def naming(item: PoolItem) -> Iterator[None]:
    """Name the image in an error raised inside that does not."""
    try:
        yield
    except RegionalALError as error:
        if item.key in str(error):
            raise
        raise type(error)(f"image {item.key!r}: {error}") from None


def write_groups(folder: Path, key: str, groups: I32) -> None:
    """Keep int32 [R], the group of each unit of one image, until the query is written."""
    path = folder / f"{key}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_array(path, groups)


def read_groups(folder: Path, key: str) -> I32:
    """What `write_groups` kept."""
    check_file(folder / f"{key}.npy", folder)
    return np.asarray(read_array(folder / f"{key}.npy"))
