"""Losses of regions of which only the classes are known, against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regional_al.config.region_classes import RegionClasses
from regional_al.engines.mmseg.region_classes import (
    MAP,
    MERGED,
    PROTOTYPE,
    RegionLosses,
    merged_positive,
    prototypical,
    region_map,
)
from regional_al.errors import ConfigError
from regional_al.store.labels import LabelStore
from regional_al.types import ClassSets, ImageAnswer, LabelSpace, PoolItem

MEMBERS = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 0]]).bool()
"""Of no region, and of regions 1, 2 and 3."""
P = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.25, 0.5, 0.25], [0.1, 0.2, 0.7]])
"""Probabilities of four pixels."""


def logits_of(probabilities: torch.Tensor) -> torch.Tensor:
    """[1, C, 1, n], off by a number of each pixel's own."""
    shift = torch.arange(float(len(probabilities)))
    return (probabilities.log() + shift[:, None]).T[None, :, None]


def regions_of(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32).view(1, 1, -1)


def test_merged_positive_by_hand() -> None:
    regions = regions_of(1, 1, -2, 0)
    found = merged_positive(logits_of(P), regions, MEMBERS)
    by_hand = -(math.log(0.75) + math.log(0.875) + math.log(0.5)) / 3
    assert float(found) == pytest.approx(by_hand, rel=1e-6)
    single = merged_positive(logits_of(P), regions_of(0, 3, 0, 0), MEMBERS)
    assert float(single) == pytest.approx(-math.log(0.75), rel=1e-6)


def test_prototypical_by_hand() -> None:
    """Region 1: class 0 from the first pixel, class 1 from the second; region 2: one pixel."""
    found = prototypical(logits_of(P), regions_of(1, 1, 2, 0), MEMBERS)
    by_hand = -sum(map(math.log, (0.5, 0.75, 0.25, 0.25))) / 4
    assert float(found) == pytest.approx(by_hand, rel=1e-6)


def test_a_temperature_divides_logits() -> None:
    squared = P**2 / (P**2).sum(dim=1, keepdim=True)
    regions = regions_of(1, 1, 2, 2)
    for loss in (merged_positive, prototypical):
        found = loss(logits_of(P), regions, MEMBERS, temperature=0.5)
        assert float(found) == pytest.approx(float(loss(logits_of(squared), regions, MEMBERS)))


def test_parts_of_regions_demand_no_class() -> None:
    whole = prototypical(logits_of(P), regions_of(1, 1, 0, 0), MEMBERS)
    assert float(prototypical(logits_of(P), regions_of(1, 1, -2, -2), MEMBERS)) == float(whole)
    assert float(prototypical(logits_of(P), regions_of(-1, -1, -2, 3), MEMBERS)) == 0


def test_a_region_that_is_in_a_batch_twice_is_two() -> None:
    one, other = P[:2], P[2:]
    both = torch.cat([logits_of(one), logits_of(other)])
    regions = regions_of(1, 1).expand(2, -1, -1)
    apart = [prototypical(logits_of(p), regions_of(1, 1), MEMBERS) for p in (one, other)]
    assert float(prototypical(both, regions, MEMBERS)) == pytest.approx(float(sum(apart)) / 2)


def test_gradients() -> None:
    """Only pixels of regions have one, and of the prototypical loss those of the maxima."""
    for loss, reached in ((merged_positive, [1, 1, 1, 0]), (prototypical, [1, 1, 0, 0])):
        leaf = logits_of(P).requires_grad_(True)
        loss(leaf, regions_of(1, 1, 1, 0), MEMBERS).backward()
        assert leaf.grad is not None
        assert (leaf.grad.abs().sum(dim=1) > 0).flatten().tolist() == [bool(r) for r in reached]
    leaf = logits_of(P).requires_grad_(True)
    (merged_positive(leaf, regions_of(0, 0, 0, 0), MEMBERS) * 1).backward()
    assert leaf.grad is not None
    assert not leaf.grad.any()


