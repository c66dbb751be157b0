"""Likely label errors of a run, ranked: confident learning on answered regions.

Labels of a round are judged by the model of the round before, which has not seen them. Those of the
first round, and those whose model is gone, are judged by the last model and marked, since a model
repeats what it was trained on.

Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 2021. There an item has one label; here it is the pixels of one class in an answered region.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..engines.base import Engine
from ..errors import ConfigError, WorkDirError
from ..store.labels import LabelStore
from ..store.ledger import Ledger
from ..store.query import read_query
from ..store.work_dir import WorkDir
from ..types import F32, F64, I32, I64, UNLABELED, PredictRequest


@dataclass(frozen=True)
class Suspect:
    """The pixels of one class in an answered region, and what a model makes of them.

    Args:
        key: Of the image.
        round: In which it was answered.
        item: Of the query of that round in this image, from 1.
        row: Of its first pixel.
        col: Of its first pixel.
        pixels: How many.
        label: The class that was answered.
        predicted: The class that the model finds more likely.
        label_probability: Mean over the pixels.
        predicted_probability: Mean over the pixels.
        unseen: Whether the model was trained without this answer.

    Example:
        >>> Suspect("a", 1, 1, 0, 0, 4, 0, 2, 0.25, 0.75, unseen=True).score
        1.0
    """

    key: str
    round: int
    item: int
    row: int
    col: int
    pixels: int
    label: int
    predicted: int
    label_probability: float
    predicted_probability: float
    unseen: bool

    @property
    def score(self) -> float:
        """Probability of the prediction less that of the label, times the square root of the number
        of pixels: a part of one pixel is as surely wrong as one of many only by a larger margin."""
        return (self.predicted_probability - self.label_probability) * math.sqrt(self.pixels)


@dataclass(frozen=True)
class Suspects:
    """What was found in a run.

    Args:
        found: Most suspect first: those that a model had not seen, then the others.
        judged: How many parts of answered regions were looked at.
        pixels: How many pixels they have.
        seen: How many of the parts a model judged that had been trained on them.

    Example:
        >>> Suspects(found=(), judged=10, pixels=120, seen=4).seen
        4
    """

    found: tuple[Suspect, ...]
    judged: int
    pixels: int
    seen: int


@dataclass(frozen=True)
class Parts:
    """Parts of an image: the pixels of one class in one item.

    Args:
        item: int64 [n].
        label: int64 [n], the class.
        first: int64 [n], the first pixel, row by row.
        pixels: int64 [n].
        means: float32 [n, C], mean probabilities.
    """

    item: I64
    label: I64
    first: I64
    pixels: I64
    means: F32


def parts_of(probabilities: torch.Tensor, labels: I32, items: I32) -> Parts:
    """The parts of an image.

    Args:
        probabilities: float [C, H, W].
        labels: int [H, W], a class 0..C-1; other values are left out.
        items: int [H, W], from 1; 0: not asked.

    Example:
        >>> p = torch.tensor([[[1.0, 0.5, 0.25]], [[0.0, 0.5, 0.75]]])
        >>> parts = parts_of(p, np.array([[0, 0, 1]], np.int32), np.array([[1, 1, 1]], np.int32))
        >>> parts.label.tolist(), parts.pixels.tolist(), parts.means.tolist()
        ([0, 1], [2, 1], [[0.75, 0.25], [0.25, 0.75]])
    """
    classes = probabilities.shape[0]
    where = np.flatnonzero((items > 0) & (labels >= 0) & (labels < classes))
    pair = items.ravel()[where].astype(np.int64) * classes + labels.ravel()[where]
    pairs, first, group, counts = np.unique(
        pair, return_index=True, return_inverse=True, return_counts=True
    )
    flat = probabilities.reshape(classes, -1)[:, torch.from_numpy(where).to(probabilities.device)]
    sums = torch.zeros((len(pairs), classes), dtype=torch.float64, device=flat.device)
    sums.index_add_(0, torch.from_numpy(group).to(flat.device), flat.T.double())
    means = (sums.cpu().numpy() / counts[:, None]).astype(np.float32)
    return Parts(pairs // classes, pairs % classes, where[first], counts, means)


def thresholds(parts: Iterable[Parts], classes: int) -> F64:
    """float64 [C]: mean probability of each class over the pixels with that label; inf for classes
    without a label, which then cannot be predicted.

    Args:
        parts: Of all images that one model has judged.
        classes: C.
    """
    sums, counts = np.zeros(classes), np.zeros(classes)
    for one in parts:
        own = one.means[np.arange(len(one.label)), one.label]
        np.add.at(sums, one.label, own.astype(np.float64) * one.pixels)
        np.add.at(counts, one.label, one.pixels)
    found: F64 = np.divide(sums, counts, out=np.full(classes, np.inf), where=counts > 0)
    return found


def likelier(parts: Parts, least: F64) -> I64:
    """int64 [n]: the class of the highest mean probability among those that reach their threshold,
    the label's own included; -1 where none does.

    Args:
        parts: Of one image.
        least: float64 [C], see `thresholds`.
    """
    reached = np.where(parts.means >= least, parts.means, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached.max(axis=1, initial=-1.0) < 0, -1, best)


def find_suspects(
    work_dir: Path,
    engine: Engine,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Suspects:
    """Rank the answers of a run by how unlikely a model finds them. Reads only.

    Args:
        work_dir: Of a run, finished or not.
        engine: That of the run.
        progress: Around the rounds, to show how far it is.

    Returns:
        Answers for which a model finds another class likelier: its mean probability reaches the
        mean that labels of that class have, and is the highest that does.

    Raises:
        WorkDirError: There is no run, or no model of it.
        ConfigError: The engine has other images.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al import run
        >>> from regional_al.testing import streets, toy
        >>> asked = {"level": "pixel", "heuristic": "Margin", "rounds": 1, "budget": 2}
        >>> with TemporaryDirectory() as folder:
        ...     data = streets.generate(Path(folder) / "data", train=3, val=1, size=(32, 32))
        ...     engine = toy.toy_engine(data, iterations=1)
        ...     _ = run(engine, asked, Path(folder) / "run", report=False)
        ...     # doctest: +ELLIPSIS
        ...     suspects = find_suspects(Path(folder) / "run", engine)
        round...
        finished: all 1 rounds are done
        >>> suspects.judged <= 12
        True
    """
    run, classes = WorkDir(Path(work_dir)), engine.label_space.num_classes
    store, table = LabelStore(run.labels), engine.label_space.raw_to_train
    models = _models(run)
    index = {item.key: place for place, item in enumerate(engine.pool)}
    judged: dict[Path, list[tuple[str, int, bool, Parts]]] = {}
    for round_ in progress(run.rounds_with_query()):
        query, (model, unseen) = read_query(run.query(round_)), _judge_of(models, round_)
        keys = [key for key in query.image_keys() if store.annotated(key) is not None]
        unknown = [key for key in keys if key not in index]
        if unknown:
            raise ConfigError(f"the config does not have the image {unknown[0]!r} of {work_dir}")
        places = [index[key] for key in keys]
        for key, seen in zip(keys, engine.predict(model, places, PredictRequest()), strict=True):
            labels, rounds = store.read(key), store.annotated(key)
            if labels is None or rounds is None:
                continue
            asked = np.where(rounds == round_ + 1, query.asked(key), 0)
            ids = np.where(labels == UNLABELED, -1, table[labels]).astype(np.int32)
            parts = parts_of(seen.logits.float().softmax(0), ids, asked)
            judged.setdefault(model, []).append((key, round_, unseen, parts))
    found, total, pixels, seen_ = [], 0, 0, 0
    for each in judged.values():
        least = thresholds((parts for *_, parts in each), classes)
        for key, round_, unseen, parts in each:
            total += len(parts.label)
            pixels += int(parts.pixels.sum())
            seen_ += 0 if unseen else len(parts.label)
            width = engine.pool[index[key]].shape[1]
            found += _suspects(key, round_, unseen, parts, likelier(parts, least), width)
    order = sorted(found, key=lambda s: (not s.unseen, -s.score, s.round, s.key, s.item, s.label))
    return Suspects(tuple(order), total, pixels, seen_)


def _suspects(
    key: str, round_: int, unseen: bool, parts: Parts, other: I64, width: int
) -> list[Suspect]:
    return [
        Suspect(
            key=key,
            round=round_,
            item=int(parts.item[i]),
            row=int(parts.first[i]) // width,
            col=int(parts.first[i]) % width,
            pixels=int(parts.pixels[i]),
            label=int(parts.label[i]),
            predicted=int(other[i]),
            label_probability=float(parts.means[i, parts.label[i]]),
            predicted_probability=float(parts.means[i, other[i]]),
            unseen=unseen,
        )
        for i in np.flatnonzero((other >= 0) & (other != parts.label)).tolist()
    ]


def _models(run: WorkDir) -> Mapping[int, Path]:
    """Round -> its checkpoint, where it is still there. Raises WorkDirError for none at all."""
    with Ledger.open(run.root, readonly=True) as ledger:
        names = {
            round_: payload["checkpoint"]
            for (round_, stage), payload in ledger.payloads().items()
            if stage == "fit" and payload.get("checkpoint")
        }
    found = {r: run.root / name for r, name in names.items() if (run.root / name).is_file()}
    if not found:
        raise WorkDirError(
            f"{run.root} has no model that could judge labels: train at least one round, and keep "
            "its checkpoint"
        )
    return found


def _judge_of(models: Mapping[int, Path], round_: int) -> tuple[Path, bool]:
    """The newest model that has not seen the labels of a round, else the last of the run, which
    has (or may have: then it counts as seen)."""
    earlier = [r for r in models if r < round_]
    return (models[max(earlier)], True) if earlier else (models[max(models)], False)
