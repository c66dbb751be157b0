"""How good the labels are that a training sees: answers and machine labels against the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .. import metrics
from ..errors import WorkDirError
from ..store.labels import LabelStore
from ..store.prelabels import Prelabels, current_labels
from ..types import I64, U8, UNLABELED, LabelSpace, PoolItem


class LabelQuality:
    """The confusion matrix of the current labels of a pool. After the first round that it is asked
    about it only looks at the images that were queried since.

    Args:
        store: What people have answered.
        prelabels: What a machine says.
        truth: Key of an image -> raw ids uint8 [H, W].
        pool: The images.
        space: Meaning of the ids.
    """

    def __init__(
        self,
        store: LabelStore,
        prelabels: Prelabels,
        truth: Callable[[str], U8],
        pool: Iterable[PoolItem],
        space: LabelSpace,
    ) -> None:
        self.store, self.prelabels, self.truth, self.space = store, prelabels, truth, space
        self.keys = [item.key for item in pool]
        self._total: I64 | None = None
        self._round = -1

    def after(self, round_: int, queried: Iterable[str]) -> I64:
        """Confusion matrix int64 [C, C] after a round, rows = truth, of the pixels that have both a
        label and a true class.

        Args:
            round_: Whose answers are stored.
            queried: Images that it asked about.

        Raises:
            DataError: A truth cannot be read.
        """
        if self._total is None or round_ != self._round + 1:
            found = [self._confusion(key, None) for key in self.keys]
            self._total = sum(found, self._none())
        else:
            self._total = sum((self._confusion(key, round_) for key in queried), self._total)
        self._round = round_
        return self._total

    def of(self, labels: LabelStore) -> I64:
        """`after`, of these labels instead of all answers: those that a training has seen.

        Args:
            labels: A label store of the same pool.
        """
        keys = set(labels.keys())
        total = self._none()
        for key in self.keys:
            seen = labels.read(key) if key in keys else None
            if seen is not None:
                total += self._counts(seen, self.truth(key))
        return total

    def _confusion(self, key: str, round_: int | None) -> I64:
        """Of an image; with a round, what its answers have changed."""
        label, sidecar = self.store.read(key), self.store.annotated(key)
        machine = self.prelabels.read(key)
        if round_ is None:
            labels, _ = current_labels(label, sidecar, machine)
            return self._none() if labels is None else self._counts(labels, self.truth(key))
        if label is None or sidecar is None:
            return self._none()
        news, truth = sidecar == round_ + 1, self.truth(key)
        change = self._counts(label[news], truth[news])
        return change if machine is None else change - self._counts(machine[news], truth[news])

    def _counts(self, labels: U8, truth: U8) -> I64:
        """labels, truth: raw ids of one shape."""
        trainable, table = self.space.trainable, self.space.raw_to_train
        if labels.shape != truth.shape:
            raise WorkDirError(
                f"{self.store.root}: labels are {labels.shape}, the truth is {truth.shape}: the "
                "data set has changed since"
            )
        both = trainable[labels] & trainable[truth]
        said, true = table[labels[both]].astype(np.int64), table[truth[both]].astype(np.int64)
        return metrics.confusion_matrix(said, true, self.space.num_classes, UNLABELED)

    def _none(self) -> I64:
        return np.zeros((self.space.num_classes,) * 2, np.int64)
