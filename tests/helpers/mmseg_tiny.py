"""A tiny data set, and what the tests of both MMSegmentation engines need of a generation.

`Tiny` names what 0.x and 1.x write differently: keys of configs, changes to them, and mmseg's own
answers to compare with. mmseg0_tiny.py and mmseg1_tiny.py fill it in; importing them needs no
framework.
"""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from regional_al import engines
from regional_al.engines.base import Engine, FitRequest
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.types import ImageAnswer

Options = dict[str, Any]
CLASSES = ("left", "right", "low")


def make_data(root: Path, train: int = 5, val: int = 3) -> None:
    """Images whose colours give their class away; two sizes; a void stripe on top."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            height, width = (96, 128) if i % 2 else (90, 122)
            mask = np.zeros((height, width), np.uint8)
            mask[:, width // 2 :] = 1
            mask[height // 2 :] = 2
            mask[:5] = 255
            noise = rng.integers(0, 40, (height, width, 3))
            image = (np.minimum(mask, 2)[..., None] * 90 + noise).astype(np.uint8)
            write_png(root / "img" / split / "town" / f"{i:02d}_img.png", image)
            write_png(root / "gt" / split / "town" / f"{i:02d}_gt.png", mask)


def make_engine(root: Path, changes: Mapping[str, Any] | None = None, **more: Any) -> Engine:
    """The engine of the tiny config with overrides: {'a.b': 1}, or `a__b=1`."""
    keys = {key.replace("__", "."): value for key, value in more.items()}
    return engines.load(root / "tiny.py", {**(changes or {}), **keys}, root / "work").build()


def label_some(store: LabelStore, engine: Engine, images: int, share: float = 0.05) -> None:
    """Label a random share of the pixels of the first images."""
    rng = np.random.default_rng(1)
    for item in engine.pool[:images]:
        assert item.annotation is not None
        truth = read_ids(item.annotation)
        store.write(ImageAnswer(item.key, truth, rng.random(truth.shape) < share), 0)


def fit_once(engine: Engine, store: LabelStore, out: Path, **request: Any) -> Any:
    """engine.fit into a fresh folder."""
    out.mkdir(parents=True, exist_ok=True)
    request.setdefault("round", 0)
    request.setdefault("seed", 3)
    return engine.fit(FitRequest(store=store, out_dir=out, **request))


def weights_hash(checkpoint: Path) -> str:
    """Hash of all weights and buffers of a checkpoint."""
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].numpy().tobytes())
    return digest.hexdigest()


class EpochLoader(NamedTuple):
    """A loader for epochs: images of an epoch, whether it drops an incomplete last batch, whether
    it ends."""

    length: int
    drop_last: bool
    finite: bool


class Tiny(ABC):
    """The tiny config in one generation of MMSegmentation.

    Methods that return options give overrides for `make_engine`.
    """

    name: ClassVar[str]
    config: ClassVar[str]

    # Keys of configs
    train_set: ClassVar[str]
    val_set: ClassVar[str]
    train_images: ClassVar[str]
    batch_size: ClassVar[str]
    train_workers: ClassVar[str]
    val_workers: ClassVar[str]
    iterations: ClassVar[str]

    # What trainings leave behind
    loop: ClassVar[str]
    """The training loop that counts iterations."""
    drops_last: ClassVar[bool]
    """Whether epochs drop an incomplete last batch by default."""
    checkpoint_keys: ClassVar[set[str]]
    checkpoint_files: ClassVar[set[str]]
    """Of a training of 8 iterations."""
    saved_rate: ClassVar[int]
    """Which learning rate a checkpoint holds: 0, of the next iteration; -1, of its last."""
    logged_precision: ClassVar[float]
    """How far a logged learning rate may be from the real one."""
    last_line: ClassVar[str]
    """In the log of a training of 8 iterations."""

    def write_config(self, root: Path, more: str = "") -> Path:
        """The tiny config, with lines added at its end; ROOT in them is the folder."""
        path = root / "tiny.py"
        path.write_text((self.config + more).replace("ROOT", str(root)))
        return path

    def part(self, module: str) -> Any:
        """A module of the engine's package."""
        return importlib.import_module(f"regional_al.engines.{self.name}.{module}")

    @abstractmethod
    def frozen(self) -> Options:
        """A learning rate of zero."""

    @abstractmethod
    def steps(self, milestones: Sequence[int], gamma: float) -> Options:
        """A learning rate that falls to `gamma` of it at each milestone."""

    @abstractmethod
    def warm_up(self, iterations: int) -> Options:
        """A linear warm-up from next to nothing, then a polynomial."""

    @abstractmethod
    def epochs(self, count: int) -> Options:
        """A schedule in epochs, with a constant learning rate."""

    @abstractmethod
    def finite_sampler(self) -> Options:
        """Training images come pass by pass."""

    @abstractmethod
    def persistent_workers(self) -> Options:
        """One worker that loads training images, kept between epochs."""

    @abstractmethod
    def poly(self, first: float, iterations: int) -> list[float]:
        """Learning rates of the tiny config's own schedule, stretched to `iterations`."""

    @abstractmethod
    def segformer_rates(self, iterations: int) -> list[float]:
        """Learning rates, in parts of the base rate, of the schedule of mmseg's SegFormer on ADE20K
        (warm-up from 1e-6 over 1500 of 160000 iterations) stretched to `iterations`."""

    @abstractmethod
    def logged(self, folder: Path) -> list[dict[str, Any]]:
        """'iter', 'lr' and 'loss' of each training iteration that was logged."""

    @abstractmethod
    def saved_classes(self, content: Mapping[str, Any]) -> tuple[str, ...]:
        """The class names that a checkpoint holds."""

    @abstractmethod
    def has_average(self, content: Mapping[str, Any]) -> bool:
        """Whether EMAHook left its average in a checkpoint."""

    @abstractmethod
    def average(self, content: Mapping[str, Any]) -> torch.Tensor:
        """The average of one layer that EMAHook left in a checkpoint."""

    @abstractmethod
    def weights(self, content: Mapping[str, Any]) -> torch.Tensor:
        """The weights of that layer."""

    @abstractmethod
    def validating(self, interval: int) -> Options:
        """A training evaluates itself, and keeps the best model."""

    @abstractmethod
    def validated(self, folder: Path) -> list[dict[str, Any]]:
        """'step' and 'mIoU' of each evaluation in all logs of a training."""

    @abstractmethod
    def best(self, content: Mapping[str, Any]) -> float | None:
        """The best score so far that a checkpoint holds."""

    @abstractmethod
    def epoch_loader(
        self, engine: Any, images: int, batch: int, drop_last: bool | None
    ) -> EpochLoader:
        """The loader over so many labelled images; drop_last: what the config says."""

    # Mistakes

    needed: ClassVar[Sequence[str]]
    """Keys that a config must have."""
    minimal: ClassVar[str]
    """A config without acquisition that is recognised as one of this generation."""
    resume: ClassVar[str]
    """A key of configs that changes no result."""
    val_masks: ClassVar[str]
    train_list: ClassVar[str]
    """A file that lists the training images."""
    no_length: ClassVar[str]
    """What tells that there is no number of iterations or epochs."""
    wrong_mode: ClassVar[str]
    """What tells that model.test_cfg.mode='hole' is no way to predict."""
    training_mistakes: ClassVar[Mapping[str, tuple[str, str]]]
    """Lines with an unknown optimizer, scheduler or hook, and what the error tells."""
    classes_key: ClassVar[str]
    """What gives a data set its classes."""
    half: ClassVar[str]
    """What a warning calls half precision."""

    @abstractmethod
    def unpadded(self) -> Options:
        """Predict from images whose size does not suit the model."""

    @abstractmethod
    def without_length(self) -> Options:
        """No number of iterations or epochs."""

    @abstractmethod
    def classes(self, key: str, names: Sequence[str] | None) -> Options:
        """Class names of the data set at `key`; None: none."""

    @abstractmethod
    def uses_half(self, cfg: Any) -> bool:
        """Whether a config trains in half precision."""

    # Losses, pools and label spaces

    refused_heads: ClassVar[Sequence[tuple[Mapping[str, Any], str]]]
    """Changes to a head's config that make one which no loss helps, and what the error tells."""
    averages_weighted: ClassVar[bool]
    """Whether cross entropy with class weights can average over labelled pixels; if not, it
    divides by the sum of their weights."""

    def train_spec(self, engine: Any) -> dict[str, Any]:
        """The config of the training data set."""
        found = engine.cfg
        for key in self.train_set.split("."):
            found = found[key]
        spec: dict[str, Any] = found.to_dict()
        return spec

    @abstractmethod
    def folders(self, images: str, masks: str | None) -> dict[str, Any]:
        """What gives a data set its folders."""

    @abstractmethod
    def joined(self, specs: Sequence[Mapping[str, Any]]) -> Options:
        """Data sets joined to the training data set."""

    @abstractmethod
    def step(self, engine: Any, model: Any, samples: Sequence[Any]) -> float:
        """One training iteration on a batch of samples, and its loss."""

    @abstractmethod
    def head_losses(self, head: Any, logits: Any, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """A decode head's losses by name, and its accuracy; target: [N, 1, H, W]."""

    def head_loss(self, head: Any, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A decode head's cross entropy; target: [N, 1, H, W]."""
        return self.head_losses(head, logits, target)["loss_ce"]

    @abstractmethod
    def letters(
        self, folder: Path, chosen: Sequence[str] | None, reduce_zero_label: bool
    ) -> tuple[Sequence[Any], np.ndarray]:
        """The label spaces that the engine finds in a data set of the classes a, b, c, d of which
        `chosen` are used, and what mmseg makes of the raw ids 0 to 255; -1: no class."""

    # Predictions

    one_channel: ClassVar[str]
    """Lines that turn the tiny config's head into one with a single channel, of two classes."""

    @abstractmethod
    def test_input(
        self, engine: Any, width: int = 100, keep_ratio: bool = True, divisor: int = 4
    ) -> Options:
        """Predict from images of (width, 75), padded to multiples of `divisor`."""

    unscaled: ClassVar[str]
    """Lines that make the tiny config predict images at their own size."""

    @abstractmethod
    def validation_workers(self) -> Options:
        """Two workers that load validation images."""

    @abstractmethod
    def mmseg_model(self, engine: Any, checkpoint: Path, **test_cfg: Any) -> Any:
        """The model as mmseg itself builds and loads it."""

    @abstractmethod
    def mmseg_answer(self, engine: Any, model: Any, item: Any) -> torch.Tensor:
        """[C, H, W] by the model's own inference on what mmseg's own pipeline makes: logits in
        1.x, probabilities in 0.x; probabilities of class 1 for a head of one channel."""

    @abstractmethod
    def as_mmseg(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits as `mmseg_answer` gives them."""

    @abstractmethod
    def mmseg_counts(self, engine: Any, model: Any) -> tuple[np.ndarray, np.ndarray]:
        """(intersection, union) a class by mmseg's own metric over the validation set."""

    # Whole runs

    evaluating: ClassVar[str]
    """Lines that make a training of 8 iterations evaluate itself twice and keep the best model."""
    evaluations: ClassVar[int]
    """How often it then does, in a stretch from iteration 2 on."""
    bases: ClassVar[Mapping[str, str]]
    """mmseg's own configs of some models, by names of their classes."""
    on_tiny_data: ClassVar[str]
    """Lines that let a config of mmseg's own train on the tiny data set."""

    @abstractmethod
    def base(self, name: str) -> str:
        """The `_base_` that is mmseg's own config of a model."""

    @abstractmethod
    def scores(self, folder: Path) -> list[float]:
        """The mIoU that a training logged of itself."""
