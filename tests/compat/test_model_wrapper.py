"""ModelWrapper: BAAL's names over an engine or a network, and BAAL's own loop over both."""

from __future__ import annotations

import importlib
import re
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import make_data
from paths import ROOT
from torch import nn
from torch.utils.data import Subset

import regional_al
from regional_al import ActiveLearningDataset, LabelStore, ModelWrapper
from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.store.images import read_ids
from regional_al.testing import streets
from regional_al.testing.toy import ToyNet, toy_engine
from regional_al.types import LabelSpace, PredictRequest

SPACE = LabelSpace.plain(streets.CLASSES, streets.PALETTE)
C = SPACE.num_classes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "streets"
    streets.generate(root, train=5, val=2, size=(32, 40), seed=3)
    return root


@pytest.fixture
def wrapper(data: Path, tmp_path: Path) -> ModelWrapper:
    return ModelWrapper(toy_engine(data, SPACE, iterations=3), tmp_path / "work")


def truth(data: Path, key: str) -> np.ndarray:
    return read_ids(data / "annotations" / "train" / f"{key}.png")


def same_weights(a: Any, b: Any) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys()


# --- over an engine -----------------------------------------------------------------------------


def test_a_round_by_hand(wrapper: ModelWrapper, data: Path) -> None:
    """BAAL's own sequence: label at random, train, test, predict, label the best, train on."""
    dataset = wrapper.active_dataset()
    assert isinstance(dataset, ActiveLearningDataset)
    assert (len(dataset), len(dataset.pool)) == (0, 5)
    dataset.label_randomly(2)
    assert (len(dataset), len(dataset.pool)) == (2, 3)
    key = dataset.keys[dataset.index_of(0)]
    np.testing.assert_array_equal(dataset.store.read(key), truth(data, key))
    start = {k: v.clone() for k, v in wrapper.state_dict().items()}
    result = wrapper.train_on_dataset(dataset)
    assert result.iterations == 3
    assert wrapper.checkpoint == result.checkpoint
    assert not same_weights(start, wrapper.state_dict())
    found = wrapper.test_on_dataset()
    assert 0 <= found["test_miou"] <= 1
    assert len(found["test_per_class_iou"]) == C
    assert wrapper.get_metrics("train") == {
        "train_iterations": 3,
        "train_label_share": 1.0,
        "dataset_size": 2,
    }
    assert wrapper.get_metrics()["test_miou"] == found["test_miou"]
    assert set(wrapper.active_learning_metrics) == {2}
    assert wrapper.active_learning_metrics[2]["train_iterations"] == 3
    stream = wrapper.predict_on_dataset_generator(dataset.pool)
    assert isinstance(stream, types.GeneratorType)  # what BAAL looks for
    one = next(stream)
    assert one.shape == (1, C, 32, 40, 1)
    assert one.dtype == np.float32
    np.testing.assert_allclose(one.sum(1), 1, atol=1e-5)


def test_training_goes_on_from_the_weights_in_force(wrapper: ModelWrapper) -> None:
    """init='continue', as in BAAL; each training has a folder and a seed of its own."""
    requests: list[Any] = []
    engine: Any = wrapper.engine
    fit = engine.fit

    def noted(request: Any) -> Any:
        requests.append(request)
        return fit(request)

    engine.fit = noted
    dataset = wrapper.active_dataset()
    dataset.label([0, 1])
    for _ in range(2):
        wrapper.train_on_dataset(dataset)
    assert [r.init for r in requests] == ["continue", "continue"]
    assert [r.previous for r in requests] == [None, requests[0].out_dir / "checkpoint.pth"]
    assert [r.out_dir.name for r in requests] == ["000", "001"]
    assert requests[0].seed != requests[1].seed
    again = ModelWrapper(engine, wrapper.work_dir, init="scratch", seed=5)
    again.checkpoint = requests[1].out_dir / "checkpoint.pth"
    again.train_on_dataset(dataset)
    assert (requests[2].init, requests[2].out_dir.name, requests[2].seed) == (
        "scratch",
        "002",
        5002,
    )


