"""`ActiveLearningDataset`: the labelled part of any data set, with masks from a label store.

Names and semantics follow the class of the same name in BAAL; docs/migrating.md lists the
differences. At image level a labelled image has a complete mask; at region and pixel level masks
are sparse (255 = unlabeled). Images without a trainable label are never returned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from .errors import ConfigError, DataError, WorkDirError
from .store.images import read_ids
from .store.labels import LabelStore
from .types import I64, JSON, U8, UNLABELED, Bool, ImageAnswer

__all__ = ["ActiveLearningDataset", "ActiveLearningPool", "replace_mask"]

Inject = Callable[[Any, int, Path], Any]
"""(wrapped data set, index into it, label file) -> the sample with the mask of the label file."""


class ActiveLearningDataset(Dataset[Any]):
    """The labelled images of a data set, with the masks of a label store.

    Other attributes (`metainfo`, `full_init`, ...) are looked up on `dataset`. Call `refresh()`
    after the store has changed. Instances can be deep-copied, and pickled for spawned workers.

    Args:
        dataset: any object with `__len__` and `__getitem__`.
        store: the labels given so far.
        keys: unique image keys; keys[i] names sample i of `dataset` in the store.
        trainable: bool [256], raw ids that count as a label.
        inject: inserts a label file into a sample, see `Inject`; None: samples are tuples
            (image, mask, ...) whose mask is replaced, see `replace_mask`.
        oracle: maps an index into `dataset` to raw ids, uint8 [H, W]; needed to call
            `label(index)` without a mask.
        make_unlabelled: applied to samples of the pool.
        pool_specifics: attributes to set on the pool's copy of `dataset`, such as a pipeline
            without augmentation.
        random_state: seed of `label_randomly`.
        class_sets: images with regions of which only the classes are known are labelled, too.

    Raises:
        DataError: if the number of keys differs from the size of the data set, or a key occurs
            twice.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from regional_al import ActiveLearningDataset, LabelStore
        >>> images = np.zeros((3, 2, 2, 3), np.uint8)
        >>> masks = np.array([[[0, 0], [1, 1]]] * 3, np.uint8)
        >>> with TemporaryDirectory() as folder:
        ...     data = ActiveLearningDataset(
        ...         dataset=list(zip(images, masks)),
        ...         store=LabelStore(folder),
        ...         keys=['a', 'b', 'c'],
        ...         trainable=np.arange(256) < 2,
        ...     )
        ...     data.label(1, [[255, 255], [1, 255]])  # one pixel of the pool's image 1
        ...     image, mask = data[0]
        ...     len(data), len(data.pool), mask.tolist()
        (1, 3, [[255, 255], [1, 255]])
    """

    # Methods of mmengine's data sets that take an index, which must be that of the wrapped one.
    _BY_INDEX = ("get_data_info", "get_cat_ids")

    def __init__(
        self,
        dataset: Any,
        store: LabelStore,
        keys: Sequence[str],
        trainable: Bool,
        inject: Inject | None = None,
        oracle: Callable[[int], U8] | None = None,
        make_unlabelled: Callable[[Any], Any] | None = None,
        pool_specifics: Mapping[str, Any] | None = None,
        random_state: int = 0,
        class_sets: bool = False,
    ) -> None:
        if len(dataset) != len(keys):
            raise DataError(f"the data set has {len(dataset)} samples, but got {len(keys)} keys")
        self.keys = list(keys)
        self._index_of_key = {key: index for index, key in enumerate(self.keys)}
        if len(self._index_of_key) != len(self.keys):
            twice = next(key for i, key in enumerate(self.keys) if self._index_of_key[key] != i)
            raise DataError(f"two images have the key {twice!r}; rename one of them")
        self.dataset = dataset
        self.store = store
        self.trainable = np.asarray(trainable, dtype=np.bool_)
        self.inject: Inject = inject or partial(replace_mask, trainable=self.trainable)
        self.oracle = oracle
        self.make_unlabelled = make_unlabelled
        self.pool_specifics = dict(pool_specifics or {})
        self.random_state = random_state
        self.class_sets = class_sets
        self.current_round = 0
        self._indices: I64 = np.zeros(0, dtype=np.int64)
        self._pool: ActiveLearningPool | None = None
        self.refresh()

    def refresh(self) -> None:
        """Update the labelled images and the pool from the store."""
        trained = set(self.store.trainable_keys(self.trainable))
        if self.class_sets:
            trained.update(self.store.class_set_keys())
        found = [index for index, key in enumerate(self.keys) if key in trained]
        self._indices = np.asarray(found, dtype=np.int64)
        self._pool = None

    def __len__(self) -> int:
        return int(self._indices.size)

    def __getitem__(self, item: int) -> Any:
        index = self.index_of(item)
        return self.inject(self.dataset, index, self.store.path(self.keys[index]))

    def index_of(self, item: int) -> int:
        """Return the index into the wrapped data set of the item-th labelled image."""
        if not -len(self) <= item < len(self):
            raise IndexError(f"item {item} of {len(self)} labelled images")
        return int(self._indices[item])

    def __getattr__(self, name: str) -> Any:
        # Only called for attributes missing here. While unpickling there is no `dataset` yet, and
        # special methods must be looked up on this class alone.
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        value = getattr(self.dataset, name)
        return partial(self._by_index, value) if name in self._BY_INDEX else value

    def _by_index(self, method: Callable[[int], Any], item: int) -> Any:
        return method(self.index_of(item))

    @property
    def pool(self) -> ActiveLearningPool:
        """The images that can still be queried, as of the last `refresh`."""
        if self._pool is None:
            self._pool = ActiveLearningPool(self)
        return self._pool

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """bool [number of images]: whether an image has at least one trainable label."""
        mask = np.zeros(len(self.keys), dtype=np.bool_)
        mask[self._indices] = True
        return mask

    @property
    def labelled_map(self) -> I64:
        """int64 [number of images]: 0 if not `labelled`, else 1 + the last round of its labels."""
        out = np.zeros(len(self.keys), dtype=np.int64)
        for index in self._indices.tolist():
            out[index] = 1 + max(self.store.rounds_of(self.keys[index]), default=0)
        return out

    @property
    def current_al_step(self) -> int:
        """The largest entry of `labelled_map`: 0 before anything is labelled."""
        return int(self.labelled_map.max(initial=0))

    @property
    def can_label(self) -> bool:
        """Whether `label` must be given the mask, since there is no oracle."""
        return self.oracle is None

    def is_labelled(self, index: int) -> bool:
        """Return whether image `index` of the wrapped data set has a trainable label."""
        return bool(self.labelled[index])

    def get_raw(self, index: int) -> Any:
        """Return sample `index` of the wrapped data set unchanged."""
        return self.dataset[index]

    @property
    def n_labelled(self) -> int:
        """Number of images with at least one trainable label."""
        return len(self)

    @property
    def n_unlabelled(self) -> int:
        """Number of images without a trainable label."""
        return len(self.keys) - len(self)

    def label(
        self,
        index: int | Sequence[int],
        value: Any = None,
        round: int | None = None,
    ) -> None:
        """Label one or several images of the pool.

        Args:
            index: index or indices into `pool` as it is before this call.
            value: mask of raw ids, uint8 [H, W], 255 = not labelled; a sequence of masks for
                several indices; None: the oracle labels the whole image, void included.
            round: round to which the labels belong; None: `current_round`.

        Raises:
            DataError: for a mask of a wrong shape or with ids out of range, for a wrong number of
                masks, or if there is neither a mask nor an oracle.
            IndexError: for an index outside the pool.
        """
        indices = np.atleast_1d(np.asarray(index, dtype=np.int64)).tolist()
        if np.ndim(index) == 0:
            values = [value]
        else:
            values = [None] * len(indices) if value is None else list(value)
        if len(indices) != len(values):
            raise DataError(f"{len(indices)} indices to label, but {len(values)} masks")
        for i, mask in zip(map(self.pool.index_of, indices), values, strict=True):
            answer = self._answer(i, mask)
            self.store.write(answer, self.current_round if round is None else round)
        self.refresh()

    def label_randomly(self, n: int = 1) -> None:
        """Let the oracle label images of the pool, drawn uniformly.

        The draw depends on `random_state` and the size of the pool.

        Args:
            n: number of images.

        Raises:
            DataError: if the pool has fewer than n images, or there is no oracle.
        """
        if n > len(self.pool):
            raise DataError(f"label_randomly({n}), but the pool has {len(self.pool)} images")
        rng = np.random.default_rng([self.random_state, len(self.pool)])
        self.label(rng.choice(len(self.pool), n, replace=False).tolist())

    def reset_labelled(self) -> None:
        """Delete all labels of the store."""
        self.store.drop_rounds_from(0)
        self.refresh()

    def _answer(self, index: int, mask: Any) -> ImageAnswer:
        if mask is None:
            if self.oracle is None:
                raise DataError("label() without a mask needs ActiveLearningDataset(oracle=...)")
            labels = _as_mask(self.oracle(index))
            return ImageAnswer(self.keys[index], labels, np.ones(labels.shape, dtype=np.bool_))
        labels = _as_mask(mask)
        return ImageAnswer(self.keys[index], labels, labels != UNLABELED)

    def state_dict(self) -> JSON:
        """Return a JSON-serialisable state: the labelled keys and the seed, not the labels."""
        labelled = [self.keys[index] for index in self._indices]
        own = {"current_round": self.current_round, "random_state": self.random_state}
        return {"labelled": labelled, **own}

    def load_state_dict(self, state: JSON) -> None:
        """Restore a state; the labels must still be in the store.

        Args:
            state: as returned by `state_dict`.

        Raises:
            WorkDirError: if the store lacks the labels of an image.
        """
        self.current_round = int(state["current_round"])
        self.random_state = int(state.get("random_state", self.random_state))
        self.refresh()
        labelled = {self.keys[index] for index in self._indices}
        missing = [key for key in state["labelled"] if key not in labelled]
        if missing:
            raise WorkDirError(f"{self.store.root} no longer has the labels of {missing[0]!r}")


class ActiveLearningPool(Dataset[Any]):
    """The images with at least one unanswered pixel, in data-set order; a snapshot.

    Items are the samples of the wrapped data set, passed through `make_unlabelled` of the owner.
    Use `ActiveLearningDataset.pool` instead of creating one.

    Args:
        owner: the active-learning data set.

    Raises:
        ConfigError: if `pool_specifics` names an attribute that the data set does not have.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from regional_al import ActiveLearningDataset, LabelStore
        >>> sample = (np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.uint8))
        >>> with TemporaryDirectory() as folder:
        ...     data = ActiveLearningDataset(
        ...         [sample, sample], LabelStore(folder), ['a', 'b'], np.arange(256) < 2
        ...     )
        ...     data.label(0, sample[1])
        ...     data.pool.keys, data.pool.index_of(0)
        (['b'], 1)
    """

    def __init__(self, owner: ActiveLearningDataset) -> None:
        self.dataset = _with_attributes(owner.dataset, owner.pool_specifics)
        self.make_unlabelled = owner.make_unlabelled
        open_ = [i for i, key in enumerate(owner.keys) if not owner.store.is_complete(key)]
        self.indices: I64 = np.asarray(open_, dtype=np.int64)
        self.keys = [owner.keys[i] for i in open_]

    def __len__(self) -> int:
        return int(self.indices.size)

    def __getitem__(self, item: int) -> Any:
        sample = self.dataset[self.index_of(item)]
        return sample if self.make_unlabelled is None else self.make_unlabelled(sample)

    def index_of(self, item: int) -> int:
        """Return the index into the wrapped data set of the item-th image of the pool."""
        if not -len(self) <= item < len(self):
            raise IndexError(f"item {item} of a pool of {len(self)} images")
        return int(self.indices[item])


def replace_mask(dataset: Any, index: int, path: Path, *, trainable: Bool) -> Any:
    """Return a sample (image, mask, ...) with the mask replaced by the ids of a label file.

    Args:
        dataset: the wrapped data set.
        index: index of the sample.
        path: label file, a PNG of raw ids.
        trainable: bool [256]; other ids become 255.

    Returns:
        The sample as a tuple; a tensor mask is replaced by a tensor of the same dtype and shape,
        any other by an array uint8 [H, W].

    Raises:
        DataError: if the label file and the mask differ in size.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from regional_al.data import replace_mask
        >>> from regional_al.store.images import write_png
        >>> with TemporaryDirectory() as folder:
        ...     write_png(Path(folder) / 'a.png', np.array([[0, 7]], np.uint8))
        ...     sample = (np.zeros((1, 2, 3)), np.array([[1, 1]], np.uint8))
        ...     _, mask = replace_mask(
        ...         [sample], 0, Path(folder) / 'a.png', trainable=np.arange(256) < 3
        ...     )
        >>> mask.tolist()
        [[0, 255]]
    """
    image, mask, *rest = dataset[index]
    ids = read_ids(path)
    labels: U8 = np.where(trainable[ids], ids, np.uint8(UNLABELED))
    shape = tuple(mask.shape) if hasattr(mask, "shape") else labels.shape
    if shape[-2:] != labels.shape:
        raise DataError(f"{path} is {labels.shape}, the mask of sample {index} is {shape[-2:]}")
    if isinstance(mask, torch.Tensor):
        return (image, torch.from_numpy(labels).to(mask.dtype).reshape(shape), *rest)
    return (image, labels, *rest)


def _with_attributes(dataset: Any, values: Mapping[str, Any]) -> Any:
    """Return a copy of `dataset` with these attributes, or `dataset` itself if there are none.

    Raises ConfigError for an attribute that the data set does not have.
    """
    if not values:
        return dataset
    changed = copy.deepcopy(dataset)
    for name, value in values.items():
        if not hasattr(changed, name):
            raise ConfigError(f"pool_specifics: {type(dataset).__name__} has no attribute {name!r}")
        setattr(changed, name, value)
    return changed


def _as_mask(value: Any) -> U8:
    """Return an array or tensor as uint8 [H, W]. Raises DataError for ids out of range."""
    mask = value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if mask.ndim != 2:
        raise DataError(f"a mask must have shape [H, W], got {list(mask.shape)}")
    if mask.size and (mask.min() < 0 or mask.max() > UNLABELED):
        raise DataError(f"mask ids must be in 0..255, found {int(mask.min())}..{int(mask.max())}")
    return mask.astype(np.uint8)