@pytest.mark.parametrize("loss", [merged_positive, prototypical])
def test_extreme_logits(loss: Any) -> None:
    leaf = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 3e4]]).T[None, :, None].requires_grad_(True)
    found = loss(leaf, regions_of(1, 1), MEMBERS, temperature=0.1)
    found.backward()
    assert torch.isfinite(found)
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()
    half = loss(logits_of(P).half(), regions_of(1, 1, 2, 2), MEMBERS)
    assert half.dtype == torch.float32


def test_added_losses() -> None:
    """Weights count, and labels take pixels out of regions."""
    added = RegionLosses(RegionClasses(merged=2.0, prototype=3.0), MEMBERS)
    logits, regions = logits_of(P), regions_of(1, 1, 2, 2)
    labels = torch.tensor([[[255, 255, 0, 1]]])
    found = added(logits, labels, {MAP: regions})
    kept = regions_of(1, 1, 0, 0)
    assert float(found[MERGED]) == pytest.approx(2 * float(merged_positive(logits, kept, MEMBERS)))
    assert float(found[PROTOTYPE]) == pytest.approx(3 * float(prototypical(logits, kept, MEMBERS)))
    off = RegionLosses(RegionClasses(merged=0.0, prototype=0.0), MEMBERS)
    for nothing in (added(logits, labels, {}), off(logits, labels, {MAP: regions})):
        assert {name: float(value) for name, value in nothing.items()} == {MERGED: 0, PROTOTYPE: 0}


def test_regions_are_numbered_over_images(tmp_path: Path) -> None:
    """Raw ids become classes; those that are no class are left out."""
    table = np.full(256, 255, np.int16)
    table[[0, 4, 5, 9]] = [0, 1, 1, 2]
    space = LabelSpace.plain(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    space = type(space)(space.class_names, space.palette, table)
    store = LabelStore(tmp_path / "labels")
    items = [PoolItem(key, Path(key), None, (1, 3)) for key in ("t/a", "b", "c")]
    everything = np.ones((1, 3), bool)
    for key, ids, classes in (
        ("t/a", [[1, 2, 2]], ((0, 4), (5, 9, 20))),
        ("c", [[0, 0, 1]], ((0, 9),)),
    ):
        sets = ClassSets(np.array(ids, np.int32), classes)
        labels = np.full((1, 3), 255, np.uint8)
        store.write(ImageAnswer(key, labels, everything, sets=sets), 0)
    side, members = region_map(store, items, space)
    assert members.int().tolist() == [[0, 0, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1]]
    found = [side.read(i) for i in range(3)]
    assert [None if one is None else one.tolist() for one in found] == [
        [[1, 2, 2]],
        None,
        [[0, 0, 3]],
    ]
    assert (side.parts, side.trained) == (True, True)
    assert store.class_set_keys() == ["c", "t/a"]
    count, digest = store.training_digest(space.trainable, sets=True)
    assert count == 2
    assert store.training_digest(space.trainable)[0] == 0
    changed = ClassSets(np.array([[0, 0, 1]], np.int32), ((0, 4),))
    store.write(ImageAnswer("c", np.full((1, 3), 255, np.uint8), everything, sets=changed), 0)
    assert store.training_digest(space.trainable, sets=True)[1] != digest


def test_settings() -> None:
    assert RegionClasses.parse(None, "full") is None
    assert RegionClasses.parse(False, "multiclass") is None
    assert RegionClasses.parse(True, "full") == RegionClasses()
    assert RegionClasses.parse({"temperature": 0.1}, "full") == RegionClasses(temperature=0.1)
    assert RegionClasses.of({"annotator": "oracle"}) is None
    on = {"annotator": {"type": "oracle", "answer": "multiclass"}}
    assert RegionClasses.of(on) == RegionClasses()
    assert RegionClasses.of({**on, "region_classes": False}) is None
    for value, text in (
        ({"temperature": 0}, r"region_classes\.temperature=0 must be a number from 0.001"),
        ({"merge": 1}, r"no key 'merge'"),
        (3, "region_classes=3 must be a dict"),
    ):
        with pytest.raises(ConfigError, match=text):
            RegionClasses.parse(value, "full")
