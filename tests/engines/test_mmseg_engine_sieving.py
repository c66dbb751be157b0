"""Sieving in both generations of mmseg."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmseg_tiny import Tiny, make_engine

from regional_al.loop import runner
from regional_al.store import results
from regional_al.store.prelabels import TrainingLabels
from regional_al.store.sieved import SievedPixels
from regional_al.types import UNLABELED


@pytest.mark.slow
def test_a_training_leaves_out_what_is_sieved(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    """Beside weights of answers, which read the same labels."""
    asked = {
        "level": "region",
        "heuristic": "Entropy",
        "region": {"type": "grid", "cell": 32},
        "budget": {"amount": 8, "unit": "region"},
        "annotator": {"type": "oracle", "answer": "dominant"},
        "rounds": 1,
        "previews": 0,
        "loss_average": "unit",
        "sieve": True,
    }
    engine = make_engine(root, {"acquisition": {"_delete_": True, **asked}, tiny.iterations: 3})
    loop = runner.run(engine, asked, tmp_path / "run", report=False)
    seen, left = TrainingLabels(loop.work_dir.training_labels), 0
    for item in engine.pool:
        labels, out = (
            loop.store.read(item.key),
            SievedPixels(loop.work_dir.sieved(1)).read(item.key),
        )
        if labels is not None:
            assert out is not None
            assert np.array_equal(seen.read(item.key), np.where(out, UNLABELED, labels))
            left += int(out.sum())
    assert left > 0
    first, last = results.load(tmp_path / "run").records
    assert first.iterations == last.iterations == 3
    assert last.label_miou is not None
