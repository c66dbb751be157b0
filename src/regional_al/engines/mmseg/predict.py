"""Logits of whole images with mmseg's own inference, and the confusion matrix over them.

What both generations of MMSegmentation share; each adds how its models are built, its images are
read and its inference is called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ... import metrics
from ...errors import ConfigError, DataError, RegionalALError
from ...runtime import distributed as dist
from ...runtime.progress import progress
from ...store.windows import Box
from ...types import I64, UNLABELED, FeatureMap, PoolItem, PredictRequest
from ..base import Prediction
from ..specs import first_line
from ..views import (
    Passes,
    captured,
    order,
    refuse_without_dropout,
    same,
    sample_or_reason,
    threshold_of,
    two_channels,
)
from .frame import Frame
from .ignored import without


class Predictor(ABC):
    """Holds the model of one checkpoint until another is requested.

    Args:
        cfg: Config of the engine.
        device: Where models run.
    """

    def __init__(self, cfg: Any, device: torch.device) -> None:
        self.cfg, self.device = cfg, device
        self._model: Any = None
        self._loaded: tuple[str, int] | None = None
        self._members: dict[Path, Any] = {}
        self.head_is_trained = True
        """Of the model in use; the features of a random head say less than the backbone's."""

    @abstractmethod
    def build(self) -> Any:
        """The segmentor of the config, weights unset. Raises ConfigError in one line."""

    @abstractmethod
    def own_start(self) -> Any:
        """The model before any training: its initialisation, then weights that the config names.
        Seeds torch's generator."""

    @abstractmethod
    def read_weights(self, checkpoint: Path) -> Mapping[str, Any]:
        """State dict of a checkpoint. Raises ConfigError for one that cannot be read safely."""

    @abstractmethod
    def images(self, dataset: Any, indices: Sequence[int]) -> PoolImages:
        """Un-augmented samples of some images."""

    @abstractmethod
    def workers(self) -> int:
        """Worker processes that read images."""

    @abstractmethod
    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision where the config trains with it, on CUDA."""

    @abstractmethod
    def inputs(self, model: Any, sample: Any) -> tuple[torch.Tensor, Any]:
        """(network input [1, 3, h, w] on the device, meta data) of a sample."""

    @abstractmethod
    def infer(self, model: Any, inputs: torch.Tensor, meta: Any) -> torch.Tensor:
        """Logits [1, C, h, w] of the size of `inputs`, whole or by sliding windows."""

    @abstractmethod
    def frame(self, meta: Any, input_size: tuple[int, int]) -> Frame:
        """Where the image lies in the network's input."""

    def forget(self) -> None:
        """Free the memory of the models."""
        self._model, self._loaded, self._members = None, None, {}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def model(self, checkpoint: Path | None) -> Any:
        """The model in eval mode with the weights of a checkpoint; None: the config's own start."""
        stamp = (str(checkpoint), checkpoint.stat().st_mtime_ns if checkpoint else 0)
        if stamp != self._loaded:
            self.forget()
            with torch.random.fork_rng(devices=[]):  # building draws weights; keep it invisible
                model = self.own_start() if checkpoint is None else self._built_from(checkpoint)
            self._model, self._loaded = model.to(self.device).eval(), stamp
        return self._model

    def members(self, checkpoints: Sequence[Path]) -> list[Any]:
        """The models of an ensemble, in eval mode, held beside `model`'s until `forget`."""
        for path in checkpoints:
            if path not in self._members:
                with torch.random.fork_rng(devices=[]):
                    self._members[path] = self._built_from(path).to(self.device).eval()
        return [self._members[path] for path in checkpoints]

    def predict(
        self, dataset: Any, checkpoint: Path | None, indices: Sequence[int], request: PredictRequest
    ) -> Iterator[Prediction]:
        """Streamed predictions: the first view in `logits`, further ones (passes, flip, ensemble)
        in `more`.

        With passes > 1 every pass, the first included, has its dropout layers on; masks are
        seeded by image and pass, so they do not depend on how ranks share the images.
        """
        model, members = self.model(checkpoint), self.members(request.ensemble)
        given = any(self.cfg.get(key) for key in ("load_from", "resume_from"))
        self.head_is_trained = checkpoint is not None or given
        fix = "set model.decode_head.dropout_ratio above 0"
        refuse_without_dropout(model, request.passes, fix)
        images = self.images(dataset, indices)
        for index, sample in self.load(images):
            inner = images.inner(index)
            view = View(self, model, sample, index, request.passes > 1, inner)
            looks = [partial(view.logits, number, flipped) for number, flipped in order(request)]
            looks += [
                partial(View(self, m, sample, index, False, inner).logits, 0, False)
                for m in members
            ]
            logits, features = looks[0](with_features=request.features)
            more = (look()[0] for look in looks[1:]) if looks[1:] else None
            yield Prediction(index, logits, more, features)
            view.forget()

    def predict_one(self, model: Any, dataset: Any, items: Sequence[PoolItem]) -> None:
        """Predict the first image, or the first tile with context, to see that test pipeline and
        model fit. Raises ConfigError, DataError."""
        images = self.images(dataset, range(len(items)))
        first = next((i for i in range(len(items)) if images.inner(i) is not None), 0)
        _, sample = images[first]
        if isinstance(sample, str):
            raise DataError(sample)
        try:
            View(self, model, sample, 0, False, images.inner(first)).logits(0, False)
        except RegionalALError:
            raise
        except Exception as error:  # models raise all kinds on sizes they cannot take
            raise ConfigError(
                f"the model cannot predict {items[first].image}: {first_line(error)}"
            ) from None

    def load(self, images: Dataset[Any]) -> Iterator[tuple[int, Any]]:
        """(index, sample) of a data set of such pairs, with the workers of the validation loader.
        Raises DataError for a sample that is a str."""
        loader: DataLoader[Any] = DataLoader(
            images,
            batch_size=None,
            num_workers=min(self.workers(), len(images)),  # type: ignore[arg-type]
            collate_fn=same,
            generator=torch.Generator().manual_seed(0),  # leave the global one alone
        )
        for index, sample in loader:
            if isinstance(sample, str):
                raise DataError(sample)
            yield index, sample

    def _built_from(self, checkpoint: Path) -> Any:
        model = self.build()
        try:
            found = model.load_state_dict(self.read_weights(checkpoint), strict=False)
        except RuntimeError as error:
            last = str(error).splitlines()[-1].strip()
            raise ConfigError(f"{checkpoint} does not fit the config's model: {last}") from None
        if found.missing_keys:
            raise ConfigError(
                f"{checkpoint} does not fit the config's model: no {found.missing_keys[0]}"
            )
        return model


