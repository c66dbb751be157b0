"""Heads that predict a set of masks, on sparse labels: without mmdet a small head with losses of
plain torch, with it mmseg's own heads."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("mmengine")

from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment

from regional_al.engines.mmseg import set_losses
from regional_al.engines.mmseg1.ops import stand_in

stand_in()  # before mmseg looks for mmdet
set_heads = importlib.import_module("regional_al.engines.mmseg1.set_heads")
pytestmark = pytest.mark.mmseg1

CLASSES, QUERIES, SIZE, SMALL = 3, 6, (16, 32), (6, 8)
"""Powers of two, so that places of pixels are exact."""


class Assigner:
    """The mean squared difference of masks, less the probability of the class."""

    def assign(self, pred_instances: Any, gt_instances: Any, img_meta: Any) -> Any:
        masks = pred_instances.masks.sigmoid()
        cost = (masks[:, None] - gt_instances.masks[None]).square().mean(2)
        cost = cost - pred_instances.scores.softmax(1)[:, gt_instances.labels]
        queries, found = linear_sum_assignment(cost.numpy())
        assigned = torch.zeros(len(masks), dtype=torch.int64)
        assigned[torch.as_tensor(queries)] = torch.as_tensor(found) + 1
        return SimpleNamespace(gt_inds=assigned)


class Stock:
    """What a head of mmdet has."""

    num_classes, num_queries = CLASSES, QUERIES
    class_weight = (*[1.0] * CLASSES, 0.1)
    num_points, oversample_ratio, importance_sample_ratio = 20, 3.0, 0.75
    assigner = Assigner()

    def _loss_by_feat_single(self, *_: Any) -> Any:
        return "stock"

    def loss_cls(
        self, scores: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, avg_factor: Any
    ) -> torch.Tensor:
        of_class = scores.new_tensor(self.class_weight)
        each = F.cross_entropy(scores, labels, of_class, reduction="none")
        return (each * weights).sum() / avg_factor

    def loss_dice(self, logits: torch.Tensor, truth: torch.Tensor, avg_factor: Any) -> torch.Tensor:
        p = logits.sigmoid()
        dice = (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)
        return (1 - dice).sum() / avg_factor

    def loss_mask(self, logits: torch.Tensor, truth: torch.Tensor, avg_factor: Any) -> torch.Tensor:
        if logits.dim() == 2:  # a focal loss without focus, of which class 0 is the mask
            logits, truth = logits[:, 0], 1 - truth.float()
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
        return loss / avg_factor


class AllPoints(set_heads.OverLabels, Stock):
    sampled = set_heads.LabelledMaskFormerHead.sampled
    binary_loss = set_heads.LabelledMaskFormerHead.binary_loss


class DrawnPoints(set_heads.OverLabels, Stock):
    sampled = set_heads.LabelledMask2FormerHead.sampled
    binary_loss = set_heads.LabelledMask2FormerHead.binary_loss


HEADS = pytest.mark.parametrize("head", [AllPoints(), DrawnPoints()], ids=["all", "drawn"])


def instances(labels: torch.Tensor) -> Any:
    """As mmseg makes them of a label map [H, W]."""
    there = [one for one in labels.unique().tolist() if one != 255]
    masks = [labels == one for one in there]
    stacked = torch.stack(masks) if masks else torch.zeros(0, *labels.shape)
    return InstanceData(labels=torch.tensor(there, dtype=torch.int64), masks=stacked.long())


def label_map(seed: int, share: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, SIZE, generator=generator)
    labels[torch.rand(SIZE, generator=generator) >= share] = 255
    return labels


def outputs(images: int, size: tuple[int, int] = SMALL) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(images, QUERIES, CLASSES + 1, generator=generator, requires_grad=True)
    masks = torch.randn(images, QUERIES, *size, generator=generator, requires_grad=True)
    return scores, masks


def losses(head: Any, scores: Any, masks: Any, *labels: torch.Tensor) -> Any:
    torch.manual_seed(0)
    truth = [instances(one) for one in labels]
    return head._loss_by_feat_single(scores, masks, truth, [{}] * len(labels))


@HEADS
def test_without_labels_there_is_no_loss(head: Any) -> None:
    scores, masks = outputs(2)
    empty = torch.full(SIZE, 255)
    found = losses(head, scores, masks, empty, empty)
    sum(found).backward()
    assert [float(one) for one in found] == [0.0, 0.0, 0.0]
    for one in (scores.grad, masks.grad):
        assert one is not None  # as parallel training needs it
        assert not one.any()


@HEADS
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_unlabelled_pixels_have_no_gradient(head: Any, share: float) -> None:
    """Masks of the size of the labels, so that each logit belongs to one pixel."""
    labels = [label_map(one, share) for one in range(2)]
    scores, masks = outputs(2, SIZE)
    found = losses(head, scores, masks, *labels)
    assert all(torch.isfinite(one) for one in found)
    sum(found).backward()
    assert masks.grad is not None
    for grad, one in zip(masks.grad, labels, strict=True):
        assert not grad[:, one == 255].any()
        assert grad.any()


@HEADS
def test_complete_images_have_the_losses_of_the_head_itself(head: Any) -> None:
    scores, masks = outputs(2)
    assert losses(head, scores, masks, label_map(0, 1.0), label_map(1, 1.0)) == "stock"
    assert losses(head, scores, masks, label_map(0, 1.0), label_map(1, 0.5)) != "stock"


@HEADS
def test_queries_without_a_mask_are_not_told_that_there_is_no_object(head: Any) -> None:
    """Two classes are labelled: of six queries two have a gradient of their class, and all six
    where an image is complete."""
    scores, masks = outputs(2)
    part, whole = label_map(0, 0.3), label_map(1, 1.0)
    part[part == 2] = 255
    losses(head, scores, masks, part, whole)[0].backward()
    assert scores.grad is not None
    assert scores.grad.any(2).sum(1).tolist() == [2, QUERIES]


def test_by_brute_force() -> None:
    """Each loss as a sum over queries and labelled pixels of the upsampled masks."""
    head, labels = AllPoints(), [label_map(0, 0.2), label_map(1, 0.1), torch.full(SIZE, 255)]
    scores, masks = outputs(3)
    with torch.no_grad():
        found = losses(head, scores, masks, *labels)
        up = F.interpolate(masks, SIZE, mode="bilinear", align_corners=False)
        weight = torch.tensor(head.class_weight)
        of_class = divisor = of_mask = of_dice = count = 0.0
        for image in range(2):
            at = labels[image] != 255
            there = labels[image][at].unique().tolist()
            truth = torch.stack([(labels[image][at] == one).float() for one in there])
            logits = up[image][:, at]
            assigned = head.assigner.assign(
                SimpleNamespace(masks=logits, scores=scores[image]),
                SimpleNamespace(masks=truth, labels=torch.tensor(there)),
                {},
            ).gt_inds.tolist()
            for query, one in enumerate(assigned):
                p = logits[query].sigmoid()
                if one:
                    label, mask = there[one - 1], truth[one - 1]
                    of_class += -weight[label] * scores[image, query].log_softmax(0)[label]
                    divisor += weight[label]
                    of_mask += F.binary_cross_entropy(p, mask)
                    of_dice += 1 - (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)
                    count += 1
                else:
                    of_mask += 0.1 * F.binary_cross_entropy(p, torch.zeros_like(p))
    expected = [of_class / divisor, of_mask / count, of_dice / count]
    assert [float(one) for one in found] == pytest.approx([float(one) for one in expected], 1e-4)


def test_points_are_drawn_from_labelled_pixels() -> None:
    """More labelled pixels than points: three quarters of them are the least certain of those
    drawn, and a mask's truth goes with its points."""
    head = DrawnPoints()
    points = set_losses.labelled_points(instances(label_map(3, 0.9)).masks)
    masks = outputs(1, SIZE)[1][0, :CLASSES]
    torch.manual_seed(1)
    logits, truth = head.sampled(masks, points.xy, points.masks)  # type: ignore[attr-defined]
    assert logits.shape == truth.shape == (CLASSES, 20)
    every = set_losses.at_points(masks, points.xy)
    for row, of, mine, mask in zip(logits, truth, every, points.masks, strict=True):
        places = [int(torch.nonzero(torch.isclose(mine, one, atol=1e-6))[0]) for one in row]
        assert len(set(places)) == 20
        assert of.tolist() == mask[places].tolist()


