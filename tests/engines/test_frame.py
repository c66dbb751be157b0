"""The way back from a network's input to the image, for logits and for features alike."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from regional_al.engines.mmseg.frame import Frame


def test_padding_is_not_spread_over_the_image() -> None:
    """360 x 480 padded to 384 x 480, features at stride 4: 24 rows of padding are 6 cells."""
    frame = Frame((0, 0, 0, 24), None, (360, 480))
    rows, cols = frame.cells((384, 480), (96, 120))
    assert rows.tolist() == [y // 4 for y in range(360)]
    assert cols.tolist() == [x // 4 for x in range(480)]


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(*[st.integers(0, 4)] * 4),
    st.sampled_from([None, "horizontal", "vertical"]),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_cells_are_where_the_logits_come_from(
    shown: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip: str | None,
    scale: int,
    stride: int,
) -> None:
    """Brute force: a map that holds its own place, repeated up to the input, cropped, flipped and
    repeated up to the image, is what `cells` looks up."""
    left, right, top, bottom = padding
    size = (shown[0] * scale, shown[1] * scale)
    input_size = (shown[0] + top + bottom, shown[1] + left + right)
    map_size = (-(-input_size[0] // stride), -(-input_size[1] // stride))
    places = np.arange(map_size[0] * map_size[1]).reshape(map_size)
    whole = np.empty(input_size, dtype=int)
    for y in range(input_size[0]):
        for x in range(input_size[1]):
            whole[y, x] = places[y * map_size[0] // input_size[0], x * map_size[1] // input_size[1]]
    seen = whole[top : input_size[0] - bottom, left : input_size[1] - right]
    if flip is not None:
        seen = seen[:, ::-1] if flip == "horizontal" else seen[::-1]
    expected = seen.repeat(scale, axis=0).repeat(scale, axis=1)
    frame = Frame(padding, flip, size)
    rows, cols = frame.cells(input_size, map_size)
    assert torch.from_numpy(places)[rows][:, cols].tolist() == expected.tolist()
    logits = frame.logits(torch.from_numpy(whole)[None, None].float(), align_corners=False)
    if scale == 1:
        assert logits[0].tolist() == expected.tolist()
