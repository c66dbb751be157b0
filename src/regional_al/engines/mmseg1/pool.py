"""The training data set of an mmseg config as a pool: images, keys, sizes, label space."""

from __future__ import annotations

import copy
import functools
import logging
import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmseg.registry import DATASETS, TRANSFORMS

from ...data import ActiveLearningDataset
from ...errors import (
    ConfigError,
    DataError,
    EnvironmentProblem,
    RegionalALError,
    UnsupportedError,
)
from ...store.images import image_size, read_ids
from ...store.tiling import Tile
from ...types import I16, U8, UNLABELED, LabelSpace, PoolItem
from ..mmseg.config_file import space_of
from ..mmseg.datasets import leaves as leaves
from ..mmseg.datasets import locate as locate
from ..mmseg.datasets import refuse_duplicates
from ..mmseg.ignored import check_dataset, label_table
from ..mmseg.mixing import labelled_classes, mixed, unwrapped
from ..mmseg.pool_stream import UNANSWERED
from ..mmseg.side_maps import Carried, SideMap, apply
from ..mmseg.tiled import NAME, Tiling
from ..mmseg.transforms import GIVES_WAY
from .config import commands, first_line, reason_of, type_name
from .side_maps import attach

log = logging.getLogger("regional_al")
KEY = "train_dataloader.dataset"
MASK = "gt_seg_map"
FIX = "ignore_index={0} in every head of the model and in val_evaluator"


@dataclass(frozen=True)
class Pool:
    """items: PoolItem per image, in data-set order; dataset: the mmseg data set behind them;
    mixtures: configs of MultiImageMixDataset and ClassBalancedDataset around it, from the inside
    out."""

    dataset: Any
    items: tuple[PoolItem, ...]
    label_space: LabelSpace
    mixtures: tuple[Mapping[str, Any], ...] = ()

    def mix(self, dataset: Any, count: Callable[[Any, int], None] | None = None) -> Any:
        """Training samples of images of the pool, mixed and repeated as the config says. count:
        see `mixed`; None: the labelled pixels are noted. Raises ConfigError."""
        count = note_labelled if count is None else count
        classes = None  # of an image that preflight makes up
        if isinstance(dataset, ActiveLearningDataset):
            classes = functools.partial(labelled_classes, dataset, self.label_space)
        return mixed(dataset, self.mixtures, KEY, TRANSFORMS.build, count, classes)


def build_pool(spec: Any, tiling: Tiling | None = None, ignored: int = UNLABELED) -> Pool:
    """From `train_dataloader.dataset`; large images are cut as `tiling` says; ignored: the train id
    that the heads ignore. Raises ConfigError, DataError or UnsupportedError."""
    spec, mixtures = unwrapped(spec, KEY)
    dataset = build_dataset(spec, KEY, tiling)
    parts = leaves(dataset)
    spaces = [label_space(part, ignored=ignored) for part in parts]
    for part, space in zip(parts, spaces, strict=True):
        check_dataset(part, ignored, KEY, FIX)
        part.label_table = label_table(ids_of(part), space)
        if not np.array_equal(space.mask_to_train, spaces[0].mask_to_train):
            raise UnsupportedError(
                f"train_dataloader.dataset joins data sets whose label ids differ "
                f"({type(parts[0]).__name__} and {type(part).__name__}): train on one of them"
            )
    return Pool(dataset, pool_items(dataset), spaces[0], mixtures)


