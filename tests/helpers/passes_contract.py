"""What both MMSegmentation engines promise of dropout passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from regional_al.types import PredictRequest

TEST_CFGS = {
    "whole": {"mode": "whole"},
    "slide": {"mode": "slide", "crop_size": (24, 32), "stride": (16, 24)},
}


def features_are_shared(
    engine: Any, trained: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbone sees an image (a window) once an orientation, and the logits are to the bit
    those of a backbone that sees it in every pass."""
    model = engine.network(trained)
    calls: list[int] = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    request = PredictRequest(passes=3, flip=True)

    def seen() -> tuple[list[torch.Tensor], int]:
        calls.clear()
        stream = engine.predict(trained, [1], request)
        prediction = next(stream)
        assert prediction.more is not None
        views = [prediction.logits, *prediction.more]
        assert next(stream, None) is None
        assert "extract_feat" not in vars(model)  # the method is back
        return views, len(calls)

    views, count = seen()
    windows = count // 2
    assert (windows == 1) == (mode == "whole")
    assert not torch.equal(views[0], views[1])
    for name, value in (("KEPT", 0), ("heads_alone", lambda _: False)):  # none, or none is tried
        with monkeypatch.context() as patch:
            patch.setattr(f"regional_al.engines.views.{name}", value)
            again, every = seen()
        assert every == 6 * windows
        assert len(views) == len(again) == 6
        assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))


def backbone_with_dropout_sees_every_pass(engine: Any, trained: Path) -> None:
    model = engine.network(trained)
    model.backbone.register_forward_hook(lambda _, __, out: tuple(drop(feature) for feature in out))
    drop = model.backbone.drop = torch.nn.Dropout(0.5).eval()
    (prediction,) = engine.predict(trained, [1], PredictRequest(passes=2))
    assert prediction.more is not None
    assert not torch.equal(prediction.logits, next(iter(prediction.more)))
