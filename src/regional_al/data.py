"""`ActiveLearningDataset`: any data set, seen through what is labelled so far.

Its names and their meaning are those of BAAL's class; docs/migrating.md lists what differs.
At image level a labelled image has its whole mask and the wrapper is a subset by index; below it
the masks are sparse (255 = no class). Either way an image without a trainable label never comes.
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

Inject = Callable[[Any, int, Path], Any]
"""(wrapped data set, its index, label file) -> the sample, with that label file's mask in it."""


class ActiveLearningDataset(Dataset[Any]):
    """The labelled images of `dataset`, with the masks of `store`.

    dataset: has `__len__` and `__getitem__`; keys[i] names its sample i in the store (unique).
    trainable: bool [256], raw ids that count as a label. inject: how a label file enters a sample;
    None: samples are (image, mask, ...) and the mask is replaced (`replace_mask`). oracle: dataset
    index -> raw ids uint8 [H, W], for `label(index)` without a value. make_unlabelled: applied to
    the pool's samples; pool_specifics: attributes that the pool's copy of `dataset` gets (a
    pipeline without augmentation, say). random_state: seed of `label_randomly`.
    Everything else is asked of `dataset` itself (`metainfo`, `full_init`, ...). Call `refresh()`
    when the store has changed. Survives deepcopy and the pickling of spawned workers.
    """

    # mmengine's data sets have these; they take an index, which must be the wrapped one's.
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
    ) -> None:
        if len(dataset) != len(keys):
            raise DataError(f"the data set has {len(dataset)} samples, but {len(keys)} keys came")
        self.keys = list(keys)
        self._places = {key: index for index, key in enumerate(self.keys)}
        if len(self._places) != len(self.keys):
            twice = next(key for i, key in enumerate(self.keys) if self._places[key] != i)
            raise DataError(f"two images have the key {twice!r}; rename one of them")
        self.dataset = dataset
        self.store = store
        self.trainable = np.asarray(trainable, dtype=np.bool_)
        self.inject: Inject = inject or partial(replace_mask, trainable=self.trainable)
        self.oracle = oracle
        self.make_unlabelled = make_unlabelled
        self.pool_specifics = dict(pool_specifics or {})
        self.random_state = random_state
        self.current_round = 0
        self._indices: I64 = np.zeros(0, dtype=np.int64)
        self._pool: ActiveLearningPool | None = None
        self.refresh()

    def refresh(self) -> None:
        """See what the store holds now."""
        trained = set(self.store.trainable_keys(self.trainable))
        found = [index for index, key in enumerate(self.keys) if key in trained]
        self._indices = np.asarray(found, dtype=np.int64)
        self._pool = None

    def __len__(self) -> int:
        return int(self._indices.size)

    def __getitem__(self, item: int) -> Any:
        index = self.index_of(item)
        return self.inject(self.dataset, index, self.store.path(self.keys[index]))

    def index_of(self, item: int) -> int:
        """The wrapped data set's index of the item-th labelled image."""
        if not -len(self) <= item < len(self):
            raise IndexError(f"item {item} of {len(self)} labelled images")
        return int(self._indices[item])

    def __getattr__(self, name: str) -> Any:
        # Only called for what is missing here. While unpickling there is no `dataset` yet, and
        # special methods must be looked for on this class alone.
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        value = getattr(self.dataset, name)
        return partial(self._by_index, value) if name in self._BY_INDEX else value

    def _by_index(self, method: Callable[[int], Any], item: int) -> Any:
        return method(self.index_of(item))

    @property
    def pool(self) -> ActiveLearningPool:
        """The images that can still be asked about, as the store stood at the last `refresh`."""
        if self._pool is None:
            self._pool = ActiveLearningPool(self)
        return self._pool

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """bool [number of images]: those with at least one trainable label."""
        mask = np.zeros(len(self.keys), dtype=np.bool_)
        mask[self._indices] = True
        return mask

    @property
    def labelled_map(self) -> I64:
        """int64 [number of images]: 0 where not `labelled`, else 1 + the last round that answered
        pixels of the image."""
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
        """True when `label` must be given the mask; False when an oracle knows it."""
        return self.oracle is None

    def is_labelled(self, index: int) -> bool:
        """Whether image `index` of the wrapped data set has a trainable label."""
        return bool(self.labelled[index])

    def get_raw(self, index: int) -> Any:
        """Sample `index` of the wrapped data set, untouched."""
        return self.dataset[index]

    @property
    def n_labelled(self) -> int:
        """Images with at least one trainable label."""
        return len(self)

    @property
    def n_unlabelled(self) -> int:
        """Images without one."""
        return len(self.keys) - len(self)

    def label(
        self,
        index: int | Sequence[int],
        value: Any = None,
        round: int | None = None,
    ) -> None:
        """Label images of the pool; `index` counts in `pool` as it is before this call.

        value: raw ids uint8 [H, W], 255 = no answer there; None: the oracle labels the whole image,
        void included. For several indices, a sequence of values. round: None = `current_round`.
        Raises DataError for a mask of a wrong shape, IndexError for an index outside the pool.
        """
        indices = np.atleast_1d(np.asarray(index, dtype=np.int64)).tolist()
        if np.ndim(index) == 0:
            values = [value]
        else:
            values = [None] * len(indices) if value is None else list(value)
        if len(indices) != len(values):
            raise DataError(f"{len(indices)} indices to label, but {len(values)} masks")
        for place, mask in zip(map(self.pool.index_of, indices), values, strict=True):
            answer = self._answer(place, mask)
            self.store.write(answer, self.current_round if round is None else round)
        self.refresh()

    def label_randomly(self, n: int = 1) -> None:
        """Have the oracle label n images of the pool, drawn uniformly; the draw follows
        `random_state` and the size of the pool. Raises DataError when the pool holds fewer."""
        if n > len(self.pool):
            raise DataError(f"label_randomly({n}), but the pool holds {len(self.pool)} images")
        rng = np.random.default_rng([self.random_state, len(self.pool)])
        self.label(rng.choice(len(self.pool), n, replace=False).tolist())

    def reset_labelled(self) -> None:
        """Forget every answer of the store."""
        self.store.drop_rounds_from(0)
        self.refresh()

    def _answer(self, place: int, mask: Any) -> ImageAnswer:
        if mask is None:
            if self.oracle is None:
                raise DataError("label() without a mask needs ActiveLearningDataset(oracle=...)")
            labels = _as_mask(self.oracle(place))
            return ImageAnswer(self.keys[place], labels, np.ones(labels.shape, dtype=np.bool_))
        labels = _as_mask(mask)
        return ImageAnswer(self.keys[place], labels, labels != UNLABELED)

    def state_dict(self) -> JSON:
        """JSON-able. The pixels are in the store, this only says which images it knew."""
        labelled = [self.keys[index] for index in self._indices]
        own = {"current_round": self.current_round, "random_state": self.random_state}
        return {"labelled": labelled, **own}

    def load_state_dict(self, state: JSON) -> None:
        """Go on from `state`. Raises WorkDirError when the store lacks an image's labels."""
        self.current_round = int(state["current_round"])
        self.random_state = int(state.get("random_state", self.random_state))
        self.refresh()
        there = {self.keys[index] for index in self._indices}
        missing = [key for key in state["labelled"] if key not in there]
        if missing:
            raise WorkDirError(f"{self.store.root} has lost the labels of {missing[0]!r}")