def build_dataset(spec: Any, key: str, tiling: Tiling | None = None) -> Any:
    """Build an mmseg data set. What it raises becomes a ConfigError or DataError naming `key`.
    tiling: replace its large images by tiles."""
    if not isinstance(spec, Mapping):
        raise ConfigError(f"{key} is missing or is not a dict(type=...)")
    try:
        dataset = DATASETS.build(copy.deepcopy(spec))
        dataset.full_init()
    except FileNotFoundError as error:
        name = error.filename or first_line(error)
        where = "data_root and data_prefix"
        if type_name(spec).startswith("DSDL"):
            where = "data_root and ann_file, the YAML file of a data set in DSDL form (OpenDataLab)"
        raise DataError(f"{key}: {name} does not exist; check {where}") from None
    except KeyError as error:
        raise ConfigError(f"{key}: {str(error.args[0]).splitlines()[0]}") from None
    except ValueError as error:
        if "need at least one array" in str(error):  # what mmengine makes of an empty list
            raise DataError(
                f"{key} holds no image: check {folders(spec)}, img_suffix and ann_file"
            ) from None
        raise ConfigError(f"{key}: {first_line(error)}") from None
    except AssertionError as error:
        told = first_line(error) if str(error) else f"{folders(spec)} or its ann_file is missing"
        raise DataError(f"{key}: {told}") from None
    except Exception as error:  # whatever a data set class raises, the config is what can be mended
        if "Package dsdl is not installed" in str(error):  # so it says whatever its import raised
            raise EnvironmentProblem(
                f"{key}.type={type_name(spec)!r} needs dsdl, {reason_of('dsdl.dataset')}: "
                f"{commands()['dsdl']}"
            ) from None
        raise ConfigError(f"{key}: {first_line(error)}") from None
    if not hasattr(dataset, "get_data_info"):
        raise UnsupportedError(f"{key}.type={type_name(spec)!r} has no get_data_info")
    if tiling is not None:
        cut_into(dataset, tiling, key)
    return dataset


def cut_into(dataset: Any, tiling: Tiling, key: str) -> None:
    """Replace the large images of a data set by their tiles, in place."""
    for leaf in leaves(dataset):
        if not hasattr(leaf, "data_list"):
            raise UnsupportedError(
                f"{key}: acquisition.tiles needs a data set with a data_list, which "
                f"{type(leaf).__name__} has not: cut the images yourself"
            )
        entries = [leaf.get_data_info(i) for i in range(len(leaf))]
        files = [(Path(info["img_path"]), annotation_of(info)) for info in entries]
        keys = [item_key(leaf, info["img_path"]) for info in entries]
        leaf.data_list = list(tiling.expand(entries, files, keys, at_tile))
        if getattr(leaf, "serialize_data", False):
            leaf.data_bytes, leaf.data_address = leaf._serialize_data()
    renumber(dataset)


def at_tile(info: dict[str, Any], tile: Tile) -> dict[str, Any]:
    """The entry of an image, for a tile of it."""
    mask = info.get("seg_map_path") if tile.annotation is None else str(tile.annotation)
    return {**info, "img_path": str(tile.image), "seg_map_path": mask}


def renumber(dataset: Any) -> None:
    """Let joined data sets know how many images their parts have."""
    parts = getattr(dataset, "datasets", None)
    if parts is not None:
        for part in parts:
            renumber(part)
        dataset.cumulative_sizes = dataset.cumsum(parts)


def annotation_of(info: Mapping[str, Any]) -> Path | None:
    """The annotation file of an entry, if there is one."""
    path = info.get("seg_map_path")
    return Path(path) if path is not None and os.path.isfile(path) else None


def folders(spec: Mapping[str, Any]) -> str:
    """The image folder that a data set's config names, for error messages."""
    prefix = (spec.get("data_prefix") or {}).get("img_path", "")
    return os.path.join(spec.get("data_root") or "", prefix) or type_name(spec)


def pool_items(dataset: Any) -> tuple[PoolItem, ...]:
    """PoolItem per image; sizes from the headers. Raises DataError naming the file."""
    infos = []
    for index in range(len(dataset)):
        leaf, inner = locate(dataset, index)
        info = leaf.get_data_info(inner)
        key = info.get(NAME) or item_key(leaf, info["img_path"])
        infos.append((key, Path(info["img_path"]), info))
    refuse_duplicates([(key, path) for key, path, _ in infos], "ann_file, data_prefix")
    with ThreadPoolExecutor(max_workers=8) as threads:
        sizes = list(threads.map(image_size, (path for _, path, _ in infos)))
    items = []
    for (key, path, info), shape in zip(infos, sizes, strict=True):
        items.append(PoolItem(key, path, annotation_of(info), shape))
    return tuple(items)


def item_key(dataset: Any, path: str) -> str:
    """Path below the data set's image folder, without the image suffix, with '/'."""
    prefix = (getattr(dataset, "data_prefix", None) or {}).get("img_path") or ""
    relative = os.path.relpath(path, prefix) if prefix else os.path.basename(path)
    if relative.startswith(".."):
        relative = os.path.basename(path)
    suffix = getattr(dataset, "img_suffix", None) or ""
    if suffix and relative.endswith(suffix) and len(relative) > len(suffix):
        relative = relative[: -len(suffix)]
    else:
        relative = os.path.splitext(relative)[0]
    return relative.replace(os.sep, "/")


