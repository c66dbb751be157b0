"""A labelled source data set beside the pool: `source_dataloader=dict(...)` in the config.

Active domain adaptation (Ning et al., ICCV 2021; Xie et al., CVPR 2022): every training iteration
takes a batch of the source, which is labelled throughout, and a batch of the labelled part of the
pool. Both come from one loader, each sample saying its domain; `with_source` makes a
segmentor add their losses. Everything stays one forward pass of the model that mmengine wraps, so
DistributedDataParallel, mixed precision and gradient accumulation work unchanged, and parameters
keep their names.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS
from mmseg.registry import MODELS
from torch.utils.data import Dataset, Sampler

from ...checks import check_keys, integer
from ...errors import ConfigError, DataError, UnsupportedError
from ...types import UNLABELED, LabelSpace
from ..mmseg.domains import (
    KEY,
    SOURCE,
    TARGET,
    check_label_space,
    loss_weight,
    mixed,
    of_source,
)
from ..mmseg.ignored import make_void
from .config import dicts, first_line
from .pool import MASK, build_dataset, label_space, leaves

DOMAIN = "domain"  # key of a sample's metainfo; absent: target


class SplitByDomain:
    """Mixin of a data preprocessor: in training, each domain is stacked on its own (they may have
    different sizes). {'inputs': {domain: [N, 3, H, W]}, 'data_samples': {domain: [...]}}."""

    def forward(self, data: Any, training: bool = False) -> Any:
        """As the parent, a domain at a time."""
        parent: Any = super()
        if not training:
            return parent.forward(data, training)
        places: dict[str, list[int]] = {}
        for place, sample in enumerate(data["data_samples"]):
            places.setdefault(sample.get(DOMAIN, TARGET), []).append(place)
        parts = {
            domain: parent.forward(
                {key: [values[i] for i in mine] for key, values in data.items()}, training
            )
            for domain, mine in places.items()
        }
        keys = next(iter(parts.values()))
        return {key: {domain: part[key] for domain, part in parts.items()} for key in keys}


class SumOfDomains:
    """Mixin of a segmentor: loss(target) + source_weight * loss(source), each by the parent's
    `loss` on that domain alone: averaged over its own labelled pixels, with batch norm over its
    own images. The source's entries are named 'source.<name>'."""

    source_weight: float

    def loss(self, inputs: Any, data_samples: Any) -> dict[str, Any]:
        """Losses of all domains of the batch, the source first."""
        parent: Any = super()
        if not isinstance(inputs, Mapping):
            whole: dict[str, Any] = parent.loss(inputs, data_samples)
            return whole
        losses: dict[str, Any] = {}
        if SOURCE in inputs:
            own = parent.loss(inputs[SOURCE], data_samples[SOURCE])
            losses.update(of_source(own, self.source_weight))
        if TARGET in inputs:
            losses.update(parent.loss(inputs[TARGET], data_samples[TARGET]))
        return losses


@MODELS.register_module(name="WithSource")  # type: ignore[untyped-decorator]
def with_source(segmentor: Any, weight: float, data_preprocessor: Any = None) -> Any:
    """Build a segmentor from its config and make it train on both domains.

    data_preprocessor: of the config's top level, for a segmentor that has none of its own.
    """
    spec = copy.deepcopy(segmentor)
    if data_preprocessor is not None:
        spec.setdefault("data_preprocessor", data_preprocessor)
    model = MODELS.build(spec)
    model.__class__ = mixed(SumOfDomains, type(model))
    model.source_weight = weight
    preprocessor = model.data_preprocessor
    preprocessor.__class__ = mixed(SplitByDomain, type(preprocessor))
    return model


def static_graph(cfg: Config) -> None:
    """With gradient checkpointing, tell DistributedDataParallel that parameters are used more than
    once in a step and that it stays so, in place."""
    if not any(spec.get("with_cp") for spec in dicts(cfg.model)):
        return
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
        **(cfg.get("model_wrapper_cfg") or {}),
        "static_graph": True,
    }


KEYS = ("batch_size", "num_workers", "persistent_workers", "sampler", "dataset", "loss_weight")
SHUFFLED = {"type": "InfiniteSampler", "shuffle": True}


@dataclass(frozen=True)
class Source:
    """The source domain. images: samples that say their domain; batch_size: per process and
    iteration; sampler: config of a sampler over the images; weight: of the source's losses;
    ignored: the train id that is void."""

    images: SourceImages
    batch_size: int
    sampler: Mapping[str, Any]
    weight: float
    num_workers: int = 0
    persistent_workers: bool = False
    ignored: int = UNLABELED

    def loader(self, loader: Mapping[str, Any]) -> dict[str, Any]:
        """`loader` (of the labelled images of the pool) with this domain in every batch; the source
        alone when there is no labelled image yet."""
        target = loader["dataset"]
        batch = int(loader.get("batch_size") or 1) if len(target) else 0
        workers = int(loader.get("num_workers") or 0) + self.num_workers
        both: dict[str, Any] = {
            **loader,
            "dataset": Domains(target, self.images),
            "batch_size": batch + self.batch_size,
            "num_workers": workers,
            "sampler": {
                "type": DomainSampler,
                "counts": (batch, self.batch_size),
                "samplers": (loader.get("sampler") or SHUFFLED, self.sampler),
            },
        }
        if workers and self.persistent_workers:
            both["persistent_workers"] = True
        return both

    def rewrite(self, cfg: Config) -> None:
        """Make the segmentor of a config one that adds the losses of both domains, in place."""
        static_graph(cfg)
        cfg.model = {"type": "mmseg.WithSource", "segmentor": cfg.model, "weight": self.weight}


