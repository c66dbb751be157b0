"""The training data set of a 0.x config as a pool: images, keys, sizes, label space."""

from __future__ import annotations

import copy
import functools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.utils import build_from_cfg
from mmseg.datasets import PIPELINES
from mmseg.datasets import build_dataset as mmseg_build
from torch.utils.data import ConcatDataset

from ...data import ActiveLearningDataset
from ...errors import ConfigError, DataError, RegionalALError, UnsupportedError
from ...store.images import image_size, read_ids, write_png
from ...store.tiling import Tile
from ...types import I16, U8, UNLABELED, LabelSpace, PoolItem
from ..mmseg.config_file import space_of
from ..mmseg.datasets import leaves as leaves
from ..mmseg.datasets import locate as locate
from ..mmseg.datasets import refuse_duplicates
from ..mmseg.ignored import as_id, check_dataset, label_table, without
from ..mmseg.mixing import labelled_classes, mixed, unwrapped
from ..mmseg.pool_stream import UNANSWERED
from ..mmseg.side_maps import Carried, SideMap, apply
from ..mmseg.tiled import NAME, Tiling
from ..mmseg.transforms import GIVES_WAY
from ..specs import first_line, type_name
from .side_maps import attach

log = logging.getLogger("regional_al")
MASK = "gt_semantic_seg"
FIX = "ignore_index={0} in every head of the model, and in data.val for the evaluation"


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
        return mixed(dataset, self.mixtures, "data.train", build_transform, count, classes)


def build_pool(
    spec: Any,
    limit: int | None = None,
    tiling: Tiling | None = None,
    ignored: int = UNLABELED,
) -> Pool:
    """From `data.train`; limit: its first images only; tiling: how they are cut; ignored: the train
    id that the heads ignore. Raises ConfigError, DataError or UnsupportedError."""
    spec, mixtures = unwrapped(spec, "data.train")
    dataset = build_dataset(spec, "data.train", limit, tiling)
    parts = leaves(dataset)
    loads = [loads_annotations(part) for part in parts]
    spaces = [label_space(part, load, ignored) for part, load in zip(parts, loads, strict=True)]
    for part, load, space in zip(parts, loads, spaces, strict=True):
        check_dataset(part, ignored, "data.train", FIX)
        part.label_table = label_table(ids_of(part, load), space)
        if not np.array_equal(space.mask_to_train, spaces[0].mask_to_train):
            raise UnsupportedError(
                f"data.train joins data sets whose label ids differ ({type(parts[0]).__name__} and "
                f"{type(part).__name__}): train on one of them"
            )
    return Pool(dataset, pool_items(dataset), spaces[0], mixtures)


def build_dataset(
    spec: Any,
    key: str,
    limit: int | None = None,
    tiling: Tiling | None = None,
    **arguments: Any,
) -> Any:
    """The mmseg data sets that a config names, joined. What they raise becomes a ConfigError or
    DataError naming `key`. `arguments`, e.g. pipeline, replace those of the config. tiling: replace
    large images by tiles."""
    parts = [build_one({**part, **arguments}, key) for part in single(spec, key)]
    if limit is not None:
        for part in parts:
            part.img_infos = part.img_infos[:limit]
    if tiling is not None:
        for part in parts:
            cut_into(part, tiling)
    if len(parts) == 1:
        return parts[0]
    joined: Any = ConcatDataset(parts)
    joined.CLASSES, joined.PALETTE = parts[0].CLASSES, parts[0].PALETTE
    return joined


def cut_into(leaf: Any, tiling: Tiling) -> None:
    """Replace the large images of a data set by their tiles, in place."""
    indices = range(len(leaf.img_infos))
    masks = [mask_path(leaf, i) for i in indices]
    files = [
        (image_path(leaf, i), mask if mask is not None and mask.is_file() else None)
        for i, mask in zip(indices, masks, strict=True)
    ]
    keys = [item_key(leaf, i) for i in indices]
    leaf.img_infos = list(tiling.expand(leaf.img_infos, files, keys, at_tile))


def at_tile(info: dict[str, Any], tile: Tile) -> dict[str, Any]:
    """The entry of an image, for a tile of it: absolute paths, which folders are not put before."""
    found = {**info, "filename": str(tile.image.absolute())}
    if tile.annotation is not None:
        found["ann"] = {"seg_map": str(tile.annotation.absolute())}
    return found


