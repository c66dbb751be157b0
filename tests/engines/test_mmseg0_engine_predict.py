"""Predictions and evaluation of the mmseg0 engine against mmseg's own inference and metric."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmcv.runner")
import features_contract
import passes_contract
from mmseg0_tiny import TINY
from mmseg_tiny import fit_once, label_some, make_data, make_engine

from regional_al import engines
from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.types import PredictRequest

pytestmark = pytest.mark.mmseg0
SLIDE = {"mode": "slide", "crop_size": (48, 48), "stride": (32, 32)}
SIGMOID = """
model['decode_head'].update(
    num_classes=2, out_channels=1, threshold=0.4,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
model['auxiliary_head'].update(num_classes=2)
for part in ('train', 'val', 'test'):
    data[part].update(classes=('up', 'low'), palette=[[0, 0, 0], [9, 9, 9]])
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
    from mmcv.cnn.utils import revert_sync_batchnorm
    from mmcv.runner import load_checkpoint
    from mmseg.models import build_segmentor

    spec = copy.deepcopy(engine.cfg.model)
    spec.test_cfg.update(test_cfg)
    model = revert_sync_batchnorm(build_segmentor(spec))
    load_checkpoint(model, str(checkpoint), map_location="cpu")
    return model.eval()


def mmseg_probabilities(model: Any, item: Any, pipeline: list[Any]) -> torch.Tensor:
    """Probabilities [C, H, W] by the model's own inference on what its own pipeline makes."""
    from mmseg.datasets.pipelines import Compose

    sample = Compose(pipeline)(
        {"img_prefix": None, "img_info": {"filename": str(item.image)}, "seg_fields": []}
    )
    with torch.no_grad():
        return model.inference(sample["img"][0][None], [sample["img_metas"][0].data], True)[0]


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
        expected = mmseg_probabilities(model, item, other.cfg.data.test.pipeline)
        probabilities = prediction.logits.softmax(0)
        torch.testing.assert_close(probabilities, expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(prediction.logits, expected, atol=1e-2), "logits, not softmax"


def test_test_time_augmentation_is_left_out(engine: Any, trained: Path, root: Path) -> None:
    pipeline = copy.deepcopy(engine.cfg.data.test.pipeline)
    pipeline[1].update(flip=True, img_ratios=[1.5, 1.0], flip_direction=["vertical"])
    augmented = make_engine(root, data__test__pipeline=pipeline, data__val__pipeline=pipeline)
    one, two = (next(e.predict(trained, [0], PredictRequest())).logits for e in (engine, augmented))
    assert torch.equal(one, two)
    assert np.array_equal(engine.evaluate(trained), augmented.evaluate(trained))


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


@pytest.mark.parametrize("width", [100, 99], ids=["whole", "padded"])
def test_flip_is_flipped_back(engine: Any, trained: Path, root: Path, width: int) -> None:
    """A picture mirrored in its file gives the mirrored flip view, padding or not."""
    pipeline = copy.deepcopy(engine.cfg.data.test.pipeline)
    pipeline[1].update(img_scale=(width, 75))
    pipeline[1].transforms[0].keep_ratio = False
    pipeline[1].transforms[3].size_divisor = 4
    other = make_engine(root, data__test__pipeline=pipeline)
    (prediction,) = other.predict(trained, [2], PredictRequest(flip=True))
    assert prediction.more is not None
    (view,) = prediction.more
    plain, mirrored = prediction.logits.argmax(0), view.argmax(0)
    assert not torch.equal(prediction.logits, view)
    agreement = (plain == mirrored).float().mean()
    wrong = (plain == mirrored.flip(-1)).float().mean()
    assert agreement > max(0.9, wrong)


def test_ensemble_and_features(engine: Any, trained: Path, root: Path, tmp_path: Path) -> None:
    store = LabelStore(root / "labels")
    other = fit_once(engine, store, tmp_path / "b", seed=8).checkpoint
    request = PredictRequest(features=True, ensemble=(other,))
    (prediction,) = engine.predict(trained, [0], request)
    assert prediction.features is not None
    assert prediction.features.values.shape[0] == 8
    assert prediction.more is not None
    expected = next(engine.predict(other, [0], PredictRequest())).logits
    (member,) = prediction.more
    assert torch.equal(member, expected)
    sliding = make_engine(root, model__test_cfg=SLIDE)
    assert next(sliding.predict(trained, [0], PredictRequest(features=True))).features is None


@pytest.mark.parametrize("divisor", [16, 32])
def test_features_of_a_padded_input(
    root: Path, trained: Path, tmp_path: Path, divisor: int
) -> None:
    """`Pad` of the test pipeline: 74 x 100 to 80 x 112 or 96 x 128."""
    path = root / f"padded_{divisor}.py"
    text = (root / "tiny.py").read_text()
    assert "size_divisor=4" in text
    path.write_text(text.replace("size_divisor=4", f"size_divisor={divisor}"))
    engine = engines.load(path, {}, tmp_path).build()
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
    engine = make_engine(tmp_path, data__workers_per_gpu=workers)
    path = engine.pool[1].image
    path.write_bytes(path.read_bytes()[:60])  # the header survives
    with pytest.raises(DataError, match=r"01_img\.png") as caught:
        list(engine.predict(trained, [0, 1], PredictRequest()))
    assert "\n" not in str(caught.value)


def mmseg_iou(engine: Any, model: Any) -> np.ndarray:
    """IoU a class by mmseg's single_gpu_test and data set over the validation set."""
    from mmcv.parallel import MMDataParallel
    from mmseg.apis import single_gpu_test
    from mmseg.datasets import build_dataloader, build_dataset

    dataset = build_dataset(copy.deepcopy(engine.cfg.data.val), {"test_mode": True})
    loader = build_dataloader(dataset, 1, 0, dist=False, shuffle=False, persistent_workers=False)
    results = single_gpu_test(MMDataParallel(model), loader, pre_eval=True)
    found = dataset.evaluate(results, logger="silent")
    return np.array([found[f"IoU.{name}"] for name in dataset.CLASSES])


def test_confusion_equals_mmsegs_metric(engine: Any, trained: Path, root: Path) -> None:
    from regional_al.metrics import iou

    matrix = engine.evaluate(trained)
    assert matrix.dtype == np.int64
    expected = mmseg_iou(engine, mmseg_model(engine, trained))
    np.testing.assert_allclose(iou(matrix), expected, atol=1e-4)  # mmseg rounds
    by_workers = make_engine(root, data__val_dataloader={"workers_per_gpu": 2})
    assert np.array_equal(by_workers.evaluate(trained), matrix)


def test_one_channel_head(tmp_path: Path) -> None:
    """Sigmoid over one channel: logits [0, z]; the head's threshold decides in the evaluation;
    a batch without labels, on which mmseg's own loss raises, is fine."""
    from regional_al.metrics import iou

    make_data(tmp_path)
    for mask in (tmp_path / "gt").rglob("*.png"):
        ids = read_ids(mask)
        write_png(mask, np.where(ids == 255, 255, ids // 2).astype(np.uint8))
    TINY.write_config(tmp_path, SIGMOID)
    engine = make_engine(tmp_path)
    engine.preflight()
    store = LabelStore(tmp_path / "labels")
    label_some(store, engine, 3)
    checkpoint = fit_once(engine, store, tmp_path / "fit").checkpoint
    (prediction,) = engine.predict(checkpoint, [0], PredictRequest())
    model = mmseg_model(engine, checkpoint)
    expected = mmseg_probabilities(model, engine.pool[0], engine.cfg.data.test.pipeline)
    assert prediction.logits.shape[0] == 2
    assert not prediction.logits[0].any()
    torch.testing.assert_close(prediction.logits.softmax(0)[1:], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        iou(engine.evaluate(checkpoint)), mmseg_iou(engine, model), atol=1e-4
    )
