"""Predictions and evaluation of the MMSegmentation engines against mmseg's own inference and
metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import Tiny, fit_once, label_some, make_data, make_engine

from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.heuristics.diversity import region_features
from regional_al.metrics import iou
from regional_al.store.images import read_ids, write_png
from regional_al.store.labels import LabelStore
from regional_al.types import PredictRequest

WHOLE = {"mode": "whole"}
SLIDE = {"mode": "slide", "crop_size": (48, 48), "stride": (32, 32)}
SMALL_SLIDE = {"mode": "slide", "crop_size": (24, 32), "stride": (16, 24)}


@pytest.fixture(scope="module")
def other(engine: Any, root: Path) -> Path:
    """Another training, of other images."""
    store = LabelStore(root / "labels_other")
    label_some(store, engine, 3)
    return fit_once(engine, store, root / "fit_other", seed=9).checkpoint


@pytest.mark.parametrize("test_cfg", [WHOLE, SLIDE], ids=["whole", "slide"])
def test_logits_are_mmsegs_own(
    tiny: Tiny, engine: Any, trained: Path, root: Path, test_cfg: dict[str, Any]
) -> None:
    other = make_engine(root, model__test_cfg=test_cfg)
    model = tiny.mmseg_model(engine, trained, **test_cfg)
    found = list(other.predict(trained, [3, 0], PredictRequest()))
    assert [prediction.index for prediction in found] == [3, 0]
    for prediction in found:
        item = engine.pool[prediction.index]
        logits = prediction.logits
        assert logits.shape == (3, *item.shape)
        assert logits.dtype == torch.float32
        assert prediction.more is None
        expected = tiny.mmseg_answer(other, model, item)
        torch.testing.assert_close(tiny.as_mmseg(logits), expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(logits, logits.softmax(0), atol=1e-2), "logits, not softmax"


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


@pytest.mark.parametrize(("test_cfg", "one"), [(WHOLE, True), (SMALL_SLIDE, False)])
def test_passes_share_the_features_of_a_backbone_without_dropout(
    root: Path, trained: Path, test_cfg: Any, one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbone sees an image (a window) once an orientation, and the logits are to the bit
    those of a backbone that sees it in every pass. one: an image is one window."""
    engine: Any = make_engine(root, model__decode_head__dropout_ratio=0.5, model__test_cfg=test_cfg)
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
    assert (windows == 1) == one
    assert not torch.equal(views[0], views[1])
    for name, value in (("KEPT", 0), ("heads_alone", lambda _: False)):  # none, or none is tried
        with monkeypatch.context() as patch:
            patch.setattr(f"regional_al.engines.views.{name}", value)
            again, every = seen()
        assert every == 6 * windows
        assert len(views) == len(again) == 6
        assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))


def test_a_backbone_with_dropout_sees_every_pass(root: Path, trained: Path) -> None:
    engine: Any = make_engine(root, model__decode_head__dropout_ratio=0)
    model = engine.network(trained)
    model.backbone.register_forward_hook(lambda _, __, out: tuple(drop(feature) for feature in out))
    drop = model.backbone.drop = torch.nn.Dropout(0.5).eval()
    (prediction,) = engine.predict(trained, [1], PredictRequest(passes=2))
    assert prediction.more is not None
    assert not torch.equal(prediction.logits, next(iter(prediction.more)))


@pytest.mark.parametrize(
    ("width", "keep_ratio"),
    [(100, True), (100, False), (99, False)],
    ids=["kept ratio", "whole", "padded"],
)
def test_flip_is_flipped_back(
    tiny: Tiny, engine: Any, trained: Path, root: Path, width: int, keep_ratio: bool
) -> None:
    """A picture mirrored in its file gives the mirrored flip view, padding or not."""
    other = make_engine(root, tiny.test_input(engine, width, keep_ratio))
    (prediction,) = other.predict(trained, [2], PredictRequest(flip=True))
    assert prediction.more is not None
    (view,) = prediction.more
    plain, mirrored = prediction.logits.argmax(0), view.argmax(0)
    assert not torch.equal(prediction.logits, view)
    agreement = (plain == mirrored).float().mean()
    wrong = (plain == mirrored.flip(-1)).float().mean()
    assert agreement > max(0.9, wrong)


def test_an_ensemble_adds_the_plain_prediction_of_each_checkpoint(
    noisy: Any, trained: Path, other: Path, root: Path
) -> None:
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
    with pytest.raises(ConfigError, match=r"tiny\.py cannot be (loaded|read)"):
        next(noisy.predict(trained, [1], PredictRequest(ensemble=(root / "tiny.py",))))


def test_what_a_model_cannot_give_is_known_without_an_image(noisy: Any, root: Path) -> None:
    """As `Acquirer.prepare` asks, before any training."""
    assert next(noisy.predict(None, [], PredictRequest(passes=2)), None) is None
    bare = make_engine(
        root, model__decode_head__dropout_ratio=0, model__auxiliary_head__dropout_ratio=0
    )
    with pytest.raises(UnsupportedError, match="dropout_ratio"):
        next(bare.predict(None, [], PredictRequest(passes=2)), None)


def test_features_of_the_classifier(engine: Any, trained: Path, other: Path, root: Path) -> None:
    for ensemble in ((), (other,)):
        request = PredictRequest(features=True, ensemble=ensemble)
        (prediction,) = engine.predict(trained, [0], request)
        assert prediction.features is not None
        assert prediction.features.values.shape[0] == 8
    assert prediction.more is not None
    (member,) = prediction.more
    assert torch.equal(member, next(engine.predict(other, [0], PredictRequest())).logits)
    sliding = make_engine(root, model__test_cfg=SLIDE)
    assert next(sliding.predict(trained, [0], PredictRequest(features=True))).features is None


