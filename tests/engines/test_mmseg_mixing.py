"""Mosaic and class-balanced sampling over the labelled images, in both generations."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmseg_tiny import CLASSES, Tiny, fit_once, label_some, make_data, make_engine, weights_hash

from regional_al.engines.base import FitRequest
from regional_al.engines.mmseg.mixing import MIX, Mixture, mixed, repeat_factors, unwrapped
from regional_al.engines.mmseg.training import labelled_dataset
from regional_al.engines.mmseg.transforms import cell_starts, shrink_labels, survive_nearest
from regional_al.errors import ConfigError, DataError, UnsupportedError
from regional_al.loop import runner
from regional_al.store import results
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.types import ImageAnswer

SCALE = (48, 64)  # half of the images


def mosaic(tiny: Tiny, engine: Any, still: bool = True) -> dict[str, Any]:
    """The tiny training set behind a mosaic; still: with nothing that changes its pixels."""
    spec = copy.deepcopy(tiny.train_spec(engine))
    steps = spec["pipeline"]
    load = next(i for i, step in enumerate(steps) if step["type"] == "LoadAnnotations") + 1
    outer = steps[load:]
    if still:
        moved = ("Resize", "Crop", "Photo", "Pad")
        outer = [step for step in outer if not any(name in step["type"] for name in moved)]
        outer = [{**step, "prob": 0.0} if step["type"] == "RandomFlip" else step for step in outer]
    mix = {"type": "RandomMosaic", "prob": 1.0 if still else 0.5, "img_scale": SCALE}
    spec["pipeline"] = steps[:load]
    return {
        "type": MIX,
        "dataset": {"type": "RepeatDataset", "times": 2, "dataset": spec},
        "pipeline": [mix, *outer],
        "_delete_": True,
    }


def batch_of(tiny: Tiny, sample: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """(image [3, H, W] in 0..255, labels [H, W], labelled pixels drawn) of a packed sample."""
    if tiny.name == "mmseg1":
        seg = sample["data_samples"]
        return sample["inputs"].numpy(), seg.gt_sem_seg.data[0].numpy(), seg.labelled_pixels
    meta = sample["img_metas"].data
    labels = sample["gt_semantic_seg"].data[0].numpy()
    mean, std = (meta["img_norm_cfg"][key][:, None, None] for key in ("mean", "std"))
    return sample["img"].data.numpy() * std + mean, labels, meta["labelled_pixels"]


@pytest.fixture
def plain(tiny: Tiny, tmp_path: Path) -> Any:
    """The engine of the tiny config in `tmp_path`."""
    make_data(tmp_path)
    tiny.write_config(tmp_path)
    return make_engine(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path / "labels")


def drawn_from(engine: Any, store: LabelStore) -> Any:
    """The data set that a training stretch draws from."""
    request = FitRequest(store=store, out_dir=Path("unused"), round=0, seed=3)
    return engine._pool.mix(labelled_dataset(engine._pool, request, engine.read_sample))


def test_labels_stay_on_their_pixels(
    tiny: Tiny, plain: Any, tmp_path: Path, store: LabelStore
) -> None:
    """Each class has its own colour, and labels of a mosaic lie on pixels of that colour: all but
    some at the borders of classes, which are blurred when an image is shrunk."""
    engine: Any = make_engine(tmp_path, {tiny.train_set: mosaic(tiny, plain)})
    assert [item.key for item in engine.pool] == [item.key for item in plain.pool]
    label_some(store, engine, 3, share=0.3)
    data = drawn_from(engine, store)
    assert isinstance(data, Mixture)
    assert len(data) == 3
    shares = []
    for sample in (data[i % 3] for i in range(12)):
        image, labels, drawn = batch_of(tiny, sample)
        assert labels.shape == (2 * SCALE[0], 2 * SCALE[1]) == image.shape[1:]
        known = labels != 255
        assert set(labels[known]) <= set(range(len(CLASSES)))
        looks_like = np.rint((image.mean(0) - 20) / 90)  # class c has a grey of 90 c to 90 c + 39
        assert (looks_like == labels)[known].mean() > 0.96
        shares.append(known.sum() / drawn)
        assert 0 < shares[-1] < 1
    assert np.mean(shares) > 0.2  # a quarter of the pixels is left at half size, half of them used


def test_a_whole_run(tiny: Tiny, plain: Any, tmp_path: Path) -> None:
    spec = {k: v for k, v in mosaic(tiny, plain, still=False).items() if k != "_delete_"}
    parts = tiny.train_set.split(".")
    more = f"{parts[0]}['{parts[1]}'] = {spec!r}\n" + (
        "acquisition = dict(level='region', region=dict(type='grid', cell=16), heuristic='Margin',"
        " budget='20%', rounds=1, warm_start='20%', previews=0)\n"
    )
    config = tiny.write_config(tmp_path, more)
    assert runner.run_training(config, tmp_path / "run", report=False) == 0
    records = results.load(tmp_path / "run").records
    assert [record.round for record in records] == [0, 1]
    assert all(0 < (record.label_share or 0) < 1 for record in records)
    again = tmp_path / "again"
    assert runner.run_training(config, again, report=False) == 0
    assert results.load(again).records[1].miou == records[1].miou


def test_mixtures_are_found_from_the_inside() -> None:
    inner = {"type": "D", "pipeline": []}
    first = {"type": MIX, "dataset": inner, "pipeline": [1]}
    second = {"type": MIX, "dataset": first, "pipeline": [2]}
    assert unwrapped(second, "k") == (inner, (first, second))
    assert unwrapped(inner, "k") == (inner, ())
    balanced = {"type": "ClassBalancedDataset", "oversample_thr": 0.1, "dataset": first}
    assert unwrapped(balanced, "k") == (inner, (first, balanced))
    with pytest.raises(UnsupportedError, match=r"k\.type='MyWrapper' .*the data set inside it"):
        unwrapped({"type": "MyWrapper", "dataset": first}, "k")
    assert unwrapped([inner], "k") == ([inner], ())


class Add:
    """Adds up `v` of two more samples; asks for one too many now and then, as RandomMosaic."""

    def __init__(self, wrong: int = 2) -> None:
        self.wrong, self.calls = wrong, 0

    def get_indices(self, dataset: Any) -> list[int]:
        self.calls += 1
        return [len(dataset) if self.calls <= self.wrong else 1, 0]

    def __call__(self, sample: Any) -> Any:
        return {"v": sample["v"] + sum(s["v"] for s in sample["mix_results"]), "mix_results": 0}


class Samples(list[Any]):
    """Fresh samples, as a pipeline makes them."""

    metainfo = "meta"

    def __getitem__(self, index: Any) -> Any:
        return dict(super().__getitem__(index))


DATA = Samples([{"v": 1, "labelled_pixels": 10}, {"v": 5, "labelled_pixels": 100}])


def count(sample: Any, labelled: int) -> None:
    sample["count"] = labelled


def test_by_hand() -> None:
    one = {"type": MIX, "pipeline": [{"type": "add"}, {"type": "skipped"}]}
    one["skip_type_keys"] = ["skipped"]
    data = mixed(DATA, [one], "k", lambda spec: Add(), count)
    assert (len(data), data.metainfo) == (2, "meta")
    assert data[0] == {"v": 1 + 5 + 1, "count": 120}
    assert pickle.loads(pickle.dumps(data))[1] == {"v": 11, "count": 210}
    twice = mixed(DATA, [one, one], "k", lambda spec: Add(0), count)
    assert twice[0] == {"v": 7 + 11 + 7, "count": 120 + 210 + 120}
    assert mixed(DATA, [], "k", Add, count) is DATA


def test_images_with_rare_classes_are_repeated() -> None:
    """By hand: class 1 is in one of four images, class 2 in two; the threshold is 0.5."""
    images = [{0}, {0, 1}, {0, 2}, {2}]
    assert repeat_factors(images, 0.5).tolist() == [1, 2, 1, 1]  # sqrt(0.5 / 0.25) = 1.41, up to 2
    assert repeat_factors(images, 1.0).tolist() == [2, 2, 2, 2]  # sqrt(1 / 0.75) = 1.15
    assert repeat_factors([*images[:3], set()], 1.0).tolist() == [2, 2, 2, 1]
    assert repeat_factors(images, 0.0).tolist() == [1, 1, 1, 1]
    assert repeat_factors([], 0.5).tolist() == []

    balanced = {"type": "ClassBalancedDataset", "oversample_thr": 0.5}
    four = Samples({"v": v, "labelled_pixels": 10 * v} for v in (1, 2, 3, 4))
    data = mixed(four, [balanced], "k", Add, count, lambda: images)
    assert [s["v"] for s in (data[i] for i in range(len(data)))] == [1, 2, 2, 3, 4]
    assert data.metainfo == "meta"
    mix = {"type": MIX, "pipeline": [{"type": "add"}]}
    outside = mixed(four, [mix, balanced], "k", lambda spec: Add(0), count, lambda: images)
    assert len(outside) == 5
    assert outside[2] == {"v": 2 + 2 + 1, "count": 50}
    inside = mixed(four, [balanced, mix], "k", lambda spec: Add(0), count, lambda: images)
    assert len(inside) == 5
    assert inside[4] == {"v": 4 + 2 + 1, "count": 70}
    twice = mixed(four, [balanced, balanced], "k", Add, count, lambda: images)
    assert len(twice) == 9  # classes 1 and 2 are in two of five now: all but the first again
    assert mixed(four, [balanced], "k", Add, count) is four
    for wrong in (None, "a", 2, -0.1):
        with pytest.raises(ConfigError, match=r"k\.oversample_thr=.* must be between 0 and 1"):
            mixed(four, [{**balanced, "oversample_thr": wrong}], "k", Add, count)


def test_labelled_classes_decide(tiny: Tiny, plain: Any, tmp_path: Path, store: LabelStore) -> None:
    """All images contain all classes; only one is labelled with the third."""
    spec = {"_delete_": True, "type": "ClassBalancedDataset", "oversample_thr": 0.9}
    spec["dataset"] = tiny.train_spec(plain)
    engine: Any = make_engine(tmp_path, {tiny.train_set: spec})
    for item, chosen in zip(engine.pool, ((0,), (0, 1), (0, 1, 2), ()), strict=False):
        truth = read_ids(item.annotation)
        store.write(ImageAnswer(item.key, truth, np.isin(truth, [*chosen, 255])), 0)
    data = drawn_from(engine, store)
    assert data.items.tolist() == [0, 1, 1, 2, 2]  # void alone is no label
    assert fit_once(engine, store, tmp_path / "out").label_share > 0


def test_mistakes_are_one_line() -> None:
    def fails(sample: Any) -> Any:
        raise ZeroDivisionError("a\nb")

    def build(spec: Any) -> Any:
        raise KeyError("no such transform\nhere")

    with pytest.raises(ConfigError, match=r"k\.pipeline: .*no such transform"):
        mixed(DATA, [{"type": MIX, "pipeline": [{"type": "x"}]}], "k", build, print)
    with pytest.raises(DataError, match=r"k\.pipeline: function fails: ZeroDivisionError: a$"):
        Mixture(DATA, [fails], "k", print)[0]
    with pytest.raises(DataError, match="beyond the 2 there"):
        Mixture(DATA, [Add(10**6)], "k", print)[0]
    with pytest.raises(DataError, match="gives nothing, 20 times"):
        Mixture(DATA, [lambda sample: None], "k", print)[0]
    with pytest.raises(ConfigError, match=r"k\.dataset\.pipeline must load images and labels"):
        Mixture([{"v": 1}], [Add(0)], "k", print)[0]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.randoms())
def test_nearest_finds_the_labels(h: int, w: int, th: int, tw: int, random: Any) -> None:
    size = (min(h, th), min(w, tw))
    rng = np.random.default_rng(random.getrandbits(32))
    mask = np.where(rng.random((h, w)) < 0.1, rng.integers(0, 5, (h, w)), 255).astype(np.uint8)
    kept = survive_nearest(mask, size)
    rows, cols = cell_starts(h, size[0])[:-1], cell_starts(w, size[1])[:-1]
    assert np.array_equal(kept[rows][:, cols], shrink_labels(mask, size))
    assert set(kept[kept != 255]) <= set(mask[mask != 255])


def test_training_is_repeatable(tiny: Tiny, plain: Any, tmp_path: Path, store: LabelStore) -> None:
    changes = {tiny.train_set: mosaic(tiny, plain)}
    label_some(store, plain, 2)
    engine = make_engine(tmp_path, changes)
    found = [fit_once(engine, store, tmp_path / f"fit{i}") for i in range(2)]
    assert found[0].label_share == found[1].label_share > 0
    assert weights_hash(found[0].checkpoint) == weights_hash(found[1].checkpoint)


def test_a_mosaic_loses_no_isolated_label(tiny: Tiny, plain: Any) -> None:
    """Four images at half size, whole: every second label is at an odd place, which plain nearest
    does not look at. On dense masks the mosaic is mmseg's own."""
    ours_of, theirs_of = (
        getattr(tiny.part("datasets"), name) for name in ("SparseRandomMosaic", "RandomMosaic")
    )
    arguments = {"prob": 1.0, "img_scale": SCALE, "center_ratio_range": (1.0, 1.0)}
    field = "gt_seg_map" if tiny.name == "mmseg1" else "gt_semantic_seg"
    rng = np.random.default_rng(0)

    def sample(mask: np.ndarray) -> dict[str, Any]:
        return {"img": np.zeros((*mask.shape, 3), np.uint8), field: mask, "seg_fields": [field]}

    def mosaic_of(kind: Any, masks: list[np.ndarray]) -> np.ndarray:
        first, *others = [sample(mask.copy()) for mask in masks]
        found: np.ndarray = kind(**arguments)({**first, "mix_results": others})[field]
        return found

    shape = (2 * SCALE[0], 2 * SCALE[1])
    sparse = np.full(shape, 255, np.uint8)
    sparse[1::4, 1::4] = 2
    assert (mosaic_of(ours_of, [sparse] * 4) == 2).sum() == 4 * (sparse == 2).sum()
    assert not (mosaic_of(theirs_of, [sparse] * 4) == 2).any()
    dense = [rng.integers(0, 5, shape).astype(np.uint8) for _ in range(4)]
    assert np.array_equal(mosaic_of(ours_of, dense), mosaic_of(theirs_of, dense))


@pytest.mark.mmseg0
def test_validation_inside_a_training_needs_one_pipeline(
    tiny: Tiny, plain: Any, tmp_path: Path
) -> None:
    changes = {tiny.train_set: mosaic(tiny, plain), "workflow": [("train", 2), ("val", 1)]}
    with pytest.raises(UnsupportedError, match=r"MultiImageMixDataset has two: use workflow="):
        make_engine(tmp_path, changes).preflight()