class PoolImages(Dataset[Any], ABC):
    """(index, un-augmented sample without annotation) of some images; a str instead of a sample
    says in one line what is wrong with the image (exceptions would cross workers as tracebacks)."""

    def __init__(self, dataset: Any, indices: Sequence[int], pipeline: Any) -> None:
        self.dataset, self.indices, self.pipeline = dataset, list(indices), pipeline

    @abstractmethod
    def path(self, index: int) -> str:
        """File of an image."""

    @abstractmethod
    def sample(self, index: int) -> Any:
        """The image through the pipeline."""

    @abstractmethod
    def inner(self, index: int) -> Box | None:
        """Where the image lies in what the pipeline reads; None: it is all of it."""

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        index = self.indices[place]
        return index, sample_or_reason(lambda: self.sample(index), self.path(index))


class View:
    """One image on the device, to be seen in several ways. inner: the image lies in the sample."""

    def __init__(
        self,
        owner: Predictor,
        model: Any,
        sample: Any,
        index: int,
        stochastic: bool,
        inner: Box | None = None,
    ) -> None:
        self.owner, self.model, self.sample, self.inner = owner, model, sample, inner
        self.passes = Passes(model, index, owner.device) if stochastic else None

    @torch.inference_mode()
    def logits(
        self, number: int, flipped: bool, with_features: bool = False
    ) -> tuple[torch.Tensor, FeatureMap | None]:
        """Logits float32 [C, H, W] at the image's own size; those of one-channel heads as
        `two_channels`."""
        inputs, meta = self.owner.inputs(self.model, self.sample)
        if flipped:
            inputs = inputs.flip(-1)
        with (
            self.owner.autocast(),
            self._pass(number, flipped),
            captured(self.model, with_features, self.owner.head_is_trained) as found,
        ):
            out = self.owner.infer(self.model, inputs, meta)
        if flipped:
            out = out.flip(-1)
        size = (inputs.shape[-2], inputs.shape[-1])
        frame = self.owner.frame(meta, size)
        if self.inner is not None and frame.shown(size) != frame.size:
            raise ConfigError(
                f"acquisition.tiles: the test pipeline resizes a tile with its context from "
                f"{frame.size} to {frame.shown(size)} (HxW), another scale than that of training: "
                "leave Resize out of it (0.x: img_scale=None, img_ratios=1.0), or set "
                "tiles=dict(size=..., context=0)"
            )
        logits = frame.logits(out.float(), self.model.align_corners)
        logits = two_channels(logits, threshold_of(self.model))
        inner = self.inner or Box(0, logits.shape[-2], 0, logits.shape[-1])
        logits = logits[:, inner.top : inner.bottom, inner.left : inner.right].contiguous()
        if len(found) != 1:
            return logits, None
        height, width = found[0].shape[-2:]
        rows, cols = frame.cells(size, (height, width))
        rows, cols = rows[inner.top : inner.bottom], cols[inner.left : inner.right]
        return logits, FeatureMap(found[0], rows, cols)

    def forget(self) -> None:
        """Free what was kept of the image for further passes."""
        if self.passes is not None:
            self.passes.forget()

    def _pass(self, number: int, flipped: bool) -> AbstractContextManager[None]:
        return nullcontext() if self.passes is None else self.passes.on(number, flipped)


