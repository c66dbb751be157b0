"""`ModelWrapper`: an engine, or a network alone, under the names that users of BAAL know.

With an engine the config's own loop trains, its validation set is the test set, and predictions
are un-augmented, at the images' own size and one image at a time. docs/migrating.md has the table.
"""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

import numpy as np
import torch

from ... import metrics
from ...data import ActiveLearningDataset
from ...engines.base import Engine, FitRequest, FitResult
from ...errors import ConfigError, DataError, UnsupportedError
from ...runtime.progress import progress
from ...store.images import replacing
from ...store.labels import LabelStore
from ...types import F32, JSON, RoundInit
from . import probabilities


class WholeEngine(Engine, Protocol):
    """An engine that also hands out its network and its training data set; all of ours do."""

    def network(self, checkpoint: Path | None) -> torch.nn.Module:
        """The model in eval mode, with a checkpoint's weights; None: the config's own start."""

    def active_dataset(self, store: LabelStore, **arguments: Any) -> ActiveLearningDataset:
        """The training data set seen through the labels of `store`."""


def _refused(name: str, instead: str) -> Callable[..., NoReturn]:
    def method(self: ModelWrapper, *_: Any, **__: Any) -> NoReturn:
        raise UnsupportedError(f"ModelWrapper.{name} is not offered: {instead}")

    method.__doc__ = f"Not offered: {instead}."
    return method