def single(spec: Any, key: str) -> Iterator[dict[str, Any]]:
    """Configs of data sets with one folder each, as mmseg's build_dataset opens lists of configs,
    of `img_dir`, `ann_dir` and `split`. RepeatDataset is left out; what `build_pool` takes around
    the whole, mixtures and class-balanced sampling, is refused here, by name."""
    if isinstance(spec, (list, tuple)):
        for part in spec:
            yield from single(part, key)
        return
    if not isinstance(spec, Mapping) or "type" not in spec:
        raise ConfigError(f"{key} is missing or is not a dict(type=...)")
    if "dataset" in spec:
        inside, mixtures = unwrapped(spec, key)
        if mixtures:
            raise UnsupportedError(
                f"{key}.type={type_name(mixtures[-1])!r} must be around all training data, not "
                "around some of it or around other data"
            )
        yield from single(inside, key)
        return
    if type_name(spec) == "ConcatDataset" and "datasets" in spec:
        yield from single(spec["datasets"], key)
        return
    lists = {
        name: spec[name]
        for name in ("img_dir", "ann_dir", "split")
        if isinstance(spec.get(name), (list, tuple))
    }
    counts = {len(found) for found in lists.values()}
    if len(counts) > 1 or ("ann_dir" in lists and len(lists) == 1):
        raise ConfigError(f"{key}: {', '.join(lists)} must be lists of one length")
    for place in range(max(counts, default=1)):
        one = {name: item for name, item in spec.items() if name != "separate_eval"}
        yield {**one, **{name: found[place] for name, found in lists.items()}}


def build_one(spec: dict[str, Any], key: str) -> Any:
    """One data set by mmseg's own build_dataset."""
    for name in ("img_dir", "split"):
        place = os.path.join(spec.get("data_root") or "", spec.get(name) or "")
        if spec.get(name) and "://" not in place and not os.path.exists(place):
            raise DataError(f"{key}: {place} does not exist; check data_root and {name}")
    try:
        dataset = mmseg_build(copy.deepcopy(spec))
    except Exception as error:  # whatever a data set class raises, the config is what can be mended
        told = (
            str(error.args[0]).splitlines()[0]
            if isinstance(error, KeyError) and error.args
            else first_line(error)
        )
        raise ConfigError(f"{key}: {told}") from None
    if not hasattr(dataset, "img_infos") or not hasattr(dataset, "pre_pipeline"):
        raise UnsupportedError(f"{key}.type={type_name(spec)!r} is no CustomDataset: no img_infos")
    if not dataset.CLASSES:
        raise ConfigError(
            f"data set type {type(dataset).__name__!r} has no classes: add classes=(...) and "
            f"palette=[...] to {key}"
        )
    return dataset


def image_path(leaf: Any, index: int) -> Path:
    """The image file of a leaf's item."""
    return Path(os.path.join(leaf.img_dir or "", leaf.img_infos[index]["filename"]))


def mask_path(leaf: Any, index: int) -> Path | None:
    """The annotation file of a leaf's item, or None when the data set has no ann_dir."""
    found = leaf.img_infos[index].get("ann")
    return None if found is None else Path(os.path.join(leaf.ann_dir or "", found["seg_map"]))


def pool_items(dataset: Any) -> tuple[PoolItem, ...]:
    """PoolItem per image; sizes from the headers. Raises DataError naming the file."""
    found = []
    for index in range(len(dataset)):
        leaf, inner = locate(dataset, index)
        found.append((item_key(leaf, inner), image_path(leaf, inner), mask_path(leaf, inner)))
    refuse_duplicates([(key, path) for key, path, _ in found], "img_dir, split")
    with ThreadPoolExecutor(max_workers=8) as threads:
        sizes = list(threads.map(image_size, (path for _, path, _ in found)))
    return tuple(
        PoolItem(key, path, mask if mask is not None and mask.is_file() else None, shape)
        for (key, path, mask), shape in zip(found, sizes, strict=True)
    )


def item_key(leaf: Any, index: int) -> str:
    """Path below the data set's image folder, without the image suffix, with '/'."""
    if NAME in leaf.img_infos[index]:
        return str(leaf.img_infos[index][NAME])
    name = str(leaf.img_infos[index]["filename"])
    if os.path.isabs(name) or name.startswith(".."):
        name = os.path.basename(name)
    suffix = leaf.img_suffix or ""
    if suffix and name.endswith(suffix) and len(name) > len(suffix):
        return name[: -len(suffix)].replace(os.sep, "/")
    return os.path.splitext(name)[0].replace(os.sep, "/")


