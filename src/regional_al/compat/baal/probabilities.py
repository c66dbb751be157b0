"""Class probabilities in BAAL's arrangement, [N, C, H, W, T] for T passes, streamed by image."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from ...data import ActiveLearningDataset, ActiveLearningPool
from ...engines import views
from ...engines.base import Engine
from ...errors import DataError, UnsupportedError
from ...types import F32, PredictRequest


def of_engine(engine: Engine, checkpoint: Path | None, dataset: Any, passes: int) -> Iterator[F32]:
    """float32 [1, C, H, W, passes] of each image of `dataset` (see `keys_of`), predicted by the
    engine at the image's own size."""
    request = PredictRequest(passes=passes)
    for seen in engine.predict(checkpoint, indices_of(engine, dataset), request):
        out = np.empty((1, *seen.logits.shape, passes), dtype=np.float32)
        for number, logits in enumerate(itertools.chain([seen.logits], seen.more or ())):
            out[0, ..., number] = logits.detach().float().softmax(0).cpu().numpy()
        yield out


def of_network(model: torch.nn.Module, dataset: Any, passes: int, seed: int) -> Iterator[F32]:
    """The same for a network and a data set of images [3, H, W], or of tuples that start with one.
    Raises UnsupportedError for samples of another kind."""
    for index in range(len(dataset)):
        sample = dataset[index]
        image = sample[0] if isinstance(sample, (tuple, list)) else sample
        if not isinstance(image, torch.Tensor):
            raise UnsupportedError(
                f"samples are {type(image).__name__}: a network alone takes tensors [3, H, W]; for "
                "MMSegmentation's data sets use ModelWrapper.from_config"
            )
        yield of_batch(model, image[None], passes, seed).cpu().numpy()


def of_batch(model: torch.nn.Module, data: torch.Tensor, passes: int, seed: int) -> torch.Tensor:
    """float32 [N, C, H, W, passes] of a batch [N, 3, H, W], in evaluation mode; several passes with
    dropout layers on. Raises UnsupportedError for dropout that is not there."""
    views.refuse_without_dropout(model, passes, "add an nn.Dropout to it")
    model.eval()
    device = next((p.device for p in model.parameters()), data.device)
    data, out = data.to(device), []
    for number in range(passes):
        noise = (
            views.dropout_on(model, views.pass_seed(seed, number), device)
            if passes > 1
            else nullcontext()
        )
        with torch.no_grad(), noise:
            out.append(views.dense_logits(model, data).softmax(1))
    return torch.stack(out, dim=-1)


def indices_of(engine: Engine, dataset: Any) -> list[int]:
    """Indices into the engine's pool of the images of a data set. Raises DataError for others."""
    places = {item.key: index for index, item in enumerate(engine.pool)}
    keys = keys_of(dataset)
    missing = next((key for key in keys if key not in places), None)
    if missing is not None:
        raise DataError(f"{missing!r} is no image of the config's training data set")
    return [places[key] for key in keys]


def keys_of(dataset: Any) -> list[str]:
    """Keys of the images of an ActiveLearningDataset (labelled ones), of its pool, or of a Subset
    of either, in its order. Raises DataError for anything else."""
    if isinstance(dataset, Subset):
        inner = keys_of(dataset.dataset)
        return [inner[int(index)] for index in dataset.indices]
    if isinstance(dataset, ActiveLearningPool):
        return list(dataset.keys)
    if isinstance(dataset, ActiveLearningDataset):
        return [dataset.keys[dataset.index_of(item)] for item in range(len(dataset))]
    raise DataError(f"an ActiveLearningDataset or its pool is needed, not {type(dataset).__name__}")
