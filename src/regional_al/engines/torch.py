"""The `torch` engine: any nn.Module that maps [N, 3, H, W] to logits [N, C, H, W].

For tests and for use without MMSegmentation. Deterministic and simple: AdamW with polynomial decay.
With several processes every rank trains the same replica on the same batches, so only scoring is
distributed, and the weights are the same bytes on 1, 2 or 4 processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from torch.utils.data import Dataset

from .. import metrics
from ..config.grammar import Acquisition
from ..data import ActiveLearningDataset
from ..errors import ConfigError, DataError, TrainingStopped, UnsupportedError
from ..runtime import distributed as dist
from ..runtime import randomness, signals
from ..store import fit_state
from ..store.images import image_size, read_ids, read_rgb, replacing
from ..store.labels import LabelStore
from ..types import I64, U8, UNLABELED, LabelSpace, PoolItem, PredictRequest
from .base import ENGINES, EngineLoader, FitRequest, FitResult, Prediction
from .mmseg.checkpoints import read_checkpoint
from .mmseg.config_file import check_ids
from .mmseg.datasets import refuse_duplicates
from .views import captured, dropout_on, order, pass_seed, refuse_without_dropout

log = logging.getLogger("regional_al")
REPORT_EVERY = 10
"""Iterations between two losses that are reported."""


@dataclass
class TorchEngine:
    """The `Engine` protocol over a plain model.

    Args:
        build_model: Makes the model; called with a seeded generator.
        pool: Images to select from and to train on.
        val: Images with annotations to evaluate on.
        label_space: Classes and the meaning of the ids.
        iterations: Length of one training, or of the whole continuous run.
        batch_size: Images per step.
        lr: Initial learning rate.
        load_from: State dict file for `round_init='pretrained'`.
        device: Of the model.
        save_interval: Iterations after which the state of a training is saved.

    Example:
        >>> from regional_al.types import LabelSpace
        >>> space = LabelSpace.plain(("road", "car"), ((0, 0, 0), (9, 9, 9)))
        >>> engine = TorchEngine(lambda: torch.nn.Conv2d(3, 2, 1), [], [], space)
        >>> engine.evaluate(None).shape
        (2, 2)
    """

    build_model: Callable[[], torch.nn.Module]
    pool: Sequence[PoolItem]
    val: Sequence[PoolItem]
    label_space: LabelSpace
    iterations: int = 50
    batch_size: int = 4
    lr: float = 1e-2
    load_from: Path | None = None
    device: str = "cpu"
    save_interval: int = 1000

    def check_acquisition(self, acquisition: Acquisition) -> None:
        """Raise ConfigError for queries after the end of the training, and for
        `round_init='pretrained'` without `load_from`; UnsupportedError for `unlabeled`,
        `loss_average`, `region_classes` and `machine_weight`. Of answers by sets of classes, those
        of one class are trained on, which is told."""
        if acquisition.unlabeled is not None:
            raise UnsupportedError(
                "acquisition.unlabeled needs a config of MMSegmentation: the torch engine trains "
                "on labelled pixels alone"
            )
        if acquisition.loss_average != "pixel":
            raise UnsupportedError(
                f"acquisition.loss_average={acquisition.loss_average!r} needs a config of "
                "MMSegmentation: the torch engine averages over pixels"
            )
        sets = acquisition.region_classes
        if sets is not None and sets.pseudo is None and acquisition.answer != "multiclass":
            raise UnsupportedError(
                "acquisition.region_classes needs a config of MMSegmentation: the torch engine "
                "trains on labelled pixels alone"
            )
        if sets is not None:
            rest = "" if sets.pseudo is None else ", but for their pseudo labels"
            log.warning(
                "the torch engine trains on regions of one class alone; those of several classes "
                f"need a config of MMSegmentation{rest}"
            )
        warm = acquisition.warm_start
        if warm is not None and warm.machine_weight != 1:
            raise UnsupportedError(
                f"acquisition.warm_start.machine_weight={warm.machine_weight:g} needs a config of "
                "MMSegmentation: to the torch engine all labels are alike"
            )
        if acquisition.queries and acquisition.queries[-1] > self.iterations:
            raise ConfigError(
                f"acquisition.queries={list(acquisition.queries)} must not exceed the length of "
                f"the training, iterations={self.iterations}"
            )
        if acquisition.round_init == "pretrained" and self.load_from is None:
            raise ConfigError("acquisition.round_init='pretrained' needs load_from")

    def preflight(self) -> None:
        """Check the names of the images, the validation masks and that `load_from` fits."""
        refuse_duplicates([(item.key, item.image) for item in self.pool], "the pool")
        for item in self.val:
            if item.annotation is None or not item.annotation.is_file():
                raise DataError(f"validation image {item.image} has no annotation file")
            mask = read_ids(item.annotation)
            if mask.shape != item.shape:
                raise DataError(
                    f"{item.annotation} is {mask.shape[0]}x{mask.shape[1]} (height x width), its "
                    f"image is {item.shape[0]}x{item.shape[1]}: save it at the size of the image"
                )
            check_ids(item.annotation, mask, self.label_space)
            image_size(item.image)
        if self.load_from is not None:
            if not self.load_from.is_file():
                raise ConfigError(f"load_from={self.load_from} does not exist")
            with torch.random.fork_rng(devices=[]):
                self._load(None)

    def fit(self, request: FitRequest) -> FitResult:
        """Train from scratch, or from a checkpoint; see `FitRequest`."""
        torch.manual_seed(request.seed)
        model = self.build_model().to(self.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.lr)
        start = self._initialise(model, optimizer, request)
        length = request.iterations or self.iterations
        end = length if request.until in (None, -1) else int(request.until or 0)
        keys = set(request.store.trainable_keys(self.label_space.trainable))
        items = [item for item in self.pool if item.key in keys]
        rng = np.random.default_rng([request.seed, start])
        saved = self._resume(model, optimizer, request)
        with signals.noted() if request.identity is not None else nullcontext() as stop:
            for step in range(start, end):
                chosen = rng.choice(len(items), min(self.batch_size, len(items)), replace=False)
                if step < saved:
                    continue  # only the choice is repeated
                for group in optimizer.param_groups:
                    group["lr"] = self.lr * (1 - step / max(length, 1)) ** 0.9
                images, labels = self._batch([items[i] for i in chosen], request)
                loss = masked_cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                done = step + 1
                if request.track is not None and (done % REPORT_EVERY == 0 or done == end):
                    values = {"loss": loss.item(), "lr": optimizer.param_groups[0]["lr"]}
                    request.track.scalars(values, done - start, end - start)
                if stop is not None and done < end:
                    asked = dist.max_number(stop.signal)
                    if asked or done % self.save_interval == 0:
                        self._save_state(model, optimizer, request, done)
                    if asked:
                        stop.answered = True
                        raise TrainingStopped(signals.stopped_line(asked, done))
        path = request.out_dir / "checkpoint.pth"
        if dist.is_main():
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": end}
            with replacing(path) as temporary:
                torch.save(state, temporary)
        return FitResult(path, max(0, end - start), 1.0)

    def predict(
        self, checkpoint: Path | None, indices: Sequence[int], request: PredictRequest
    ) -> Iterator[Prediction]:
        """Logits of some images, one at a time; see `Engine.predict`."""
        model = self._load(checkpoint).eval()
        members = [self._load(path).eval() for path in request.ensemble]
        refuse_without_dropout(model, request.passes, "add an nn.Dropout to it")
        for index in indices:
            image = self._image(self.pool[index])[None]
            looks = [
                partial(
                    self._see,
                    model,
                    image,
                    flipped,
                    pass_seed(index, number) if request.passes > 1 else None,
                )
                for number, flipped in order(request)
            ]
            looks += [partial(self._see, member, image) for member in members]
            with captured(model, request.features) as found:
                logits = looks[0]()
            more = (look() for look in looks[1:]) if looks[1:] else None
            yield Prediction(index, logits, more, found[0] if found else None)

    def evaluate(self, checkpoint: Path | None) -> I64:
        """Confusion matrix int64 [C, C] over the validation images."""
        model = self._load(checkpoint).eval()
        classes = self.label_space.num_classes
        total = np.zeros((classes, classes), dtype=np.int64)
        for item in self.val:
            with torch.no_grad():
                pred = model(self._image(item)[None])[0].argmax(0).cpu().numpy()
            assert item.annotation is not None
            truth = self.label_space.mask_to_train[read_ids(item.annotation)]
            total += metrics.confusion_matrix(pred, truth, classes)
        return total

    def network(self, checkpoint: Path | None) -> torch.nn.Module:
        """The model in eval mode, with the weights of a checkpoint or as built."""
        return self._load(checkpoint).eval()

    def active_dataset(self, store: LabelStore, **arguments: Any) -> ActiveLearningDataset:
        """(image float32 [3, H, W] in -1..1, labels uint8 [H, W]) of the pool, through `store`."""
        keys, trainable = [item.key for item in self.pool], self.label_space.trainable
        return ActiveLearningDataset(Images(self), store, keys, trainable, **arguments)

    def _initialise(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, request: FitRequest
    ) -> int:
        """Load what `request` says into model and optimizer; returns the first iteration."""
        if request.until is not None and request.previous is not None:
            state = read_checkpoint(request.previous)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            return int(state["step"])
        source = self.load_from
        if request.init == "scratch" and request.until is None:
            source = None
        elif request.init == "continue" and request.previous is not None:
            source = request.previous
        elif request.init == "pretrained" and source is None:
            raise ConfigError("round_init='pretrained' needs load_from")
        if source is not None:
            _fill(model, source)
        return 0

    def _resume(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, request: FitRequest
    ) -> int:
        """Restore the state of this very training; returns its iteration, or 0."""
        try:
            entry = fit_state.read(request.out_dir, request.identity)
        except fit_state.UnusableStateError:
            entry = None
        if entry is None:
            return 0
        content = read_checkpoint(request.out_dir / fit_state.FILE)
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        randomness.restore(entry["generators"])
        return int(entry["iteration"])

    def _save_state(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        request: FitRequest,
        iteration: int,
    ) -> None:
        """Rank 0 writes the state; all ranks train the same replica."""
        entry = {"identity": request.identity, "iteration": iteration}
        entry["generators"] = randomness.state()
        content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        content["meta"] = {fit_state.KEY: entry}
        if dist.is_main():
            fit_state.write(request.out_dir, lambda path: torch.save(content, path))
        dist.barrier()

    def _load(self, checkpoint: Path | None) -> torch.nn.Module:
        torch.manual_seed(0)
        model = self.build_model().to(self.device)
        source = checkpoint or self.load_from
        if source is not None:
            _fill(model, source)
        return model

    def _see(
        self,
        model: torch.nn.Module,
        image: torch.Tensor,
        flipped: bool = False,
        seed: int | None = None,
    ) -> torch.Tensor:
        """Logits [C, H, W] of one view of an image [1, 3, H, W]; seed: of its dropout noise."""
        noise = dropout_on(model, seed, image.device) if seed is not None else nullcontext()
        with torch.no_grad(), noise:
            logits: torch.Tensor = model(image.flip(-1) if flipped else image)[0]
        return logits.flip(-1) if flipped else logits

    def _image(self, item: PoolItem) -> torch.Tensor:
        """float32 [3, H, W] in -1..1."""
        pixels = torch.from_numpy(read_rgb(item.image)).to(self.device, torch.float32)
        return pixels.permute(2, 0, 1) / 127.5 - 1

    def _batch(
        self, items: Sequence[PoolItem], request: FitRequest
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [N, 3, H, W] and train ids int64 [N, H, W], padded to the largest (255)."""
        height = max(item.shape[0] for item in items)
        width = max(item.shape[1] for item in items)
        images = torch.zeros(len(items), 3, height, width, device=self.device)
        labels = torch.full((len(items), height, width), UNLABELED, device=self.device)
        table = torch.from_numpy(self.label_space.raw_to_train.astype(np.int64))
        for n, item in enumerate(items):
            h, w = item.shape
            images[n, :, :h, :w] = self._image(item)
            raw = request.store.read(item.key)
            assert raw is not None
            labels[n, :h, :w] = table[torch.from_numpy(raw.astype(np.int64))]
        return images, labels


