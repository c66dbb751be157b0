"""What can be checked before any training, in one line each; the pool's annotations stay shut."""

from __future__ import annotations

import logging
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv import Config

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
from ..mmseg.head_probe import check_blank, check_heads, flat
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
from ..quiet import quiet_warnings
from ..specs import first_line
from .checkpoints import fetch, safe_loading
from .config import inference_pipeline, length_of
from .fit import in_epochs
from .loaders import collated, loader_options
from .losses import Generation0
from .parallel import opened
from .pool import (
    Pool,
    image_path,
    label_space,
    leaves,
    loads_annotations,
    loads_truth,
    locate,
    mask_path,
    read_sample,
    unscored_of,
)
from .predict import Predictor, build_model
from .rehearsal import rehearse
from .source import Source

log = logging.getLogger("regional_al")


def check(
    cfg: Config,
    pool: Pool,
    validation: Any,
    sparse: bool,
    source: Source | None = None,
    ignored: int = UNLABELED,
    unscored: int = UNLABELED,
) -> None:
    """All checks, cheap ones first; an error on one rank is raised on all. ignored: the train id
    that the heads ignore; unscored: the one that the evaluation leaves out."""
    check_classes(cfg.model, pool.label_space)
    check_start(cfg.get("acquisition") or {}, cfg.get("load_from"), length_of(cfg))
    check_load_from(cfg)
    check_weights(cfg)
    error: RegionalALError | None = None
    try:
        counts = check_validation(cfg, validation, pool.label_space, ignored)
    except RegionalALError as caught:
        error = caught
    dist.raise_together(error)
    counts.judge(pool.label_space, "data.val", unscored)
    try:
        if source is not None:
            check_source_masks(source)
        with unchanged():
            check_model(cfg, pool, sparse, source)
            size = int(loader_options(cfg, "train_dataloader", 0)["samples_per_gpu"])
            check_batch("data.samples_per_gpu", size, invented_samples(pool, 0.0))
            check_shared_memory(worker_loads(cfg, pool, source))
        for _ in progress(range(1), "trying a training iteration and an evaluation"):
            rehearse(cfg, pool, validation, source)
    except RegionalALError as caught:
        error = caught
    dist.raise_together(error)


def check_load_from(cfg: Config) -> None:
    """`load_from` and `resume_from` exist; say so where the former is not trained from."""
    init = (cfg.get("acquisition") or {}).get("round_init", "scratch")
    for key in ("load_from", "resume_from"):
        if cfg.get(key) and not isinstance(cfg[key], str):
            raise ConfigError(f"{key}={cfg[key]!r} must be the name of a file")
        if cfg.get(key) and not is_remote(cfg[key]) and not os.path.isfile(cfg[key]):
            raise ConfigError(f"{key}={cfg[key]!r} does not exist")
    if cfg.get("load_from") and init == "scratch" and dist.is_main():
        log.warning(
            "load_from is not trained from, since acquisition.round_init='scratch': set it to "
            "'pretrained' (each round, or one run with queries, starts there) or 'continue'"
        )


def check_weights(cfg: Config) -> None:
    """Weights that come from the network are there, or are fetched, once; files can be read."""

    def look() -> JSON:
        for key, source, option in remote_weights(cfg.model):
            fetch(source, key, f"give a file, or random weights by --cfg-options {option}=None")
        for key in ("load_from", "resume_from"):
            source = cfg.get(key)
            if source and is_remote(source):
                fetch(source, key, "give a file")
            elif source:
                read_checkpoint(source)
        return {}

    dist.on_main(look)


