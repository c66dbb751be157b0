"""Predictions and evaluation of MMSegmentation 1.x (see `engines.mmseg.predict`)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import load_checkpoint
from mmseg.registry import MODELS
from torch.utils.data import Dataset

from ...errors import UnsupportedError
from ...store.windows import Box
from ...types import I64, UNLABELED
from ..mmseg import predict
from ..mmseg.checkpoints import read_checkpoint
from ..mmseg.frame import Frame
from ..mmseg.predict import reason_not_built
from ..mmseg.tiled import AROUND, inner_of
from ..views import sample_or_reason
from .checkpoints import safe_loading
from .config import inference_pipeline, type_name
from .hooks import quiet_warnings
from .pool import locate


class Predictor(predict.Predictor):
    """Models and images of a 1.x config."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg, torch.device(get_device()))

    def build(self) -> Any:
        return build_model(self.cfg)

    def own_start(self) -> Any:
        return own_start(self.cfg)

    def read_weights(self, checkpoint: Path) -> Mapping[str, Any]:
        content = read_checkpoint(checkpoint)
        weights: Mapping[str, Any] = content.get("state_dict", content)
        return weights

    def images(self, dataset: Any, indices: Sequence[int]) -> PoolImages:
        return PoolImages(dataset, indices, Compose(inference_pipeline(self.cfg)))

    def workers(self) -> int:
        return int((self.cfg.get("val_dataloader") or {}).get("num_workers", 0))

    def autocast(self) -> AbstractContextManager[Any]:
        wrapper = self.cfg.get("optim_wrapper") or {}
        if self.device.type != "cuda" or type_name(wrapper) != "AmpOptimWrapper":
            return nullcontext()
        names = {"float16": torch.float16, "bfloat16": torch.bfloat16}
        return torch.autocast("cuda", dtype=names.get(str(wrapper.get("dtype")), torch.float16))

    def inputs(self, model: Any, sample: Any) -> tuple[torch.Tensor, Any]:
        batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
        data = model.data_preprocessor(batch, False)
        return data["inputs"], data["data_samples"][0].metainfo

    def infer(self, model: Any, inputs: torch.Tensor, meta: Any) -> torch.Tensor:
        out: torch.Tensor = model.inference(inputs, [meta])
        return out

    def frame(self, meta: Any, input_size: tuple[int, int]) -> Frame:
        """As mmseg's `postprocess_result` reads it."""
        left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", [0] * 4))
        return Frame(
            (left, right, top, bottom),
            meta.get("flip_direction") if meta.get("flip") else None,
            (int(meta["ori_shape"][0]), int(meta["ori_shape"][1])),
        )


class PoolImages(predict.PoolImages):
    """Samples of a 1.x pipeline."""

    def path(self, index: int) -> str:
        leaf, inner = locate(self.dataset, index)
        return str(leaf.get_data_info(inner)["img_path"])

    def sample(self, index: int) -> Any:
        leaf, inner = locate(self.dataset, index)
        info = leaf.get_data_info(inner)
        info.pop("seg_map_path", None)
        return self.pipeline(with_context(info))

    def inner(self, index: int) -> Box | None:
        leaf, inner = locate(self.dataset, index)
        return inner_of(leaf.get_data_info(inner))


def with_context(info: dict[str, Any]) -> dict[str, Any]:
    """An entry of a data set; that of a tile reads it with its context."""
    return {**info, "img_path": info[AROUND][0]} if AROUND in info else info


def build_model(cfg: Config) -> Any:
    """The segmentor of a config, weights unset. Raises ConfigError in one line."""
    spec = copy.deepcopy(cfg.model)
    if cfg.get("data_preprocessor"):
        spec.setdefault("data_preprocessor", copy.deepcopy(cfg.data_preprocessor))
    try:
        with quiet_warnings():
            model = revert_sync_batchnorm(MODELS.build(spec))
    except Exception as error:  # whatever the classes named in a config raise
        raise reason_not_built(cfg, error) from None
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
    with quiet_warnings(), safe_loading():
        model.init_weights()
        if cfg.get("load_from"):
            load_checkpoint(model, cfg.load_from, map_location="cpu")
    return model


class ValidationImages(Dataset[Any]):
    """(index, sample with ground truth) of some validation images, by their own pipeline."""

    def __init__(self, dataset: Any, indices: range) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        index = self.indices[place]
        info = self.dataset.get_data_info(index)
        path = info.get("img_path", f"validation image {index}")
        if AROUND not in info:
            return index, sample_or_reason(lambda: self.dataset[index], path)
        leaf, _ = locate(self.dataset, index)
        return index, sample_or_reason(lambda: leaf.pipeline(with_context(info)), path)


def confusion(
    dataset: Any,
    predictor: predict.Predictor,
    checkpoint: Path | None,
    limit: int | None = None,
    ignored: int = UNLABELED,
) -> I64:
    """int64 [C, C] over the validation set (limit: its first images), rows = target, on every
    rank; ignored: a train id that is left out, beside 255."""

    def samples(mine: range) -> Iterator[tuple[int, Any, Any, str, Box | None]]:
        for index, sample in predictor.load(ValidationImages(dataset, mine)):
            info = dataset.get_data_info(index)
            target = sample["data_samples"].gt_sem_seg.data[0]
            yield index, sample, target, info["seg_map_path"], inner_of(info)

    return predict.confusion(
        predictor,
        checkpoint,
        len(dataset) if limit is None else min(limit, len(dataset)),
        len(dataset.metainfo["classes"]),
        samples,
        hint=": in val_dataloader's pipeline LoadAnnotations must come after Resize",
        ignored=ignored,
    )
