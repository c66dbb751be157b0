"""`acquisition.loss_average='unit'`: each answer weighs the same, in both generations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmseg_tiny import Tiny, fit_once, make_engine, weights_hash

from regional_al.engines.mmseg.answered_units import MAP, unit_map
from regional_al.engines.mmseg.loss_average import AverageWeights, image_weights, unit_weights
from regional_al.partitions import grid
from regional_al.store.images import read_ids
from regional_al.store.labels import LabelStore
from regional_al.store.query import QueryInfo, write_query
from regional_al.store.work_dir import WorkDir
from regional_al.types import PICK_DTYPE, ImageAnswer, PoolItem


@given(st.integers(0, 999), st.integers(1, 4))
def test_the_weighted_mean_is_the_mean_of_the_units_means(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(np.where(rng.random((images, 5, 6)) < 0.5, 255, 1))
    units = torch.from_numpy(rng.integers(0, 4, (images, 5, 6)).astype(np.int32))
    values = torch.from_numpy(rng.random((images, 5, 6)))
    weights, labelled = unit_weights(labels, units).double(), labels != 255
    if not labelled.any():
        assert not weights.any()
        return
    parts = [labelled[n] & (units[n] == u) for n in range(images) for u in range(4)]
    means = [float(values[k // 4][part].mean()) for k, part in enumerate(parts) if bool(part.any())]
    found = float((values * weights).sum() / labelled.sum())
    assert found == pytest.approx(sum(means) / len(means), rel=1e-6)
    assert not weights[~labelled].any()
    assert torch.allclose(unit_weights(labels), image_weights(labels))


def test_a_head_that_knows_units() -> None:
    class Head:
        sides: Any = {}  # noqa: RUF012

    head, labels = Head(), torch.tensor([[[[0, 1, 1, 255]]]])
    sampler = AverageWeights("unit", context=head)
    assert sampler.sample(None, labels).tolist() == [[[1, 1, 1, 0]]]
    head.sides = {MAP: torch.tensor([[[3, 7, 7, 7]]])}
    assert sampler.sample(None, labels).tolist() == [[[1.5, 0.75, 0.75, 0]]]


def ask(work_dir: Path, store: LabelStore, number: int, asked: dict[str, Any], keys: Any) -> None:
    """Ask about some images, and store the answers (class 0)."""
    picks = []
    for key, ids in asked.items():
        for i in range(1, int(ids.max()) + 1):
            picks.append((keys.index(key), -1, -1, i, 1.0, int((ids == i).sum())))
    maps = iter([(keys.index(key), key, ids) for key, ids in asked.items()])
    info = QueryInfo(number, "region", "grid")
    write_query(WorkDir(work_dir).query(number), info, np.array(picks, PICK_DTYPE), maps)
    for key, ids in asked.items():
        store.write(ImageAnswer(key, np.zeros(ids.shape, np.uint8), ids > 0), number)


def test_answers_are_numbered_over_rounds_and_images(tmp_path: Path) -> None:
    keys = ["t/a", "b", "c"]
    store = LabelStore(WorkDir(tmp_path).labels)
    items = [PoolItem(key, Path(key), None, (1, 4)) for key in keys]

    def ids(*values: int) -> Any:
        return np.array([values], np.int32)

    ask(tmp_path, store, 0, {"t/a": ids(1, 1, 2, 0), "b": ids(0, 1, 0, 0)}, keys)
    ask(tmp_path, store, 1, {"t/a": ids(0, 0, 0, 1)}, keys)
    side = unit_map(store, items)
    assert side.digits == 1
    found = [side.read(i) for i in range(3)]
    assert [None if one is None else one.tolist() for one in found] == [
        [[1, 1, 2, 4]],
        [[0, 3, 0, 0]],
        None,
    ]


def test_a_training(tiny: Tiny, root: Path, tmp_path: Path) -> None:
    """It differs from an average over pixels, and over images; the batches are the same."""
    plain: Any = make_engine(root)
    keys, store = [item.key for item in plain.pool], LabelStore(WorkDir(tmp_path).labels)
    asked = {}
    for item in plain.pool[:4]:
        ids = grid(item.shape, (40, 61)).astype(np.int32) + 1
        ids[:, 70:] = 0
        ids[10:12, 80:82] = ids.max() + 1
        asked[item.key] = ids
    ask(tmp_path, store, 0, asked, keys)
    for item in plain.pool[:4]:
        assert item.annotation is not None
        truth, answered = read_ids(item.annotation), asked[item.key] > 0
        store.write(ImageAnswer(item.key, truth, answered), 0)
    found = {}
    for over in ("pixel", "image", "unit"):
        engine = make_engine(root, acquisition__loss_average=over)
        if over == "unit":
            engine.preflight()
        result = fit_once(engine, store, tmp_path / over)
        found[over] = (weights_hash(result.checkpoint), result.label_share)
    assert len({one for one, _ in found.values()}) == 3
    assert len({share for _, share in found.values()}) == 1
