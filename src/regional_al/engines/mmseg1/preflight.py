"""What can be checked before any training, in one line each; the pool's annotations stay shut."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from ...checks import integer, within
from ...config.unlabeled import Unlabeled
from ...errors import ConfigError, DataError, RegionalALError, UnsupportedError
from ...runtime import distributed as dist
from ...runtime.progress import progress
from ...runtime.shared_memory import PREFETCH, Load
from ...store.images import image_size, read_ids, write_png
from ...types import I64, JSON, UNLABELED, LabelSpace
from ..mmseg.checkpoints import check_fits, is_remote, read_checkpoint, remote_weights
from ..mmseg.config_file import MaskCounts, check_classes, check_ids
from ..mmseg.domains import KEY as SOURCE_KEY
from ..mmseg.domains import SOURCE
from ..mmseg.head_probe import check_blank, check_heads
from ..mmseg.ignored import check_dataset
from ..mmseg.loss_average import check_used
from ..mmseg.memory import batch_bytes, check_batch, check_shared_memory
from ..mmseg.mixing import OneImage
from ..mmseg.rehearsal import invented_mask, unchanged
from ..mmseg.self_training import check_model as check_segmentor
from ..mmseg.self_training import settings_of
from ..mmseg.side_maps import SideMap
from ..mmseg.side_training import blank_maps
from ..mmseg.side_training import check_model as check_sides
from ..mmseg.training import check_start
from ..specs import type_name
from .checkpoints import fetch, safe_loading
from .config import first_line, inference_pipeline
from .fit import in_epochs, schedule_of, validation_within
from .hooks import quiet_warnings
from .losses import Generation1
from .pool import FIX, Pool, label_space, leaves, locate, read_sample
from .predict import Predictor, build_model
from .rehearsal import rehearse
from .source import Source

log = logging.getLogger("regional_al")
NEEDED = ("model", "train_dataloader", "train_cfg", "optim_wrapper", "val_dataloader")
LENGTH_OF = {"IterBasedTrainLoop": "max_iters", "EpochBasedTrainLoop": "max_epochs"}
"""Loop of mmengine -> the key of its length."""


def cuda() -> bool:
    """True when training will be on CUDA devices."""
    return bool(torch.cuda.is_available())


def check_keys(cfg: Config) -> None:
    """Refuse a config without the keys that a run needs."""
    for key in NEEDED:
        if not isinstance(cfg.get(key), Mapping):
            why = "; each round is measured on it" if key == "val_dataloader" else ""
            raise ConfigError(f"the config has no {key}=dict(...){why}")
    for key in ("train_dataloader", "val_dataloader"):
        if not isinstance(cfg[key].get("dataset"), Mapping):
            raise ConfigError(f"{key} has no dataset=dict(type=...)")
    if "max_iters" not in cfg.train_cfg and "max_epochs" not in cfg.train_cfg:
        raise ConfigError("train_cfg needs max_iters=... or max_epochs=...")
    for kind, length in LENGTH_OF.items():
        if type_name(cfg.train_cfg) == kind and length not in cfg.train_cfg:
            other = next(key for key in LENGTH_OF.values() if key != length)
            raise ConfigError(
                f"train_cfg.type={kind!r} has {length}=..., not {other}: give {length}, or "
                f"the loop that counts {other.removeprefix('max_')}"
            )
    for key, names, least in (
        ("train_cfg", ("max_iters", "max_epochs", "val_interval"), 1),
        ("train_cfg", ("val_begin",), 0),
        ("train_dataloader", ("batch_size",), 1),
        ("train_dataloader", ("num_workers",), 0),
        ("val_dataloader", ("num_workers",), 0),
    ):
        for name in names:
            if name in cfg[key]:
                integer(f"{key}.{name}", cfg[key][name], least)
    optimizer = cfg.optim_wrapper.get("optimizer")
    if isinstance(optimizer, Mapping) and "lr" in optimizer:
        within("optim_wrapper.optimizer.lr", optimizer["lr"], 0, math.inf)


def check(
    cfg: Config,
    pool: Pool,
    validation: Any,
    sparse: bool,
    source: Source | None = None,
    unscored: int = UNLABELED,
) -> None:
    """All checks, cheap ones first; an error on one rank is raised on all. unscored: the train id
    that the evaluation leaves out."""
    check_classes(cfg.model, pool.label_space)
    check_start(cfg.get("acquisition") or {}, cfg.get("load_from"), schedule_of(cfg))
    check_load_from(cfg)
    check_weights(cfg)
    error: RegionalALError | None = None
    try:
        counts = check_validation(cfg, validation, pool.label_space, unscored)
    except RegionalALError as caught:
        error = caught
    dist.raise_together(error)
    counts.judge(pool.label_space, "val_dataloader.dataset", unscored)
    try:
        if source is not None:
            check_masks(
                source.images.dataset, "source_dataloader.dataset", SOURCE, False, source.ignored
            )
        with unchanged():
            check_model(cfg, pool, sparse, source)
            size = int(cfg.train_dataloader.get("batch_size") or 1)
            check_batch("train_dataloader.batch_size", size, invented_samples(pool, 0.0))
            check_shared_memory(worker_loads(cfg, pool, source))
        for _ in progress(range(1), "trying a training iteration and an evaluation"):
            rehearse(cfg, pool, validation, source, unscored)
    except RegionalALError as caught:
        error = caught
    dist.raise_together(error)


def check_load_from(cfg: Config) -> None:
    """`load_from` exists; say so where it only makes the first query."""
    acquisition = cfg.get("acquisition") or {}
    init, source = acquisition.get("round_init", "scratch"), cfg.get("load_from")
    if source and not isinstance(source, str):
        raise ConfigError(f"load_from={source!r} must be the name of a file")
    if source and "://" not in source and not os.path.isfile(source):
        raise ConfigError(f"load_from={source!r} does not exist")
    if source and init == "scratch" and acquisition.get("warm_start", 0) is None and dist.is_main():
        log.warning(
            "load_from only makes the first query, since acquisition.round_init='scratch'; to "
            "train from it, set round_init='pretrained' (one run with queries) or 'continue'"
        )


def check_weights(cfg: Config) -> None:
    """Weights that come from the network are there, or are fetched, once; files can be read."""

    def look() -> JSON:
        for key, source, option in remote_weights(cfg.model):
            fetch(source, key, start_of(cfg.model, option))
        source = cfg.get("load_from")
        if source and is_remote(source):
            fetch(source, "load_from", "give a file")
        elif source:
            read_checkpoint(source)
        return {}

    dist.on_main(look)


def start_of(model: Any, option: str, which: str = "") -> str:
    """How a model gets weights to start from; option: key that leaves out those of a file, which:
    of the file. SAN (with a text encoder) cannot be initialised without one."""
    if "text_encoder" in model:
        return f"give a file of CLIP weights{which} by --cfg-options model.pretrained=FILE"
    return f"give a file{which}, or random weights by --cfg-options {option}=None"


def check_validation(
    cfg: Config, dataset: Any, space: LabelSpace, unscored: int = UNLABELED
) -> MaskCounts:
    """Validation images and masks are there, of one size, with known ids (this rank's share)."""
    inference_pipeline(cfg)
    if len(dataset) == 0:
        raise DataError("val_dataloader.dataset holds no image: check data_root and data_prefix")
    for leaf in leaves(dataset):
        check_dataset(leaf, unscored, "val_dataloader.dataset", FIX)
    of_val = label_space(locate(dataset, 0)[0])
    if of_val.class_names != space.class_names:
        raise ConfigError(
            f"val_dataloader.dataset has classes {of_val.class_names}, train_dataloader.dataset "
            f"{space.class_names}: they must be the same"
        )
    return check_masks(dataset, "val_dataloader.dataset", "validation", ignored=unscored)


def check_masks(
    dataset: Any, key: str, what: str, sized: bool = True, ignored: int = UNLABELED
) -> MaskCounts:
    """This rank's share of the masks of a data set; key: of its config, what: for the progress.
    sized: refuse one that is not of its image's size; otherwise that is only told. ignored: the
    train id that is void."""
    mine = range(dist.rank(), len(dataset), dist.world_size())
    spaces: dict[int, LabelSpace] = {}  # of the data sets that are joined
    counts = MaskCounts()

    def look(index: int) -> tuple[I64, LabelSpace]:
        leaf, inner = locate(dataset, index)
        space = spaces[id(leaf)]
        return check_mask(leaf.get_data_info(inner), space, key, sized), space

    for leaf in leaves(dataset):
        spaces[id(leaf)] = label_space(leaf, key, ignored)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        for found in progress(threads.map(look, mine), f"checking {what} masks", len(mine)):
            counts.add(*found)
    return counts


def check_mask(info: Mapping[str, Any], space: LabelSpace, key: str, sized: bool) -> I64:
    """Pixels of each id of one mask of `key`. Raises DataError naming the file."""
    path = info.get("seg_map_path")
    if path is None:
        raise ConfigError(f"{key}.data_prefix has no seg_map_path")
    size = image_size(Path(info["img_path"]))
    mask = read_ids(Path(path))
    if mask.shape != size:
        text = f"{path} is {mask.shape[0]}x{mask.shape[1]}, its image {size[0]}x{size[1]} (HxW)"
        if sized:
            raise DataError(text)
        log.warning("%s: right if the pipeline resizes both to one size", text)
    return check_ids(path, mask, space)


def check_model(cfg: Config, pool: Pool, sparse: bool, source: Source | None = None) -> None:
    """The model is built and initialised; its loss of invented labels is finite, unlabelled pixels
    stay out of it when labels are sparse, and it predicts an image. Finds crops and sizes that do
    not fit, missing weights and absent ops."""
    model = build_model(cfg)
    try:
        with quiet_warnings(), safe_loading():
            model.init_weights()
    except RegionalALError:
        raise
    except Exception as error:  # a file that is not there or does not fit
        raise ConfigError(
            f"the model's pretrained weights cannot be read ({first_line(error)}): "
            f"{start_of(cfg.model, 'model.backbone.init_cfg', ' that is there')}"
        ) from None
    if cfg.get("load_from") and not is_remote(cfg.load_from):
        check_fits(cfg.load_from, model, "load_from")
    check_losses(model.train(), pool, sparse)
    check_used(model)
    settings = settings_of(cfg)
    if settings is not None:
        check_unlabeled(model, pool, settings)
    with failing(str(pool.items[0].image)), quiet_warnings():
        check_sides(cfg, pool, model, partial(invented_images, model, pool), invented_samples)
    if source is not None:
        loss = source_loss(model, source)
        if not np.isfinite(loss):
            raise UnsupportedError(f"the model's loss is {loss} on a batch of source_dataloader")
    Predictor(cfg).predict_one(model.eval(), pool.dataset, pool.items)


def check_losses(model: Any, pool: Pool, sparse: bool) -> None:
    """The loss of two training samples of the first image is finite with invented labels; with
    sparse ones, unlabelled pixels stay out of every head's."""
    image = str(pool.items[0].image)
    if not sparse:
        loss = batch_loss(model, lambda: invented_samples(pool, 1.0), image)
        if not np.isfinite(loss):
            raise UnsupportedError(f"the model's loss is {loss} on a batch with invented labels")
        return
    with failing(image), quiet_warnings():
        blank, some = (
            model.data_preprocessor(collated(invented_samples(pool, share)), True)
            for share in (0.0, 0.5)
        )
        if not hasattr(model, "_decode_head_forward_train"):  # a segmentor of the user's own
            inputs = [one for one in model.parameters() if one.requires_grad]
            check_blank([], model(**blank, mode="loss"), inputs)
            return
        with torch.no_grad():
            features = model.extract_feat(blank["inputs"])
        check_heads(model, Generation1(), features, blank["data_samples"], some["data_samples"])


def check_unlabeled(model: Any, pool: Pool, settings: Unlabeled) -> None:
    """The segmentor gives what `acquisition.unlabeled` trains on."""
    with failing(str(pool.items[0].image)), quiet_warnings():
        images = invented_images(model, pool)
        check_segmentor(model, images, settings, pool.label_space.num_classes)


def invented_images(model: Any, pool: Pool) -> torch.Tensor:
    """The images of `invented_samples`, float [2, 3, H, W], as the model gets them."""
    samples = collated(invented_samples(pool, 1.0))
    images: torch.Tensor = model.data_preprocessor(samples, True)["inputs"]
    return images


def invented_samples(pool: Pool, share: float, sides: tuple[SideMap, ...] = ()) -> list[Any]:
    """Two training samples of the first image, of which a share is labelled at random. sides: what
    they have beside labels."""
    mask = invented_mask(pool.items[0].shape, pool.label_space, np.random.default_rng(0), share)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "invented.png"
        write_png(path, mask)
        samples = pool.mix(OneImage(lambda: read_sample(pool.dataset, 0, path, sides=sides)))
        return [samples[0] for _ in range(2)]


def worker_loads(cfg: Config, pool: Pool, source: Source | None) -> list[list[Load]]:
    """What the workers of the training and the validation loader keep in shared memory; together
    where a training validates itself, since its own workers have loaded ahead by then."""
    train, validation = cfg.train_dataloader, cfg.val_dataloader
    counts = {"train_dataloader.num_workers": int(train.get("num_workers") or 0)}
    if source is not None:  # one loader with the workers of both
        counts[f"{SOURCE_KEY}.num_workers"] = source.num_workers
    training, scoring, within = [], [], []
    if sum(counts.values()):
        samples = invented_samples(pool, 0.0, blank_maps(cfg))
        size, settings = int(train.get("batch_size") or 1), settings_of(cfg)
        more = 0 if settings is None else settings.batch_size or size
        batch = batch_bytes(samples, size + more)
        if source is not None:
            batch += batch_bytes([source.images[0]], source.batch_size)
        ahead = int(train.get("prefetch_factor") or PREFETCH)
        key = " + ".join(key for key, count in counts.items() if count)
        training.append(Load(key, batch, sum(counts.values()), ahead))
    predictor = Predictor(cfg)
    if predictor.workers():
        # `Predictor.load` has torch's own prefetch factor and batches of one image
        key, image = "val_dataloader.num_workers", predictor.images(pool.dataset, [0])[0]
        scoring.append(Load(key, batch_bytes([image], 1), predictor.workers()))
        if validates_within(cfg):
            size, workers = int(validation.get("batch_size") or 1), int(validation.num_workers)
            ahead = int(validation.get("prefetch_factor") or PREFETCH)
            within.append(Load(key, batch_bytes([image], size), workers, ahead))
    return [[*training, *within], scoring]


def validates_within(cfg: Config) -> bool:
    """Whether a training validates itself while its own workers have batches ready: not between
    epochs, when they have ended."""
    schedule = schedule_of(cfg)
    own = schedule.length is not None and schedule.continuous
    return not in_epochs(cfg) and bool(validation_within(cfg, schedule.length if own else None))


def source_loss(model: Any, source: Source) -> float:
    """Loss of one batch of the source domain."""
    images, places = source.images, [i % len(source.images) for i in range(source.batch_size)]
    return batch_loss(model, lambda: [images[i] for i in places], "source_dataloader")


def batch_loss(model: Any, read: Callable[[], list[Any]], what: str) -> float:
    """Loss of a batch of samples. Raises ConfigError naming `what` when it cannot be had."""
    with failing(what), quiet_warnings(), torch.no_grad():
        data = model.data_preprocessor(collated(read()), True)
        total, _ = model.parse_losses(model(**data, mode="loss"))
    return float(total)


def collated(samples: list[Any]) -> dict[str, list[Any]]:
    """Samples as a batch."""
    return {key: [sample[key] for sample in samples] for key in samples[0]}


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Any error, since pipelines and models raise all kinds, as a ConfigError naming `what`."""
    try:
        yield
    except RegionalALError:
        raise
    except Exception as error:
        raise ConfigError(f"a training batch of {what} fails: {first_line(error)}") from None
