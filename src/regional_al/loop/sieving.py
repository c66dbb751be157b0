"""Sieving: of a region that people have answered by one class, train on the pixels which the model
of the round before gives that class (Kim et al., "Adaptive Superpixel for Active Learning in
Semantic Segmentation", ICCV 2023).

Before a training every rank predicts its share of the images with such answers and writes which
pixels are left out, see `store.sieved`. Answers, and what counts as annotated, stay as they are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..config.sieve import SIEVED_ANSWERS
from ..engines.base import Prediction
from ..store.query import read_asked
from ..store.sieved import SievedPixels
from ..types import F32, F64, I32, U8, UNLABELED, Bool, PredictRequest
from . import made_masks
from .made_masks import Making, asked_about

if TYPE_CHECKING:
    from .loop import ActiveLearningLoop


def knee(values: F64) -> int | None:
    """The knee of a curve that rises to a plateau: Kneedle (Satopää et al., 2011), sensitivity 1.

    Both axes are normalised to 0..1; the knee is where the curve is highest above the diagonal. It
    counts if the difference falls from there by more than the spacing of two values, which is
    Kneedle's test. Nothing is smoothed, and lower maxima of the difference are not considered.

    Args:
        values: float64 [n], ascending.

    Returns:
        Its place; None where there is none: the curve is straight, flat or bends upwards.

    Example:
        >>> knee(np.array([0.0, 0.1, 0.2, 0.9, 0.95, 1.0]))
        3
        >>> knee(np.array([0.0, 0.0, 0.1, 1.0])), knee(np.array([0.4, 0.4]))
        (None, None)
    """
    many = len(values)
    if many < 3 or values[0] == values[-1]:
        return None
    height = (values - values[0]) / (values[-1] - values[0])
    difference = height - np.arange(many) / (many - 1)
    place = int(difference.argmax())
    fall = difference[place] - difference[place:].min()
    return place if difference[place] > 0 and fall > 1 / (many - 1) else None


def sieve(probability: F32, labels: U8, regions: I32, min_pixels: int) -> Bool:
    """Which pixels of an image a training leaves out.

    In each region the probabilities of its class are sorted; pixels below the knee are left out.

    Args:
        probability: float32 [H, W], what the model gives the class that a pixel was answered with.
        labels: uint8 [H, W], that class; 255 = none.
        regions: int32 [H, W], 0 = not answered by one class, others are regions.
        min_pixels: Smaller regions are kept whole.

    Returns:
        bool [H, W]. Regions without a class, and those with several, which somebody has edited,
        are kept whole, and so are those without a knee.

    Example:
        >>> p = np.array([[0.0, 0.1, 0.2, 0.9, 0.95, 1.0]], np.float32)
        >>> sieve(p, np.zeros((1, 6), np.uint8), np.ones((1, 6), np.int32), 6).tolist()
        [[True, True, True, False, False, False]]
    """
    out = np.zeros(regions.size, np.bool_)
    flat, classes = probability.ravel().astype(np.float64), labels.ravel()
    order = np.argsort(regions, axis=None, kind="stable")
    numbers, starts = np.unique(regions.ravel()[order], return_index=True)
    for number, pixels in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        class_ = classes[pixels[0]]
        if number == 0 or len(pixels) < min_pixels or class_ == UNLABELED:
            continue
        if (classes[pixels] != class_).any():
            continue
        found = flat[pixels]
        ascending = np.sort(found)
        place = knee(ascending)
        if place is not None:
            out[pixels] = found < ascending[place]
    return out.reshape(regions.shape)


def prepare(loop: ActiveLearningLoop) -> SievedPixels | None:
    """Make the masks of the current round, every rank its share; those that are there are kept.

    Returns:
        The masks; None: nothing is sieved, since the config does not say so or there is no model
        yet.

    Raises:
        DataError: A query or a label file is damaged, or the engine predicts at another size.
    """
    settings, previous = loop.config.sieve, loop.records.checkpoint(loop.round - 1)
    if settings is None or previous is None:
        return None
    sieved = SievedPixels(loop.work_dir.sieved(loop.round))
    plan = partial(_plan, loop, sieved, settings.min_pixels, made_masks.model_of(previous))
    made_masks.prepare(loop, previous, plan)
    return sieved


def _plan(loop: ActiveLearningLoop, sieved: SievedPixels, min_pixels: int, model: str) -> Making:
    """How the masks of the current round are made."""
    pool, space = loop.engine.pool, loop.engine.label_space
    classes = np.where(space.trainable, space.raw_to_train, UNLABELED).astype(np.uint8)
    asked = asked_about(loop, SIEVED_ANSWERS)

    def origin(index: int) -> str | None:
        found = made_masks.answers(loop, index)
        return None if found is None else made_masks.made_from(found, model, min_pixels)

    def make(seen: Prediction, origin: str) -> None:
        item, answers = pool[seen.index], made_masks.answers(loop, seen.index)
        assert answers is not None
        labels, rounds = classes[answers[0]], answers[1]
        regions = np.zeros(item.shape, np.int32)
        for number in asked[seen.index]:
            here = (rounds == number + 1) & (labels != UNLABELED)
            ids = np.where(here, read_asked(loop.work_dir.query(number), item.key), 0)
            regions = np.where(ids > 0, ids + regions.max(), regions).astype(np.int32)
        left_out = sieve(class_probability(seen.logits, labels), labels, regions, min_pixels)
        sieved.write(item.key, left_out, origin)

    folder, needs = loop.work_dir.sieved, PredictRequest()
    return Making("Sieving", folder, sieved, needs, asked, origin, make)


def class_probability(logits: torch.Tensor, classes: U8) -> F32:
    """What a model gives a class of each pixel.

    Args:
        logits: Float [C, H, W].
        classes: uint8 [H, W], 0..C-1; others count as class 0.

    Returns:
        float32 [H, W].

    Example:
        >>> class_probability(torch.zeros(2, 1, 1), np.array([[1]], np.uint8)).tolist()
        [[0.5]]
    """
    known = np.where(classes < len(logits), classes, 0).astype(np.int64)
    wanted = torch.from_numpy(known)[None].to(logits.device)
    found = logits.float().log_softmax(0).gather(0, wanted)[0].exp()
    return np.asarray(found.cpu().numpy())
