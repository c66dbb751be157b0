"""`ignore_index` of heads and metrics that is another id than 255."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import Tiny, fit_once, label_some, make_data, make_engine
from refusals import refused

from regional_al import metrics
from regional_al.engines.mmseg.ignored import ignored_by_heads, ignored_by_metrics, rewrite
from regional_al.errors import ConfigError, UnsupportedError
from regional_al.loop import runner
from regional_al.store.check import check_run
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.store.results import load
from regional_al.store.work_dir import WorkDir
from regional_al.types import UNLABELED

HEADS = ("model.decode_head", "model.auxiliary_head")
METRIC = {"mmseg1": "val_evaluator.ignore_index", "mmseg0": "data.val.ignore_index"}
RUN = {
    "level": "region",
    "heuristic": "RIPU",
    "region": {"type": "slic", "n_segments": 30},
    "budget": {"amount": "10%"},
    "warm_start": {"amount": "20%"},
    "rounds": 1,
    "previews": 1,
}


def ignoring(tiny: Tiny, heads: int | None, metric: int | None) -> dict[str, Any]:
    """Overrides by which heads and metric ignore ids."""
    found = {} if heads is None else {f"{head}.ignore_index": heads for head in HEADS}
    return found if metric is None else {**found, METRIC[tiny.name]: metric}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    """The tiny data set without void: the stripe on top is of class 0."""
    root = tmp_path_factory.mktemp("ignoring")
    make_data(root)
    for path in root.glob("gt/*/*/*.png"):
        ids = read_ids(path)
        write_png(path, np.where(ids == UNLABELED, 0, ids).astype(np.uint8))
    tiny.write_config(root)
    return root


def mask_of(sample: Any) -> np.ndarray:
    """The labels of a training sample."""
    if "data_samples" in sample:
        return np.asarray(sample["data_samples"].gt_sem_seg.data)
    return np.asarray(sample["gt_semantic_seg"].data)


def test_a_run_that_ignores_class_0(
    tmp_path: Path, folder: Path, tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    """It is void in what is trained on and evaluated, and stays a class of the model; numbers are
    those of mmseg's own metric."""
    caplog.set_level(logging.WARNING, logger="regional_al")
    engine: Any = make_engine(folder, {**ignoring(tiny, 0, 0), tiny.iterations: 2})
    told = [text for text in caplog.messages if "ignore_index" in text]
    assert len(told) == 1
    assert told[0].startswith(f"{', '.join(HEADS)}.ignore_index=0: class 'left' is void")
    assert [head.ignore_index for head in (engine.cfg.model.decode_head,)] == [UNLABELED]
    runner.run(engine, RUN, tmp_path / "work", report=False)
    assert check_run(tmp_path / "work", engine.label_space, engine.pool, thorough=True) == []
    assert engine.label_space.offered.tolist() == [False, True, True]
    store, trained = LabelStore(WorkDir(tmp_path / "work").labels), set()
    for index, item in enumerate(engine.pool):
        answered, label = store.annotated(item.key), store.read(item.key)
        if answered is None or label is None:
            continue
        truth = read_ids(item.annotation)
        assert (label == np.where(answered > 0, truth, UNLABELED)).all()
        trained |= set(np.unique(mask_of(engine.read_sample(engine.dataset, index,
                                                            store.path(item.key)))))  # fmt: skip
    assert trained == {1, 2, UNLABELED}
    checkpoint = WorkDir(tmp_path / "work").fit(1) / "checkpoint.pth"
    hits, union = tiny.mmseg_counts(engine, tiny.mmseg_model(engine, checkpoint))
    with np.errstate(invalid="ignore"):
        mean = np.nanmean(hits / union)
    assert load(tmp_path / "work").records[-1].miou == pytest.approx(mean, rel=1e-6)

    content = torch.load(checkpoint, weights_only=True)  # one that predicts the class
    content["state_dict"]["decode_head.conv_seg.bias"][0] += 0.5
    torch.save(content, tmp_path / "other.pth")
    counts = engine.evaluate(tmp_path / "other.pth")
    hits, union = tiny.mmseg_counts(engine, tiny.mmseg_model(engine, tmp_path / "other.pth"))
    assert counts.sum(1)[0] == 0
    assert counts.sum(0)[0] > 0
    assert np.diagonal(counts).tolist() == hits.tolist()
    assert (counts.sum(1) + counts.sum(0) - np.diagonal(counts)).tolist() == union.tolist()
    assert metrics.mean_iou(counts) == pytest.approx(np.nanmean(hits / union), rel=1e-6)


def test_the_loss_is_that_of_mmseg(folder: Path, tiny: Tiny) -> None:
    """Of a head that ignores 0, with labels of 0, and of ours with 255 in their place."""
    engine: Any = make_engine(folder, ignoring(tiny, 0, 0))
    ours = tiny.part("predict").build_model(engine.cfg).decode_head
    theirs = copy.deepcopy(ours)
    theirs.ignore_index = 0
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    target = torch.randint(0, 3, (2, 1, 8, 8), generator=generator)
    expected = tiny.head_loss(theirs, logits, target)
    found = tiny.head_loss(ours, logits, target.masked_fill(target == 0, UNLABELED))
    torch.testing.assert_close(found, expected)


