"""MaskFormer and Mask2Former of MMSegmentation 1.x over labelled pixels; the definitions are in
`engines.mmseg.set_losses`.

mmseg's heads derive from mmdet's. Without mmdet these classes are there, but cannot be built.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine import dist
from mmengine.structures import InstanceData
from mmseg.models.decode_heads import Mask2FormerHead, MaskFormerHead
from mmseg.registry import MODELS

from ..mmseg import set_losses
from ..mmseg.set_losses import Points, Targets

MATCHING_POINTS = 12544
"""Points on which masks are matched with queries, as many as Mask2Former's configs have."""

Losses = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class OverLabels:
    """Mixin for a head that predicts a set of masks: its losses over labelled pixels.

    A batch without an unlabelled pixel has mmseg's own losses. Otherwise masks are matched and
    compared at labelled pixels alone. In an image with unlabelled pixels, a query that is matched
    to no mask is not told that it has no object; its mask is told that labelled pixels are not of
    it, with the weight that the classification loss gives to 'no object'.
    """

    num_classes: int
    num_queries: int
    class_weight: Any
    assigner: Any
    loss_cls: Any
    loss_dice: Any

    def _loss_by_feat_single(
        self, cls_scores: torch.Tensor, mask_preds: torch.Tensor, instances: Any, metas: Any
    ) -> Losses:
        """Losses (class, mask, dice) of one layer of the decoder.

        Args:
            cls_scores: [N, Q, C + 1].
            mask_preds: [N, Q, h, w].
            instances: N with `labels` [G] and `masks` [G, H, W] of the classes that are labelled.
            metas: N, what mmseg knows of the images.
        """
        whole = [bool(set_losses.known(one.masks).all()) for one in instances]
        if all(whole):
            own: Losses = super()._loss_by_feat_single(  # type: ignore[misc]
                cls_scores, mask_preds, instances, metas
            )
            return own
        points = [set_losses.labelled_points(one.masks) for one in instances]
        found = [
            self.matched(scores, masks, one, meta, at, complete)
            for scores, masks, one, meta, at, complete in zip(
                cls_scores, mask_preds, instances, metas, points, whole, strict=True
            )
        ]
        return (
            self.class_loss(cls_scores, found),
            *self.mask_losses(mask_preds, points, found, whole),
        )

    def matched(
        self,
        scores: torch.Tensor,
        masks: torch.Tensor,
        instances: Any,
        meta: Any,
        points: Points,
        complete: bool,
    ) -> Targets:
        """What the queries of one image should say."""
        assigned = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        if len(instances.labels):
            chosen = set_losses.some(points, MATCHING_POINTS)
            with torch.no_grad():
                logits = set_losses.at_points(masks.detach().float(), chosen.xy)
                assigned = self.assigner.assign(
                    pred_instances=InstanceData(scores=scores.detach().float(), masks=logits),
                    gt_instances=InstanceData(labels=instances.labels, masks=chosen.masks),
                    img_meta=meta,
                ).gt_inds
        return set_losses.targets(assigned, instances.labels, self.num_classes, complete)

    def class_loss(self, scores: torch.Tensor, found: list[Targets]) -> torch.Tensor:
        """The classification loss of queries of which it is known what they should say."""
        labels = torch.cat([one.labels for one in found])
        weights = torch.cat([one.weights for one in found])
        total = (scores.new_tensor(self.class_weight)[labels] * weights).sum()
        if total == 0:
            return scores.sum() * 0
        loss: torch.Tensor = self.loss_cls(scores.flatten(0, 1), labels, weights, avg_factor=total)
        return loss

    def mask_losses(
        self,
        masks: torch.Tensor,
        points: list[Points],
        found: list[Targets],
        whole: list[bool],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(mask loss, dice loss), each a mean over matched masks of all ranks."""
        count = sum(len(one.matched) for one in found)
        number = masks.new_tensor([float(count)])
        dist.all_reduce(number, "mean")
        number = number.clamp(min=1)
        of_mask, of_dice = masks.sum() * 0, masks.sum() * 0
        for image, at, one, complete in zip(masks, points, found, whole, strict=True):
            if not len(at.xy):
                continue
            pairs = [(one.matched, at.masks[one.masks], 1.0)]
            if not complete:
                others = torch.nonzero(one.labels == self.num_classes).flatten()
                nowhere = at.masks.new_zeros(len(others), len(at.xy))
                pairs.append((others, nowhere, float(self.class_weight[self.num_classes])))
            for queries, truth, weight in pairs:
                if not len(queries):
                    continue
                logits, truth = self.sampled(image[queries], at.xy, truth)
                mean = number * logits.shape[1]
                of_mask = of_mask + weight * self.binary_loss(logits, truth, mean)
                if queries is one.matched:
                    of_dice = of_dice + self.loss_dice(logits, truth, avg_factor=number)
        return of_mask, of_dice

    def sampled(
        self, masks: torch.Tensor, xy: torch.Tensor, truth: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and truth [M, K] of masks [M, h, w] at points xy [P, 2], whose truth is [M, P]."""
        raise NotImplementedError

    def binary_loss(
        self, logits: torch.Tensor, truth: torch.Tensor, mean: torch.Tensor
    ) -> torch.Tensor:
        """The head's mask loss of logits and truth [M, K]; mean: what its sum is divided by."""
        raise NotImplementedError


@MODELS.register_module()
class LabelledMaskFormerHead(OverLabels, MaskFormerHead):  # type: ignore[misc]
    """mmseg's MaskFormerHead (same arguments) over labelled pixels."""

    def sampled(
        self, masks: torch.Tensor, xy: torch.Tensor, truth: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All points."""
        return set_losses.at_points(masks, xy), truth

    def binary_loss(
        self, logits: torch.Tensor, truth: torch.Tensor, mean: torch.Tensor
    ) -> torch.Tensor:
        """The focal loss, whose class 0 is the mask."""
        loss: torch.Tensor = self.loss_mask(
            logits.reshape(-1, 1), 1 - truth.reshape(-1).long(), avg_factor=mean
        )
        return loss


@MODELS.register_module()
class LabelledMask2FormerHead(OverLabels, Mask2FormerHead):  # type: ignore[misc]
    """mmseg's Mask2FormerHead (same arguments) over labelled pixels: over all of them where an
    image has no more than `num_points`, otherwise over points drawn from them as mmseg draws from
    all."""

    def sampled(
        self, masks: torch.Tensor, xy: torch.Tensor, truth: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All points, or for each mask those nearest to its border and random ones."""
        if len(xy) <= self.num_points:
            return set_losses.at_points(masks, xy), truth
        drawn = min(len(xy), int(self.num_points * self.oversample_ratio))
        candidates = torch.randperm(len(xy), device=xy.device)[:drawn]
        with torch.no_grad():
            logits = set_losses.at_points(masks.detach(), xy[candidates])
            chosen = candidates[
                set_losses.uncertain(logits, self.num_points, self.importance_sample_ratio)
            ]
        return set_losses.at_points(masks, xy[chosen]), truth.gather(1, chosen)

    def binary_loss(
        self, logits: torch.Tensor, truth: torch.Tensor, mean: torch.Tensor
    ) -> torch.Tensor:
        """The cross entropy."""
        loss: torch.Tensor = self.loss_mask(logits.reshape(-1), truth.reshape(-1), avg_factor=mean)
        return loss
