"""Images of the pool beside the labelled ones of a batch, and their pixels without an answer. No
framework.

A draw is a number; it decides which image is shown, and how the pipeline augments it. So the images
are the same whatever process or worker loads them, and the labelled images of a training are
augmented as they would be without them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from ...errors import DataError
from ...runtime import distributed as dist
from ...runtime import randomness
from ...store.images import write_png
from ...store.labels import LabelStore
from ...types import I64, U8, UNLABELED, PoolItem
from ..base import FitRequest

UNANSWERED = 0
"""Of the label maps of this stream: a pixel without an answer. All others are `UNLABELED`: those
that are answered (void, too), and those that padding makes."""
BLANK = "blank.png"
_STREAM = 1  # keeps these draws apart from those of the labelled images


def open_images(store: LabelStore, pool: Sequence[PoolItem]) -> I64:
    """int64 [M]: the images with a pixel without an answer, by their place in the pool."""
    found = [i for i, item in enumerate(pool) if not store.is_complete(item.key)]
    return np.asarray(found, dtype=np.int64)


def unanswered(store: LabelStore, item: PoolItem) -> U8:
    """uint8 [H, W]: `UNANSWERED` or `UNLABELED`.

    Raises:
        DataError: The answers have another size than the image.
    """
    answered = store.annotated(item.key)
    if answered is None:
        return np.full(item.shape, UNANSWERED, np.uint8)
    if answered.shape != item.shape:
        raise DataError(
            f"{store.sidecar_path(item.key)} is {answered.shape}, its image {item.shape}"
        )
    return np.where(answered == 0, np.uint8(UNANSWERED), np.uint8(UNLABELED))


class OpenImages(Dataset[Any]):
    """Training samples of images of the pool, with maps of `unanswered` for labels.

    Args:
        pool: With `dataset` and `items`.
        store: The answers.
        read: (data set, index, label file, labels) -> sample: `read_sample` of the engine.
        blank: Any label file, for the pipeline to read before its content is replaced.
    """

    def __init__(self, pool: Any, store: LabelStore, read: Callable[..., Any], blank: Any) -> None:
        self.dataset, self.items, self.store = pool.dataset, pool.items, store
        self.read, self.blank = read, blank
        self.indices = open_images(store, pool.items)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Any:
        index = int(self.indices[place])
        return self.read(
            self.dataset, index, self.blank, labels=unanswered(self.store, self.items[index])
        )


class PoolStream(Dataset[Any]):
    """Draw -> sample; there are more draws than anybody needs.

    Args:
        dataset: Samples of images, not empty.
        seed: Of the training.
        mark: Notes in a sample that it is one of these.
    """

    def __init__(self, dataset: Any, seed: int, mark: Callable[[Any], None]) -> None:
        self.dataset, self.seed, self.mark = dataset, seed, mark

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: int) -> Any:
        pass_, place = divmod(draw, len(self.dataset))
        chosen = order(len(self.dataset), self.seed, pass_, _STREAM)[place]
        with randomness.kept():
            randomness.seed(self.seed, draw, _STREAM)
            sample = self.dataset[int(chosen)]
        self.mark(sample)
        return sample


class Draws(Sampler[int]):
    """The draws of this rank: r, r + R, r + 2 R, ... of R ranks, endless.

    dataset, seed: not used; a loader's sampler is built with them.
    """

    def __init__(self, dataset: Any = None, seed: int | None = None) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        draw, step = dist.rank(), dist.world_size()
        while True:
            yield draw
            draw += step


def stream_of(
    pool: Any,
    request: FitRequest,
    read: Callable[..., Any],
    mark: Callable[[Any], None],
) -> PoolStream | None:
    """The images of the pool with a pixel without an answer, mixed as the config says; None where
    there is none.

    Args:
        pool: With `dataset`, `items` and `mix`.
        request: Of the stretch.
        read: See `OpenImages`.
        mark: See `PoolStream`.
    """
    blank = request.out_dir / BLANK
    write_png(blank, np.full((1, 1), UNLABELED, np.uint8))
    images = OpenImages(pool, request.store, read, blank)
    if not len(images):
        return None
    return PoolStream(pool.mix(images, count=uncounted), request.seed, mark)


def uncounted(sample: Any, drawn: int) -> None:
    """These samples have no labels to be counted."""


@functools.lru_cache(maxsize=8)
def order(count: int, *numbers: int) -> I64:
    """int64 [count]: a permutation, drawn from some whole numbers >= 0."""
    return np.random.default_rng(numbers).permutation(count).astype(np.int64)
