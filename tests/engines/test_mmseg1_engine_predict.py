"""Predictions and evaluation of the mmseg1 engine against mmseg's own inference and metric."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")
import features_contract
import passes_contract
from mmseg1_tiny import TINY
from mmseg_tiny import fit_once, label_some, make_data, make_engine

from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.metrics import iou
from regional_al.store.labels import LabelStore
from regional_al.types import PredictRequest

pytestmark = pytest.mark.mmseg1
SLIDE = {"mode": "slide", "crop_size": (48, 48), "stride": (32, 32)}
SIGMOID = """
model['decode_head'].update(
    num_classes=2, out_channels=1, threshold=0.4,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
model['auxiliary_head'].update(num_classes=2)
for loader in (train_dataloader, val_dataloader):
    loader['dataset'].update(
        metainfo=dict(classes=('up', 'low'), palette=[[0, 0, 0], [9, 9, 9]]),
        data_root='ROOT')
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_data(folder)
    TINY.write_config(folder)
    return folder


@pytest.fixture(scope="module")
def engine(root: Path) -> Any:
    return make_engine(root)


@pytest.fixture(scope="module")
def trained(engine: Any, root: Path) -> Path:
    store = LabelStore(root / "labels")
    label_some(store, engine, 4)
    return fit_once(engine, store, root / "fit").checkpoint


def mmseg_model(engine: Any, checkpoint: Path, **test_cfg: Any) -> Any:
    """The model as mmseg itself builds and loads it."""
    from mmengine.model import revert_sync_batchnorm
    from mmengine.runner import load_checkpoint
    from mmseg.registry import MODELS

    spec = copy.deepcopy(engine.cfg.model)
    spec.test_cfg.update(test_cfg)
    model = revert_sync_batchnorm(MODELS.build(spec))
    load_checkpoint(model, str(checkpoint))
    return model.eval()


def mmseg_logits(model: Any, item: Any, pipeline: list[Any]) -> torch.Tensor:
    """Logits by the model's own test_step."""
    from mmengine.dataset import Compose

    steps = [step for step in pipeline if step["type"] != "LoadAnnotations"]
    sample = Compose(steps)({"img_path": str(item.image), "seg_fields": []})
    batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
    with torch.no_grad():
        return model.test_step(batch)[0].seg_logits.data


@pytest.mark.parametrize("test_cfg", [{"mode": "whole"}, SLIDE], ids=["whole", "slide"])
def test_logits_are_mmsegs_own(
    engine: Any, trained: Path, root: Path, test_cfg: dict[str, Any]
) -> None:
    other = make_engine(root, model__test_cfg=test_cfg)
    model = mmseg_model(engine, trained, **test_cfg)
    found = list(other.predict(trained, [3, 0], PredictRequest()))
    assert [prediction.index for prediction in found] == [3, 0]
    for prediction in found:
        item = engine.pool[prediction.index]
        assert prediction.logits.shape == (3, *item.shape)
        assert prediction.logits.dtype == torch.float32
        assert prediction.more is None
        expected = mmseg_logits(model, item, other.cfg.test_dataloader.dataset.pipeline)
        torch.testing.assert_close(prediction.logits, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def noisy(root: Path) -> Any:
    return make_engine(root, model__decode_head__dropout_ratio=0.5)


def test_prediction_is_repeatable_and_leaves_random_state(noisy: Any, trained: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = next(noisy.predict(trained, [1], PredictRequest(passes=2))).logits
    assert torch.equal(before, torch.get_rng_state())
    again = list(noisy.predict(trained, [0, 1], PredictRequest(passes=2)))[1].logits
    assert torch.equal(first, again), "dropout noise must not depend on the images before"


def test_passes_differ_and_dropout_is_off_afterwards(noisy: Any, trained: Path) -> None:
    (prediction,) = noisy.predict(trained, [1], PredictRequest(passes=3))
    assert prediction.more is not None
    views = [prediction.logits, *prediction.more]
    assert len(views) == 3
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[1], views[2])
    plain = [next(noisy.predict(trained, [1], PredictRequest())).logits for _ in range(2)]
    assert torch.equal(plain[0], plain[1])
    assert not torch.equal(plain[0], views[0])


@pytest.mark.parametrize("mode", passes_contract.TEST_CFGS)
def test_passes_share_the_features_of_a_backbone_without_dropout(
    root: Path, trained: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = passes_contract.TEST_CFGS[mode]
    engine = make_engine(root, model__decode_head__dropout_ratio=0.5, model__test_cfg=cfg)
    passes_contract.features_are_shared(engine, trained, mode, monkeypatch)


def test_a_backbone_with_dropout_sees_every_pass(root: Path, trained: Path) -> None:
    passes_contract.backbone_with_dropout_sees_every_pass(
        make_engine(root, model__decode_head__dropout_ratio=0), trained
    )


def test_flip_is_flipped_back(engine: Any, trained: Path) -> None:
    (prediction,) = engine.predict(trained, [2], PredictRequest(flip=True))
    assert prediction.more is not None
    (view,) = prediction.more
    plain, mirrored = prediction.logits.argmax(0), view.argmax(0)
    assert not torch.equal(prediction.logits, view)
    agreement = (plain == mirrored).float().mean()
    wrong = (plain == mirrored.flip(-1)).float().mean()
    assert agreement > max(0.9, wrong)


def test_an_ensemble_adds_the_plain_prediction_of_each_checkpoint(
    noisy: Any, trained: Path, root: Path
) -> None:
    store = LabelStore(root / "labels_other")
    label_some(store, noisy, 3)
    other = fit_once(noisy, store, root / "fit_other", seed=9).checkpoint
    plain = [next(noisy.predict(c, [1], PredictRequest())).logits for c in (trained, other)]
    assert not torch.equal(*plain)
    request = PredictRequest(ensemble=(other, trained), flip=True)
    first, last = noisy.predict(trained, [1, 1], request)
    for found in (first, last):
        assert found.more is not None
        views = [found.logits, *found.more]
        assert len(views) == request.views == 4
        for view, expected in zip(
            (views[0], *views[2:]), (plain[0], plain[1], plain[0]), strict=True
        ):
            assert torch.equal(view, expected)
    with pytest.raises(ConfigError, match=r"tiny\.py cannot be loaded"):
        next(noisy.predict(trained, [1], PredictRequest(ensemble=(root / "tiny.py",))))


def test_what_a_model_cannot_give_is_known_without_an_image(noisy: Any, root: Path) -> None:
    """As `Acquirer.prepare` asks, before any training."""
    assert next(noisy.predict(None, [], PredictRequest(passes=2)), None) is None
    bare = make_engine(
        root, model__decode_head__dropout_ratio=0, model__auxiliary_head__dropout_ratio=0
    )
    with pytest.raises(UnsupportedError, match="dropout_ratio"):
        next(bare.predict(None, [], PredictRequest(passes=2)), None)


def test_features_of_the_classifier(engine: Any, trained: Path, root: Path) -> None:
    (prediction,) = engine.predict(trained, [0], PredictRequest(features=True))
    assert prediction.features is not None
    assert prediction.features.values.shape[0] == 8
    sliding = make_engine(root, model__test_cfg=SLIDE)
    assert next(sliding.predict(trained, [0], PredictRequest(features=True))).features is None


@pytest.mark.parametrize("divisor", [16, 32])
def test_features_of_a_padded_input(root: Path, trained: Path, divisor: int) -> None:
    """SegNeXt as shipped pads test images: 74 x 100 to 80 x 112 or 96 x 128."""
    engine = make_engine(root, model__data_preprocessor__test_cfg__size_divisor=divisor)
    features_contract.units_get_their_own_features(engine, trained, (74, 100))


def test_own_start_is_repeatable(engine: Any, root: Path, trained: Path) -> None:
    one, two = (
        next(make_engine(root).predict(None, [0], PredictRequest())).logits for _ in range(2)
    )
    assert torch.equal(one, two)
    loaded = make_engine(root, load_from=str(trained))
    expected = next(engine.predict(trained, [0], PredictRequest())).logits
    assert torch.equal(next(loaded.predict(None, [0], PredictRequest())).logits, expected)


def test_dropout_needs_a_layer(root: Path, trained: Path) -> None:
    engine = make_engine(
        root, model__decode_head__dropout_ratio=0, model__auxiliary_head__dropout_ratio=0
    )
    with pytest.raises(UnsupportedError, match="dropout_ratio"):
        next(engine.predict(trained, [0], PredictRequest(passes=2)))


def test_checkpoint_of_another_model(root: Path, trained: Path) -> None:
    engine = make_engine(root, model__decode_head__channels=4)
    with pytest.raises(ConfigError, match="does not fit"):
        next(engine.predict(trained, [0], PredictRequest()))


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_image_is_named(tmp_path: Path, trained: Path, root: Path, workers: int) -> None:
    make_data(tmp_path)
    TINY.write_config(tmp_path)
    engine = make_engine(tmp_path, val_dataloader__num_workers=workers)
    path = engine.pool[1].image
    path.write_bytes(path.read_bytes()[:60])  # the header survives
    with pytest.raises(DataError, match=r"01_img\.png") as caught:
        list(engine.predict(trained, [0, 1], PredictRequest()))
    assert "\n" not in str(caught.value)


def iou_metric(engine: Any, model: Any) -> tuple[np.ndarray, np.ndarray]:
    """(intersection, union) a class by mmseg's IoUMetric over the validation set."""
    from mmseg.evaluation import IoUMetric
    from mmseg.registry import DATASETS

    dataset = DATASETS.build(copy.deepcopy(engine.cfg.val_dataloader.dataset))
    metric = IoUMetric()
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        sample = dataset[index]
        batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
        with torch.no_grad():
            outputs = model.test_step(batch)
        metric.process(batch, [output.to_dict() for output in outputs])
    inter, union, _, _ = (sum(column) for column in zip(*metric.results, strict=True))
    return inter.numpy(), union.numpy()


def test_confusion_equals_mmsegs_metric(engine: Any, trained: Path, root: Path) -> None:
    matrix = engine.evaluate(trained)
    inter, union = iou_metric(engine, mmseg_model(engine, trained))
    assert matrix.dtype == np.int64
    assert np.array_equal(np.diagonal(matrix), inter.astype(np.int64))
    np.testing.assert_allclose(iou(matrix), inter / union)
    by_workers = make_engine(
        root, val_dataloader__num_workers=2, val_dataloader__persistent_workers=True
    )
    assert np.array_equal(by_workers.evaluate(trained), matrix)


def test_one_channel_head(tmp_path: Path) -> None:
    """Sigmoid over one channel: logits [0, z]; the head's threshold decides in the evaluation;
    a batch without labels, on which mmseg's own loss raises, is fine."""
    make_data(tmp_path)
    for mask in (tmp_path / "gt").rglob("*.png"):
        from regional_al.store.images import read_ids, write_png

        ids = read_ids(mask)
        write_png(mask, np.where(ids == 255, 255, ids // 2).astype(np.uint8))
    TINY.write_config(tmp_path, SIGMOID.replace("ROOT", str(tmp_path)))
    engine = make_engine(tmp_path)
    engine.preflight()
    store = LabelStore(tmp_path / "labels")
    label_some(store, engine, 3)
    checkpoint = fit_once(engine, store, tmp_path / "fit").checkpoint
    (prediction,) = engine.predict(checkpoint, [0], PredictRequest())
    model = mmseg_model(engine, checkpoint)
    expected = mmseg_logits(model, engine.pool[0], engine.cfg.test_dataloader.dataset.pipeline)
    assert prediction.logits.shape[0] == 2
    assert not prediction.logits[0].any()
    torch.testing.assert_close(prediction.logits.softmax(0)[1:], expected, rtol=1e-4, atol=1e-5)
    inter, _ = iou_metric(engine, model)
    assert np.array_equal(np.diagonal(engine.evaluate(checkpoint)), inter.astype(np.int64))
