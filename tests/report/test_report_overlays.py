"""Pictures of the report, checked by the value of single points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regional_al.report import overlays

pytest.importorskip("PIL")

GREY = np.full((40, 60, 3), 200, dtype=np.uint8)
PALETTE = np.array([[255, 0, 0], [0, 0, 255]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1024, 2048), (280, 560)),
        ((180, 240), (420, 560)),
        ((500, 100), (560, 112)),
        ((1, 5000), (1, 560)),
    ],
)
def test_display_size(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert overlays.display_size(shape) == size


def test_reduced_ids_keep_every_isolated_pixel() -> None:
    ids = np.zeros((100, 200), dtype=np.int32)
    ids[3, 7], ids[99, 199], ids[50, 101] = 1, 2, 3
    small = overlays.fit_ids(ids, (10, 20))
    assert small.shape == (10, 20)
    assert (small[0, 0], small[9, 19], small[5, 10]) == (1, 2, 3)
    assert np.count_nonzero(small) == 3


def test_enlarged_ids_are_blocks() -> None:
    ids = np.array([[0, 1], [2, 3]], dtype=np.int32)
    assert np.array_equal(overlays.fit_ids(ids, (4, 6)), np.kron(ids, np.ones((2, 3), int)))


@given(st.integers(0, 2**31), st.sampled_from([1, 3, 5, 7]))
@settings(max_examples=30, deadline=None)
def test_growing_is_the_maximum_over_the_square(seed: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((9, 12)) < 0.15
    half = width // 2
    padded = np.pad(mask, half)
    brute = [[padded[r : r + width, c : c + width].any() for c in range(12)] for r in range(9)]
    assert np.array_equal(overlays._grow(mask, width), np.array(brute))


def test_tiny_is_what_is_thinner_than_seven_points() -> None:
    mask = np.zeros((60, 80), dtype=bool)
    mask[5:30, 5:40] = True  # large
    mask[50, 60] = True  # a pixel
    mask[40:43, 10:13] = True  # a window of 3 x 3
    found = overlays.tiny(mask)
    assert not found[5:30, 5:40].any()
    assert found[50, 60]
    assert found[40:43, 10:13].all()
    assert found.sum() == 10


def test_spurs_of_a_large_part_are_not_tiny() -> None:
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:40, 10:40] = True
    mask[38:58, 20] = True  # a thread that hangs on it
    mask[5, 70] = True
    assert np.argwhere(overlays.tiny(mask)).tolist() == [[5, 70]]


def test_score_panel_is_brighter_where_the_score_is_higher_and_grey_where_there_is_none() -> None:
    score = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (40, 1))
    score[0] = -np.inf
    score[1] = np.nan
    panel = overlays.score_panel(score, (40, 60)).astype(int)
    light = panel[5].sum(axis=1)
    assert light[-1] > light[30] > light[0]
    assert (np.diff(light) >= -8).all()
    assert (panel[:2] == overlays._NO_SCORE).all()
    assert not (panel[2:] == overlays._NO_SCORE).all(axis=-1).any()


def test_a_constant_or_empty_score_is_drawn_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    flat = overlays.score_panel(np.full((4, 6), 0.3, np.float32), (4, 6))
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1
    none = overlays.score_panel(np.full((4, 6), -np.inf, np.float32), (8, 12))
    assert (none == overlays._NO_SCORE).all()
    assert not recwarn.list


def test_the_query_keeps_its_colours_inside_an_outline_and_the_rest_is_dimmed() -> None:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[:] = (200, 40, 40)
    asked = np.zeros((40, 60), dtype=np.int32)
    asked[10:30, 10:40] = 1
    panel = overlays.query_panel(image, asked, (40, 60))
    assert tuple(panel[20, 25]) == (200, 40, 40)
    assert len(set(panel[2, 2].tolist())) == 1  # grey
    assert panel[2, 2, 0] < 90
    for row, col in ((9, 20), (20, 9), (20, 39)):
        assert tuple(panel[row, col]) == overlays.QUERIED


def test_neighbouring_items_are_told_apart() -> None:
    asked = np.ones((40, 60), dtype=np.int32)
    asked[:, 30:] = 2
    panel = overlays.query_panel(GREY, asked, (40, 60))
    assert tuple(panel[20, 29]) == overlays.QUERIED
    assert tuple(panel[20, 15]) == (200, 200, 200)


def test_a_single_queried_pixel_is_visible_at_display_size() -> None:
    asked = np.zeros((1024, 2048), dtype=np.int32)
    asked[512, 1000] = 1
    size = overlays.display_size(asked.shape)
    panel = overlays.query_panel(np.zeros((1024, 2048, 3), np.uint8), asked, size)
    marked = (panel == overlays.QUERIED).all(axis=-1)
    assert marked[512 * 280 // 1024, 1000 * 560 // 2048]
    assert 25 <= marked.sum() <= 100


def test_labelled_shows_class_colours_void_hatched_unlabeled_dimmed() -> None:
    classes = np.zeros((40, 60), dtype=np.int32)
    classes[:, :20], classes[:, 20:40] = 2, 3  # class 1, annotated void
    panel = overlays.label_panel(GREY, classes, PALETTE, (40, 60))
    assert tuple(panel[20, 10]) == (0, 0, 255)
    void = {tuple(v) for v in panel[5:35, 24:36].reshape(-1, 3).tolist()}
    assert void == {tuple(v) for v in overlays._HATCH.tolist()}
    assert tuple(panel[20, 55]) == tuple(overlays.dim(GREY)[20, 55])


def test_crowded_marks_shrink_but_keep_every_colour() -> None:
    classes = np.zeros((60, 60), dtype=np.int32)
    classes[::4, ::4] = 1
    classes[::8, ::8] = 2
    panel = overlays.label_panel(np.zeros((60, 60, 3), np.uint8), classes, PALETTE, (60, 60))
    assert (panel[::8, ::8] == PALETTE[1]).all()
    assert (panel[4::8, 4::8] == PALETTE[0]).all()
    assert (panel == overlays.dim(np.zeros((60, 60, 3), np.uint8))).all(axis=-1).any()


def test_marks_side_by_side_keep_their_own_place() -> None:
    classes = np.zeros((60, 60), dtype=np.int32)
    classes[30, 10:50] = 1 + np.arange(40) % 2
    panel = overlays.label_panel(np.zeros((60, 60, 3), np.uint8), classes, PALETTE, (60, 60))
    assert np.array_equal(panel[30, 10:50], PALETTE[np.arange(40) % 2])


def test_a_picture_of_pure_noise_is_encoded() -> None:
    """Random scores of single pixels: with optimize=True Pillow's buffer was too small for them."""
    from regional_al.report.overlays import jpeg_uri

    noise = np.random.default_rng(0).integers(0, 256, (720, 960, 3), dtype=np.uint8)
    assert len(jpeg_uri(noise)) > 100_000
