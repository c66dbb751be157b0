"""Side maps from training samples to the loss, in both generations of MMSegmentation."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg_tiny import Tiny, make_engine

from regional_al.engines.mmseg.side_maps import SideMap, check_follows
from regional_al.errors import UnsupportedError
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore


def label_file(store: LabelStore, engine: Any, index: int) -> Path:
    return store.path(engine.pool[index].key)


def labels_plus_one(store: LabelStore, engine: Any, index: int) -> Any:
    labels = read_ids(label_file(store, engine, index)).astype(np.int32)
    return np.where(labels == 255, 0, labels + 1)


def batch_at_head(tiny: Tiny, engine: Any, samples: list[Any]) -> list[Any]:
    """(logits, labels, side maps) of the decode head in a training iteration on these samples."""
    seen: list[Any] = []

    def added(logits: Any, labels: Any, sides: Any) -> Any:
        seen.append((logits, labels, dict(sides)))
        return {"loss_more": logits.sum() * 0}

    model = copy.deepcopy(engine.network(None)).train()
    sides = tiny.part("side_maps")
    if tiny.name == "mmseg1":
        from regional_al.engines.mmseg.side_losses import install

        install(model, sides.HeadWithSides, [added])
    else:
        sides.with_sides(model, [added])
    tiny.step(engine, model, samples)
    return seen


@pytest.mark.parametrize("digits", [1, 2])
def test_a_map_arrives_aligned_with_the_labels(
    tiny: Tiny, root: Path, store: LabelStore, digits: int
) -> None:
    engine: Any = make_engine(root)
    one = SideMap("same", partial(labels_plus_one, store, engine), digits)
    assert tiny.part("pool").read_sample is engine.read_sample
    for _ in range(4):
        samples = [
            engine.read_sample(engine.dataset, i, label_file(store, engine, i), sides=(one,))
            for i in (0, 1)
        ]
        ((logits, labels, sides),) = batch_at_head(tiny, engine, samples)
        assert logits.shape == (2, 3, 64, 64)
        assert sides["same"].dtype == torch.int32
        assert torch.equal(sides["same"].long(), torch.where(labels == 255, 0, labels + 1))
        assert (sides["same"] > 0).sum() > 100


def test_samples_with_and_without(tiny: Tiny, root: Path, store: LabelStore) -> None:
    engine: Any = make_engine(root)
    one = SideMap("one", lambda index: np.ones(engine.pool[index].shape, np.int32))
    read, paths = engine.read_sample, [label_file(store, engine, i) for i in (0, 1)]
    samples = [read(engine.dataset, 0, paths[0]), read(engine.dataset, 1, paths[1], sides=(one,))]
    ((_, _, sides),) = batch_at_head(tiny, engine, samples)
    assert not sides["one"][0].any()
    assert sides["one"][1].float().mean() > 0.5
    ((_, _, sides),) = batch_at_head(tiny, engine, [read(engine.dataset, 0, paths[0])] * 2)
    assert sides == {}


def test_a_map_changes_nothing_else(tiny: Tiny, root: Path, store: LabelStore) -> None:
    """The same random numbers, images and labels."""
    engine: Any = make_engine(root)
    one = SideMap("same", partial(labels_plus_one, store, engine), trained=False)
    found = []
    for sides in ((), (one,)):
        np.random.seed(0)  # noqa: NPY002
        sample = engine.read_sample(engine.dataset, 0, label_file(store, engine, 0), sides=sides)
        if tiny.name == "mmseg1":
            found.append((sample["inputs"], sample["data_samples"].gt_sem_seg.data))
        else:
            found.append((sample["img"].data, sample["gt_semantic_seg"].data))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_crops_hold_what_is_trained_on(tiny: Tiny, root: Path, store: LabelStore) -> None:
    engine: Any = make_engine(root)
    blank = root / "blank.png"
    from regional_al.store.images import write_png

    shape = engine.pool[0].shape
    write_png(blank, np.full(shape, 255, np.uint8))
    side = np.zeros(shape, np.int32)
    side[10, 20] = 1
    for trained in (True, False):
        one = SideMap("one", lambda index: side, trained=trained)
        held = 0
        for _ in range(20):
            sample = engine.read_sample(engine.dataset, 0, blank, sides=(one,))
            if tiny.name == "mmseg1":
                value = sample["data_samples"].gt_side_one.data
            else:
                value = sample["gt_side_one"].data
            held += bool(value.any())
        assert (held == 20) == trained


def test_mosaics(tiny: Tiny, root: Path, store: LabelStore) -> None:
    """Labels and maps of four images arrive aligned, and no region counts as whole."""
    load = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]
    mosaic = {"type": "RandomMosaic", "prob": 1.0, "img_scale": (64, 64)}
    if tiny.name == "mmseg1":
        pack = [{"type": "PackSegInputs"}]
    else:
        keys = ["img", "gt_semantic_seg"]
        pack = [{"type": "DefaultFormatBundle"}, {"type": "Collect", "keys": keys, "meta_keys": []}]
    plain: Any = make_engine(root)
    spec = tiny.train_spec(plain)
    wrapped = {
        "_delete_": True,
        "type": "MultiImageMixDataset",
        "dataset": {**spec, "pipeline": load},
        "pipeline": [mosaic, *pack],
    }
    engine: Any = make_engine(root, {tiny.train_set: wrapped})
    read = partial(labels_plus_one, store, engine)
    maps = (SideMap("same", read, 1), SideMap("parts", read, 1, parts=True))
    from regional_al.data import ActiveLearningDataset

    data = ActiveLearningDataset(
        engine.dataset,
        store,
        [item.key for item in engine.pool],
        engine.label_space.trainable,
        inject=partial(engine.read_sample, sides=maps),
    )
    sample = engine._pool.mix(data)[0]
    if tiny.name == "mmseg1":
        held = sample["data_samples"]
        labels, same, parts = held.gt_sem_seg.data, held.gt_side_same.data, held.gt_side_parts.data
    else:
        names = ("gt_semantic_seg", "gt_side_same", "gt_side_parts")
        labels, same, parts = (sample[name].data for name in names)
    assert labels.shape[-2:] == (128, 128)
    assert torch.equal(same.long(), torch.where(labels == 255, 0, labels + 1))
    assert torch.equal(parts, -same)
    assert (same > 0).sum() > 100


def test_pipelines_that_do_not_move_maps_are_found(
    tiny: Tiny, root: Path, store: LabelStore
) -> None:
    engine: Any = make_engine(root)
    path = label_file(store, engine, 0)
    labels = read_ids(path)

    def read(one: SideMap) -> Any:
        return engine.read_sample(engine.dataset, 0, path, sides=(one,))

    check_follows(read, labels)
    key = tiny.part("pool").MASK

    class FlipsLabels:
        def __call__(self, data: Any) -> Any:
            return {**data, key: np.ascontiguousarray(data[key][:, ::-1])}

    engine.dataset.pipeline.transforms.insert(3, FlipsLabels())
    with pytest.raises(
        UnsupportedError, match=f"FlipsLabels in the training pipeline changes {key}"
    ):
        check_follows(read, labels)