class ModelWrapper:
    """Train, test and predict as `baal.ModelWrapper` does, over an engine or a plain network.

    For one process.

    Args:
        model: An engine (`ModelWrapper.from_config` builds one), or a torch.nn.Module that maps
            [N, 3, H, W] to logits [N, C, H, W] (segmentors of MMSegmentation included), which can
            only predict.
        work_dir: Where labels, logs and checkpoints of an engine are written.
        init: Where a training starts: 'continue': the current weights, as in BAAL; 'scratch': as
            the config builds the model; 'pretrained': the config's `load_from`.
        seed: Of training and dropout noise.

    Attributes:
        active_learning_metrics: Metrics by number of labelled images.

    Raises:
        ConfigError: `work_dir` is no folder.
        UnsupportedError: `model` is neither an engine nor a network.

    Example:
        >>> import torch
        >>> wrapper = ModelWrapper(torch.nn.Conv2d(3, 4, 1))
        >>> wrapper.predict_on_batch(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 4, 8, 8, 1])
    """

    def __init__(
        self,
        model: Any,
        work_dir: Path | str | None = None,
        init: RoundInit = "continue",
        seed: int = 0,
    ) -> None:
        if work_dir is not None and not isinstance(work_dir, (str, Path)):
            raise ConfigError(
                f"ModelWrapper(model, work_dir={type(work_dir).__name__}): work_dir is a folder; "
                "batch size, optimizer, schedule and loss are those of the config"
            )
        self.engine: WholeEngine | None = None
        self._network: torch.nn.Module | None = None
        if isinstance(model, torch.nn.Module):
            self._network = model
        elif all(hasattr(model, name) for name in ("fit", "predict", "evaluate", "network")):
            self.engine = cast(WholeEngine, model)
        else:
            raise ConfigError(
                f"ModelWrapper takes an engine or a torch.nn.Module, not {type(model).__name__}; "
                "for a config file: ModelWrapper.from_config(CONFIG)"
            )
        self.work_dir = None if work_dir is None else Path(work_dir)
        self.init, self.seed = init, seed
        self._checkpoint: Path | None = None
        self._metrics: JSON = {}
        self._active_dataset_size = -1
        self.active_learning_metrics: defaultdict[int, JSON] = defaultdict(dict)

    @classmethod
    def from_config(
        cls,
        config: Path | str,
        work_dir: Path | str | None = None,
        cfg_options: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> ModelWrapper:
        """Over the engine of a config file (with its `acquisition` key, of which only what says
        whether labels are parts of images counts here). work_dir: as `engines.load` finds it."""
        from ... import engines

        where = None if work_dir is None else Path(work_dir)
        loaded = engines.load(Path(config), cfg_options, where)
        return cls(loaded.build(), loaded.work_dir, **arguments)

    @property
    def model(self) -> torch.nn.Module:
        """The network in eval mode with the current weights; set new ones by `load_state_dict`."""
        if self._network is None:
            self._network = self._need_engine("model").network(self._checkpoint)
        return self._network

    @property
    def checkpoint(self) -> Path | None:
        """File of the current weights; None: the config's own start. Can be set."""
        return self._checkpoint

    @checkpoint.setter
    def checkpoint(self, path: Path | str | None) -> None:
        self._need_engine("checkpoint")
        self._checkpoint = None if path is None else Path(path)
        self._network = None

    def active_dataset(self, simulate: bool = True, **arguments: Any) -> ActiveLearningDataset:
        """The config's training data set, with the labels of `work_dir/labels`. simulate: `label`
        without masks answers from the annotation files. arguments: of `ActiveLearningDataset`."""
        engine = self._need_engine("active_dataset")
        if simulate:
            from ...annotators.oracle import whole_masks

            arguments.setdefault("oracle", whole_masks(engine.pool, engine.label_space))
        return engine.active_dataset(LabelStore(self._folder() / "labels"), **arguments)

    def train_on_dataset(self, dataset: ActiveLearningDataset) -> FitResult:
        """One training by the config's schedule on the labels of `dataset`, from `init`.

        Returns checkpoint, iterations and label share; losses are in the engine's log beside the
        checkpoint, `work_dir/fits/000`. Raises DataError for labels of images not in the config.
        """
        engine = self._need_engine("train_on_dataset")
        store = getattr(dataset, "store", None)
        if not isinstance(store, LabelStore):
            raise DataError(
                f"train_on_dataset takes an ActiveLearningDataset, not {type(dataset).__name__}"
            )
        probabilities.indices_of(engine, dataset)
        fits = self._folder() / "fits"
        number = next(n for n in itertools.count() if not (fits / f"{n:03d}").exists())
        out_dir = fits / f"{number:03d}"
        out_dir.mkdir(parents=True)
        self._network = None  # make room
        result = engine.fit(
            FitRequest(
                round=number,
                seed=self.seed * 1000 + number,
                store=store,
                out_dir=out_dir,
                init=self.init,
                previous=self._checkpoint,
            )
        )
        self.checkpoint = result.checkpoint
        self.set_dataset_size(len(dataset))
        found = {"train_iterations": result.iterations, "train_label_share": result.label_share}
        self._step("train", found)
        return result

    def test_on_dataset(self, dataset: None = None, average_predictions: int = 1) -> JSON:
        """`test_miou`, `test_accuracy` (0..1, higher is better, where BAAL gives a loss) and
        `test_per_class_iou` over the config's validation set."""
        engine = self._need_engine("test_on_dataset")
        if dataset is not None or average_predictions != 1:
            raise UnsupportedError(
                "test_on_dataset() takes the validation set of the config and one prediction an "
                "image: leave the arguments out"
            )
        confusion = engine.evaluate(self._checkpoint)
        found = {
            "test_miou": metrics.mean_iou(confusion),
            "test_accuracy": metrics.accuracy(confusion),
            "test_per_class_iou": metrics.iou(confusion).tolist(),
        }
        self._step("test", found)
        return found

    def predict_on_dataset_generator(
        self, dataset: Any, iterations: int = 1, half: bool = False, verbose: bool = False
    ) -> Iterator[F32]:
        """Class probabilities float32 [1, C, H, W, iterations] of one image after another.

        dataset: with an engine, an `ActiveLearningDataset`, its `pool`, or a Subset of either; the
        prediction is the engine's own, so their samples are not read. With a network alone, a data
        set of images [3, H, W] or of tuples that start with one. iterations > 1: with dropout
        layers switched on. Raises UnsupportedError for `half`, and for dropout that is not there.
        """
        if half:
            raise UnsupportedError(
                "half=True is not offered: rounded probabilities do not sum to 1, so BAAL would "
                "take them for logits; memory does not grow with the images here"
            )
        if self.engine is not None:
            predictions = probabilities.of_engine(
                self.engine, self._checkpoint, dataset, iterations
            )
        else:
            predictions = probabilities.of_network(self.model, dataset, iterations, self.seed)
        return self._shown(predictions, len(dataset)) if verbose else predictions

    def predict_on_dataset(
        self, dataset: Any, iterations: int = 1, half: bool = False, verbose: bool = False
    ) -> F32:
        """The same of all images at once, float32 [N, C, H, W, iterations]: 4 N C H W T bytes.
        Raises DataError for images of different sizes."""
        images = list(self.predict_on_dataset_generator(dataset, iterations, half, verbose))
        if len({image.shape for image in images}) > 1:
            raise DataError(
                "the images have different sizes, so their predictions are no array: use "
                "predict_on_dataset_generator"
            )
        return np.vstack(images) if images else np.zeros((0, 0, 0, 0, iterations), np.float32)

    def predict_on_batch(self, data: torch.Tensor, iterations: int = 1) -> torch.Tensor:
        """Class probabilities float32 [N, C, H, W, iterations] of a batch [N, 3, H, W] as the
        network takes it (normalised, whole, at its own size)."""
        return probabilities.of_batch(self.model, data, iterations, self.seed)

    def get_metrics(self, filter: str = "") -> JSON:
        """The last values of `train_...` and `test_...`, those with `filter` in the name; and
        `dataset_size` once it was set."""
        found = {name: value for name, value in self._metrics.items() if filter in name}
        if self._active_dataset_size != -1:
            found["dataset_size"] = self._active_dataset_size
        return found

    def get_params(self) -> Iterator[torch.nn.Parameter]:
        """Parameters of the network."""
        return self.model.parameters()

    def state_dict(self) -> JSON:
        """The weights in force."""
        return self.model.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Put weights in force; with an engine they are kept in `work_dir/weights.pth`."""
        if self.engine is None:
            self.model.load_state_dict(state_dict, strict=strict)
            return
        changed = copy.deepcopy(self.model)  # the engine keeps using its own
        changed.load_state_dict(state_dict, strict=strict)
        path = self._folder() / "weights.pth"
        with replacing(path) as temporary:
            torch.save({k: v.cpu() for k, v in changed.state_dict().items()}, temporary)
        self.checkpoint = path

    def reset_all(self) -> None:
        """Back to the config's own start."""
        self._need_engine("reset_all")
        self.checkpoint = None

    def train(self) -> None:
        """A network alone goes into training mode; an engine sees to modes by itself."""
        if self.engine is None:
            self.model.train()

    def eval(self) -> None:
        """A network alone goes into evaluation mode."""
        if self.engine is None:
            self.model.eval()

    def set_dataset_size(self, dataset_size: int) -> None:
        """Size that `active_learning_metrics` are recorded under."""
        self._active_dataset_size = dataset_size

    train_on_batch = _refused("train_on_batch", "the config's own loop trains: train_on_dataset")
    test_on_batch = _refused("test_on_batch", "use test_on_dataset")
    train_and_test_on_datasets = _refused(
        "train_and_test_on_datasets", "call train_on_dataset, then test_on_dataset"
    )
    add_metric = _refused("add_metric", "test_on_dataset gives mIoU, accuracy and IoU by class")
    reset_fcs = _refused("reset_fcs", "use reset_all, or load_state_dict")

    def _shown(self, predictions: Iterator[F32], count: int) -> Iterator[F32]:
        yield from progress(predictions, "Predicting", count)

    def _step(self, kind: str, found: JSON) -> None:
        self._metrics = {k: v for k, v in self._metrics.items() if not k.startswith(kind)}
        self._metrics.update(found)
        self.active_learning_metrics[self._active_dataset_size].update(found)

    def _need_engine(self, name: str) -> WholeEngine:
        if self.engine is None:
            raise UnsupportedError(
                f"ModelWrapper.{name} needs a config's engine, a network alone can only predict: "
                "ModelWrapper.from_config(CONFIG)"
            )
        return self.engine

    def _folder(self) -> Path:
        if self.work_dir is None:
            raise ConfigError("ModelWrapper(engine) needs work_dir=... to keep labels and weights")
        return self.work_dir
