"""Predictions and evaluation of MMSegmentation 0.x (see `engines.mmseg.predict`)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmcv.cnn.utils import revert_sync_batchnorm
from mmcv.parallel import DataContainer
from mmcv.runner import load_checkpoint
from mmseg.datasets.pipelines import Compose
from mmseg.models import build_segmentor
from torch.utils.data import Dataset

from ...errors import ConfigError, UnsupportedError
from ...store.windows import Box
from ...types import I64
from ..mmseg import predict
from ..mmseg.checkpoints import read_checkpoint
from ..mmseg.frame import Frame
from ..mmseg.predict import reason_not_built
from ..mmseg.tiled import AROUND, inner_of
from ..quiet import quiet_warnings
from ..specs import type_name
from ..views import sample_or_reason
from .checkpoints import safe_loading
from .config import half_precision, inference_pipeline
from .pool import image_path, locate, mask_path, truth

log = logging.getLogger("regional_al.mmseg0")


class Predictor(predict.Predictor):
    """Models and images of a 0.x config."""

    def __init__(self, cfg: Config) -> None:
        cuda = torch.cuda.is_available()
        super().__init__(
            cfg, torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        )

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
        data = self.cfg.data
        given = data.get("val_dataloader", {}).get("workers_per_gpu", data.get("workers_per_gpu"))
        return int(given or 0)

    def autocast(self) -> AbstractContextManager[Any]:
        if self.device.type != "cuda" or not half_precision(self.cfg):
            return nullcontext()
        return torch.autocast("cuda", dtype=torch.float16)

    def inputs(self, model: Any, sample: Any) -> tuple[torch.Tensor, Any]:
        return sample["img"][None].to(self.device), sample["meta"]

    def infer(self, model: Any, inputs: torch.Tensor, meta: Any) -> torch.Tensor:
        """mmseg's own `inference` gives probabilities; this is what it takes the softmax of."""
        out: torch.Tensor = getattr(model, f"{model.test_cfg['mode']}_inference")(
            inputs, [meta], False
        )
        return out

    def frame(self, meta: Any, input_size: tuple[int, int]) -> Frame:
        """As mmseg's inference with rescale=True has it: padding is at the right and the bottom."""
        height, width = meta["img_shape"][:2]
        return Frame(
            (0, input_size[1] - width, 0, input_size[0] - height),
            meta.get("flip_direction") if meta.get("flip") else None,
            (int(meta["ori_shape"][0]), int(meta["ori_shape"][1])),
        )


class PoolImages(predict.PoolImages):
    """Samples of a 0.x pipeline."""

    def path(self, index: int) -> str:
        return str(image_path(*locate(self.dataset, index)))

    def sample(self, index: int) -> Any:
        return test_sample(*locate(self.dataset, index), self.pipeline)

    def inner(self, index: int) -> Box | None:
        leaf, place = locate(self.dataset, index)
        return inner_of(leaf.img_infos[place])


def test_sample(leaf: Any, index: int, pipeline: Any) -> dict[str, Any]:
    """{img: float [3, h, w], meta: its img_meta} of one image by an un-augmented pipeline."""
    info = leaf.img_infos[index]
    if AROUND in info:
        info = {**info, "filename": info[AROUND][0]}
    data = {"img_info": info}
    leaf.pre_pipeline(data)
    found = pipeline(data)
    view = {
        key: found[key][0] if isinstance(found[key], list) else found[key]
        for key in ("img", "img_metas")
    }
    opened = {
        key: item.data if isinstance(item, DataContainer) else item for key, item in view.items()
    }
    return {"img": opened["img"], "meta": opened["img_metas"]}


def build_model(cfg: Config) -> Any:
    """The segmentor of a config, weights unset, batch norm unsynchronised. Raises ConfigError in
    one line."""
    return revert_sync_batchnorm(build_trainable(cfg))


def build_trainable(cfg: Config) -> Any:
    """The segmentor of a config, weights unset. Raises ConfigError in one line."""
    try:
        with quiet_warnings():
            model = build_segmentor(
                copy.deepcopy(cfg.model), cfg.get("train_cfg"), cfg.get("test_cfg")
            )
    except Exception as error:  # whatever the classes named in a config raise
        raise reason_not_built(cfg, error) from None
    mode = (model.test_cfg or {}).get("mode") if hasattr(model, "test_cfg") else None
    if mode not in ("whole", "slide"):
        raise ConfigError(f"model.test_cfg.mode={mode!r} must be 'whole' or 'slide'")
    if not hasattr(model, f"{mode}_inference"):
        raise UnsupportedError(
            f"model.type={type_name(cfg.model)!r} has no dense logits; use an EncoderDecoder"
        )
    return model


def own_start(cfg: Config) -> Any:
    """The model before any training: its initialisation, then `load_from` or `resume_from` if the
    config has it. Seeds torch's generator."""
    torch.manual_seed(int(cfg.get("seed") or 0))
    model = build_model(cfg)
    source = cfg.get("resume_from") or cfg.get("load_from")
    with quiet_warnings(), safe_loading():
        model.init_weights()
        if source:
            load_checkpoint(model, source, map_location="cpu", logger=log)
    return model


class ValidationImages(Dataset[Any]):
    """(index, (sample, train ids)) of some validation images, or a str saying what is wrong."""

    def __init__(self, dataset: Any, indices: range, pipeline: Any) -> None:
        self.dataset, self.indices, self.pipeline = dataset, indices, pipeline

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        index = self.indices[place]
        leaf, inner = locate(self.dataset, index)
        return index, sample_or_reason(
            lambda: (test_sample(leaf, inner, self.pipeline), truth(leaf, inner)),
            f"{leaf.img_infos[inner]['filename']} or its annotation",
        )


def confusion(
    dataset: Any, predictor: predict.Predictor, checkpoint: Path | None, limit: int | None = None
) -> I64:
    """int64 [C, C] over the validation set (limit: its first images), rows = target, on every
    rank."""
    count = len(dataset) if limit is None else min(limit, len(dataset))
    pipeline = Compose(inference_pipeline(predictor.cfg, "val"))

    def samples(mine: range) -> Iterator[tuple[int, Any, Any, str, Box | None]]:
        images = ValidationImages(dataset, mine, pipeline)
        for index, (sample, target) in predictor.load(images):
            leaf, place = locate(dataset, index)
            inner = inner_of(leaf.img_infos[place])
            yield index, sample, target, str(mask_path(leaf, place)), inner

    return predict.confusion(predictor, checkpoint, count, len(dataset.CLASSES), samples)