def test_predictions_are_the_engines(wrapper: ModelWrapper) -> None:
    dataset = wrapper.active_dataset()
    dataset.label([1])
    engine: Any = wrapper.engine
    pool = wrapper.predict_on_dataset(dataset.pool, iterations=3)
    assert pool.shape == (4, C, 32, 40, 3)
    for row, index in enumerate([0, 2, 3, 4]):
        (seen,) = engine.predict(None, [index], PredictRequest(passes=3))
        views = [seen.logits, *seen.more]
        for number, logits in enumerate(views):
            np.testing.assert_allclose(pool[row, ..., number], logits.softmax(0), atol=1e-6)
    assert not np.allclose(pool[..., 0], pool[..., 1])  # dropout is on
    some = wrapper.predict_on_dataset(Subset(Subset(dataset.pool, [3, 1, 0]), [1, 0]), iterations=3)
    np.testing.assert_array_equal(some, pool[[1, 3]])
    labelled = wrapper.predict_on_dataset(dataset)
    assert labelled.shape == (1, C, 32, 40, 1)
    assert wrapper.predict_on_dataset(Subset(dataset.pool, [])).shape[0] == 0


def test_predictions_are_streamed(wrapper: ModelWrapper) -> None:
    """The second image is not touched before it is asked for."""
    engine: Any = wrapper.engine
    seen: list[int] = []
    predict = engine.predict

    def noted(*args: Any) -> Any:
        for prediction in predict(*args):
            seen.append(prediction.index)
            yield prediction

    engine.predict = noted
    stream = wrapper.predict_on_dataset_generator(wrapper.active_dataset().pool, 2, verbose=True)
    next(stream)
    assert seen == [0]


def test_images_of_several_sizes(data: Path, tmp_path: Path) -> None:
    streets.generate(tmp_path / "mixed", train=4, val=1, size=(32, 40), seed=3, mixed_sizes=True)
    wrapper = ModelWrapper(toy_engine(tmp_path / "mixed", SPACE), tmp_path / "work")
    pool = wrapper.active_dataset().pool
    shapes = {p.shape for p in wrapper.predict_on_dataset_generator(pool)}
    assert len(shapes) > 1
    with pytest.raises(DataError, match="use predict_on_dataset_generator"):
        wrapper.predict_on_dataset(pool)


def test_weights_go_in_and_out(wrapper: ModelWrapper) -> None:
    start = {k: v.clone() for k, v in wrapper.state_dict().items()}
    assert isinstance(wrapper.model, ToyNet)
    assert wrapper.model is wrapper.model
    zeros = {k: torch.zeros_like(v) for k, v in start.items()}
    own = wrapper.model
    wrapper.load_state_dict(zeros)
    assert same_weights(own.state_dict(), start)  # the engine may still hold it
    assert same_weights(wrapper.state_dict(), zeros)
    uniform = wrapper.predict_on_dataset(wrapper.active_dataset().pool)
    np.testing.assert_allclose(uniform, 1 / C, atol=1e-6)
    assert sum(p.abs().sum() for p in wrapper.get_params()) == 0
    wrapper.reset_all()
    assert same_weights(wrapper.state_dict(), start)
    wrapper.train()  # an engine sees to this by itself
    assert not wrapper.model.training
    with pytest.raises(RuntimeError, match="Missing key"):
        wrapper.load_state_dict({})
    assert same_weights(wrapper.state_dict(), start)


def test_labels_outlive_the_process(wrapper: ModelWrapper, data: Path) -> None:
    dataset = wrapper.active_dataset()
    dataset.label([0, 3])
    other = ModelWrapper(toy_engine(data, SPACE), wrapper.work_dir).active_dataset()
    assert other.labelled.tolist() == dataset.labelled.tolist()


def test_without_simulation_masks_are_given(wrapper: ModelWrapper) -> None:
    dataset = wrapper.active_dataset(simulate=False)
    assert dataset.can_label
    with pytest.raises(DataError, match="oracle"):
        dataset.label(0)
    dataset.label(0, np.zeros((32, 40), np.uint8))
    assert len(dataset) == 1
    image, labels = dataset[0]
    assert image.shape == (3, 32, 40)
    assert (np.asarray(labels) == 0).all()


def test_refusals(wrapper: ModelWrapper, data: Path, tmp_path: Path) -> None:
    dataset = wrapper.active_dataset()
    with pytest.raises(UnsupportedError, match="half=True"):
        wrapper.predict_on_dataset_generator(dataset.pool, 2, half=True)
    with pytest.raises(UnsupportedError, match="validation set of the config"):
        wrapper.test_on_dataset(dataset)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not list"):
        wrapper.train_on_dataset([1, 2])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not list"):
        next(wrapper.predict_on_dataset_generator([1, 2]))
    streets.generate(tmp_path / "more", train=6, val=1, size=(32, 40), seed=3)
    other = ModelWrapper(toy_engine(tmp_path / "more", SPACE), tmp_path / "other").active_dataset()
    other.label([5])
    with pytest.raises(DataError, match="is no image of the config's training data set"):
        wrapper.train_on_dataset(other)
    for name in ("train_on_batch", "test_on_batch", "train_and_test_on_datasets", "add_metric"):
        with pytest.raises(UnsupportedError, match=f"ModelWrapper.{name} is not offered: "):
            getattr(wrapper, name)(1, 2)
    with pytest.raises(ConfigError, match="those of the config"):
        ModelWrapper(wrapper.engine, object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"not str; .*from_config"):
        ModelWrapper("config.py")
    with pytest.raises(ConfigError, match="needs work_dir"):
        ModelWrapper(wrapper.engine).active_dataset()