class ActiveLearningPool(Dataset[Any]):
    """The images of which at least one pixel was never answered, in data-set order; a snapshot.

    Items are the wrapped data set's own samples, through the owner's `make_unlabelled` if it has
    one. Raises ConfigError for an attribute in `pool_specifics` that the data set does not have.
    """

    def __init__(self, owner: ActiveLearningDataset) -> None:
        self.dataset = with_attributes(owner.dataset, owner.pool_specifics)
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
        """The wrapped data set's index of the pool's item-th image."""
        if not -len(self) <= item < len(self):
            raise IndexError(f"item {item} of a pool of {len(self)} images")
        return int(self.indices[item])


def replace_mask(dataset: Any, index: int, path: Path, *, trainable: Bool) -> Any:
    """A plain sample (image, mask, ...) with its mask replaced by the label file's raw ids.

    Ids that are not trainable become 255. A tensor mask is replaced by a tensor of the same dtype,
    any other by an array uint8 [H, W]. Raises DataError when the shapes differ.
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


def with_attributes(dataset: Any, values: Mapping[str, Any]) -> Any:
    """A copy of `dataset` with attributes set; the data set itself when there are none."""
    if not values:
        return dataset
    changed = copy.deepcopy(dataset)
    for name, value in values.items():
        if not hasattr(changed, name):
            raise ConfigError(f"pool_specifics: {type(dataset).__name__} has no attribute {name!r}")
        setattr(changed, name, value)
    return changed


def _as_mask(value: Any) -> U8:
    """uint8 [H, W] of a mask given as an array or tensor. Raises DataError for other ids."""
    mask = value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if mask.ndim != 2:
        raise DataError(f"a mask has shape [H, W], not {list(mask.shape)}")
    if mask.size and (mask.min() < 0 or mask.max() > UNLABELED):
        raise DataError(f"a mask holds ids 0..255, not {int(mask.min())}..{int(mask.max())}")
    return mask.astype(np.uint8)
