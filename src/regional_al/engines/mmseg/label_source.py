"""Whose labels the pixels of a training sample have: people's or a machine's, as a side map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...store.labels import LabelStore
from ...store.prelabels import MACHINE
from ...types import I32, Bool, PoolItem
from .side_maps import SideMap

MAP = "source"
BY_MACHINE, BY_PEOPLE = 1, 2
"""Values of the map; 0: no label. It is labelled where the labels are, so that transforms which
keep sparse labels do the same to both."""


@dataclass(frozen=True)
class LabelSource:
    """What a `SideMap` reads.

    Args:
        store: The labels of the training, see `store.prelabels.TrainingLabels`.
        items: The pool.
        trainable: bool [256], raw ids that are trained on.
    """

    store: LabelStore
    items: Sequence[PoolItem]
    trainable: Bool

    def __call__(self, index: int) -> I32 | None:
        """int32 [H, W]; None: the image has no labels."""
        key = self.items[index].key
        labels, sidecar = self.store.read(key), self.store.annotated(key)
        if labels is None or sidecar is None:
            return None
        whose = np.where(sidecar == MACHINE, BY_MACHINE, BY_PEOPLE)
        return np.where(self.trainable[labels], whose, 0).astype(np.int32)


def source_map(store: LabelStore, items: Sequence[PoolItem], trainable: Bool) -> SideMap:
    """The side map; see `LabelSource` for the arguments."""
    return SideMap(MAP, LabelSource(store, items, trainable))
