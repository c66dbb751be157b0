"""What the engines of both MMSegmentation generations do alike."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ...data import ActiveLearningDataset
from ...store.labels import LabelStore
from ...types import I64, LabelSpace, PoolItem, PredictRequest
from ..base import FitRequest, FitResult, Prediction
from .domains import KEY as SOURCE_KEY
from .ignored import ignored_by_heads, rewrite
from .pipelines import replace_lossy
from .predict import Predictor
from .region_classes import settings_of as region_settings
from .tiled import Tiling


class MMSegEngine(ABC):
    """Base of `MMSeg0Engine` and `MMSeg1Engine`: the engine protocol over a config.

    Attributes:
        label_space: Classes and raw ids of the training data set.
        pool: Its images.
        max_iterations: Length of the config's own schedule; None for a schedule in epochs.
    """

    label_space: LabelSpace
    pool: Sequence[PoolItem]
    max_iterations: int | None
    cfg: Any
    sparse: bool
    """Whether labels may be parts of images, see `sparse_labels`."""
    dataset: Any
    """The training data set, as mmseg builds it."""
    predictor: Predictor
    tiling: Tiling | None
    """How large images are cut."""
    read_sample: Callable[..., Any]
    """(data set, index, mask file) -> training sample with the labels of that file."""

    @abstractmethod
    def preflight(self) -> None:
        """Check model, losses, schedule, validation data and one training batch."""

    @abstractmethod
    def train(self, request: FitRequest) -> FitResult:
        """One training stretch; its checkpoint is `request.out_dir/checkpoint.pth`."""

    @abstractmethod
    def build_validation(self) -> Any:
        """The validation data set."""

    @abstractmethod
    def evaluate(self, checkpoint: Path | None) -> I64:
        """Confusion matrix int64 [C, C] over the validation set; ranks share its images."""

    def keep_sparse_labels(
        self, specs: Any, key: str, substitutes: Mapping[str, str], is_stock: Callable[[Any], bool]
    ) -> None:
        """Below image level, `replace_lossy` as `acquisition.keep_pipeline` says."""
        if self.sparse:
            keep = bool((self.cfg.get("acquisition") or {}).get("keep_pipeline"))
            replace_lossy(specs, key, substitutes, is_stock, keep)

    def make_void(self, trained: Sequence[Any]) -> tuple[int, list[str]]:
        """Let heads and paddings ignore 255 in place of the id that the config's heads ignore.

        Args:
            trained: Configs of what is trained on.

        Returns:
            That id, 255 where there is nothing to do, and the heads that have been changed.
        """
        ignored = ignored_by_heads(self.cfg.model)
        source = (self.cfg.get(SOURCE_KEY) or {}).get("dataset")
        return ignored, rewrite(self.cfg.model, [*trained, source], ignored)

    def fit(self, request: FitRequest) -> FitResult:
        """`train`, with the memory of the models that predict freed."""
        self.predictor.forget()
        return self.train(request)

    def predict(
        self, checkpoint: Path | None, indices: Sequence[int], request: PredictRequest
    ) -> Iterator[Prediction]:
        """Logits at the images' own size, one image at a time, in the order of `indices`."""
        return self.predictor.predict(self.dataset, checkpoint, indices, request)

    def network(self, checkpoint: Path | None) -> Any:
        """The segmentor in eval mode, with a checkpoint's weights or the config's own start."""
        return self.predictor.model(checkpoint)

    def active_dataset(self, store: LabelStore, **arguments: Any) -> ActiveLearningDataset:
        """The training data set seen through the labels of `store`."""
        return ActiveLearningDataset(
            self.dataset,
            store,
            [item.key for item in self.pool],
            self.label_space.trainable,
            inject=self.read_sample,
            **arguments,
        )

    @property
    def trains_on_sets(self) -> bool:
        """Whether regions of which only the classes are known are trained on."""
        return region_settings(self.cfg) is not None

    @cached_property
    def validation(self) -> Any:
        """The validation data set, built when it is first needed."""
        return self.build_validation()


FILE = "results.json"


def sparse_labels(acquisition: Mapping[str, Any]) -> bool:
    """Whether labels may be parts of images, by `acquisition` as written: unless every question is
    about a whole image, those of a run that labels are taken over from (`warm_start`) among them.
    """
    warm = acquisition.get("warm_start")
    if acquisition.get("level", "region") != "image":
        return True
    if not isinstance(warm, Mapping):
        return False
    if warm.get("prelabels"):  # a machine may have labelled parts of images
        return True
    other = warm.get("run") or warm.get("labels")
    if other is None:
        return str(warm.get("level", "image")) != "image"
    try:
        theirs = json.loads((Path(str(other)) / FILE).read_text(encoding="utf-8"))["acquisition"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True  # that there is no such run is said when it is needed
    return not isinstance(theirs, Mapping) or sparse_labels(theirs)