def test_paddings_of_the_ignored_id_are_void(tiny: Tiny) -> None:
    model: Any = {
        "decode_head": {
            "type": "FCNHead",
            "ignore_index": 0,
            "loss_decode": [{"type": "DiceLoss", "ignore_index": 0}],
        },
        "data_preprocessor": {"seg_pad_val": 0, "pad_val": 0},
    }
    pipeline: Any = [
        {"type": "RandomCrop", "ignore_index": 0},
        {"type": "Pad", "pad_val": {"img": 0, "seg": 0}},
        {"type": "RandomRotate", "seg_pad_val": 7},
    ]
    assert rewrite(model, [pipeline], 0) == ["model.decode_head"]
    assert model["decode_head"]["ignore_index"] == UNLABELED
    assert model["decode_head"]["loss_decode"][0]["ignore_index"] == 0  # a class to leave out
    assert model["data_preprocessor"] == {"seg_pad_val": UNLABELED, "pad_val": 0}
    assert pipeline[0]["ignore_index"] == UNLABELED
    assert pipeline[1]["pad_val"] == {"img": 0, "seg": UNLABELED}
    assert pipeline[2]["seg_pad_val"] == 7


def scored(folder: Path, tiny: Tiny, changes: Mapping[str, Any], out: Path) -> tuple[Any, Any]:
    """(labels that a training sees, confusion matrix) of a training with overrides."""
    engine: Any = make_engine(folder, {**changes, tiny.iterations: 1})
    engine.preflight()
    store = LabelStore(out / "labels")
    label_some(store, engine, 3, share=0.3)
    seen = set(np.unique(mask_of(engine.read_sample(engine.dataset, 0,
                                                    store.path(engine.pool[0].key)))))  # fmt: skip
    return seen, engine.evaluate(fit_once(engine, store, out / "fit").checkpoint)


@pytest.mark.parametrize(
    ("heads", "metric", "line"),
    [
        (0, None, "class 'left' is evaluated without having been trained on"),
        (None, 0, "class 'left' is trained on and left out of the metrics"),
        (0, 1, "class 'right' is trained on and left out of the metrics"),
    ],
)
def test_heads_and_metrics_that_disagree_do_as_mmseg_does(
    tmp_path: Path,
    folder: Path,
    tiny: Tiny,
    caplog: pytest.LogCaptureFixture,
    heads: int | None,
    metric: int | None,
    line: str,
) -> None:
    caplog.set_level(logging.WARNING, logger="regional_al")
    seen, counts = scored(folder, tiny, ignoring(tiny, heads, metric), tmp_path)
    assert seen == {0, 1, 2, UNLABELED} - ({heads} if heads is not None else set())
    pixels = counts.sum(1)
    assert [bool(many) for many in pixels] == [index != metric for index in range(3)]
    assert sum(line in text for text in caplog.messages) == 1


def test_an_ignored_id_above_the_classes(tmp_path: Path, folder: Path, tiny: Tiny) -> None:
    """Masks that hold 11 for void."""
    make_data(tmp_path)
    for path in tmp_path.glob("gt/*/*/*.png"):
        ids = read_ids(path)
        write_png(path, np.where(ids == UNLABELED, 11, ids).astype(np.uint8))
    tiny.write_config(tmp_path)
    seen, counts = scored(tmp_path, tiny, ignoring(tiny, 11, 11), tmp_path)
    assert seen == {0, 1, 2, UNLABELED}
    raw = np.concatenate([read_ids(path).ravel() for path in tmp_path.glob("gt/val/*/*.png")])
    assert counts.sum(1).tolist() == np.bincount(raw[raw < 11]).tolist()
    assert np.isfinite(metrics.mean_iou(counts))


def test_mistakes_are_one_line_and_the_advice_works(folder: Path, tiny: Tiny) -> None:
    head, aux = (f"{name}.ignore_index" for name in HEADS)
    refused(
        ConfigError,
        rf"^{head}=0, but {aux}=255: .*e\.g\. 0 by {aux}=0",
        lambda: make_engine(folder, {head: 0}),
    )
    make_engine(folder, {head: 0, aux: 0})
    refused(
        UnsupportedError,
        rf"^{head}=-100 must be an id of the masks",
        lambda: make_engine(folder, {head: -100, aux: -100}),
    )
    own = f"{tiny.train_set}.ignore_index"
    refused(
        UnsupportedError,
        rf"^{own}=0, which MMSegmentation does not read there: .*ignore_index=0 in every head",
        lambda: make_engine(folder, {own: 0}),
    )
    make_engine(folder, {own: 0, **ignoring(tiny, 0, 0)}).preflight()  # type: ignore[attr-defined]


def test_what_is_ignored() -> None:
    border = {"type": "STDCHead", "num_classes": 1}
    heads = {"decode_head": {"type": "A", "ignore_index": 2}, "auxiliary_head": [border]}
    assert ignored_by_heads(heads) == 2
    assert ignored_by_heads({"decode_head": {"type": "A"}}) == UNLABELED
    assert ignored_by_metrics(None, "val_evaluator") is None
    assert ignored_by_metrics({"type": "IoUMetric"}, "val_evaluator") == UNLABELED
    both = [{"type": "IoUMetric"}, {"type": "CityscapesMetric", "ignore_index": 0}]
    with pytest.raises(ConfigError, match=r"^val_evaluator: its metrics have ignore_index=0 and"):
        ignored_by_metrics(both, "val_evaluator")
