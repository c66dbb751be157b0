"""Which pixels and images a training without answers draws, and in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional_al.engines.mmseg.pool_stream import Draws, PoolStream, order, unanswered
from regional_al.engines.mmseg.transforms import keep_labels
from regional_al.errors import DataError
from regional_al.store.labels import LabelStore
from regional_al.types import ImageAnswer, PoolItem


def test_open_pixels_of_an_image(tmp_path: Any) -> None:
    """Answered (0, 7), answered void, and not answered."""
    store = LabelStore(tmp_path)
    item = PoolItem("a", tmp_path / "a.png", None, (2, 3))
    assert unanswered(store, item).tolist() == [[0, 0, 0], [0, 0, 0]]
    labels = np.array([[0, 7, 255], [255, 255, 255]], np.uint8)
    answered = np.array([[True, True, True], [False, False, True]])
    store.write(ImageAnswer("a", labels, answered), 0)
    assert unanswered(store, item).tolist() == [[255, 255, 255], [0, 0, 255]]
    with pytest.raises(DataError, match=r"a\.png is \(2, 3\), its image \(3, 3\)"):
        unanswered(store, PoolItem("a", item.image, None, (3, 3)))


@given(st.integers(0, 999))
def test_shrinking_never_opens_a_cell_with_an_answer(seed: int) -> None:
    """By brute force over cells of 2 x 2."""
    rng = np.random.default_rng(seed)
    states = np.where(rng.random((8, 12)) < 0.2, 255, 0).astype(np.uint8)
    shrunk = keep_labels(states, states[::2, ::2], 0)
    for y, x in np.ndindex(4, 6):
        cell = states[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        assert shrunk[y, x] == (255 if (cell == 255).any() else 0)


class Noted:
    """Samples that say what they drew."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"place": place, "drawn": float(np.random.random())}  # noqa: NPY002


def test_draws_show_each_image_once_a_pass_and_augment_by_number() -> None:
    def mark(sample: dict[str, Any]) -> None:
        sample["marked"] = True

    stream = PoolStream(Noted(), 7, mark)
    samples = [stream[draw] for draw in range(10)]
    for first in (0, 5):
        assert sorted(one["place"] for one in samples[first : first + 5]) == list(range(5))
    assert len({one["drawn"] for one in samples}) == 10
    assert all(one["marked"] for one in samples)
    np.random.seed(1)  # noqa: NPY002
    drawn = np.random.random(2)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.random.random() == drawn[0]  # noqa: NPY002
    assert stream[3] == samples[3]
    assert np.random.random() == drawn[1], "the generators are as they were"  # noqa: NPY002
    assert PoolStream(Noted(), 8, mark)[3] != samples[3]


def test_ranks_share_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    from regional_al.engines.mmseg import pool_stream

    found = []
    for rank in (0, 1):
        monkeypatch.setattr(pool_stream.dist, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(pool_stream.dist, "world_size", lambda: 2)
        draws = iter(Draws())
        found.append([next(draws) for _ in range(3)])
    assert found == [[0, 2, 4], [1, 3, 5]]


def test_orders_of_streams_differ() -> None:
    assert sorted(order(9, 1, 2).tolist()) == list(range(9))
    assert order(9, 1, 2).tolist() != order(9, 1, 2, 1).tolist()
