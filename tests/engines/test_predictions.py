"""Predictions of another size than their image are refused, whoever asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from regional_al.engines.base import Prediction, predictions
from regional_al.errors import DataError
from regional_al.types import PoolItem, PredictRequest


class Halves:
    """Predicts the second image at half its height."""

    pool = (PoolItem("a", None, None, (4, 6)), PoolItem("town/b", None, None, (4, 6)))

    def predict(
        self, checkpoint: Path | None, indices: Sequence[int], request: PredictRequest
    ) -> Iterator[Prediction]:
        for index in indices:
            yield Prediction(index, torch.zeros(3, 4 if index == 0 else 2, 6))


def test_the_first_of_another_size_is_named() -> None:
    engine: Any = Halves()
    found = predictions(engine, None, [0, 1], PredictRequest())
    assert next(found).index == 0
    with pytest.raises(DataError, match=r"image 'town/b': logits are \(2, 6\).*is \(4, 6\)"):
        next(found)