@pytest.fixture(scope="module")
def mmdet_heads() -> Any:
    """mmseg's Mask2FormerHead and the one over labels, small and with equal weights."""
    pytest.importorskip("mmdet.models", exc_type=Exception)
    from mmengine.config import ConfigDict
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    attention = {"embed_dims": 16, "num_heads": 2, "dropout": 0.0, "batch_first": True}
    ffn = {"embed_dims": 16, "feedforward_channels": 16, "num_fcs": 2}
    decoder = {
        "return_intermediate": True,
        "num_layers": 2,
        "layer_cfg": {"self_attn_cfg": attention, "cross_attn_cfg": attention, "ffn_cfg": ffn},
        "init_cfg": None,
    }
    costs = [
        {"type": "mmdet.ClassificationCost", "weight": 2.0},
        {"type": "mmdet.CrossEntropyLossCost", "weight": 5.0, "use_sigmoid": True},
        {"type": "mmdet.DiceCost", "weight": 5.0, "pred_act": True, "eps": 1.0},
    ]
    encoder = {
        "num_layers": 1,
        "layer_cfg": {
            "self_attn_cfg": {
                "embed_dims": 16,
                "num_heads": 2,
                "num_levels": 3,
                "num_points": 2,
                "dropout": 0.0,
                "batch_first": True,
            },
            "ffn_cfg": ffn,
        },
    }
    spec = {
        "in_channels": [4, 8, 16, 32],
        "strides": [4, 8, 16, 32],
        "feat_channels": 16,
        "out_channels": 16,
        "num_classes": CLASSES,
        "num_queries": QUERIES,
        "num_transformer_feat_level": 3,
        "align_corners": False,
        "pixel_decoder": {
            "type": "mmdet.MSDeformAttnPixelDecoder",
            "num_outs": 3,
            "norm_cfg": {"type": "GN", "num_groups": 4},
            "act_cfg": {"type": "ReLU"},
            "encoder": encoder,
            "positional_encoding": {"num_feats": 8, "normalize": True},
            "init_cfg": None,
        },
        "enforce_decoder_input_project": False,
        "positional_encoding": {"num_feats": 8, "normalize": True},
        "transformer_decoder": decoder,
        "loss_cls": {
            "type": "mmdet.CrossEntropyLoss",
            "use_sigmoid": False,
            "loss_weight": 2.0,
            "class_weight": [1.0] * CLASSES + [0.1],
        },
        "loss_mask": {
            "type": "mmdet.CrossEntropyLoss",
            "use_sigmoid": True,
            "reduction": "mean",
            "loss_weight": 5.0,
        },
        "loss_dice": {
            "type": "mmdet.DiceLoss",
            "use_sigmoid": True,
            "activate": True,
            "reduction": "mean",
            "naive_dice": True,
            "eps": 1.0,
            "loss_weight": 5.0,
        },
        "train_cfg": {
            "num_points": 64,
            "oversample_ratio": 3.0,
            "importance_sample_ratio": 0.75,
            "assigner": {"type": "mmdet.HungarianAssigner", "match_costs": costs},
            "sampler": {"type": "mmdet.MaskPseudoSampler"},
        },
    }
    torch.manual_seed(0)
    stock = MODELS.build(ConfigDict(type="Mask2FormerHead", **spec))
    ours = MODELS.build(ConfigDict(type="LabelledMask2FormerHead", **spec))
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def samples(labels: list[torch.Tensor]) -> Any:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    made = []
    for one in labels:
        meta = {"img_shape": tuple(one.shape), "pad_shape": tuple(one.shape)}
        sample = SegDataSample(metainfo=meta)
        sample.gt_sem_seg = PixelData(data=one[None])
        made.append(sample)
    return made


