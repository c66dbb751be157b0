"""Each codec is exact, agrees with an encoder written pixel by pixel, and refuses damaged data."""

from __future__ import annotations

import base64
import time
import zlib

import numpy as np
import pytest
from exchange_tools import brush_bytes, coco_counts, coco_string, png, runs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from regional_al.exchange.codecs import bitmap, coco, cvat, label_studio
from regional_al.exchange.codecs import runs as run_lengths

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


def ring() -> np.ndarray:
    mask = np.zeros((30, 24), bool)
    mask[3:27, 4:20] = True
    mask[9:15, 8:14] = False
    return mask


def pixel(row: int, col: int, shape=(9, 7)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[row, col] = True
    return mask


HARD = {
    "empty": np.zeros((4, 6), bool),
    "full": np.ones((4, 6), bool),
    "one": np.ones((1, 1), bool),
    "first": pixel(0, 0),
    "last": pixel(8, 6),
    "inside": pixel(4, 3),
    "column": pixel(0, 0, (1, 9)).T.copy(),
    "ring": ring(),
    "chequered": np.indices((11, 13)).sum(axis=0) % 2 == 0,
    "long": np.repeat([[False], [True]], [260, 40], axis=0) & np.ones((300, 300), bool),
}
CODECS = {
    "runs": (
        lambda m: run_lengths.encode(m.ravel()),
        lambda e, s: run_lengths.decode(e, s[0] * s[1]).reshape(s),
    ),
    "coco string": (lambda m: coco.encode(m)["counts"], coco.decode),
    "coco list": (lambda m: coco.encode(m, compressed=False)["counts"], coco.decode),
    "cvat": (cvat.encode, cvat.decode),
    "cvat points": (
        lambda m: cvat.points(m, 3, 5),
        lambda e, s: cvat.from_points(e, (s[0] + 3, s[1] + 5))[0],
    ),
    "label studio": (label_studio.encode, label_studio.decode),
    "labelme": (bitmap.encode_labelme, bitmap.decode_labelme),
    "supervisely": (bitmap.encode_supervisely, bitmap.decode_supervisely),
}


@pytest.mark.parametrize("mask", HARD.values(), ids=HARD)
@pytest.mark.parametrize("codec", CODECS)
def test_hard_masks_come_back_pixel_by_pixel(codec: str, mask: np.ndarray) -> None:
    encode, decode = CODECS[codec]
    found = decode(encode(mask), mask.shape)
    assert found.dtype == np.bool_
    assert np.array_equal(found, mask)


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=60)
@given(mask=MASKS)
def test_any_mask_comes_back(codec: str, mask: np.ndarray) -> None:
    encode, decode = CODECS[codec]
    assert np.array_equal(decode(encode(mask), mask.shape), mask)


@settings(max_examples=60)
@given(mask=MASKS)
def test_encoders_agree_with_those_written_pixel_by_pixel(mask: np.ndarray) -> None:
    counts = coco_counts(mask)
    assert coco.encode(mask, compressed=False)["counts"] == counts
    assert coco.encode(mask)["counts"] == coco_string(counts)
    assert cvat.encode(mask) == runs(mask.ravel())
    assert np.array_equal(label_studio.decode(brush_bytes(mask), mask.shape), mask)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2**33), max_size=12))
def test_any_counts_survive_the_string_of_coco(counts: list[int]) -> None:
    text = coco.compress(np.array(counts, np.int64))
    assert text == coco_string(counts)
    assert coco.decompress(text).tolist() == counts


