"""A labelled source data set beside the pool: `source_dataloader=dict(...)` in a 0.x config.

Every training iteration takes a batch of the labelled part of the pool and, under the key
'source', a batch of the source; `with_source` makes a segmentor add their losses. It stays one
`train_step` of the model that mmcv wraps, and parameters keep their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmcv import Config
from mmcv.parallel import DataContainer
from torch.utils.data import DataLoader, Dataset

from ...checks import check_keys, integer
from ...errors import ConfigError, DataError, UnsupportedError
from ...runtime import distributed as dist
from ...runtime.shared_memory import PREFETCH
from ...types import UNLABELED, LabelSpace
from ..mmseg.domains import KEY, SOURCE, check_label_space, loss_weight, mixed, of_source
from ..mmseg.ignored import make_void
from ..specs import first_line
from .config import phases, schedule
from .loaders import LABELS, Drawn, collated
from .pool import MASK, build_dataset, image_path, label_space, leaves, loads_annotations, locate

KEYS = ("samples_per_gpu", "workers_per_gpu", "dataset", "loss_weight")
ALONE = "of_source"
"""Key of a batch of the source alone, when the pool has no label yet."""
APART = 1_000_003
"""Between the seeds of both domains, so that data sets of one size are not drawn in one order."""


class SumOfDomains:
    """Mixin of a segmentor: loss(target) + source_weight * loss(source), each by the parent's
    `forward_train` on that domain alone: averaged over its own labelled pixels, with batch norm
    over its own images. The source's entries are named 'source.<name>'."""

    source_weight: float

    def forward_train(
        self, img: Any, img_metas: Any, source: Any = None, of_source: bool = False, **truth: Any
    ) -> dict[str, Any]:
        """Losses of all domains of the batch, the source first."""
        parent: Any = super()
        if of_source:
            return weighted(parent.forward_train(img, img_metas, **truth), self.source_weight)
        losses = {}
        if source is not None:
            losses = weighted(parent.forward_train(**source), self.source_weight)
        losses.update(parent.forward_train(img, img_metas, **truth))
        return losses


weighted = of_source


def with_source(model: Any, weight: float) -> Any:
    """Make a segmentor train on both domains, in place."""
    model.__class__ = mixed(SumOfDomains, type(model))
    model.source_weight = weight
    return model


@dataclass(frozen=True)
class Source:
    """The source domain.

    Args:
        images: Training samples by their own pipeline.
        batch_size: Images per process and iteration.
        weight: Of its losses.
        num_workers: In addition to those of the pool.
        ignored: The train id that is void.
    """

    images: SourceImages
    batch_size: int
    weight: float
    num_workers: int = 0
    ignored: int = UNLABELED

    def loader(self, loader: Any | None, options: Mapping[str, Any], iterations: int) -> Any:
        """A loader of the pool's labelled images with this domain in every batch.

        Args:
            loader: Over the pool's samples in iterations; None: there is no labelled image yet.
            options: Of mmseg's build_dataloader for the pool.
            iterations: How many it is to last.
        """
        counts = (0 if loader is None else int(options["samples_per_gpu"]), self.batch_size)
        ranks, seed = dist.world_size(), int(options["seed"] or 0) + APART
        images = Drawn(self.images, iterations * self.batch_size * ranks, seed)
        workers = int(options["workers_per_gpu"]) + self.num_workers
        ahead = options.get("prefetch_factor") or PREFETCH
        return DataLoader(
            Domains(None if loader is None else loader.dataset, images),
            batch_sampler=Batches(counts, iterations),
            num_workers=workers,
            collate_fn=by_domain,
            pin_memory=bool(options["pin_memory"]),
            worker_init_fn=None if loader is None else loader.worker_init_fn,
            prefetch_factor=ahead if workers else None,
        )


