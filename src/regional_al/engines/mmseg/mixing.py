"""Mosaic and other mixtures, and class-balanced sampling, over the labelled set. No framework.

MMSegmentation's MultiImageMixDataset mixes the images of the whole training set, MMEngine's
ClassBalancedDataset repeats images by the classes of their masks. Here the images come from those
with labels, each with the labels of the run, and its classes are those that were labelled.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ...data import ActiveLearningDataset
from ...errors import ConfigError, DataError, UnsupportedError
from ...types import I64, LabelSpace
from ..specs import first_line, type_name
from .side_maps import apply

MIX, BALANCED = "MultiImageMixDataset", "ClassBalancedDataset"
TRIES = 100
log = logging.getLogger("regional_al")


def unwrapped(
    spec: Any, key: str, quiet: bool = False
) -> tuple[Any, tuple[Mapping[str, Any], ...]]:
    """Take a data set out of RepeatDataset, MultiImageMixDataset and ClassBalancedDataset.

    Args:
        spec: Config of a data set.
        key: Where the config says it, for messages.
        quiet: Do not say that RepeatDataset is left out.

    Returns:
        The config inside, and those of the two latter around it, innermost first.

    Raises:
        UnsupportedError: It is in another wrapper.
    """
    mixtures: tuple[Mapping[str, Any], ...] = ()
    while isinstance(spec, Mapping) and "dataset" in spec:
        name = type_name(spec)
        if name in (MIX, BALANCED):
            mixtures = (spec, *mixtures)
        elif name != "RepeatDataset":
            raise UnsupportedError(
                f"{key}.type={name!r} mixes or repeats images, so labels have no single place: use "
                "the data set inside it"
            )
        elif not quiet:
            log.warning(
                f"{key}: RepeatDataset is left out, the labelled images are repeated as often as "
                "training needs them"
            )
        spec = spec["dataset"]
    return spec, mixtures


def mixed(
    dataset: Any,
    mixtures: Sequence[Mapping[str, Any]],
    key: str,
    build: Callable[[Any], Any],
    count: Callable[[Any, int], None],
    classes: Callable[[], list[list[int]]] | None = None,
) -> Any:
    """The labelled images, mixed and repeated as a config says.

    Args:
        dataset: The labelled images; its samples are dicts.
        mixtures: As `unwrapped` returns them.
        key: Of the config, for messages.
        build: Builds a transform from its config.
        count: Notes in a finished sample how many labelled pixels were drawn for it.
        classes: Returns the labelled classes of each image; None: no image is repeated.

    Returns:
        `dataset` itself where there is no mixture.

    Raises:
        ConfigError: A transform cannot be built, or `oversample_thr` is no share.
    """
    found: list[list[int]] | None = None
    last = max((i for i, spec in enumerate(mixtures) if type_name(spec) == MIX), default=None)
    for place, spec in enumerate(mixtures):
        if type_name(spec) == MIX:
            transforms = _transforms(spec, key, build)
            dataset = Mixture(dataset, transforms, key, count if place == last else None)
            continue
        threshold = spec.get("oversample_thr")
        if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise ConfigError(f"{key}.oversample_thr={threshold!r} must be between 0 and 1")
        if classes is not None:
            found = classes() if found is None else found
            dataset = RepeatedImages(dataset, repeat_factors(found, threshold))
            found = [found[item] for item in dataset.items]
    return dataset


def _transforms(spec: Mapping[str, Any], key: str, build: Callable[[Any], Any]) -> list[Any]:
    """The transforms of a MultiImageMixDataset."""
    skipped = spec.get("skip_type_keys") or ()
    steps = [step for step in spec.get("pipeline") or () if type_name(step) not in skipped]
    try:
        return [build(step) for step in steps]
    except Exception as error:  # whatever a transform raises, the config can be mended
        raise ConfigError(f"{key}.pipeline: {first_line(error)}") from None


def repeat_factors(classes: Iterable[Iterable[int]], threshold: float) -> I64:
    """How often to show each image, so that images with rare classes are shown more often.

    With f(c) the share of the images that contain class c, an image is shown
    max over its classes of sqrt(threshold / f(c)) times, rounded up, and at least once.

    Args:
        classes: Of each image.
        threshold: Classes in fewer images than this share are shown more often, [0, 1].

    Returns:
        int64 [images].

    Source:
        Gupta, Dollár, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation",
        CVPR 2019.

    Example:
        >>> repeat_factors([{0}, {0}, {0}, {0, 1}], threshold=0.9).tolist()
        [1, 1, 1, 2]
    """
    found = [set(one) for one in classes]
    images = Counter(c for one in found for c in one)
    rare = {c: math.sqrt(threshold * len(found) / count) for c, count in images.items()}
    times = [math.ceil(max((rare[c] for c in one), default=1.0)) for one in found]
    return np.maximum(np.array(times, dtype=np.int64), 1)


class RepeatedImages(Dataset[Any]):
    """Images of a data set, each one or several times. Other attributes are those of `dataset`.

    Args:
        dataset: Any data set.
        times: int64 [images], each at least 1.
    """

    def __init__(self, dataset: Any, times: I64) -> None:
        self.dataset, self.items = dataset, np.repeat(np.arange(len(times)), times)

    def __len__(self) -> int:
        return len(self.items)

    def __getattr__(self, name: str) -> Any:
        return _of(self, name)

    def __getitem__(self, item: int) -> Any:
        return self.dataset[int(self.items[item])]


def _of(wrapper: Any, name: str) -> Any:
    """An attribute of the data set inside; while unpickling there is none yet."""
    if name.startswith("__") or "dataset" not in wrapper.__dict__:
        raise AttributeError(name)
    return getattr(wrapper.dataset, name)


def labelled_classes(dataset: ActiveLearningDataset, space: LabelSpace) -> list[list[int]]:
    """The train ids of the classes that are labelled in each image of `dataset`."""
    found = []
    for item in range(len(dataset)):
        counts, _ = dataset.store.counts(dataset.keys[dataset.index_of(item)])
        ids = space.raw_to_train[np.flatnonzero(counts)]
        found.append(ids[(ids >= 0) & (ids < space.num_classes)].tolist())
    return found


class OneImage(Dataset[Any]):
    """One image, any number of times.

    Args:
        read: Returns a sample of it.
    """

    def __init__(self, read: Callable[[], Any]) -> None:
        self.read = read

    def __len__(self) -> int:
        return TRIES

    def __getitem__(self, item: int) -> Any:
        return self.read()


class Mixture(Dataset[Any]):
    """Samples of a data set, passed through transforms that may ask for further samples.

    A transform with `get_indices` (0.x: `get_indexes`) finds those that it asked for in
    `mix_results`. Other attributes are looked up on `dataset`.

    Args:
        dataset: Its samples are dicts, with `labelled_pixels` where labels were loaded.
        transforms: Applied in order.
        key: Of the config, for messages.
        count: See `mixed`; None: the number stays in the sample, for a mixture around this one.
    """

    def __init__(
        self,
        dataset: Any,
        transforms: Sequence[Callable[[Any], Any]],
        key: str,
        count: Callable[[Any, int], None] | None = None,
    ) -> None:
        self.dataset, self.transforms, self.key, self.count = dataset, transforms, key, count

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        return _of(self, name)

    def __getitem__(self, item: int) -> Any:
        for _ in range(20):  # as for a data set whose pipeline gives nothing
            sample = self._mix(item)
            if sample is not None:
                return sample
        raise DataError(f"{self.key}.pipeline gives nothing, 20 times")

    def _mix(self, item: int) -> Any:
        sample, drawn = self._draw(item)
        for transform in self.transforms:
            wanted = getattr(transform, "get_indices", getattr(transform, "get_indexes", None))
            if wanted is not None:
                more = [self._draw(index) for index in self._indices(wanted)]
                sample["mix_results"] = [other for other, _ in more]
                drawn += sum(labelled for _, labelled in more)
            try:
                sample = apply(transform, sample)
            except UnsupportedError:
                raise
            except Exception as error:  # cv2 and transforms raise all kinds
                raise DataError(
                    f"{self.key}.pipeline: {type(transform).__name__} fails: {first_line(error)}"
                ) from None
            if sample is None:
                return None
            sample.pop("mix_results", None)
        if self.count is None:
            sample["labelled_pixels"] = drawn
        else:
            self.count(sample, drawn)
        return sample

    def _draw(self, index: int) -> tuple[dict[str, Any], int]:
        """A sample and its labelled pixels."""
        sample = self.dataset[index]
        if not isinstance(sample, dict) or "labelled_pixels" not in sample:
            raise ConfigError(
                f"{self.key}.dataset.pipeline must load images and labels, and leave packing to "
                f"{self.key}.pipeline"
            )
        return sample, sample.pop("labelled_pixels")

    def _indices(self, wanted: Callable[[Any], Any]) -> list[int]:
        """What a transform asks for. MMSegmentation's RandomMosaic draws from 0 to the length,
        included, which is one too many: such a draw is repeated."""
        for _ in range(TRIES):
            found = wanted(self.dataset)
            indices = list(found) if isinstance(found, Sequence) else [found]
            if all(index < len(self.dataset) for index in indices):
                return indices
        raise DataError(f"{self.key}.pipeline asks for images beyond the {len(self.dataset)} there")
