"""Losses of heads that predict sets of masks: the functions, by hand and by brute force."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from regional_al.engines.mmseg import set_losses

CLASSES = torch.tensor([4, 1, 7])


def label_maps(seed: int, share: float = 0.2) -> torch.Tensor:
    """int64 [3, 12, 20]: masks of three classes of a map of which a share is labelled."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (12, 20), generator=generator)
    labels[torch.rand(12, 20, generator=generator) > share] = 255
    return torch.stack([labels == one for one in range(3)]).long()


def test_known_pixels_are_those_of_some_mask() -> None:
    masks = label_maps(0)
    known = set_losses.known(masks)
    for row in range(12):
        for column in range(20):
            assert bool(known[row, column]) == any(int(one[row, column]) for one in masks)
    assert not set_losses.known(masks[:0]).any()


def test_points_are_the_centres_of_labelled_pixels() -> None:
    masks = label_maps(1)
    xy, at = set_losses.labelled_points(masks)
    assert len(xy) == int(masks.sum())
    for (x, y), of in zip((xy * torch.tensor([20, 12])).tolist(), at.T, strict=True):
        row, column = round(y - 0.5), round(x - 0.5)
        assert (x - 0.5, y - 0.5) == pytest.approx((column, row), abs=1e-4)
        assert of.tolist() == masks[:, row, column].tolist()


def test_values_at_points_are_those_of_the_upsampled_map() -> None:
    """The definition: upsampled as mmseg does it, at the pixels of the label map; borders too."""
    masks = torch.ones(1, 12, 20).long()
    xy, _ = set_losses.labelled_points(masks)
    logits = torch.randn(5, 3, 7, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits[:, None], (12, 20), mode="bilinear", align_corners=False)
    found = set_losses.at_points(logits, xy)
    torch.testing.assert_close(found, whole.flatten(1), rtol=1e-4, atol=1e-5)
    each = set_losses.at_points(logits, xy.expand(5, -1, -1))
    torch.testing.assert_close(each, found)


def test_some_points_are_a_subset_and_all_are_all() -> None:
    points = set_losses.labelled_points(label_maps(2))
    state = torch.get_rng_state()
    assert set_losses.some(points, len(points.xy)) is points
    assert torch.equal(torch.get_rng_state(), state)
    fewer = set_losses.some(points, 9)
    found = {tuple(one) for one in fewer.xy.tolist()}
    assert len(found) == 9
    assert found <= {tuple(one) for one in points.xy.tolist()}
    for xy, of in zip(fewer.xy, fewer.masks.T, strict=True):
        at = int(torch.nonzero((points.xy == xy).all(1))[0])
        assert torch.equal(points.masks[:, at], of)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75, 1.0])
def test_uncertain_points(share: float) -> None:
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(3))
    found = set_losses.uncertain(logits, 10, share)
    least = int(share * 10)
    for row, chosen in zip(logits.abs(), found.tolist(), strict=True):
        assert len(set(chosen)) == 10
        nearest = sorted(range(40), key=lambda at: float(row[at]))[:least]
        assert sorted(chosen[:least]) == sorted(nearest)
        others = [at for at in range(40) if at not in nearest]
        assert chosen[least:] == others[: 10 - least]


def test_targets_by_hand() -> None:
    """Four queries, three masks, of which the second query has the third and the last the first."""
    assigned = torch.tensor([0, 3, 0, 1])
    for complete, weights in ((True, [1.0, 1.0, 1.0, 1.0]), (False, [0.0, 1.0, 0.0, 1.0])):
        found = set_losses.targets(assigned, CLASSES, 19, complete)
        assert found.labels.tolist() == [19, 7, 19, 4]
        assert found.weights.tolist() == weights
        assert found.matched.tolist() == [1, 3]
        assert found.masks.tolist() == [2, 0]
    none = set_losses.targets(torch.zeros(4, dtype=torch.int64), CLASSES[:0], 19, False)
    assert not none.weights.any()
    assert len(none.matched) == 0