class SourceImages(Dataset[Any]):
    """The source's training samples."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            sample = self.dataset[index]
        except Exception as error:  # cv2, Pillow and transforms raise all kinds
            raise DataError(
                f"{self.path(index)} cannot be read or transformed: {first_line(error)}"
            ) from None
        if not isinstance(sample, Mapping) or not all(
            isinstance(sample.get(key), DataContainer) for key in ("img", LABELS)
        ):
            raise ConfigError(
                f"{KEY}.dataset.pipeline gives no labels: it needs LoadAnnotations, "
                "DefaultFormatBundle and Collect(keys=['img', 'gt_semantic_seg'])"
            )
        shapes = [tuple(sample[key].data.shape[-2:]) for key in ("img", LABELS)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{self.path(index)} and its mask have different sizes, {shapes[0]} and "
                f"{shapes[1]}: leave it out, or resize both with dict(type='Resize', "
                "img_scale=(width, height))"
            )
        return sample

    def path(self, index: int) -> Any:
        """The file of an image."""
        return image_path(*locate(self.dataset, index))


class Domains(Dataset[Any]):
    """(domain, sample): the samples of the pool, then those of the source."""

    def __init__(self, target: Any | None, source: Any) -> None:
        self.target: Any = () if target is None else target
        self.source, self.first = source, len(self.target)

    def __len__(self) -> int:
        return self.first + len(self.source)

    def __getitem__(self, index: int) -> tuple[bool, Any]:
        if index < self.first:
            return False, self.target[index]
        return True, self.source[index - self.first]


class Batches:
    """This rank's batches of indices into `Domains`: counts[0] of the target and counts[1] of the
    source. Ranks take turns, as in torch's DistributedSampler."""

    def __init__(self, counts: tuple[int, int], iterations: int) -> None:
        self.counts, self.iterations = counts, iterations

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self) -> Iterator[list[int]]:
        rank, ranks = dist.rank(), dist.world_size()
        target, source = self.counts
        first = target * ranks * self.iterations
        for number in range(self.iterations):
            yield [(number * target + place) * ranks + rank for place in range(target)] + [
                first + (number * source + place) * ranks + rank for place in range(source)
            ]


def by_domain(samples: list[tuple[bool, Any]]) -> dict[str, Any]:
    """The pool's batch with the source's under 'source'; of the source alone, it with `ALONE`."""
    parts = {domain: [sample for of, sample in samples if of is domain] for domain in (False, True)}
    found = {
        domain: collated(part, samples_per_gpu=len(part)) for domain, part in parts.items() if part
    }
    if False not in found:
        return {**found[True], ALONE: True}
    return {**found[False], SOURCE: found[True]}


def build_source(
    cfg: Config, space: LabelSpace, limit: int | None = None, ignored: int = UNLABELED
) -> Source | None:
    """From `source_dataloader`; None without it.

    Args:
        cfg: The config.
        space: Of the pool.
        limit: Its first images only.
        ignored: The train id that the heads ignore.

    Raises:
        ConfigError, DataError, UnsupportedError: In one line that names the key.
    """
    spec = cfg.get(KEY)
    if spec is None:
        return None
    check_keys(KEY, spec, KEYS)
    if "max_iters" not in schedule(cfg) or len(phases(cfg)) > 1:
        raise UnsupportedError(
            f"{KEY} needs training in iterations, because an epoch over a few labelled images "
            "hardly sees the source: runner=dict(type='IterBasedRunner', max_iters=...) and "
            "workflow=[('train', 1)]"
        )
    weight = loss_weight(spec.get("loss_weight", 1.0))
    key, default = f"{KEY}.dataset", cfg.data.get("samples_per_gpu") or 1
    dataset = build_dataset(spec.get("dataset"), key, limit)
    if not len(dataset):
        raise DataError(f"{key} holds no image: check its data_root, img_dir and img_suffix")
    for leaf in leaves(dataset):
        own = label_space(leaf, loads_annotations(leaf, key), ignored)
        make_void(leaf.pipeline.transforms, MASK, ignored)
        check_label_space(own, space, "data.train", "classes={}")
    return Source(
        SourceImages(dataset),
        integer(f"{KEY}.samples_per_gpu", spec.get("samples_per_gpu", default), 1),
        weight,
        integer(f"{KEY}.workers_per_gpu", spec.get("workers_per_gpu") or 0, 0),
        ignored,
    )
