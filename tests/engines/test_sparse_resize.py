"""shrink_labels: hand-worked maps, a brute-force reference, properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional_al.engines.mmseg.transforms import cell_starts, keep_labels, shrink_labels

X = 255


def m(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)


def nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows = [i * mask.shape[0] // size[0] for i in range(size[0])]
    cols = [j * mask.shape[1] // size[1] for j in range(size[1])]
    return mask[rows][:, cols]


def reference(mask: np.ndarray, size: tuple[int, int], ignore: int = X) -> np.ndarray:
    """The definition, cell by cell, in exact integers."""
    out = nearest(mask, size).copy()
    for i in range(size[0]):
        for j in range(size[1]):
            if out[i, j] != ignore:
                continue
            y0, y1 = i * mask.shape[0] // size[0], (i + 1) * mask.shape[0] // size[0]
            x0, x1 = j * mask.shape[1] // size[1], (j + 1) * mask.shape[1] // size[1]
            y1, x1 = max(y1, y0 + 1), max(x1, x0 + 1)
            found = [
                ((2 * y - y0 - y1 + 1) ** 2 + (2 * x - x0 - x1 + 1) ** 2, y, x)
                for y in range(y0, y1)
                for x in range(x0, x1)
                if mask[y, x] != ignore
            ]
            if found:
                _, y, x = min(found)
                out[i, j] = mask[y, x]
    return out


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_an_isolated_label_survives_half_size(place: tuple[int, int]) -> None:
    mask = np.full((4, 4), X, np.uint8)
    mask[place] = 7
    assert shrink_labels(mask, (2, 2)).tolist() == [[7, X], [X, X]]


def test_hand_worked_choice_in_a_cell() -> None:
    # 3x3 -> 1x1: nearest looks at the corner. The centre is closest, then the edges, row-major.
    assert shrink_labels(m([X, 1, X], [2, 3, X], [X, X, 4]), (1, 1)).item() == 3
    assert shrink_labels(m([X, 1, X], [2, X, X], [X, X, 4]), (1, 1)).item() == 1
    assert shrink_labels(m([X, X, 5], [X, X, X], [6, X, 4]), (1, 1)).item() == 5
    # Where nearest finds a label it stays, even beside one at the centre.
    assert shrink_labels(m([9, 1, X], [2, 3, X], [X, X, 4]), (1, 1)).item() == 9


def test_one_side_shrinks_while_the_other_grows() -> None:
    mask = m([X, 3], [X, X], [5, X], [X, X])
    assert shrink_labels(mask, (2, 4)).tolist() == [[X, X, 3, 3], [5, 5, X, X]]
    mask = m([X, X, 4, X], [X, 2, X, X])
    assert shrink_labels(mask, (3, 2)).tolist() == [[X, 4], [X, 4], [2, X]]


def test_growing_copies_and_same_size_is_identity() -> None:
    mask = m([1, X], [X, 2])
    assert np.array_equal(shrink_labels(mask, (4, 4)), np.kron(mask, np.ones((2, 2), np.uint8)))
    assert np.array_equal(shrink_labels(mask, (2, 2)), mask)


def test_other_ignore_id() -> None:
    mask = m([0, 0], [0, 255])
    assert shrink_labels(mask, (1, 1), ignore=0).item() == 255
    assert shrink_labels(mask, (1, 1)).item() == 0


def test_bad_input_is_refused() -> None:
    for mask, size in (
        (np.zeros((2, 2), np.int64), (1, 1)),
        (np.zeros((2, 2, 3), np.uint8), (1, 1)),
        (np.zeros((2, 2), np.uint8), (0, 1)),
    ):
        with pytest.raises(ValueError, match="uint8"):
            shrink_labels(mask, size)


masks = st.tuples(
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]),
)


@settings(max_examples=300, deadline=None)
@given(masks)
def test_equals_the_definition(case: tuple[int, int, int, int, int, float]) -> None:
    height, width, h, w, seed, share = case
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 5, (height, width)).astype(np.uint8)
    mask[rng.random(mask.shape) >= share] = X
    before = mask.copy()
    out = shrink_labels(mask, (h, w))
    assert out.dtype == np.uint8
    assert out.shape == (h, w)
    assert np.array_equal(out, reference(mask, (h, w)))
    assert np.array_equal(mask, before), "the input was changed"
    plain = nearest(mask, (h, w))
    assert np.array_equal(out[plain != X], plain[plain != X])
    if share == 1.0:
        assert np.array_equal(out, plain)
    # No cell without a label gets one; every class of a shrunk map was there before.
    assert set(np.unique(out)) <= set(np.unique(mask)) | {X}
    if h <= height and w <= width and (mask != X).any():
        cells_with_labels = np.add.reduceat(
            np.add.reduceat((mask != X).astype(int), cell_starts(height, h)[:-1], axis=0),
            cell_starts(width, w)[:-1],
            axis=1,
        )
        assert np.array_equal(out != X, cells_with_labels > 0)


def test_keep_labels_takes_any_resize() -> None:
    """A resize that samples cell centres (as Pillow does) keeps what it found."""
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 5, (20, 30)).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.9] = X
    centred = mask[1::2, 1::2]
    out = keep_labels(mask, centred)
    assert np.array_equal(out[centred != X], centred[centred != X])
    blocks = (mask != X).reshape(10, 2, 15, 2).any(axis=(1, 3))
    assert np.array_equal(out != X, blocks)


def test_column_far_beyond_16_bit_distances() -> None:
    """Cells larger than the radix keys hold still give the pixel closest to the centre."""
    mask = np.full((1, 2001), X, np.uint8)
    mask[0, [3, 900, 1200]] = 1, 2, 3
    assert shrink_labels(mask, (1, 1)).item() == 2


def test_real_size_is_quick() -> None:
    import time

    rng = np.random.default_rng(1)
    mask = np.full((1024, 2048), X, np.uint8)
    mask.flat[rng.choice(mask.size, 40_000, replace=False)] = 3
    shrink_labels(mask, (512, 1024))
    start = time.process_time()
    shrink_labels(mask, (512, 1024))
    assert time.process_time() - start < 0.5  # about 5 ms; wide, for loaded machines