def loads_annotations(leaf: Any, key: str = "data.train") -> Callable[[dict[str, Any]], Any]:
    """The transform by which the training pipeline of `key` reads its labels."""
    for transform in leaf.pipeline.transforms:
        if "LoadAnnotations" in type(transform).__name__:
            return transform  # type: ignore[no-any-return]
    raise ConfigError(f"{key}.pipeline has no LoadAnnotations: training would see no labels")


def label_space(
    leaf: Any, load: Callable[[dict[str, Any]], Any], ignored: int = UNLABELED
) -> LabelSpace:
    """Classes of a data set and what ids become; load: how it reads masks; ignored: the train id
    that is void."""
    palette = None if leaf.PALETTE is None else np.asarray(leaf.PALETTE).reshape(-1, 3).tolist()
    return space_of(leaf.CLASSES, palette, ids_of(leaf, load), ignored, leaf)


def ids_of(leaf: Any, load: Callable[[dict[str, Any]], Any]) -> I16:
    """int16 [256]: what the ids of masks become, found by letting a data set's own transform load a
    mask of all 256 ids: class maps first, then `reduce_zero_label`, as mmseg 0.x has it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids.png"
        write_png(path, np.arange(256, dtype=np.uint8).reshape(16, 16))
        results: Any = {"img_info": {"filename": "ids"}, "ann_info": {"seg_map": str(path)}}
        leaf.pre_pipeline(results)
        results["seg_prefix"] = None
        load(results)
    return np.asarray(results[MASK]).ravel().astype(np.int16)


def truth(leaf: Any, index: int) -> Any:
    """Train ids [H, W] of an annotation file exactly as mmseg's evaluation takes them; 255 for what
    it leaves out."""
    return without(reduced(leaf, leaf.get_gt_seg_map_by_idx(index)), unscored_of(leaf))


def unscored_of(leaf: Any) -> int:
    """The train id that mmseg's evaluation of a data set leaves out."""
    return as_id("data.val.ignore_index", getattr(leaf, "ignore_index", UNLABELED))


def loads_truth(leaf: Any) -> Callable[[dict[str, Any]], Any]:
    """How the evaluation of a data set reads annotations, as `label_space` calls it."""

    def load(results: dict[str, Any]) -> None:
        leaf.gt_seg_map_loader(results)
        results[MASK] = reduced(leaf, results[MASK])

    return load


def reduced(leaf: Any, ids: Any) -> Any:
    """`reduce_zero_label` of the data set, which mmseg applies after loading: 0 becomes void."""
    if not leaf.reduce_zero_label:
        return ids
    ids = np.where(ids == 0, UNLABELED, ids - 1)
    return np.where(ids == UNLABELED - 1, UNLABELED, ids)


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

    Also counts the labelled pixels right after they were loaded (`labelled_pixels` of img_metas),
    so that what resizing and cropping lose can be told; a sample that is not collected, which a
    mixture takes, holds the number itself.
    """
    leaf, inner = locate(dataset, index)
    path = image_path(leaf, inner)
    table: U8 | None = getattr(leaf, "label_table", None)
    known = None if table is None or labels is not None else table[read_ids(Path(label_path))]
    for _ in range(20):  # a pipeline may draw again by giving nothing
        data = {"img_info": leaf.img_infos[inner], "ann_info": {"seg_map": str(label_path)}}
        leaf.pre_pipeline(data)
        data["seg_prefix"] = None
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
            if labelled is not None and "img_metas" in sample:
                if labels is None:
                    note_labelled(sample, labelled)
            elif labelled is not None:
                sample["labelled_pixels"] = labelled
            return sample
    raise DataError(f"data.train.pipeline gives nothing for {path}, 20 times")


def build_transform(spec: Any) -> Any:
    """A transform of a pipeline."""
    return build_from_cfg(spec, PIPELINES)


def note_labelled(sample: Any, labelled: int) -> None:
    """Write the number of labelled pixels that were drawn for a collected sample into it."""
    sample["img_metas"].data["labelled_pixels"] = labelled


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