# --- over a network alone -----------------------------------------------------------------------


class Fixed(nn.Module):
    """Logits [N, 3, H, W] that are the image's own channels, with dropout in between."""

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x)


class Segmentor(nn.Module):
    """Shaped like MMSegmentation's: logits come from `encode_decode`, of one channel here."""

    def encode_decode(self, inputs: torch.Tensor, metas: list[dict[str, Any]]) -> torch.Tensor:
        assert [m["img_shape"] for m in metas] == [tuple(inputs.shape[-2:])] * len(inputs)
        return inputs[:, :1]


def test_a_network_alone_predicts() -> None:
    net = Fixed()
    wrapper = ModelWrapper(net)
    assert wrapper.model is net
    images = torch.randn(2, 3, 4, 5)
    batch = wrapper.predict_on_batch(images)
    assert batch.shape == (2, 3, 4, 5, 1)
    torch.testing.assert_close(batch[..., 0], images.softmax(1))
    np.testing.assert_array_equal(wrapper.predict_on_dataset(list(images)), batch)
    np.testing.assert_array_equal(wrapper.predict_on_dataset([(i, 0) for i in images]), batch)
    wrapper.train()
    assert net.training
    wrapper.eval()
    assert not net.training


def test_passes_of_a_network_have_dropout_on() -> None:
    wrapper = ModelWrapper(Fixed(0.5), seed=3)
    images = torch.randn(2, 3, 4, 5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    passes = wrapper.predict_on_batch(images, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert passes.shape == (2, 3, 4, 5, 4)
    assert not torch.equal(passes[..., 0], passes[..., 1])
    assert torch.equal(passes, wrapper.predict_on_batch(images, 4))
    with pytest.raises(UnsupportedError, match="no dropout"):
        ModelWrapper(Fixed()).predict_on_batch(images, 2)


def test_a_segmentor_of_mmseg_gives_its_dense_logits() -> None:
    images = torch.randn(2, 3, 4, 5)
    out = ModelWrapper(Segmentor()).predict_on_batch(images)[..., 0]
    torch.testing.assert_close(out[:, 1], torch.sigmoid(images[:, 0]))


def test_what_a_network_alone_cannot_do() -> None:
    wrapper = ModelWrapper(Fixed())
    calls: list[Any] = [
        lambda: wrapper.train_on_dataset(None),  # type: ignore[arg-type]
        wrapper.test_on_dataset,
        wrapper.active_dataset,
        wrapper.reset_all,
    ]
    for call in calls:
        with pytest.raises(UnsupportedError, match=r"from_config\(CONFIG\)"):
            call()
    with pytest.raises(UnsupportedError, match="samples are dict"):
        next(wrapper.predict_on_dataset_generator([{"img": 1}]))
    wrapper.load_state_dict(wrapper.state_dict())


# --- BAAL's own loop over both ------------------------------------------------------------------


@pytest.mark.parametrize("max_sample", [-1, 3])
def test_baals_loop_over_our_dataset_and_wrapper(wrapper: ModelWrapper, max_sample: int) -> None:
    pytest.importorskip("baal")
    from baal.active import ActiveLearningLoop
    from baal.active.heuristics import BALD

    dataset = wrapper.active_dataset()
    dataset.label_randomly(1)
    wrapper.train_on_dataset(dataset)
    loop = ActiveLearningLoop(
        dataset,
        wrapper.predict_on_dataset_generator,
        BALD(reduction="mean"),
        query_size=2,
        max_sample=max_sample,
        iterations=3,
    )
    pool = dataset.pool
    predictions = wrapper.predict_on_dataset(pool, iterations=3)
    best = BALD(reduction="mean")(predictions)[:2]
    assert loop.step()
    assert len(dataset) == 3
    if max_sample == -1:
        chosen = {pool.keys[i] for i in best}
        assert chosen <= {dataset.keys[dataset.index_of(i)] for i in range(3)}
    assert loop.step()
    assert len(dataset) == 5
    assert not loop.step()  # nothing is left


def test_the_names_of_baal_are_there() -> None:
    """Every public method of BAAL's classes exists, or is named as missing in the documents."""
    pytest.importorskip("baal")
    import baal.active

    page = (ROOT / "docs" / "migrating.md").read_text()
    pairs = [
        (baal.ModelWrapper, ModelWrapper),
        (baal.active.ActiveLearningDataset, ActiveLearningDataset),
        (baal.active.ActiveLearningLoop, regional_al.ActiveLearningLoop),
    ]
    for theirs, ours in pairs:
        for name in dir(theirs):
            if not name.startswith("_") and not hasattr(ours, name):
                assert f"`{name}`" in page, (theirs.__name__, name)


def blocks_of_the_page(word: str) -> str:
    """The one python block of docs/migrating.md that holds `word`."""
    page = (ROOT / "docs" / "migrating.md").read_text()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if word in b]
    return block


def test_the_script_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("baal")
    streets.generate(tmp_path / "data", train=17, val=1, size=(32, 40), seed=3)
    small = ModelWrapper(toy_engine(tmp_path / "data", SPACE, iterations=1), tmp_path / "work")
    asked: list[Any] = []

    def from_config(config: str, work_dir: str) -> ModelWrapper:
        asked.append(config)
        return small

    monkeypatch.setattr(ModelWrapper, "from_config", from_config)
    scope: dict[str, Any] = {}
    exec(blocks_of_the_page("label_randomly"), scope)
    assert (ROOT / asked[0]).is_file()
    assert len(scope["dataset"]) == 17  # 10, then 5, then the 2 that were left
    assert sorted(small.active_learning_metrics) == [10, 15, 17]


def test_the_heuristic_of_the_page_works() -> None:
    pytest.importorskip("baal")
    from regional_al.heuristics import HEURISTICS, Observation

    exec(blocks_of_the_page("class Disagreement"), {})
    logits = [torch.tensor([[[p, 0.5]], [[1 - p, 0.5]]]).log() for p in (0.9, 0.3)]
    seen = Observation(logits[0], more=iter(logits[1:]))
    scores = HEURISTICS.build({"type": "Disagreement", "passes": 2}).pixel_scores(seen)
    assert scores.tolist() == [pytest.approx([0.3, 0.0], abs=1e-6)]


# --- over MMSegmentation ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "generation",
    [pytest.param("1", marks=pytest.mark.mmseg1), pytest.param("0", marks=pytest.mark.mmseg0)],
)
def test_over_a_config_of_mmsegmentation(generation: str, tmp_path: Path) -> None:
    make_data(tmp_path)
    importlib.import_module(f"mmseg{generation}_tiny").TINY.write_config(tmp_path)
    wrapper = ModelWrapper.from_config(
        tmp_path / "tiny.py", tmp_path / "work", {"acquisition.level": "image"}
    )
    assert wrapper.model.decode_head.num_classes == 3
    dataset = wrapper.active_dataset()
    dataset.label([0, 2])
    sample = dataset[0]
    assert ("inputs" if generation == "1" else "img") in sample
    result = wrapper.train_on_dataset(dataset)
    assert result.iterations > 0
    assert 0 <= wrapper.test_on_dataset()["test_miou"] <= 1
    shapes = [p.shape for p in wrapper.predict_on_dataset_generator(dataset.pool, iterations=2)]
    assert shapes == [(1, 3, *wrapper.engine.pool[i].shape, 2) for i in (1, 3, 4)]
    trained = {k: v.clone() for k, v in wrapper.state_dict().items()}
    wrapper.reset_all()
    start = {k: v.clone() for k, v in wrapper.state_dict().items()}
    assert not same_weights(trained, start)
    wrapper.load_state_dict(trained)
    assert same_weights(trained, wrapper.state_dict())
    wrapper.reset_all()
    assert same_weights(start, wrapper.state_dict())
    wrapper.load_state_dict(trained)
    wrapper.train_on_dataset(dataset)  # from the plain file of weights
    batch = wrapper.predict_on_batch(torch.randn(2, 3, 32, 48), iterations=2)
    assert batch.shape == (2, 3, 32, 48, 2)
    torch.testing.assert_close(batch.sum(1), torch.ones(2, 32, 48, 2))
    assert LabelStore(tmp_path / "work" / "labels").keys() == sorted(
        dataset.keys[dataset.index_of(i)] for i in range(2)
    )