def label_space(dataset: Any, key: str = KEY, ignored: int = UNLABELED) -> LabelSpace:
    """Classes of a data set and what ids become; ignored: the train id that is void. Raises
    ConfigError, naming `key`, without classes."""
    meta = dataset.metainfo
    classes = meta.get("classes")
    if not classes:
        raise ConfigError(
            f"data set type {type(dataset).__name__!r} has no classes: add "
            f"metainfo=dict(classes=(...), palette=[...]) to {key}"
        )
    return space_of(classes, meta.get("palette") or None, ids_of(dataset), ignored, dataset)


def ids_of(dataset: Any) -> I16:
    """int16 [256]: what the ids of masks become, exactly as mmseg's LoadAnnotations maps them:
    `reduce_zero_label` first, then `label_map`."""
    meta = dataset.metainfo
    ids = np.arange(256, dtype=np.int16)
    if meta.get("reduce_zero_label"):
        ids = np.where(ids == 0, 255, ids - 1).astype(np.int16)
        ids[255] = 255
    mapped = ids.copy()
    for old, new in (meta.get("label_map") or {}).items():
        mapped[ids == old] = new
    return mapped


def read_sample(
    dataset: Any,
    index: int,
    label_path: Path | str,
    labels: U8 | None = None,
    sides: tuple[SideMap, ...] = (),
) -> Any:
    """A training sample of the data set's own pipeline with its labels read from `label_path`, or
    replaced by `labels` when they have been read, which then are not counted. sides: maps beside
    the labels.

    Also counts the labelled pixels right after they were loaded (metainfo `labelled_pixels`), so
    that what resizing and cropping lose can be told; a sample that is not packed, which a mixture
    takes, holds the number itself.
    """
    leaf, inner = locate(dataset, index)
    table: U8 | None = getattr(leaf, "label_table", None)
    known = None if table is None or labels is not None else table[read_ids(Path(label_path))]
    for _ in range(20):  # mmengine, too, draws again when a pipeline gives nothing
        data = leaf.get_data_info(inner)
        path, data["seg_map_path"] = data["img_path"], str(label_path)
        try:
            carried = Carried(sides, MASK, attach) if sides else None
            begin = None if carried is None else functools.partial(carried.begin, index=index)
            sample, labelled = run_pipeline(leaf.pipeline.transforms, data, labels, known, begin)
        except RegionalALError:
            raise
        except Exception as error:  # cv2, Pillow and transforms raise all kinds
            raise DataError(
                f"{path} or {label_path} cannot be read or transformed: {first_line(error)}"
            ) from None
        if sample is not None:
            if labelled is not None and "data_samples" in sample:
                if labels is None:
                    note_labelled(sample, labelled)
            elif labelled is not None:
                sample["labelled_pixels"] = labelled
            return sample
    raise DataError(f"train_dataloader's pipeline gives nothing for {path}, 20 times")


def note_labelled(sample: Any, labelled: int) -> None:
    """Write the number of labelled pixels that were drawn for a packed sample into it."""
    sample["data_samples"].set_metainfo({"labelled_pixels": labelled})


def run_pipeline(
    transforms: Sequence[Any],
    data: Any,
    labels: U8 | None = None,
    known: U8 | None = None,
    begin: Callable[[Any], None] | None = None,
) -> tuple[Any, int | None]:
    """Apply transforms in order; also the number of labelled pixels when labels first appear.
    known: takes their place then; labels: the same, and they are not counted, and the id 0 of these
    gives way to others when they shrink; begin: called with the sample then."""
    labelled: int | None = None
    for transform in transforms:
        data = apply(transform, data)
        if data is None:
            return None, labelled
        if labelled is None and isinstance(data, MutableMapping) and MASK in data:
            if labels is not None:
                data[MASK], data[GIVES_WAY] = labels, UNANSWERED
            elif known is not None:
                data[MASK] = known.copy()
            labelled = 0 if labels is not None else labelled_pixels(data[MASK])
            if begin is not None:
                begin(data)
    return data, labelled


def labelled_pixels(mask: Any) -> int:
    """Pixels of a label map with a label."""
    return int(np.count_nonzero(mask != UNLABELED))