class Images(Dataset[Any]):
    """(image float32 [3, H, W], labels uint8 [H, W], all 255) of an engine's pool."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine

    def __len__(self) -> int:
        return len(self.engine.pool)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, U8]:
        item = self.engine.pool[index]
        return self.engine._image(item), np.full(item.shape, UNLABELED, dtype=np.uint8)


@ENGINES.register("torch")
class TorchLoader(EngineLoader):
    """A `TorchEngine` is made of Python objects, so it has no config file."""

    def check(self, config: Path) -> None:
        raise UnsupportedError(
            f"{config}: engine='torch' has no config file: pass a TorchEngine to regional_al.run, "
            "or register an engine that builds one (docs/add_an_engine.md)"
        )


def masked_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the labelled pixels (label != 255); 0 with a gradient if none is."""
    total = nnf.cross_entropy(logits, labels, ignore_index=UNLABELED, reduction="sum")
    return total / (labels != UNLABELED).sum().clamp(min=1)


def _fill(model: torch.nn.Module, path: Path) -> None:
    """Load the weights of a checkpoint. Raises ConfigError when they do not fit."""
    state = read_checkpoint(path)
    try:
        model.load_state_dict(state.get("model", state))
    except RuntimeError as error:
        told = " ".join(str(error).splitlines()[-1].split())
        raise ConfigError(f"{path} does not fit the model: {told}") from None
