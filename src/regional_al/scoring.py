"""Scores of one image after another: the engine's logits through a heuristic."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .engines.base import Engine, Prediction
from .errors import DataError
from .heuristics import Heuristic
from .images import replacing
from .partitions.base import Partition
from .types import F32, I32, Level, PoolItem


@dataclass
class Scorer:
    """Scores units of `partition`, or, without one, a dense map of windows or pixels.

    window_radius: of the labelled window, at region level without a partition. seed: of the run.
    """

    engine: Engine
    level: Level
    partition: Partition | None
    window_radius: int
    seed: int

    def logits(
        self, checkpoint: Path | None, indices: Sequence[int], heuristic: Heuristic
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """(index, logits [C, H, W]); for a heuristic that needs no model [1, H, W] without storage.

        Raises DataError, naming the image, for logits of another size than the image.
        """
        if heuristic.needs is None:
            for index in indices:
                yield index, torch.zeros(1).expand(1, *self.engine.pool[index].shape)
            return
        for prediction in self.engine.predict(checkpoint, indices, heuristic.needs):
            yield prediction.index, self._checked(prediction)

    def rng(self, round_: int, index: int) -> np.random.Generator:
        """The same random numbers for an image whichever rank scores it."""
        return np.random.default_rng([self.seed, round_, index])

    def units(
        self, item: PoolItem, logits: torch.Tensor, heuristic: Heuristic, rng: np.random.Generator
    ) -> tuple[torch.Tensor, I32]:
        """Scores [R] of the units of the image's partition, and its ids [H, W]."""
        assert self.partition is not None
        ids = self.partition.ids(item)
        count = max(self.partition.count(item), int(ids.max()) + 1)
        regions = torch.from_numpy(ids).to(logits.device)
        return heuristic.unit_scores(logits, regions, count, rng), ids

    def dense(
        self, logits: torch.Tensor, heuristic: Heuristic, rng: np.random.Generator
    ) -> torch.Tensor:
        """Scores [H, W] of the pixels (pixel level) or of the windows around them."""
        if self.level == "pixel":
            return heuristic.pixel_scores(logits, rng)
        return heuristic.window_scores(logits, self.window_radius, rng)

    def score_map(
        self, item: PoolItem, logits: torch.Tensor, heuristic: Heuristic, rng: np.random.Generator
    ) -> F32:
        """float32 [H, W] to look at: a unit's score on all of its pixels."""
        if self.partition is None:
            return self.dense(logits, heuristic, rng).to("cpu", torch.float32).numpy()
        scores, ids = self.units(item, logits, heuristic, rng)
        values: F32 = scores.to("cpu", torch.float32).numpy()[ids]
        return values

    def write_previews(
        self, folder: Path, checkpoint: Path | None, indices: Sequence[int], heuristic: Heuristic,
        round_: int,
    ) -> None:  # fmt: skip
        """Score maps of some images for the report: `<key>.npy` float16 and `index.json`."""
        entries = []
        for index, logits in self.logits(checkpoint, indices, heuristic):
            item = self.engine.pool[index]
            score = self.score_map(item, logits, heuristic, self.rng(round_, index))
            path = folder / f"{item.key}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, score.astype(np.float16), allow_pickle=False)
            entries.append({"key": item.key, "image": str(item.image), "score": f"{item.key}.npy"})
        if entries:
            with replacing(folder / "index.json") as temporary:
                temporary.write_text(json.dumps(entries, indent=1) + "\n")

    def _checked(self, prediction: Prediction) -> torch.Tensor:
        item = self.engine.pool[prediction.index]
        if tuple(prediction.logits.shape[-2:]) != tuple(item.shape):
            raise DataError(
                f"image {item.key!r}: logits are {tuple(prediction.logits.shape[-2:])} but the "
                f"image is {item.shape}: the test pipeline must predict at the image's own size"
            )
        return prediction.logits
