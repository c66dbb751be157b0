"""What mmcv's runners alone have: `resume_from`, evaluation, checkpoints and workflow in training,
loaders by mmcv; see test_mmseg_engine_fit.py for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmcv.runner")
from mmseg0_tiny import TINY, Tiny0
from mmseg_tiny import fit_once, make_engine

from regional_al.engines.mmseg0.loaders import Drawn
from regional_al.errors import UnsupportedError
from regional_al.metrics import mean_iou
from regional_al.store.labels import LabelStore

pytestmark = pytest.mark.mmseg0


@pytest.fixture(scope="module")
def tiny() -> Tiny0:
    return TINY


def test_resume_from_goes_on_with_its_schedule(
    root: Path, store: LabelStore, engine: Any, tmp_path: Path
) -> None:
    first = fit_once(engine, store, tmp_path / "a", until=3)
    options = {"resume_from": str(first.checkpoint), "acquisition__queries": [5]}
    resumed = make_engine(root, **options)
    result = fit_once(resumed, store, tmp_path / "b", until=5)
    assert result.iterations == 2
    assert [line["iter"] for line in TINY.logged(tmp_path / "b")] == [4, 5]
    with pytest.raises(UnsupportedError, match="resume_from"):
        make_engine(root, resume_from=str(first.checkpoint))


def test_drawn_samples_are_passes_in_changing_order() -> None:
    drawn = Drawn(list("abcde"), 17, seed=3)
    found = [drawn[i] for i in range(len(drawn))]
    passes = [found[i : i + 5] for i in (0, 5, 10)]
    assert all(sorted(one) == list("abcde") for one in passes)
    assert passes[0] != passes[1] or passes[1] != passes[2]
    assert [Drawn(list("abcde"), 17, seed=3)[i] for i in range(17)] == found
    assert [Drawn(list("abcde"), 17, seed=4)[i] for i in range(17)] != found
    assert [Drawn(list("ab"), 4, 0, shuffle=False)[i] for i in range(4)] == list("abab")


def test_evaluation_checkpoints_and_workflow_keep_their_meaning(
    root: Path, store: LabelStore, tmp_path: Path
) -> None:
    engine = make_engine(
        root,
        evaluation__interval=4,
        evaluation__save_best="mIoU",
        checkpoint_config__interval=3,
        checkpoint_config__max_keep_ckpts=1,
        workflow=[("train", 2), ("val", 1)],
        momentum_config={"policy": "cyclic", "by_epoch": False},
        optimizer_config={"grad_clip": {"max_norm": 1.0}},
    )
    result = fit_once(engine, store, tmp_path / "a")
    found = TINY.records(tmp_path / "a")
    scores = [line["mIoU"] for line in found if "mIoU" in line]
    assert len(scores) == 2
    names = {path.name for path in (tmp_path / "a").glob("*.pth")}
    assert {"checkpoint.pth", "iter_8.pth"} <= names
    assert any(name.startswith("best_mIoU_iter_") for name in names)
    assert "iter_3.pth" not in names
    assert any("decode.loss_ce_val" in line for line in found)
    assert all("grad_norm" in line for line in found if line["mode"] == "train" and "loss" in line)
    matrix = engine.evaluate(result.checkpoint)
    assert scores[-1] == pytest.approx(mean_iou(matrix), abs=1e-4)


def test_label_maps_of_smaller_images_are_padded_as_unlabelled() -> None:
    """mmseg's own padding is 0, which is a class; images are padded with 0 as ever."""
    from mmcv.parallel import collate
    from mmseg.datasets.pipelines.formatting import Collect, DefaultFormatBundle

    from regional_al.engines.mmseg0.loaders import collated

    def sample(height: int, width: int) -> dict[str, Any]:
        image = np.ones((height, width, 3), np.float32)
        found = {"img": image, "gt_semantic_seg": np.ones((height, width), np.uint8)}
        found = DefaultFormatBundle()(found)
        made: dict[str, Any] = Collect(["img", "gt_semantic_seg"], meta_keys=())(found)
        return made

    for make, value in ((collate, 0), (collated, 255)):
        batch = make([sample(4, 6), sample(3, 8)], samples_per_gpu=2)
        labels = batch["gt_semantic_seg"].data[0]
        assert labels.shape == (2, 1, 4, 8)
        assert (labels[0, 0, :, :6] == 1).all()
        assert (labels[0, 0, :, 6:] == value).all()
        assert (labels[1, 0, 3:] == value).all()
        assert (batch["img"].data[0][1, :, 3:] == 0).all()
