"""Training pipelines below image level: stock transforms that lose labels are replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmseg_tiny import Tiny, fit_once, make_engine

from regional_al.engines.mmseg.pipelines import pipelines
from regional_al.engines.specs import type_name
from regional_al.store.labels import LabelStore

LOSSY = {"Resize", "RandomResize", "RandomCrop"}
SPARSE = {"SparseResize", "SparseRandomResize", "LabelledRandomCrop"}


def steps(tiny: Tiny, engine: Any) -> set[str]:
    """Names of the transforms of the training pipelines."""
    spec = engine.cfg
    for key in tiny.train_set.split("."):
        spec = spec[key]
    return {type_name(step) for pipeline in pipelines(spec) for step in pipeline}


def test_lossy_transforms_are_replaced_in_one_line(
    tiny: Tiny, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(root)
    assert not steps(tiny, engine) & LOSSY
    assert "LabelledRandomCrop" in steps(tiny, engine)
    (told,) = [line for line in caplog.messages if "sparse labels are not lost" in line]
    assert "RandomCrop by LabelledRandomCrop" in told
    assert "acquisition.keep_pipeline=True" in told
    assert f"{tiny.train_set}.pipeline" in told


def test_a_pipeline_may_be_kept(tiny: Tiny, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine(root, acquisition__keep_pipeline=True)
    assert "RandomCrop" in steps(tiny, engine)
    assert not steps(tiny, engine) & SPARSE
    (told,) = [line for line in caplog.messages if "may lose sparse labels" in line]
    assert "\n" not in told


def test_whole_images_keep_the_pipeline(
    tiny: Tiny, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(root, acquisition__level="image")
    assert not steps(tiny, engine) & SPARSE
    assert not [line for line in caplog.messages if "sparse labels" in line]


def test_transforms_of_the_user_stay(tiny: Tiny, root: Path) -> None:
    datasets = tiny.part("datasets")

    class RandomCrop(datasets.RandomCrop):  # type: ignore[misc, name-defined]
        """The name of mmseg's, in a module of the user's."""

    assert not datasets.is_stock(RandomCrop)
    assert datasets.is_stock("RandomCrop")
    assert not datasets.is_stock("LabelledRandomCrop")


def test_more_labels_reach_the_loss(
    tiny: Tiny, root: Path, store: LabelStore, tmp_path: Path
) -> None:
    """Of 5 % of the pixels, scattered; scale 0.75 to 1.5."""
    shares = {}
    for keep in (True, False):
        engine = make_engine(root, acquisition__keep_pipeline=keep)
        shares[keep] = fit_once(engine, store, tmp_path / str(keep)).label_share
    assert shares[False] > shares[True]
