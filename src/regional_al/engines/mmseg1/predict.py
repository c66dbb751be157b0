"""Logits of whole images with mmseg's own whole or sliding-window inference. No collectives."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import load_checkpoint
from mmseg.registry import MODELS
from torch.utils.data import DataLoader, Dataset

from ...errors import ConfigError, DataError, UnsupportedError
from ...types import FeatureMap, PredictRequest
from ..base import Prediction
from ..mmseg.frame import Frame
from ..views import Passes, captured, order, refuse_without_dropout, same, sample_or_reason
from .config import first_line, inference_pipeline, type_name
from .console import quiet_warnings
from .pool import locate

log = logging.getLogger("regional_al")


class Predictor:
    """Holds the model of one checkpoint until another is asked for."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.device = torch.device(get_device())
        self._model: Any = None
        self._loaded: tuple[str, int] | None = None
        self._members: dict[Path, Any] = {}

    def forget(self) -> None:
        """Free the models' memory."""
        self._model, self._loaded, self._members = None, None, {}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def model(self, checkpoint: Path | None) -> Any:
        """The model in eval mode with a checkpoint's weights; None: the config's own start."""
        stamp = (str(checkpoint), checkpoint.stat().st_mtime_ns if checkpoint else 0)
        if stamp != self._loaded:
            self.forget()
            with torch.random.fork_rng(devices=[]):  # building draws weights; nobody shall see it
                model = build_model(self.cfg) if checkpoint else own_start(self.cfg)
            if checkpoint is not None:
                load_weights(model, checkpoint)
            self._model, self._loaded = model.to(self.device).eval(), stamp
        return self._model

    def members(self, checkpoints: Sequence[Path]) -> list[Any]:
        """The models of an ensemble, in eval mode, held beside `model`'s until `forget`."""
        for path in checkpoints:
            if path not in self._members:
                with torch.random.fork_rng(devices=[]):
                    model = build_model(self.cfg)
                load_weights(model, path)
                self._members[path] = model.to(self.device).eval()
        return [self._members[path] for path in checkpoints]

    def predict(
        self, dataset: Any, checkpoint: Path | None, indices: Sequence[int], request: PredictRequest
    ) -> Iterator[Prediction]:
        """Streamed predictions; the first view in `logits`, further ones (passes, flip, ensemble)
        in `more`.

        With passes > 1 every pass, the first included, has its dropout layers on; masks are
        seeded by image and pass, so they do not depend on how ranks share the images.
        """
        model, members = self.model(checkpoint), self.members(request.ensemble)
        fix = "set model.decode_head.dropout_ratio above 0"
        refuse_without_dropout(model, request.passes, fix)
        pipeline = Compose(inference_pipeline(self.cfg))
        for index, sample in self.load(PoolImages(dataset, indices, pipeline)):
            run = View(self, model, sample, index, request.passes > 1)
            looks = [partial(run.logits, number, flipped) for number, flipped in order(request)]
            looks += [
                partial(View(self, m, sample, index, False).logits, 0, False) for m in members
            ]
            logits, features = looks[0](with_features=request.features)
            more = (look()[0] for look in looks[1:]) if looks[1:] else None
            yield Prediction(index, logits, more, features)
            run.forget()

    def load(self, images: Dataset[Any]) -> Iterator[tuple[int, Any]]:
        """(index, sample) of a data set of such pairs, with the validation loader's workers."""
        workers = int((self.cfg.get("val_dataloader") or {}).get("num_workers", 0))
        loader: DataLoader[Any] = DataLoader(
            images,
            batch_size=None,
            num_workers=min(workers, len(images)),  # type: ignore[arg-type]
            collate_fn=same,
            generator=torch.Generator().manual_seed(0),  # leave the global one alone
        )
        for index, sample in loader:
            if isinstance(sample, str):
                raise DataError(sample)
            yield index, sample

    def autocast(self) -> Any:
        """Mixed precision where the config trains with it, on CUDA."""
        wrapper = self.cfg.get("optim_wrapper") or {}
        if self.device.type != "cuda" or type_name(wrapper) != "AmpOptimWrapper":
            return nullcontext()
        names = {"float16": torch.float16, "bfloat16": torch.bfloat16}
        return torch.autocast("cuda", dtype=names.get(str(wrapper.get("dtype")), torch.float16))


