"""Scores of one image after another: the engine's logits through a heuristic."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..engines.base import Engine, Prediction
from ..errors import DataError
from ..heuristics import Heuristic, Observation
from ..store.images import replacing
from ..store.labels import LabelStore
from ..types import F32, I32, PoolItem
from .place import Place


@dataclass
class Scorer:
    """Scores units of a place's partition, or, without one, a dense map of windows or pixels.

    seed: of the run.
    """

    engine: Engine
    store: LabelStore
    place: Place
    seed: int

    def observe(
        self, checkpoint: Path | None, indices: Sequence[int], heuristic: Heuristic, round_: int
    ) -> Iterator[tuple[int, Observation]]:
        """(index, what the heuristic may know of the image), one image after another.

        For a heuristic that needs no model the logits are [1, H, W] without storage. Raises
        DataError, naming the image, for logits of another size than the image.
        """
        if heuristic.needs is None:
            for index in indices:
                blank = torch.zeros(1).expand(1, *self.engine.pool[index].shape)
                yield index, self._observation(Prediction(index, blank), round_)
            return
        for prediction in self.engine.predict(checkpoint, indices, heuristic.needs):
            self._check(prediction)
            yield prediction.index, self._observation(prediction, round_)

    def units(
        self, item: PoolItem, seen: Observation, heuristic: Heuristic, groups: Path | None = None
    ) -> tuple[torch.Tensor, I32]:
        """Scores [R] of the units of the image's partition, and its ids [H, W]; of groups of units
        where the heuristic makes them (their table is written below `groups`)."""
        regions, count, ids = self._regions(item, seen)
        if not heuristic.groups:
            return heuristic.unit_scores(seen, regions, count), ids
        scores, of_unit = heuristic.regroup(seen, regions, count)
        table = of_unit.to("cpu", torch.int32).numpy()
        if groups is not None:
            write_groups(groups, item.key, table)
        return scores, table[ids]

    def describe(
        self, item: PoolItem, seen: Observation, heuristic: Heuristic
    ) -> tuple[dict[str, torch.Tensor], I32]:
        """The heuristic's columns for the units of the image, and the partition's ids [H, W]."""
        regions, count, ids = self._regions(item, seen)
        return heuristic.describe(seen, regions, count), ids

    def dense(self, seen: Observation, heuristic: Heuristic) -> torch.Tensor:
        """Scores [H, W] of the pixels (pixel level) or of the windows around them."""
        if self.place.level == "pixel":
            return heuristic.pixel_scores(seen)
        return heuristic.window_scores(seen, self.place.radius)

    def score_map(self, item: PoolItem, seen: Observation, heuristic: Heuristic) -> F32:
        """float32 [H, W] to look at: a unit's score on all of its pixels."""
        if self.place.partition is None:
            return self.dense(seen, heuristic).to("cpu", torch.float32).numpy()
        scores, ids = self.units(item, seen, heuristic)
        values: F32 = scores.to("cpu", torch.float32).numpy()[ids]
        return values

    def write_previews(
        self,
        folder: Path,
        checkpoint: Path | None,
        indices: Sequence[int],
        heuristic: Heuristic,
        round_: int,
    ) -> None:
        """Score maps of some images for the report: `<key>.npy` float16 and `index.json`."""
        entries = []
        for index, seen in self.observe(checkpoint, indices, heuristic, round_):
            item = self.engine.pool[index]
            score = self.score_map(item, seen, heuristic)
            path = folder / f"{item.key}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, score.astype(np.float16), allow_pickle=False)
            entries.append({"key": item.key, "image": str(item.image), "score": f"{item.key}.npy"})
        if entries:
            with replacing(folder / "index.json") as temporary:
                temporary.write_text(json.dumps(entries, indent=1) + "\n")

    def _regions(self, item: PoolItem, seen: Observation) -> tuple[torch.Tensor, int, I32]:
        assert self.place.partition is not None
        ids = self.place.partition.ids(item)
        count = max(self.place.partition.count(item), int(ids.max()) + 1)
        return torch.from_numpy(ids).to(seen.logits.device), count, ids

    def _observation(self, prediction: Prediction, round_: int) -> Observation:
        item = self.engine.pool[prediction.index]
        return Observation(
            logits=prediction.logits,
            rng=np.random.default_rng([self.seed, round_, prediction.index]),  # whichever the rank
            more=prediction.more,
            features=prediction.features,
            annotated=self.store.annotated(item.key),
            image=item.image,
        )

    def _check(self, prediction: Prediction) -> None:
        item = self.engine.pool[prediction.index]
        if tuple(prediction.logits.shape[-2:]) != tuple(item.shape):
            raise DataError(
                f"image {item.key!r}: logits are {tuple(prediction.logits.shape[-2:])} but the "
                f"image is {item.shape}: the test pipeline must predict at the image's own size"
            )


def write_groups(folder: Path, key: str, groups: I32) -> None:
    """Keep int32 [R], the group of each unit of one image, until the query is written."""
    path = folder / f"{key}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, groups, allow_pickle=False)


def read_groups(folder: Path, key: str) -> I32:
    """What `write_groups` kept."""
    return np.asarray(np.load(folder / f"{key}.npy", allow_pickle=False))
