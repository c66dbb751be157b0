"""Maps beside the labels of a sample: their coding, whole regions, and the loss. No framework."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from regional_al.engines.mmseg.side_losses import KnowsSides, aligned, install
from regional_al.engines.mmseg.side_maps import (
    BASE,
    STATE,
    Carried,
    SideMap,
    apply,
    cut_negative,
    decoded,
    encoded,
    numbered,
)
from regional_al.errors import DataError, UnsupportedError


@given(st.lists(st.integers(0, BASE**3), min_size=1, max_size=30), st.integers(0, 1))
def test_a_map_is_what_it_was(values: list[int], padding: int) -> None:
    maps = encoded(np.array([values], np.int32), 3)
    assert all(one.dtype == np.uint8 for one in maps)
    assert decoded(maps).tolist() == [values]
    wider = [np.pad(one, ((0, 1), (0, 2)), constant_values=padding * 255) for one in maps]
    assert decoded(wider).tolist() == [[*values, 0, 0], [0] * (len(values) + 2)]


def test_a_value_that_does_not_fit() -> None:
    for value in (-1, BASE + 1):
        with pytest.raises(DataError, match="from 0 to 254"):
            encoded(np.array([[value]], np.int32), 1)


def test_regions_that_are_not_whole_are_negative() -> None:
    image = np.array([[3] * 8 + [4] * 14 + [5] * 5 + [6] * 4 + [0]], np.int32)
    low, counts = numbered(image)
    assert (low, counts.tolist()) == (3, [8, 14, 5, 4])
    values = np.array([[3, 3, 4, 4], [0, 0, 4, 6]], np.int32)
    found = cut_negative(values, low, counts, 0.25)
    assert found.tolist() == [[3, 3, -4, -4], [0, 0, -4, 6]]
    low, counts = numbered(np.zeros((2, 2), np.int32))
    assert (low, counts.tolist()) == (1, [])
    assert not cut_negative(np.zeros((1, 2), np.int32), low, counts, 1.0).any()


class Step:
    """A transform."""

    def __init__(self, name: str, change: Any) -> None:
        self.change = change
        self.__class__ = type(name, (Step,), {})

    def __call__(self, data: dict[str, Any]) -> Any:
        return self.change(data)


def every(change: Any) -> Any:
    """A transform of all `seg_fields`."""

    def changed(data: dict[str, Any]) -> dict[str, Any]:
        for key in data["seg_fields"]:
            data[key] = change(data[key])
        return data

    return changed


REGIONS = np.repeat(np.repeat(np.arange(1, 5, dtype=np.int32).reshape(2, 2), 4, 0), 4, 1)
"""Four squares of 4x4 pixels."""


def carried(*steps: Any, side: np.ndarray = REGIONS, parts: bool = True) -> Any:
    """What arrives, after some transforms and packing, of a side map."""
    found = {}

    def attach(sample: Any, maps: Any) -> None:
        found.update(maps)

    data = {"labels": np.full((8, 8), 255, np.uint8), "seg_fields": ["labels"]}
    one = SideMap("r", lambda index: side, digits=2, parts=parts)
    Carried((one,), "labels", attach).begin(data, 0)
    sample: Any = data
    for step in steps:
        sample = apply(step, sample)
    apply(Step("Pack", lambda data: {"image": 0}), sample)
    return found["r"]


def test_only_whole_regions_stay_positive() -> None:
    crop = Step("Crop", every(lambda one: one[:, 2:]))
    half = [[-1] * 2 + [2] * 4] * 4 + [[-3] * 2 + [4] * 4] * 4
    assert carried(crop).tolist() == half
    assert carried(crop, parts=False).tolist() == np.abs(half).tolist()

    def shrink(data: dict[str, Any]) -> dict[str, Any]:
        data["scale_factor"] = (0.5, 0.5)
        return every(lambda one: one[::2, ::2])(data)

    assert carried(Step("Resize", shrink)).tolist() == REGIONS[::2, ::2].tolist()
    small = carried(Step("Resize", shrink), Step("Crop", every(lambda one: one[:, 1:])))
    assert small.tolist() == [[-1, 2, 2]] * 2 + [[-3, 4, 4]] * 2


def test_samples_put_together_have_no_whole_region() -> None:
    def mosaic(data: dict[str, Any]) -> dict[str, Any]:
        return data

    data = {"labels": np.zeros((8, 8), np.uint8)}
    found = {}
    one = SideMap("r", lambda index: REGIONS, parts=True)
    Carried((one,), "labels", lambda sample, maps: found.update(maps)).begin(data, 0)
    sample = apply(Step("Mosaic", mosaic), {**data, "mix_results": []})
    del sample["mix_results"]
    apply(Step("Pack", lambda data: {"image": 0}), sample)
    assert found["r"].tolist() == (-REGIONS).tolist()


def test_transforms_of_labels_alone() -> None:
    def own(change: Any) -> Any:
        return lambda data: {**data, "labels": change(data["labels"])}

    wider = own(lambda one: np.pad(one, ((0, 1), (0, 2)), constant_values=255))
    found = carried(Step("Pad", wider))
    assert found[:8, :8].tolist() == REGIONS.tolist()
    assert not found[8:].any()
    assert not found[:, 8:].any()
    with pytest.raises(
        UnsupportedError, match="CenterCrop in the training pipeline changes labels"
    ):
        carried(Step("CenterCrop", own(lambda one: one[1:])))


def test_a_map_that_must_stay_as_the_labels() -> None:
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    one = SideMap("c", lambda index: labels.astype(np.int32) + 1, as_labels=True)
    data = {"labels": labels.copy(), "seg_fields": ["labels"]}
    Carried((one,), "labels", lambda *_: None).begin(data, 0)
    data = apply(Step("Flip", every(np.fliplr)), data)
    with pytest.raises(UnsupportedError, match="Albu in the training pipeline changes labels"):
        apply(Step("Albu", lambda data: {**data, "labels": np.fliplr(data["labels"])}), data)


def test_a_map_of_another_size() -> None:
    with pytest.raises(DataError, match="r: a map of"):
        carried(side=REGIONS[1:])


def test_samples_without_side_maps_are_left_alone() -> None:
    data = {"labels": 1}
    assert apply(lambda one: one, data) is data
    assert STATE not in data


def test_a_map_of_a_padded_sample() -> None:
    labels = torch.zeros(1, 3, 4)
    assert aligned(torch.ones(1, 2, 4, dtype=torch.int32), labels).tolist() == [
        [[1] * 4, [1] * 4, [0] * 4]
    ]
    assert aligned(None, labels).tolist() == [[[0] * 4] * 3]


class Head(nn.Module):
    align_corners = False


def test_losses_beside_those_of_the_last_head() -> None:
    model: Any = nn.Module()
    model.decode_head = nn.ModuleList([Head(), Head()])
    model.auxiliary_head = Head()
    install(model, KnowsSides, [lambda logits, labels, sides: {"loss_more": logits.sum()}])
    first, last = model.decode_head
    labels = torch.zeros(1, 4, 4).long()
    logits = torch.ones(1, 2, 2, 2)
    assert first.with_added({"loss": 1}, None, labels) == {"loss": 1}
    assert model.auxiliary_head.with_added({"loss": 1}, None, labels) == {"loss": 1}
    found = last.with_added({"loss": 1}, logits, labels)
    assert (found["loss"], float(found["loss_more"])) == (1, 32.0)
    with pytest.raises(UnsupportedError, match=r"decode_head \(Head\) has no map of logits"):
        last.with_added({}, [logits], labels)