class PoolImages(Dataset[Any]):
    """(index, un-augmented sample without annotation) of some images; a str instead of a sample
    says in one line what is wrong with the image (exceptions would cross workers as tracebacks)."""

    def __init__(self, dataset: Any, indices: Sequence[int], pipeline: Any) -> None:
        self.dataset, self.indices, self.pipeline = dataset, list(indices), pipeline

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        leaf, inner = locate(self.dataset, self.indices[place])
        info = leaf.get_data_info(inner)
        info.pop("seg_map_path", None)
        return self.indices[place], sample_or_reason(lambda: self.pipeline(info), info["img_path"])


class View:
    """One image on the device, to be seen in several ways."""

    def __init__(
        self, owner: Predictor, model: Any, sample: Any, index: int, stochastic: bool
    ) -> None:
        self.owner, self.model = owner, model
        self.passes = Passes(model, index, owner.device) if stochastic else None
        self.batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}

    @torch.inference_mode()
    def logits(
        self, number: int, flipped: bool, with_features: bool = False
    ) -> tuple[torch.Tensor, FeatureMap | None]:
        """Logits float32 [C, H, W] at the image's own size; one-channel heads as [0, z]."""
        data = self.model.data_preprocessor(dict(self.batch), False)
        inputs, meta = data["inputs"], data["data_samples"][0].metainfo
        if flipped:
            inputs = inputs.flip(-1)
        with (
            self.owner.autocast(),
            self._pass(number, flipped),
            captured(self.model, with_features) as f,
        ):
            out = self.model.inference(inputs, [meta])
        if flipped:
            out = out.flip(-1)
        frame, size = frame_of(meta), (inputs.shape[-2], inputs.shape[-1])
        logits = frame.logits(out.float(), self.model.align_corners)
        if logits.shape[0] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits])
        if len(f) != 1:
            return logits, None
        height, width = f[0].shape[-2:]
        return logits, FeatureMap(f[0], *frame.cells(size, (height, width)))

    def forget(self) -> None:
        """Free what was kept of the image for further passes."""
        if self.passes is not None:
            self.passes.forget()

    def _pass(self, number: int, flipped: bool) -> AbstractContextManager[None]:
        return nullcontext() if self.passes is None else self.passes.on(number, flipped)


def frame_of(meta: Mapping[str, Any]) -> Frame:
    """Where the image lies in the network's input, as mmseg's `postprocess_result` reads it."""
    left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", [0] * 4))
    return Frame(
        (left, right, top, bottom),
        meta.get("flip_direction") if meta.get("flip") else None,
        (int(meta["ori_shape"][0]), int(meta["ori_shape"][1])),
    )


def build_model(cfg: Config) -> Any:
    """The segmentor of a config, weights unset. Raises ConfigError in one line."""
    spec = copy.deepcopy(cfg.model)
    if cfg.get("data_preprocessor"):
        spec.setdefault("data_preprocessor", copy.deepcopy(cfg.data_preprocessor))
    try:
        with quiet_warnings():
            model = revert_sync_batchnorm(MODELS.build(spec))
    except Exception as error:  # whatever the classes named in a config raise
        text = (
            str(error.args[0]).splitlines()[0]
            if isinstance(error, KeyError) and error.args
            else first_line(error)
        )
        raise ConfigError(f"model.type={cfg.model.get('type')!r} cannot be built: {text}") from None
    if not hasattr(model, "inference"):
        raise UnsupportedError(
            f"model.type={type_name(cfg.model)!r} has no dense logits; use an EncoderDecoder"
        )
    return model


def own_start(cfg: Config) -> Any:
    """The model before any training: its initialisation, then `load_from` if the config has it.
    Seeds torch's generator."""
    torch.manual_seed(int((cfg.get("randomness") or {}).get("seed") or 0))
    model = build_model(cfg)
    with quiet_warnings():
        model.init_weights()
    if cfg.get("load_from"):
        load_checkpoint(model, cfg.load_from, map_location="cpu")
    return model


def load_weights(model: Any, checkpoint: Path) -> None:
    """A stretch's checkpoint into a model. Raises ConfigError when they do not fit."""
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # not a checkpoint, or one that holds more than tensors
        raise ConfigError(f"{checkpoint} cannot be loaded: {first_line(error)}") from None
    try:
        found = model.load_state_dict(content.get("state_dict", content), strict=False)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ConfigError(
            f"{checkpoint} does not fit the config's model: {lines[-1].strip()}"
        ) from None
    if found.missing_keys:
        raise ConfigError(
            f"{checkpoint} does not fit the config's model: no {found.missing_keys[0]}"
        )