def decided(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """Class of each pixel int64 [H, W]: argmax, or for a one-channel head its own threshold on the
    sigmoid."""
    if model.out_channels == 1:
        return (logits[1].sigmoid() > float(model.decode_head.threshold)).long()
    return logits.argmax(dim=0)


def reason_not_built(cfg: Any, error: Exception) -> ConfigError:
    """One line for whatever the classes named in `model` raise when they are built."""
    text = (
        str(error.args[0]).splitlines()[0]
        if isinstance(error, KeyError) and error.args
        else first_line(error)
    )
    return ConfigError(f"model.type={cfg.model.get('type')!r} cannot be built: {text}")


Samples = Callable[[range], Iterable[tuple[int, Any, Any, str, Box | None]]]
"""Indices of a rank -> (index, sample, target int [H, W], annotation file, where the image lies in
the sample) of each image."""


def confusion(
    predictor: Predictor,
    checkpoint: Path | None,
    num_images: int,
    num_classes: int,
    samples: Samples,
    hint: str = "",
    ignored: int = UNLABELED,
) -> I64:
    """Equal to what mmseg's own metric counts, one-channel heads and thresholds included.

    Args:
        predictor: Predicts the samples.
        checkpoint: Of the model; None: the config's own start.
        num_images: Size of the validation set.
        num_classes: C.
        samples: Reads a rank's share.
        hint: How to fix a prediction of another size than its annotation.
        ignored: A train id that the metric leaves out, beside 255.

    Returns:
        int64 [C, C], rows = target; the sum over ranks, on every rank.

    Raises:
        DataError: A file is missing, of another size, or holds unknown ids; on every rank.
    """
    total: I64 = np.zeros((num_classes, num_classes), dtype=np.int64)
    error: RegionalALError | None = None
    try:
        model = predictor.model(checkpoint)
        mine = range(dist.rank(), num_images, dist.world_size())
        seen = progress(samples(mine), "evaluating", len(mine))
        for index, sample, target, path, inner in seen:
            logits, _ = View(predictor, model, sample, index, False, inner).logits(0, False)
            if logits.shape[-2:] != target.shape:
                raise DataError(
                    f"{path} is {tuple(target.shape)}, its prediction {tuple(logits.shape[-2:])} "
                    f"(HxW){hint}"
                )
            try:
                target = without(target, ignored)
                total += metrics.confusion_matrix(decided(model, logits), target, num_classes)
            except DataError as caught:
                raise DataError(f"{path}: {caught}") from None
    except RegionalALError as caught:  # raised on every rank together
        error = caught
    dist.raise_together(error)
    return dist.sum_array(total)
