"""The engine protocol, and the registry of engines that a config can select.

An engine is stateless between calls: what a call needs is passed as a checkpoint path, so that an
interrupted run resumes from files. It is called on every rank; `predict` is local to a rank (no
collective operations inside), `fit` and `evaluate` may use the process group.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..errors import DataError, EnvironmentProblem, UnsupportedError
from ..registry import Registry
from ..types import I64, JSON, U8, FeatureMap, LabelSpace, PoolItem, PredictRequest, RoundInit

if TYPE_CHECKING:
    from ..store.labels import LabelStore
    from ..store.points import Point


class Tracker(Protocol):
    """An experiment tracker that a config names: TensorBoard, Weights & Biases, MLflow, files.

    It is called by one process, in the order of the points; what it raises is told in a warning and
    tried again after the round.

    Attributes:
        name: As the config calls it.
    """

    name: str

    def open(self) -> None:
        """Connect, or open the files. Called again after a failure."""

    def write(self, point: Point, pictures: Mapping[str, U8]) -> None:
        """Write the scalars of a point so that they outlive a kill of this process.

        Args:
            point: Of a training, a validation or a round.
            pictures: Of a round: name -> RGB uint8 [H, W, 3].
        """

    def picture(self, name: str, picture: U8, step: int) -> None:
        """Write a picture that a training shows, RGB uint8 [H, W, 3]."""

    def close(self) -> None:
        """Let go of it; nothing happens when it is not open."""


class TrainingLog(Protocol):
    """Where a training reports to: one axis for all trainings of a run, and the trackers.

    Only rank 0 writes; the other ranks may call the methods as well.
    """

    @property
    def trackers(self) -> Sequence[Tracker]:
        """Those of the config that work."""

    def scalars(
        self,
        values: Mapping[str, Any],
        iteration: int,
        length: int | None = None,
        kind: str = "train",
    ) -> None:
        """Report numbers. What is no number is left out, and so is an iteration that has been
        reported before, when a training is resumed. Never raises.

        Args:
            values: Name -> value, such as 'loss'.
            iteration: Of this training, 1 after its first step.
            length: Iterations of this training, if known.
            kind: What is reported together: 'train', 'val' for a validation within the training, or
                another name.
        """

    def picture(self, name: str, picture: U8, iteration: int) -> None:
        """Show a picture, RGB uint8 [H, W, 3]. Never raises."""


@dataclass(frozen=True)
class FitRequest:
    """One training.

    Args:
        round: Of the run; round 0 trains on the warm start.
        seed: Of this training.
        store: The labels so far.
        out_dir: A folder, empty unless it contains the state of this very training; the engine
            leaves its final checkpoint and logs there.
        init: 'scratch': the model as the config builds it, pretrained backbone included.
            'pretrained': weights from the config's `load_from`. 'continue': weights of `previous`,
            in round 0 those of `load_from` if set. Optimizer and schedule start anew in all three.
        previous: Checkpoint of the previous round.
        until: None: a training of its own. Otherwise one stretch of a continuous run
            (`queries=[...]`): restore model, optimizer, schedule and iteration from `previous`
            (None: start as `init` says) and stop at this iteration of the config's own schedule;
            -1: at its end.
        iterations: Length of this training instead of the config's own; its schedule is stretched.
        identity: What determines this training. An engine that can resume in the middle of it saves
            its state under this identity, see `store.fit_state`. None: nothing is saved.
        track: Where it reports losses; None: nowhere but to its own logs.

    Example:
        >>> from regional_al.store.labels import LabelStore
        >>> FitRequest(round=1, seed=7, store=LabelStore("labels"), out_dir=Path("out")).init
        'scratch'
    """

    round: int
    seed: int
    store: LabelStore
    out_dir: Path
    init: RoundInit = "scratch"
    previous: Path | None = None
    until: int | None = None
    iterations: int | None = None
    identity: JSON | None = None
    track: TrainingLog | None = None


@dataclass(frozen=True)
class FitResult:
    """What a training leaves.

    Args:
        checkpoint: File that `predict`, `evaluate` and the next `fit` take.
        iterations: Optimizer steps of this training.
        label_share: Labelled pixels that reached the loss / labelled pixels of the samples drawn
            (1.0: none was lost to resizing or cropping); NaN if unknown.
        extra: Anything else, for the caller of `fit`.

    Example:
        >>> FitResult(Path("out/checkpoint.pth"), iterations=50, label_share=1.0).extra
        {}
    """

    checkpoint: Path
    iterations: int
    label_share: float
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """The model's output for one image.

    Args:
        index: Into the pool.
        logits: Float [C, H, W] at the annotation's resolution, on any device.
        more: Logits of further views, one at a time: all other passes, then all passes of the
            flipped image (flipped back), then the ensemble. None: there is one view.
        features: When requested, float [D, h, w] whose cells cover the image evenly, or a
            `FeatureMap`.

    Example:
        >>> Prediction(index=0, logits=torch.zeros(3, 4, 6)).logits.shape
        torch.Size([3, 4, 6])
    """

    index: int
    logits: torch.Tensor
    more: Iterator[torch.Tensor] | None = None
    features: torch.Tensor | FeatureMap | None = None


class Memory(Protocol):
    """Objects by name that a tracker finds again when the run is resumed: the id of its run."""

    def noted(self, name: str) -> JSON | None:
        """What `note` has remembered; None: nothing."""

    def note(self, name: str, value: JSON) -> None:
        """Remember an object, which JSON can hold."""


class Engine(Protocol):
    """A training framework as the loop sees it.

    An engine that also trains on a labelled source data set has an attribute `has_source = True`;
    its `fit` then works before there are labels. One that was built without the `acquisition` may
    have a method `check_acquisition(acquisition)`, called before `preflight`, which raises
    ConfigError for what it cannot do. One whose framework has experiment trackers may have a method
    `trackers(folder, title, memory)`, called on rank 0, which returns a list of `Tracker`s that are
    not open yet; folder: where those write that the config gives no place; title: of the run;
    memory: notes of the run, which are kept when it is resumed, see `Memory`.

    Attributes:
        label_space: Classes and the meaning of the ids in label files.
        pool: Images of the training data set, in its order; keys are unique.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from regional_al.testing import streets, toy
        >>> from regional_al.types import PredictRequest
        >>> with TemporaryDirectory() as folder:
        ...     engine = toy.toy_engine(streets.generate(folder, train=2, val=1, size=(32, 32)))
        ...     engine.preflight()
        ...     (prediction,) = engine.predict(None, [1], PredictRequest())
        ...     confusion = engine.evaluate(None)
        >>> tuple(prediction.logits.shape), confusion.shape
        ((11, 32, 32), (11, 11))
    """

    label_space: LabelSpace
    pool: Sequence[PoolItem]

    def preflight(self) -> None:
        """Raise ConfigError, DataError or UnsupportedError before any training: a model or loss
        that cannot learn from sparse labels, unreadable images, wrong validation files. Never
        opens the annotations of the pool; the oracle checks those."""

    def fit(self, request: FitRequest) -> FitResult:
        """Train. Called on every rank; rank 0 writes the checkpoint."""

    def predict(
        self, checkpoint: Path | None, indices: Sequence[int], request: PredictRequest
    ) -> Iterator[Prediction]:
        """Yield un-augmented predictions one by one, in the order of `indices`.

        Args:
            checkpoint: From `fit`; None: the model as the config starts it.
            indices: Into the pool.
            request: Dropout passes, flip, ensemble, features.
        """

    def evaluate(self, checkpoint: Path | None) -> I64:
        """Confusion matrix int64 [C, C] over the validation set, rows = truth, without void."""


def predictions(
    engine: Engine, checkpoint: Path | None, indices: Sequence[int], needs: PredictRequest
) -> Iterator[Prediction]:
    """`Engine.predict`, with the size of the logits checked.

    Args:
        engine: Predicts.
        checkpoint: Of the model; None: the config's own start.
        indices: Into the pool.
        needs: What to predict beside logits.

    Yields:
        The predictions, as `engine` gives them.

    Raises:
        DataError: Logits are of another size than their image, which it names.
    """
    for prediction in engine.predict(checkpoint, indices, needs):
        item, size = engine.pool[prediction.index], tuple(prediction.logits.shape[-2:])
        if size != tuple(item.shape):
            raise DataError(
                f"image {item.key!r}: logits are {size} but the image is {item.shape}: the test "
                "pipeline must predict at the image's own size"
            )
        yield prediction


def has_source(engine: Engine) -> bool:
    """True when the engine also trains on a labelled source data set (attribute `has_source`)."""
    return bool(getattr(engine, "has_source", False))


def trains_on_sets(engine: Engine) -> bool:
    """True when the engine also trains on regions of which only the classes are known (attribute
    `trains_on_sets`)."""
    return bool(getattr(engine, "trains_on_sets", False))


class ConfigReader(Protocol):
    """A config library: how config files are read, and what a config looks like as plain data."""

    def read(
        self, path: Path, options: dict[str, Any], change: Callable[[Any], None] | None = None
    ) -> Any:
        """Read a file, let `change` edit its dict, then apply the overrides `options`."""

    def import_custom(self, cfg: Any, path: Path) -> None:
        """Import the modules that `custom_imports` names."""

    def plain(self, value: Any) -> Any:
        """A config as nested dicts, lists and tuples."""


class EngineLoader:
    """How `engines.load` recognises the configs of an engine and builds it.

    Subclass it, override what differs from the defaults, and register the class. A config selects
    it by `engine=name`. Importing its module must not import the framework.

    Attributes:
        packages: Modules that must be installed.
        install: The command that installs them.

    Example:
        >>> @ENGINES.register("doctest_toy")
        ... class Toy(EngineLoader):
        ...     def build(self, cfg):
        ...         from regional_al.testing.toy import toy_engine
        ...         return toy_engine(cfg["data_root"])
        >>> "doctest_toy" in ENGINES, ENGINES.build("doctest_toy").recognises({"runner": {}})
        (True, False)
    """

    packages: tuple[str, ...] = ()
    install: str = ""

    def recognises(self, cfg: Mapping[str, Any]) -> bool:
        """Whether a config that names no engine is written for this one."""
        return False

    def check(self, config: Path) -> None:
        """Raise EnvironmentProblem when the engine cannot run here, e.g. for want of a package."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise EnvironmentProblem(f"{config} needs the package {package}: {self.install}")

    def has_reader(self) -> bool:
        """Whether the framework has a config library and it is installed. Imports nothing."""
        return False

    def reader(self) -> ConfigReader:
        """The framework's config library; only called where `has_reader`."""
        raise NotImplementedError

    def use_amp(self, cfg: Any) -> None:
        """Switch a config to mixed precision, in place."""
        raise UnsupportedError("--amp is not supported by this engine: leave it out")

    def reads(self, key: str) -> bool:
        """Whether a top-level key of the config has an effect; others are variables of the file."""
        return True

    def resumes(self, cfg: JSON) -> bool:
        """Whether the config itself asks to resume its work dir."""
        return False

    def build(self, cfg: Any) -> Engine:
        """Build the engine.

        Args:
            cfg: The config: what the engine's own reader has read, or a plain dict for an engine
                without one. `cfg["work_dir"]` is the folder of the run.
        """
        raise NotImplementedError


ENGINES: Registry[EngineLoader] = Registry("engine")