def check_validation(
    cfg: Config, dataset: Any, space: LabelSpace, ignored: int = UNLABELED
) -> MaskCounts:
    """Validation images and masks are there, of one size, with known ids (this rank's share).
    ignored: the train id that the heads ignore."""
    inference_pipeline(cfg)
    if len(dataset) == 0:
        raise DataError("data.val holds no image: check its data_root, img_dir and img_suffix")
    spaces: dict[int, LabelSpace] = {}
    for leaf in leaves(dataset):
        spaces[id(leaf)] = label_space(leaf, loads_truth(leaf), unscored_of(leaf))
        found = label_space(leaf, loads_truth(leaf), ignored)
        if found.class_names != space.class_names:
            raise ConfigError(
                f"data.val has classes {found.class_names}, data.train {space.class_names}: they "
                "must be the same"
            )
        if not np.array_equal(found.mask_to_train, space.mask_to_train):
            raise ConfigError(
                "data.val reads label ids otherwise than data.train: reduce_zero_label of the data "
                "set and of LoadAnnotations in data.train.pipeline must agree"
            )
    mine = range(dist.rank(), len(dataset), dist.world_size())

    counts = MaskCounts()

    def look(index: int) -> tuple[I64, LabelSpace]:
        leaf, inner = locate(dataset, index)
        own = spaces[id(leaf)]
        return check_mask(image_path(leaf, inner), mask_path(leaf, inner), own), own

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        for seen in progress(threads.map(look, mine), "checking validation masks", len(mine)):
            counts.add(*seen)
    return counts


def check_mask(
    image: Path, path: Path | None, space: LabelSpace, key: str = "data.val", sized: bool = True
) -> I64:
    """Pixels of each id of one mask of `key`. Raises DataError naming the file; sized: also where
    it is not of its image's size, which is otherwise only told."""
    if path is None:
        why = "; each round is measured on it" if key == "data.val" else ""
        raise ConfigError(f"{key} has no ann_dir{why}")
    size = image_size(image)
    mask = read_ids(path)
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
            f"the model's pretrained weights cannot be read ({first_line(error)}): give a file "
            "that is there, or random weights by --cfg-options model.pretrained=None"
        ) from None
    predictor = Predictor(cfg)
    model = model.to(predictor.device)
    for key in ("load_from", "resume_from"):
        if cfg.get(key) and not is_remote(cfg[key]):
            check_fits(cfg[key], model, key)
    try:
        with quiet_warnings():
            check_losses(model.train(), pool, sparse)
            check_used(model)
            images = partial(invented_images, pool, predictor.device)
            settings = settings_of(cfg)
            if settings is not None:
                check_segmentor(model, images(), settings, pool.label_space.num_classes)
            check_sides(cfg, pool, model, images, invented_samples)
    except RegionalALError:
        raise
    except Exception as error:  # pipelines and models raise all kinds
        raise ConfigError(
            f"a training batch of {pool.items[0].image} fails: {first_line(error)}"
        ) from None
    if source is not None:
        loss = source_loss(model, source)
        if not np.isfinite(loss):
            raise UnsupportedError(f"the model's loss is {loss} on a batch of {SOURCE_KEY}")
    predictor.predict_one(model.eval(), pool.dataset, pool.items)


def source_loss(model: Any, source: Source) -> float:
    """Loss of one batch of the source domain."""
    images, places = source.images, [i % len(source.images) for i in range(source.batch_size)]
    device = next(model.parameters()).device
    try:
        with quiet_warnings(), torch.no_grad():
            samples = [images[place] for place in places]
            batch = opened(collated(samples, samples_per_gpu=len(samples)), device)
            return sum(float(value) for _, value in flat(model.forward_train(**batch)))
    except RegionalALError:
        raise
    except Exception as error:  # pipelines and models raise all kinds
        raise ConfigError(f"a training batch of {SOURCE_KEY} fails: {first_line(error)}") from None


def check_source_masks(source: Source) -> None:
    """This rank's share of the source's masks are there and hold known ids; one that is not of its
    image's size is told."""
    dataset, key = source.images.dataset, f"{SOURCE_KEY}.dataset"
    spaces = {
        id(leaf): label_space(leaf, loads_annotations(leaf, key), source.ignored)
        for leaf in leaves(dataset)
    }

    def look(index: int) -> None:
        leaf, inner = locate(dataset, index)
        check_mask(image_path(leaf, inner), mask_path(leaf, inner), spaces[id(leaf)], key, False)

    mine = range(dist.rank(), len(dataset), dist.world_size())
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        for _ in progress(threads.map(look, mine), f"checking {SOURCE} masks", len(mine)):
            pass


