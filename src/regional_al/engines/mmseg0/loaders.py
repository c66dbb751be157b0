"""Loaders over the labelled images, by mmseg's build_dataloader, made safe for a few of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from mmcv import Config
from mmcv.parallel import DataContainer, collate
from mmseg.datasets import build_dataloader
from torch.utils.data import ConcatDataset, Dataset

from ...runtime import distributed as dist
from ...types import UNLABELED
from ..mmseg.pool_stream import order
from ..mmseg.resumable import Resumable
from .side_maps import complete
from .unlabeled import PoolTraining

LABELS = "gt_semantic_seg"


class Drawn(Dataset[Any]):
    """`count` samples of a data set: pass after pass through it, each in an order of its own.

    mmcv's iteration-based runner starts its loader again after each pass, with a pause of two
    seconds; a few labelled images would make it pause all the time. Of these a stretch needs one
    pass. shuffle False: always in the data set's order.
    """

    def __init__(self, dataset: Any, count: int, seed: int, shuffle: bool = True) -> None:
        self.dataset, self.count, self.seed, self.shuffle = dataset, count, seed, shuffle

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> Any:
        pass_, place = divmod(item, len(self.dataset))
        if self.shuffle:
            place = int(order(len(self.dataset), self.seed, pass_)[place])
        return self.dataset[place]


class InBlocks:
    """A loader whose batches come in blocks, for mmcv's iteration-based runner; see `Resumable`."""

    def __init__(self, loader: Any, runner: Any, stretch: Resumable) -> None:
        self.loader, self.runner, self.stretch = loader, runner, stretch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return self.stretch.batches(self.loader, self.runner.iter, self.runner._max_iters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def train_loader(
    cfg: Config,
    dataset: Any,
    seed: int,
    iterations: int | None,
    more: PoolTraining | None = None,
) -> Any:
    """The loader of a training stretch; iterations: how many it is to last, None: an epoch; more:
    images of the pool beside the labelled ones of each batch (not in epochs).

    An epoch shorter than one batch repeats the images, and a last batch of a single image, which
    batch norm cannot take, is dropped.
    """
    options = loader_options(cfg, "train_dataloader", seed)
    batch = options["samples_per_gpu"] * dist.world_size()
    if iterations is not None:
        shuffle = bool(options.pop("shuffle", True))
        dataset = Drawn(dataset, max(iterations, 1) * batch, seed, shuffle)
        if more is not None:
            own = options["samples_per_gpu"]
            dataset = more.both(dataset, own)
            options["samples_per_gpu"] = own + more.images(own)
        return padding(
            build_dataloader(dataset, **{**options, "shuffle": False, "drop_last": True})
        )
    if len(dataset) < batch:
        dataset = ConcatDataset([dataset] * -(-batch // len(dataset)))
    own = -(-len(dataset) // dist.world_size())
    if options["samples_per_gpu"] > 1 and own % options["samples_per_gpu"] == 1:
        options["drop_last"] = True
    return padding(build_dataloader(dataset, **options))


def padding(loader: Any) -> Any:
    """The loader, whose batches are made by `collated`."""
    size = loader.collate_fn.keywords["samples_per_gpu"]
    loader.collate_fn = functools.partial(collated, samples_per_gpu=size)
    return loader


def collated(samples: list[Any], samples_per_gpu: int) -> Any:
    """A batch as mmcv's `collate` makes it, but label maps of images smaller than the largest are
    padded with 255: mmseg's DefaultFormatBundle leaves it at 0, which is a class.

    Args:
        samples: Of a training pipeline.
        samples_per_gpu: Of mmcv's `collate`.
    """
    complete(samples, LABELS)
    for sample in samples:
        labels = sample.get(LABELS) if isinstance(sample, dict) else None
        if isinstance(labels, DataContainer) and labels.stack:
            sample[LABELS] = DataContainer(
                labels.data, stack=True, padding_value=UNLABELED, pad_dims=labels.pad_dims
            )
    return collate(samples, samples_per_gpu=samples_per_gpu)


def val_loader(cfg: Config, dataset: Any, seed: int) -> Any:
    """The loader of mmseg's EvalHook, one image at a time as in `train_segmentor`."""
    options = loader_options(cfg, "val_dataloader", seed)
    given = cfg.data.get("val_dataloader", {})
    return build_dataloader(dataset, **{**options, "samples_per_gpu": 1, "shuffle": False, **given})


def loader_options(cfg: Config, key: str, seed: int) -> dict[str, Any]:
    """Arguments of build_dataloader as mmseg's train_segmentor collects them; what needs workers or
    CUDA is switched off where there are none."""
    sets = ("train", "val", "test", "train_dataloader", "val_dataloader", "test_dataloader")
    options: dict[str, Any] = {
        "num_gpus": 1,
        "dist": dist.active(),
        "seed": seed,
        "drop_last": True,
        "pin_memory": torch.cuda.is_available(),
        **{name: value for name, value in cfg.data.items() if name not in sets},
        **cfg.data.get(key, {}),
    }
    if not options.setdefault("workers_per_gpu", 0):
        options["persistent_workers"] = False
        options.pop("prefetch_factor", None)
    if not torch.cuda.is_available():
        options["pin_memory"] = False
    return options
