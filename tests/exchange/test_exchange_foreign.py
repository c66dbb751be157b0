"""What the tools' own code has written is read, and what we write is what they write.

tests/data/exchange/make_foreign.py made the file, with the versions that it names.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from paths import ROOT

from regional_al.exchange.codecs import coco, cvat, label_studio

FOREIGN = json.loads((ROOT / "tests" / "data" / "exchange" / "foreign.json").read_text())
ENTRIES = FOREIGN["masks"]


def mask_of(entry: dict[str, Any]) -> np.ndarray:
    height, width = entry["shape"]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(entry["bits"]), np.uint8))
    return bits[: height * width].reshape(height, width).astype(bool)


def test_the_file_names_its_tools() -> None:
    assert set(FOREIGN["versions"]) == {"pycocotools", "cvat_sdk", "label_studio_sdk"}
    assert len(ENTRIES) > 5


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_coco(entry: dict[str, Any]) -> None:
    mask = mask_of(entry)
    assert np.array_equal(coco.decode(entry["coco"], mask.shape), mask)
    assert coco.encode(mask)["counts"] == entry["coco"]


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("kind", ["cvat", "cvat loose"])
def test_cvat(kind: str, entry: dict[str, Any]) -> None:
    mask = mask_of(entry)
    found, top, left = cvat.from_points(entry[kind], mask.shape)
    whole = np.zeros_like(mask)
    whole[top : top + found.shape[0], left : left + found.shape[1]] = found
    assert np.array_equal(whole, mask)
    assert cvat.points(found, top, left) == entry[kind]


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("kind", ["label-studio", "label-studio tinted"])
def test_label_studio(kind: str, entry: dict[str, Any]) -> None:
    mask = mask_of(entry)
    assert np.array_equal(label_studio.decode(entry[kind], mask.shape), mask)
    if kind == "label-studio":
        ours = label_studio.encode(mask)
        assert (ours, any(entry[kind][len(ours) :])) == (entry[kind][: len(ours)], False)  # padding
