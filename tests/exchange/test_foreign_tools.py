"""The codecs against the tools' own code, where it is installed: `make test-exchange`."""

from __future__ import annotations

import importlib.util
import runpy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from paths import ROOT

from regional_al.exchange.codecs import coco, cvat, label_studio

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=20))


@settings(max_examples=200)
@given(mask=MASKS)
def test_pycocotools(mask: np.ndarray) -> None:
    theirs = pytest.importorskip("pycocotools.mask")
    encoded = theirs.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = coco.encode(mask)
    assert ours == {"size": encoded["size"], "counts": encoded["counts"].decode()}
    assert np.array_equal(theirs.decode(ours), mask)
    listed = coco.encode(mask, compressed=False)
    assert np.array_equal(theirs.decode(theirs.frPyObjects(listed, *mask.shape)), mask)


@settings(max_examples=200)
@given(mask=MASKS)
def test_cvat_sdk(mask: np.ndarray) -> None:
    masks = pytest.importorskip("cvat_sdk.masks")
    size = {"image_width": mask.shape[1], "image_height": mask.shape[0]}
    found, top, left = cvat.from_points(masks.encode_mask(mask), mask.shape)
    assert np.array_equal(masks.decode_mask(cvat.points(found, top, left), **size), mask)
    assert masks.encode_mask(mask, [0, 0, *mask.shape[::-1]]) == cvat.points(mask, 0, 0)


@settings(max_examples=100)
@given(mask=MASKS)
def test_label_studio_sdk(mask: np.ndarray) -> None:
    if importlib.util.find_spec("label_studio_sdk") is None:
        pytest.skip("label_studio_sdk is not installed")
    script = ROOT / "tests" / "data" / "exchange" / "make_foreign.py"
    pytest.importorskip("pycocotools.mask")
    pytest.importorskip("cvat_sdk.masks")
    brush = runpy.run_path(str(script))["brush"]()
    ours = label_studio.encode(mask)
    encoded = list(brush.encode_rle(np.repeat(mask.ravel() * np.uint8(255), 4)))
    assert (ours, any(encoded[len(ours) :])) == (encoded[: len(ours)], False)  # padding
    theirs = brush.decode_rle(bytes(ours)).reshape(*mask.shape, 4)[..., 3]
    assert np.array_equal(theirs > 128, mask)
