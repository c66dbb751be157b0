"""What a training stretch has beside labels: side maps, and losses that read them. No framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ...config.region_classes import KEY as REGIONS
from ...config.region_classes import NO_FEATURES
from ...errors import UnsupportedError
from ...store.labels import LabelStore
from ...types import UNLABELED
from ..views import classifier
from . import region_classes
from .answered_units import MAP as UNITS
from .answered_units import unit_map
from .dense_heads import check_logits
from .label_source import MAP as SOURCE
from .label_source import source_map
from .loss_average import machine_weight
from .rehearsal import invented_mask
from .side_losses import AddedLoss
from .side_maps import SideMap, check_follows
from .unlabeled import pixel_logits


@dataclass(frozen=True)
class SideTraining:
    """What there is in a stretch.

    Args:
        maps: Side maps of training samples.
        added: Losses beside those of the decode head.
        sets: Whether images are trained on of which only class sets of regions are known.
    """

    maps: tuple[SideMap, ...]
    added: tuple[AddedLoss, ...]
    sets: bool

    def reading(self, read: Callable[..., Any]) -> Callable[..., Any]:
        """`read_sample` of an engine, with the maps."""
        return partial(read, sides=self.maps)


def side_training(cfg: Any, pool: Any, store: LabelStore) -> SideTraining | None:
    """What the config says; None: nothing.

    Args:
        cfg: Of the run.
        pool: With `items` and `label_space`.
        store: The answers.
    """
    if not wanted(cfg):
        return None
    maps: list[SideMap] = []
    added: list[AddedLoss] = []
    settings = region_classes.settings_of(cfg)
    if settings is not None:
        side, members = region_classes.region_map(store, pool.items, pool.label_space)
        maps.append(side)
        added.append(region_classes.RegionLosses(settings, members))
    if averages_over_units(cfg):
        maps.append(unit_map(store, pool.items))
    if weighs_sources(cfg):
        maps.append(source_map(store, pool.items, pool.label_space.trainable))
    return SideTraining(tuple(maps), tuple(added), sets=settings is not None)


def wanted(cfg: Any) -> bool:
    """Whether the config makes a training have anything beside labels."""
    regions = region_classes.settings_of(cfg) is not None
    return regions or averages_over_units(cfg) or weighs_sources(cfg)


def averages_over_units(cfg: Any) -> bool:
    """Whether the loss of the labels averages over what was asked."""
    return (cfg.get("acquisition") or {}).get("loss_average") == "unit"


def weighs_sources(cfg: Any) -> bool:
    """Whether labels of a machine count more or less than others."""
    return machine_weight(cfg.get("acquisition") or {}) != 1


def blank_maps(cfg: Any) -> tuple[SideMap, ...]:
    """The side maps that samples will have, without anything in them."""
    there = {
        region_classes.MAP: region_classes.settings_of(cfg) is not None,
        UNITS: averages_over_units(cfg),
        SOURCE: weighs_sources(cfg),
    }
    return tuple(SideMap(name, _nothing) for name, used in there.items() if used)


def _nothing(index: int) -> None:
    """Of no image anything is known."""


def check_config(cfg: Any) -> None:
    """Raise ConfigError or UnsupportedError for settings, or a model that cannot be trained so."""
    region_classes.check_config(cfg)


def check_model(
    cfg: Any,
    pool: Any,
    model: Any,
    images: Callable[[], torch.Tensor],
    samples: Callable[..., Any],
) -> None:
    """Raise UnsupportedError when a built segmentor or the training pipeline cannot be trained so.

    Args:
        cfg: Of the run.
        pool: With `items` and `label_space`.
        model: The segmentor.
        images: Gives a batch of at least 2, float [N, 3, H, W].
        samples: (pool, share, sides) -> training samples of the first image, of which a share is
            labelled by `invented_mask`.
    """
    if not wanted(cfg):
        return
    space, share = pool.label_space, 0.5
    settings = region_classes.settings_of(cfg)
    if settings is not None:
        if settings.pseudo is not None and classifier(model) is None:
            raise UnsupportedError(NO_FEATURES)
        logits = partial(pixel_logits, model, images())
        check_logits(model, logits, space.num_classes, REGIONS, region_classes.OFF)
    mask = invented_mask(pool.items[0].shape, space, np.random.default_rng(0), share)
    ids = space.raw_to_train[mask]
    labels = np.where((ids < 0) | (mask == UNLABELED), UNLABELED, ids).astype(np.uint8)
    check_follows(lambda one: samples(pool, share, (one,)), labels)