def build_source(cfg: Config, space: LabelSpace, ignored: int = UNLABELED) -> Source | None:
    """From `source_dataloader`; None without it. space: of the pool; ignored: the train id that the
    heads ignore.

    Raises ConfigError, DataError or UnsupportedError in one line that names the key.
    """
    spec = cfg.get(KEY)
    if spec is None:
        return None
    check_keys(KEY, spec, KEYS)
    if "max_iters" not in cfg.train_cfg:
        raise UnsupportedError(
            f"{KEY} needs training in iterations, because an epoch over a few labelled images "
            "hardly sees the source: train_cfg=dict(type='IterBasedTrainLoop', max_iters=...)"
        )
    if cfg.train_dataloader.get("batch_sampler") is not None:
        raise UnsupportedError(f"{KEY} and train_dataloader.batch_sampler: leave the latter out")
    weight = loss_weight(spec.get("loss_weight", 1.0))
    default = cfg.train_dataloader.get("batch_size") or 1
    dataset = build_dataset(spec.get("dataset"), f"{KEY}.dataset")
    if not len(dataset):
        raise DataError(f"{KEY}.dataset holds no image: check data_root and data_prefix")
    for leaf in leaves(dataset):
        own = label_space(leaf, f"{KEY}.dataset", ignored)
        make_void(leaf.pipeline.transforms, MASK, ignored)
        check_label_space(own, space, "train_dataloader.dataset", "metainfo=dict(classes={})")
    return Source(
        SourceImages(dataset),
        integer(f"{KEY}.batch_size", spec.get("batch_size", default), 1),
        spec.get("sampler") or SHUFFLED,
        weight,
        integer(f"{KEY}.num_workers", spec.get("num_workers") or 0, 0),
        bool(spec.get("persistent_workers")),
        ignored,
    )


class SourceImages(Dataset[Any]):
    """The source's training samples by their own pipeline, each with metainfo `domain`."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            sample = self.dataset[index]
        except Exception as error:  # cv2, Pillow and transforms raise all kinds
            path = self.dataset.get_data_info(index).get("img_path", f"source image {index}")
            raise DataError(f"{path} cannot be read or transformed: {first_line(error)}") from None
        data = sample.get("data_samples")
        if data is None or "gt_sem_seg" not in data:
            raise ConfigError(
                f"{KEY}.dataset.pipeline gives no labels: it needs LoadAnnotations and "
                "PackSegInputs"
            )
        shapes = [tuple(tensor.shape[-2:]) for tensor in (sample["inputs"], data.gt_sem_seg.data)]
        if shapes[0] != shapes[1]:
            path = self.dataset.get_data_info(index).get("img_path")
            raise DataError(
                f"{path} and its mask have different sizes, {shapes[0]} and {shapes[1]}: leave it "
                "out, or resize both with dict(type='Resize', scale=(width, height))"
            )
        data.set_metainfo({DOMAIN: SOURCE})
        return sample


class Domains(Dataset[Any]):
    """The labelled images of the pool, then those of the source (or of another data set)."""

    def __init__(self, target: Any, source: Any) -> None:
        self.target, self.source = target, source

    @property
    def metainfo(self) -> Any:
        """Of the pool's data set."""
        return self.target.metainfo

    def __len__(self) -> int:
        return len(self.target) + len(self.source)

    def __getitem__(self, index: int) -> Any:
        first = len(self.target)
        return self.target[index] if index < first else self.source[index - first]


class DomainSampler(Sampler[int]):
    """Endless indices into `Domains`: counts[0] of the target, counts[1] of the source, and so on,
    so that a loader's batch of sum(counts) holds exactly those. Ranks draw as their samplers do.

    samplers: configs, one for each domain (a finite one starts again with its next epoch); one
    whose count is 0 is not built. seed: the same on all ranks, or None: the samplers agree on one.
    """

    def __init__(
        self,
        dataset: Domains,
        counts: Sequence[int],
        samplers: Sequence[Mapping[str, Any]],
        seed: int | None = None,
    ) -> None:
        self.size = len(dataset)
        self.parts: list[tuple[int, int, Any]] = []  # (first index, count, sampler)
        first = 0
        for domain, count, spec in zip(
            (dataset.target, dataset.source), counts, samplers, strict=True
        ):
            if count:
                # Seeds differ, so that data sets of one size are not drawn in one order.
                own = None if seed is None else seed + 1_000_003 * len(self.parts)
                built = DATA_SAMPLERS.build(
                    dict(spec), default_args={"dataset": domain, "seed": own}
                )
                self.parts.append((first, count, built))
            first += len(domain)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        streams = [(first, count, endless(sampler)) for first, count, sampler in self.parts]
        while True:
            for first, count, stream in streams:
                for index in itertools.islice(stream, count):
                    yield first + index


def endless(sampler: Any) -> Iterator[int]:
    """A sampler's indices for ever. Raises DataError for one that gives none."""
    for epoch in itertools.count():
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        empty = True
        for index in sampler:
            empty = False
            yield int(index)
        if empty:
            raise DataError(f"sampler {type(sampler).__name__} draws no image")
