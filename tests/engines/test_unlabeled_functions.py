"""What training on pixels without an answer computes, by hand tables and brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from regional_al.config.unlabeled import NO_COLOR, Color, Unlabeled
from regional_al.engines.mmseg import unlabeled as core
from regional_al.engines.mmseg.loss_average import weigh_pixels
from regional_al.engines.mmseg.self_training import LOSS, PseudoCount, SelfTraining, check_config
from regional_al.errors import UnsupportedError

PLAIN = Unlabeled(views=1, cutmix=0.0, color=NO_COLOR, drop=0.0, threshold=0.0)


class Pixelwise(nn.Module):
    """A segmentor whose logits at a pixel depend on that pixel alone."""

    align_corners = False

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm2d(3)
        self.decode_head = nn.Conv2d(3, classes, 1)
        self.seen: list[torch.Tensor] = []

    def extract_feat(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(images)
        if found.requires_grad:
            found.retain_grad()
            self.seen.append(found)
        return found


def batch(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [N, 3, 6, 8] and random valid pixels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, 6, 8, generator=generator)
    return images, torch.rand(count, 6, 8, generator=generator) < 0.6


def begun(settings: Unlabeled, seed: int = 5) -> tuple[SelfTraining, Any]:
    model = Pixelwise().train()
    training = SelfTraining(settings, 3, seed)
    training.begin(model)
    return training, model


@pytest.mark.parametrize(
    ("updates", "most", "ratio"),
    [(0, 0.9, 0.0), (1, 0.9, 0.5), (3, 0.9, 0.75), (8, 0.9, 8 / 9), (9, 0.9, 0.9), (50, 0.9, 0.9)],
)
def test_the_ratio_of_the_average(updates: int, most: float, ratio: float) -> None:
    assert core.ema_ratio(updates, most) == pytest.approx(ratio, abs=1e-15)


def test_the_average_takes_parameters_buffers_and_counters() -> None:
    student, teacher = Pixelwise(), Pixelwise()
    with torch.no_grad():
        student.decode_head.weight.fill_(2.0)
        teacher.decode_head.weight.fill_(6.0)
        student.norm.running_mean.fill_(1.0)
        student.norm.num_batches_tracked.fill_(7)
    core.ema_update(teacher, student, 0.25)
    assert torch.equal(teacher.decode_head.weight, torch.full_like(student.decode_head.weight, 3.0))
    assert teacher.norm.running_mean.tolist() == [0.75] * 3
    assert int(teacher.norm.num_batches_tracked) == 7
    assert set(student.decode_head.weight.flatten().tolist()) == {2.0}


def test_the_first_update_makes_the_teacher_the_student() -> None:
    training, model = begun(PLAIN)
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one))
    training.update(model)
    for one, two in zip(training.teacher.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert training.updates == 1


def test_updates_follow_the_definition() -> None:
    """Three updates of one number, by the formula."""
    training, model = begun(Unlabeled(ema=0.6))
    wanted, bias = 0.0, model.decode_head.bias
    for updates, value in enumerate((1.0, 5.0, 2.0, 8.0)):
        with torch.no_grad():
            bias.fill_(value)
        training.update(model)
        ratio = min(1 - 1 / (updates + 1), 0.6)
        wanted = ratio * wanted + (1 - ratio) * value
        assert training.teacher.decode_head.bias.tolist() == pytest.approx([wanted] * 3)


def brute_loss(
    logits: torch.Tensor, labels: torch.Tensor, sure: torch.Tensor, valid: torch.Tensor, least: Any
) -> float:
    """The loss of one view, pixel by pixel."""
    total = 0.0
    for n, y, x in np.ndindex(*labels.shape):
        if valid[n, y, x] and sure[n, y, x] >= least:
            z = logits[n, :, y, x].double()
            total += float(torch.logsumexp(z, 0) - z[labels[n, y, x]])
    return total / max(1, int(valid.sum()))


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("least", [0.0, 0.4, 1.1])
def test_the_loss_is_that_of_each_pixel(views: int, least: float) -> None:
    generator = torch.Generator().manual_seed(views)
    shape = (views * 2, 4, 5)
    logits = torch.randn(views * 2, 3, 4, 5, generator=generator, requires_grad=True)
    labels = torch.randint(0, 3, shape, generator=generator)
    sure = torch.rand(shape, generator=generator)
    valid = torch.rand(shape, generator=generator) < 0.5
    loss = core.consistency_loss(logits, labels, sure, valid, least, views)
    parts = [
        brute_loss(logits[i : i + 2], labels[i : i + 2], sure[i : i + 2], valid[i : i + 2], least)
        for i in range(0, views * 2, 2)
    ]
    assert float(loss) == pytest.approx(sum(parts) / views, rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    moved = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(moved, valid & (sure >= least))


def test_without_a_valid_pixel_the_loss_is_zero_and_reaches_everything() -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    labels = torch.zeros(2, 4, 5, dtype=torch.int64)
    none = torch.zeros(2, 4, 5, dtype=torch.bool)
    loss = core.consistency_loss(logits, labels, torch.ones(2, 4, 5), none, 0.0, 2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_logits_that_are_not_finite_do_not_reach_the_loss_of_other_pixels() -> None:
    logits = torch.zeros(1, 2, 1, 2)
    logits[..., 1] = math.nan
    valid = torch.tensor([[[True, False]]])
    labels = torch.zeros(1, 1, 2, dtype=torch.int64)
    loss = core.consistency_loss(logits, labels, torch.ones(1, 1, 2), valid, 0.5)
    assert float(loss) == pytest.approx(math.log(2))


def test_labels_and_confidence() -> None:
    logits = torch.tensor([[3.0, 1.0], [1.0, 4.0]]).log().view(1, 2, 2, 1)
    labels, confidence = core.pseudo_labels(logits.half())
    assert labels.flatten().tolist() == [0, 1]
    assert confidence.flatten().tolist() == pytest.approx([0.75, 0.8], abs=1e-3)
    assert confidence.dtype == torch.float32


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999))
def test_boxes_are_inside_and_of_the_right_size(height: int, width: int, seed: int) -> None:
    boxes = core.cutmix_boxes((height, width), 20, 1.0, np.random.default_rng(seed))
    for top, bottom, left, right in boxes.tolist():
        assert 0 <= top <= bottom <= height
        assert 0 <= left <= right <= width
        assert (bottom - top) * (right - left) <= core.SHARE[1] * height * width + 1e-9


def test_boxes_cover_what_the_source_says() -> None:
    rng = np.random.default_rng(0)
    boxes = core.cutmix_boxes((100, 100), 4000, 0.5, rng)
    areas = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]) / 10_000
    assert 0.46 < (areas > 0).mean() < 0.54
    assert areas[areas > 0].mean() == pytest.approx(0.21, abs=0.02)
    assert not core.cutmix_boxes((100, 100), 100, 0.0, rng).any()


def test_a_box_takes_image_label_confidence_and_validity_of_another_image() -> None:
    count, settings = 3, Unlabeled(views=2, cutmix=1.0, color=NO_COLOR)
    marks = torch.arange(count).view(count, 1, 1).expand(count, 12, 10)
    images = marks[:, None].float().repeat(1, 3, 1, 1)
    views = core.strong_views(
        images, marks, marks / 10, marks == 0, settings, None, np.random.default_rng(0)
    )
    assert views.images.shape == (6, 3, 12, 10)
    assert torch.equal(views.images[:, 0].long(), views.labels)
    assert torch.equal(views.labels / 10, views.confidence)
    assert torch.equal(views.valid, views.labels == 0)
    for place, labels in enumerate(views.labels):
        found = set(labels.unique().tolist())
        assert place % count in found
        assert len(found) == 2


def test_one_image_is_not_mixed() -> None:
    images, valid = batch(1)
    settings = Unlabeled(views=1, cutmix=1.0, color=NO_COLOR)
    labels = torch.zeros(1, 6, 8, dtype=torch.int64)
    rng = np.random.default_rng(0)
    views = core.strong_views(images, labels, labels.float(), valid, settings, None, rng)
    assert torch.allclose(views.images, images, atol=1e-6)


def test_colours_of_a_pixel_by_hand() -> None:
    """Values 100, 200 (mean 150) in one channel, 50 in the others; mean 10, std 2."""
    values = torch.tensor([[100.0, 200.0], [50.0, 50.0], [50.0, 50.0]]).view(1, 3, 1, 2)
    norm = core.Norm(torch.full((3, 1, 1), 10.0), torch.full((3, 1, 1), 2.0))
    images = (values - 10) / 2
    one = np.ones(1)

    def back(colors: core.Colors) -> list[float]:
        found: list[float] = (core.jitter(images, colors, norm) * 2 + 10).flatten().tolist()
        return found

    assert back(core.Colors(one, one, one)) == pytest.approx([100, 200, 50, 50, 50, 50])
    assert back(core.Colors(2 * one, one, one)) == pytest.approx([200, 255, 100, 100, 100, 100])
    middle = 500 / 6
    assert back(core.Colors(one, 0.5 * one, one)) == pytest.approx(
        [middle + 0.5 * (v - middle) for v in (100, 200, 50, 50, 50, 50)], rel=1e-4
    )
    assert back(core.Colors(one, 4 * one, one)) == pytest.approx([150, 255, 0, 0, 0, 0], abs=1e-3)
    grey = [200 / 3, 100.0]
    assert back(core.Colors(one, one, 0 * one)) == pytest.approx([*grey, *grey, *grey], rel=1e-4)


def test_draws_of_colours() -> None:
    rng = np.random.default_rng(0)
    colors = core.draw_colors(Color(0.3, 0.2, 0.1, 0.5, 0.25), 4000, rng)
    changed = colors.brightness != 1
    assert 0.46 < changed.mean() < 0.54
    assert 0.22 < (colors.saturation == 0).mean() < 0.28
    assert np.array_equal(changed, colors.contrast != 1)
    assert abs(colors.brightness - 1).max() <= 0.3
    assert abs(colors.contrast - 1).max() <= 0.2
    still = core.draw_colors(NO_COLOR, 9, rng)
    assert all((one == 1).all() for one in (still.brightness, still.contrast, still.saturation))


@pytest.mark.parametrize("views", [1, 2, 3, 4])
def test_channels_are_shared_out_among_pairs_of_views(views: int) -> None:
    masks = core.channel_masks(views, 400, 30, 0.5, np.random.default_rng(0))
    masks = masks.reshape(views, 400, 30)
    for first in range(0, views - 1, 2):
        assert (masks[first] + masks[first + 1] == 2).all()
    chosen = (masks != 1).any(dim=2)
    assert set(masks[chosen].unique().tolist()) == {0.0, 2.0}
    assert all(0.42 < float(one) < 0.58 for one in chosen.float().mean(dim=1))


def test_only_open_pixels_have_a_gradient() -> None:
    """Answered pixels, void ones and padding are not valid; with every other change on."""
    training, model = begun(Unlabeled(views=2, cutmix=1.0, threshold=0.0, drop=0.0))
    images, valid = batch(3)
    found = training.losses(model, images, valid, None)
    found[LOSS].backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        rng = np.random.default_rng([5, 0, 0])
        labels, sure = core.pseudo_labels(core.pixel_logits(training.teacher, images))
        views = core.strong_views(images, labels, sure, valid, training.settings, None, rng)
    gradient = model.seen[-1].grad
    assert gradient is not None
    moved = gradient.abs().sum(dim=1) > 0
    assert torch.equal(moved, views.valid)
    assert 0 < int(views.valid.sum()) < views.valid.numel()


@pytest.mark.parametrize(("threshold", "share"), [(0.0, 1.0), (1.0, 0.0)])
def test_all_or_none_confident(threshold: float, share: float) -> None:
    training, model = begun(Unlabeled(threshold=threshold))
    images, valid = batch()
    found = training.losses(model, images, valid, None)
    assert float(found["unlabeled.confident"]) == share
    assert (float(found[LOSS]) > 0) == bool(share)
    counted = training.count.result()
    assert counted["pixels"] == int(valid.sum())
    assert sum(counted["confident"]) == share * int(valid.sum())
    found[LOSS].backward()  # type: ignore[no-untyped-call]
    gradient = model.decode_head.weight.grad
    assert gradient is not None, "none confident: still zeros for every parameter"
    assert bool(gradient.any()) == bool(share)


@given(
    seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.1, 0.5, 1.0]), n=st.integers(1, 60)
)
def test_thresholds_of_classes_let_the_surest_share_count(seed: int, share: float, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (1, 1, n), generator=generator)
    sure = torch.rand(1, 1, n, generator=generator)
    valid = torch.rand(1, 1, n, generator=generator) < 0.8
    found = core.class_thresholds(labels, sure, valid, 4, 0.7, share)
    assert found.shape == (4,)
    assert found.max() <= 0.7  # in float32; never stricter than the common threshold
    for c in range(4):
        mine = sorted(sure[valid & (labels == c)].tolist(), reverse=True)
        wanted = math.ceil(round(share * len(mine), 6))
        counted = [one for one in mine if one >= found[c].item()]
        by_threshold = [one for one in mine if one >= torch.tensor(0.7).item()]
        assert len(counted) == max(wanted, len(by_threshold))


def test_a_share_of_each_class_counts_in_the_loss() -> None:
    images, valid = batch()
    found = {}
    for share in (0.0, 0.5, 1.0):
        settings = Unlabeled(views=1, cutmix=0.0, color=NO_COLOR, drop=0.0, threshold=0.999,
                             class_share=share)  # fmt: skip
        training, model = begun(settings)
        losses = training.losses(model, images, valid, None)
        labels, sure = core.pseudo_labels(core.pixel_logits(training.teacher, images))
        least = core.class_thresholds(labels, sure, valid, 3, 0.999, share)
        wanted = brute_loss(core.pixel_logits(model, images), labels, sure,
                            valid & (sure >= least[labels]), 0.0)  # fmt: skip
        scale = int((valid & (sure >= least[labels])).sum()) / int(valid.sum())
        assert losses[LOSS].item() == pytest.approx(wanted * scale, rel=1e-5)
        found[share] = training.count.result()["confident"]
    assert sum(found[0.0]) == 0
    assert found[1.0] == torch.bincount(labels[valid], minlength=3).tolist()
    assert found[0.5] == [math.ceil(one / 2) for one in found[1.0]]


def test_weight_scales_the_loss_and_zero_leaves_the_model_alone() -> None:
    images, valid = batch()
    values = []
    for weight in (1.0, 2.5):
        training, model = begun(Unlabeled(weight=weight, threshold=0.0))
        values.append(float(training.losses(model, images, valid, None)[LOSS]))
    assert values[1] == pytest.approx(2.5 * values[0], rel=1e-6)
    training, model = begun(Unlabeled(weight=0.0, threshold=0.0))
    before = {name: one.clone() for name, one in model.state_dict().items()}
    found = training.losses(model, images, valid, None)
    assert float(found[LOSS]) == 0
    assert not found[LOSS].requires_grad
    for name, one in model.state_dict().items():
        assert torch.equal(one, before[name]), name


def test_views_depend_on_seed_and_iteration_alone() -> None:
    images, valid = batch()

    def loss(seed: int, iteration: int, other: int) -> float:
        training, model = begun(Unlabeled(threshold=0.0), seed)
        training.iteration = iteration
        torch.manual_seed(other)
        np.random.seed(other)  # noqa: NPY002
        return float(training.losses(model, images, valid, None)[LOSS])

    first = loss(1, 4, 0)
    assert first == loss(1, 4, 9)
    assert len({first, loss(1, 5, 0), loss(2, 4, 0)}) == 3


def test_heads_that_predict_sets_are_refused_by_name() -> None:
    head = {"type": "Mask2FormerHead", "num_classes": 3, "loss_cls": {}, "loss_mask": {}}
    model = {"type": "EncoderDecoder", "decode_head": head}
    told = r"model\.decode_head \(Mask2FormerHead\)"
    with pytest.raises(UnsupportedError, match=rf"unlabeled needs logits .* {told} predicts a set"):
        check_config({"model": model}, Unlabeled(), None)
    with pytest.raises(UnsupportedError, match=rf"loss_average='image': {told} .* of masks"):
        weigh_pixels(model, {"loss_average": "image"}, lambda *_: None)  # type: ignore[arg-type,return-value]


def test_half_precision() -> None:
    """Under autocast confidences and losses are still float32, and gradients are finite."""
    images, valid = batch()
    training, model = begun(Unlabeled(threshold=0.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = training.losses(model, images, valid, None)
    assert found[LOSS].dtype == torch.float32
    found[LOSS].backward()  # type: ignore[no-untyped-call]
    gradient = model.decode_head.weight.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    training, model = begun(Unlabeled(threshold=0.0))
    exact = training.losses(model, images, valid, None)[LOSS]
    assert float(found[LOSS].detach()) == pytest.approx(float(exact.detach()), rel=0.02)


def test_a_saved_state_goes_on_as_if_it_had_not_been_saved() -> None:
    training, model = begun(Unlabeled(ema=0.7))
    for _ in range(3):
        with torch.no_grad():
            model.decode_head.bias.add_(1.0)
        training.update(model)
    other = SelfTraining(training.settings, 3, 5)
    other.begin(model, training.saved())
    with torch.no_grad():
        model.decode_head.bias.add_(1.0)
    for one in (training, other):
        one.update(model)
    assert other.updates == training.updates == 4
    for name, value in training.teacher.state_dict().items():
        assert torch.equal(value, other.teacher.state_dict()[name]), name


def test_student_and_teacher_are_exchanged_and_put_back() -> None:
    training, model = begun(Unlabeled(keep="teacher"))
    with torch.no_grad():
        model.decode_head.bias.fill_(3.0)
        training.teacher.decode_head.bias.fill_(4.0)
    with training.exchanged(model):
        assert model.decode_head.bias.tolist() == [4.0] * 3
    assert model.decode_head.bias.tolist() == [3.0] * 3
    assert training.teacher.decode_head.bias.tolist() == [4.0] * 3


def test_the_teacher_is_no_part_of_the_student() -> None:
    training, model = begun(Unlabeled())
    assert set(model.state_dict()) == set(Pixelwise().state_dict())
    assert not any(one.requires_grad for one in training.teacher.parameters())
    assert not training.teacher.training


def test_counts_of_classes() -> None:
    count = PseudoCount(3)
    labels = torch.tensor([[[0, 1, 1, 2]]])
    sure = torch.tensor([[[True, True, False, True]]])
    valid = torch.tensor([[[True, True, True, False]]])
    count.add(labels, sure, valid)
    count.add(labels, sure, valid)
    assert count.result() == {"pixels": 6, "confident": [2, 2, 0]}
    other = PseudoCount(3)
    other.load(count.state())
    assert other.result() == count.result()


def test_classes_that_are_not_trained_on_are_no_pseudo_labels() -> None:
    """Pixels where the teacher sees one add nothing; those of other classes do."""
    images, valid = torch.rand(2, 3, 16, 16), torch.ones(2, 16, 16, dtype=torch.bool)
    shares = []
    for never in ((), (0,)):
        model = Pixelwise().train()
        with torch.no_grad():
            model.decode_head.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))  # sees class 0 alone
        training = SelfTraining(Unlabeled(), 3, 5, never)
        training.begin(model)
        losses = training.losses(model, images, valid, None)
        shares.append(float(losses["unlabeled.confident"]))
        if never:
            assert float(losses["unlabeled.loss_ce"]) == 0.0
    assert shares == [1.0, 0.0]