@given(st.binary(max_size=40))
def test_noise_is_refused_or_has_the_right_size(data: bytes) -> None:
    """Whatever the bytes, there is a mask of the size asked for or a ValueError."""
    text = data.decode("latin-1")
    tries = (
        lambda: coco.decode(text, (3, 5)),
        lambda: coco.decode(list(data), (3, 5)),
        lambda: cvat.decode(list(data), (3, 5)),
        lambda: label_studio.decode(list(data), (3, 5)),
        lambda: label_studio.decode([0, 0, 0, 60, *data], (3, 5)),
        lambda: label_studio.decode([0, 0, 0, 60, 57, 25, 187, 248, *data], (3, 5)),
    )
    for attempt in tries:
        try:
            found = attempt()
        except ValueError:
            continue
        assert found.shape == (3, 5)
    for decode in (bitmap.decode_labelme, bitmap.decode_supervisely):
        for given_ in (text, base64.b64encode(data).decode()):
            with pytest.raises(ValueError, match="is "):
                decode(given_, (3, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run_lengths.decode([1, 2], 4), "3 pixels in all, for 4"),
        (lambda: run_lengths.decode([3, 2], 4), "5 pixels in all, for 4"),
        (lambda: run_lengths.decode([-1, 5], 4), "not in 0..4"),
        (lambda: run_lengths.decode([2**62, 2**62, 2**62, 2**62, 4], 4), "not in 0..4"),
        (lambda: run_lengths.decode(["1"], 1), "whole numbers"),
        (lambda: run_lengths.decode([1.5, 2.5], 4), "whole numbers"),
        (lambda: run_lengths.decode([[1], [2]], 3), "whole numbers"),
        (lambda: run_lengths.decode([2**70], 3), "whole numbers"),
        (lambda: run_lengths.decode([True], 1), "whole numbers"),
        (lambda: run_lengths.decode(7, 7), "whole numbers"),
        (lambda: coco.decode("é", (1, 1)), "string of COCO"),
        (lambda: coco.decode("o" * 30, (1, 1)), "string of COCO"),
        (lambda: cvat.from_points([2, 0, 0, 0, 0], (1, 1)), r"not in 0\.\.1"),
        (lambda: cvat.from_points([9, 5, 0, 4, 0], (9, 9)), "no box in"),
        (lambda: cvat.from_points([0, 2**40, 0, 0, 2**40 - 1, 0], (9, 9)), "no box in"),
        (lambda: cvat.from_points([0, 2**40, 0, 0, 0, 2**40 - 1], (9, 9)), "no box in"),
        (lambda: cvat.from_points([9, 0], (9, 9)), "fewer than four"),
        (lambda: label_studio.decode(label_studio.encode(ring()), (5, 5)), "720 pixels.*25"),
        (lambda: label_studio.decode(label_studio.encode(ring())[:-3], (30, 24)), "ends early"),
        (lambda: label_studio.decode("abc", (1, 1)), "list of bytes"),
        (lambda: label_studio.decode([256], (1, 1)), "list of bytes"),
        (lambda: bitmap.decode_labelme(base64.b64encode(b"GIF").decode(), (1, 1)), "not a PNG"),
    ],
)
def test_damaged_data_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_looser_box_and_short_runs_are_read() -> None:
    """CVAT's boxes may be larger than their masks, and trailing zeros may be missing."""
    mask = pixel(4, 3)
    found, top, left = cvat.from_points([*runs(mask.ravel()), 10, 20, 16, 28], (29, 17))
    assert (top, left) == (20, 10)
    assert np.array_equal(found, mask)
    assert np.array_equal(cvat.decode(runs(mask.ravel())[:-1], mask.shape), mask)
    with pytest.raises(ValueError, match="pixels in all"):
        cvat.decode([60, 10], mask.shape)


def test_soft_edges_of_the_brush_are_cut_where_the_tool_cuts_them() -> None:
    """label_studio_sdk.converter takes alpha above 128."""
    head = f"{12:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    values = [0, 0, 0, 128, 0, 0, 0, 129, 0, 0, 0, 255]
    bits = head + "001" + f"{11:04b}" + "".join(f"{v:08b}" for v in values)
    bits += "0" * (-len(bits) % 8)
    rle = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert label_studio.decode(rle, (1, 3)).tolist() == [[False, True, True]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "I;16"])
def test_bitmaps_of_all_kinds_are_read(mode: str) -> None:
    """Also those that image libraries write for the tools: bits, grey, palettes, alpha."""
    mask = ring()
    if mode == "RGBA":
        data = png(np.dstack([np.full((*mask.shape, 3), 200), mask * 255]).astype(np.uint8))
    elif mode == "LA":
        data = png(np.dstack([np.full(mask.shape, 7), mask * 255]).astype(np.uint8))
    elif mode == "I;16":
        data = png(mask.astype(np.uint16))
    else:
        grey = png(mask.astype(np.uint8), palette=[9, 9, 9, 8, 8, 8]) if mode == "P" else None
        data = grey or (png(mask, "1") if mode == "1" else png(mask.astype(np.uint8) * 255))
    text = base64.b64encode(zlib.compress(data)).decode()
    if mode == "I;16":
        with pytest.raises(ValueError, match="mode I;16"):
            bitmap.decode_supervisely(text, mask.shape)
        return
    assert np.array_equal(bitmap.decode_supervisely(text, mask.shape), mask)


def test_bombs_are_not_unpacked() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(1 << 20))).decode()
    with pytest.raises(ValueError, match="too large"):
        bitmap.decode_supervisely(bomb, (30, 24))
    head = png(np.zeros((1, 1), np.uint8))
    huge = head[:16] + b"\0\1\0\0\0\1\0\0" + head[24:]
    with pytest.raises(ValueError, match="65536 x 65536 pixels, its image 24 x 30"):
        bitmap.decode_labelme(base64.b64encode(huge).decode(), (30, 24))
    cut = base64.b64encode(zlib.compress(head)[:-6]).decode()
    with pytest.raises(ValueError, match="cut off"):
        bitmap.decode_supervisely(cut, (30, 24))
    damaged = base64.b64encode(head[:40]).decode()
    with pytest.raises(ValueError, match="damaged PNG"):
        bitmap.decode_labelme(damaged, (30, 24))


@pytest.mark.parametrize("codec", CODECS)
def test_large_images_take_seconds(codec: str) -> None:
    """2048 x 4096 pixels with 5,000 windows and a ring: no loop over pixels."""
    rng = np.random.default_rng(1)
    mask = np.zeros((2048, 4096), bool)
    for row, col in rng.integers(0, (2040, 4090), (5000, 2)):
        mask[row : row + 3, col : col + 3] = True
    mask[500:1500, 500:3500] ^= True
    encode, decode = CODECS[codec]
    start = time.perf_counter()
    found = decode(encode(mask), mask.shape)
    assert time.perf_counter() - start < 10
    assert np.array_equal(found, mask)
