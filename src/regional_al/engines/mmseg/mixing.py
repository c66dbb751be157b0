"""Mosaic and other mixtures of images over the labelled set. No framework.

MMSegmentation's MultiImageMixDataset mixes the images of the whole training set. Here the images
come from those with labels, each with the labels of the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from ...errors import ConfigError, DataError
from ..specs import first_line, type_name

MIX = "MultiImageMixDataset"
TRIES = 100
log = logging.getLogger("regional_al")


def unwrapped(spec: Any, key: str) -> tuple[Any, tuple[Mapping[str, Any], ...]]:
    """Take a data set out of RepeatDataset and MultiImageMixDataset.

    Args:
        spec: Config of a training data set.
        key: Where the config says it, for messages.

    Returns:
        The config inside, and those of the mixtures around it, innermost first.
    """
    mixtures: tuple[Mapping[str, Any], ...] = ()
    while isinstance(spec, Mapping) and "dataset" in spec:
        name = type_name(spec)
        if name == "RepeatDataset":
            log.warning(
                f"{key}: RepeatDataset is left out, the labelled images are repeated as often as "
                "training needs them"
            )
        elif name == MIX:
            mixtures = (spec, *mixtures)
        else:
            break
        spec = spec["dataset"]
    return spec, mixtures


def mixed(
    dataset: Any,
    mixtures: Sequence[Mapping[str, Any]],
    key: str,
    build: Callable[[Any], Any],
    count: Callable[[Any, int], None],
) -> Any:
    """The labelled images, mixed as a config says.

    Args:
        dataset: The labelled images; its samples are dicts.
        mixtures: As `unwrapped` returns them.
        key: Of the config, for messages.
        build: Builds a transform from its config.
        count: Notes in a finished sample how many labelled pixels were drawn for it.

    Returns:
        `dataset` itself where there is no mixture.

    Raises:
        ConfigError: A transform cannot be built.
    """
    for place, spec in enumerate(mixtures):
        skipped = spec.get("skip_type_keys") or ()
        transforms = []
        for step in spec.get("pipeline") or ():
            if type_name(step) in skipped:
                continue
            try:
                transforms.append(build(step))
            except Exception as error:  # whatever a transform raises, the config can be mended
                raise ConfigError(f"{key}.pipeline: {first_line(error)}") from None
        dataset = Mixture(dataset, transforms, key, count if place == len(mixtures) - 1 else None)
    return dataset


class Repeated(Dataset[Any]):
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
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)

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
                sample = transform(sample)
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