def test_features_before_any_training_are_those_of_the_backbone(
    engine: Any, root: Path, trained: Path
) -> None:
    """The head is random then; with `load_from` it may be trained."""
    given = make_engine(root, load_from=str(trained))
    for one, of_the_backbone in ((engine, True), (given, False)):
        model = one.network(None)
        maps: list[torch.Tensor] = []
        entering: list[torch.Tensor] = []
        hooks = [
            model.backbone.register_forward_hook(lambda _, args, out, m=maps: m.append(out[-1][0])),
            model.decode_head.conv_seg.register_forward_pre_hook(
                lambda _, args, e=entering: e.append(args[0][0])
            ),
        ]
        try:
            (prediction,) = one.predict(None, [0], PredictRequest(features=True))
        finally:
            for hook in hooks:
                hook.remove()
        assert prediction.features is not None
        assert torch.equal(prediction.features.values, maps[0]) == of_the_backbone
        assert torch.equal(prediction.features.values, entering[0]) != of_the_backbone


@pytest.mark.parametrize("divisor", [16, 32])
def test_features_of_a_padded_input(
    tiny: Tiny, engine: Any, root: Path, trained: Path, divisor: int
) -> None:
    """SegNeXt as shipped pads test images: 74 x 100 to 80 x 112 or 96 x 128. Features that say
    where in the network's input they are end up at that place in the image."""
    padded: Any = make_engine(root, tiny.test_input(engine, divisor=divisor))
    size = (74, 100)
    model = padded.network(trained)

    def positions(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0].clone()
        h, w = x.shape[-2:]
        input_h, input_w = seen[0]
        x[:, 0] = ((torch.arange(h) + 0.5) * input_h / h)[:, None]
        x[:, 1] = ((torch.arange(w) + 0.5) * input_w / w)[None, :]
        return (x,)

    seen: list[tuple[int, int]] = []
    entry = model.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(tuple(args[0].shape[-2:]))
    )
    hook = model.decode_head.conv_seg.register_forward_pre_hook(positions)
    try:
        (prediction,) = padded.predict(trained, [0], PredictRequest(features=True))
    finally:
        entry.remove()
        hook.remove()
    assert seen[0] != size, "the input has no padding: the test shows nothing"
    height, width = padded.pool[0].shape
    regions = torch.arange(height * width).reshape(height, width)
    found = region_features(prediction.features, regions, height * width)[:, :2]
    cell = max(a / b for a, b in zip(seen[0], prediction.features.values.shape[-2:], strict=True))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([(y + 0.5) * size[0] / height, (x + 0.5) * size[1] / width], dim=-1)
    assert (found - place.reshape(-1, 2)).abs().max() <= cell / 2 + 1


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
def test_damaged_image_is_named(tiny: Tiny, tmp_path: Path, trained: Path, workers: int) -> None:
    make_data(tmp_path)
    tiny.write_config(tmp_path)
    engine = make_engine(tmp_path, {tiny.val_workers: workers})
    path = engine.pool[1].image
    path.write_bytes(path.read_bytes()[:60])  # the header survives
    with pytest.raises(DataError, match=r"01_img\.png") as caught:
        list(engine.predict(trained, [0, 1], PredictRequest()))
    assert "\n" not in str(caught.value)


def test_confusion_equals_mmsegs_metric(tiny: Tiny, engine: Any, trained: Path, root: Path) -> None:
    matrix = engine.evaluate(trained)
    inter, union = tiny.mmseg_counts(engine, tiny.mmseg_model(engine, trained))
    assert matrix.dtype == np.int64
    assert np.array_equal(np.diagonal(matrix), inter.astype(np.int64))
    np.testing.assert_allclose(iou(matrix), inter / union)
    by_workers = make_engine(root, tiny.validation_workers())
    assert np.array_equal(by_workers.evaluate(trained), matrix)


@pytest.mark.parametrize("classes", [2, 1])
def test_one_channel_head(tiny: Tiny, tmp_path: Path, classes: int) -> None:
    """Sigmoid over one channel, in either way that mmseg writes it: one threshold decides in the
    evaluation and in what is asked; a batch without labels, on which mmseg's own loss raises, is
    fine."""
    make_data(tmp_path)
    for mask in (tmp_path / "gt").rglob("*.png"):
        ids = read_ids(mask)
        write_png(mask, np.where(ids == 255, 255, ids // 2).astype(np.uint8))
    tiny.write_config(tmp_path, tiny.one_channel)
    with (tmp_path / "tiny.py").open("a") as config:
        config.write(f"model['decode_head']['num_classes'] = {classes}\n")
    engine = make_engine(tmp_path)
    engine.preflight()
    store = LabelStore(tmp_path / "labels")
    label_some(store, engine, 3)
    checkpoint = fit_once(engine, store, tmp_path / "fit").checkpoint
    (prediction,) = engine.predict(checkpoint, [0], PredictRequest())
    model = tiny.mmseg_model(engine, checkpoint)
    expected = tiny.mmseg_answer(engine, model, engine.pool[0])
    assert prediction.logits.shape[0] == 2
    torch.testing.assert_close(prediction.logits[1:].sigmoid(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(prediction.logits.argmax(0), (expected[0] > 0.4).long())
    inter, union = tiny.mmseg_counts(engine, model)
    matrix = engine.evaluate(checkpoint)
    assert np.array_equal(np.diagonal(matrix), inter.astype(np.int64))
    np.testing.assert_allclose(iou(matrix), inter / union)