def check_losses(model: Any, pool: Pool, sparse: bool) -> None:
    """The loss of two training samples of the first image is finite with invented labels; with
    sparse ones, unlabelled pixels stay out of every head's."""
    shares = (0.0, 0.5) if sparse else (1.0,)
    device = next(model.parameters()).device
    batches = [
        opened(collated(invented_samples(pool, share), samples_per_gpu=2), device)
        for share in shares
    ]
    if sparse:
        blank, some = batches
        if not hasattr(model, "_decode_head_forward_train"):  # a segmentor of the user's own
            inputs = [one for one in model.parameters() if one.requires_grad]
            check_blank([], model.forward_train(**blank), inputs)
            return
        with torch.no_grad():
            features = model.extract_feat(blank["img"])
        truths = (batch["gt_semantic_seg"] for batch in (blank, some))
        check_heads(model, Generation0(blank["img_metas"]), features, *truths)
        return
    with torch.no_grad():
        losses = model.forward_train(**batches[0])
    # mmseg's own sum of them (_parse_losses) is a collective, and one rank may have stopped before
    loss = sum(float(value) for _, value in flat(losses))
    if not np.isfinite(loss):
        raise UnsupportedError(f"the model's loss is {loss} on a batch with invented labels")


def invented_images(pool: Pool, device: torch.device) -> torch.Tensor:
    """The images of `invented_samples`, float [2, 3, H, W]."""
    batch = collated(invented_samples(pool, 1.0), samples_per_gpu=2)
    images: torch.Tensor = opened(batch, device)["img"]
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
    where a training validates itself, since its own workers have loaded ahead by then (not between
    epochs, when they have ended)."""
    training, scoring = [], []
    options = loader_options(cfg, "train_dataloader", 0)
    counts = {workers_key(cfg, "train_dataloader"): int(options["workers_per_gpu"])}
    if source is not None:  # one loader with the workers of both
        counts[f"{SOURCE_KEY}.workers_per_gpu"] = source.num_workers
    if sum(counts.values()):
        size, settings = int(options["samples_per_gpu"]), settings_of(cfg)
        more = 0 if settings is None else settings.batch_size or size
        batch = batch_bytes(invented_samples(pool, 0.0, blank_maps(cfg)), size + more)
        if source is not None:
            batch += batch_bytes([source.images[0]], source.batch_size)
        ahead = int(options.get("prefetch_factor") or PREFETCH)
        key = " + ".join(key for key, count in counts.items() if count)
        training.append(Load(key, batch, sum(counts.values()), ahead))
    predictor = Predictor(cfg)
    if predictor.workers():
        # `Predictor.load` has torch's own prefetch factor and batches of one image
        batch = batch_bytes([predictor.images(pool.dataset, [0])[0]], 1)
        scoring.append(Load(workers_key(cfg, "val_dataloader"), batch, predictor.workers()))
    within = scoring if validates_within(cfg) else []
    return [[*training, *within], scoring]


def validates_within(cfg: Config) -> bool:
    """Whether a training evaluates itself while its own workers have batches ready."""
    interval, length = (cfg.get("evaluation") or {}).get("interval", 1), length_of(cfg).length
    never = length is not None and isinstance(interval, int) and interval > length
    return bool(cfg.get("evaluation")) and not never and not in_epochs(cfg)


def workers_key(cfg: Config, loader: str) -> str:
    """Where the config says how many workers a loader has."""
    own = "workers_per_gpu" in cfg.data.get(loader, {})
    return f"data.{loader}.workers_per_gpu" if own else "data.workers_per_gpu"