def features() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return [
        torch.randn(2, 4 * 2**one, 32 // 2**one, 32 // 2**one, generator=generator)
        for one in range(4)
    ]


def grown(labels: torch.Tensor) -> torch.Tensor:
    return F.interpolate(labels[None, None].float(), (128, 128), mode="nearest")[0, 0].long()


def test_mmdet_complete_masks_are_as_with_the_stock_head(mmdet_heads: Any) -> None:
    found = []
    for head in mmdet_heads:
        torch.manual_seed(3)
        labels = [grown(label_map(one, 1.0)) for one in range(2)]
        found.append(head.loss(features(), samples(labels), None))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_mmdet_blank_and_sparse(mmdet_heads: Any) -> None:
    """No gradient of any parameter without labels; with some, finite losses of every layer."""
    head = mmdet_heads[1]
    empty = torch.full((128, 128), 255)
    sum(head.loss(features(), samples([empty, empty]), None).values()).backward()
    assert all(one.grad is None or not one.grad.any() for one in head.parameters())
    head.zero_grad()
    labels = [grown(label_map(one, 0.2)) for one in range(2)]
    found = head.loss(features(), samples(labels), None)
    assert {"loss_cls", "loss_mask", "loss_dice", "d0.loss_cls"} <= set(found)
    total = sum(found.values())
    assert torch.isfinite(total)
    total.backward()
    assert any(one.grad is not None and one.grad.any() for one in head.parameters())


@pytest.mark.parametrize("kind", ["MaskFormerHead", "Mask2FormerHead"])
def test_heads_are_replaced_by_name(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Below image level, and nothing else of the head; a class of the user's own never."""
    from regional_al.engines.mmseg1.losses import average_over_labels
    from regional_al.errors import UnsupportedError

    for refuse, expected in ((True, f"Labelled{kind}"), (False, kind)):
        model = {"decode_head": {"type": kind, "num_classes": 3}}
        average_over_labels(model, refuse=refuse)
        assert model["decode_head"] == {"type": expected, "num_classes": 3}
    assert f"model.decode_head: {kind} by Labelled{kind}" in caplog.text
    with pytest.raises(UnsupportedError, match="ignore_index=0 must be 255"):
        average_over_labels({"decode_head": {"type": kind, "ignore_index": 0}}, refuse=True)


@pytest.mark.parametrize("refuse", [True, False])
def test_heads_of_another_task_are_refused_at_every_level(refuse: bool) -> None:
    from regional_al.engines.mmseg1.losses import average_over_labels
    from regional_al.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match="'VPDDepthHead' predicts depths, not classes: use"):
        average_over_labels({"decode_head": {"type": "VPDDepthHead"}}, refuse=refuse)
