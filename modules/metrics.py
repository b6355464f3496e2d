"""Scores of segmentation as ``torchmetrics``: the papers' tables, region integrity (RIC), and DAVIS' J.

All states are sums, so the result on N processes equals the result on one, and every IoU comes from one matrix over the
whole data set.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from pseudolabel.types import VOID, LabelSpace


def _check_ids(name: str, ids: Tensor, num_classes: int) -> None:
    """Refuse the values ``ids`` if there are any."""
    if len(ids):
        raise ValueError(
            f"{name} holds the values {ids.tolist()}, expected class ids 0..{num_classes - 1} or {VOID} (void). Check "
            "that the masks belong to this label space."
        )


def confusion_matrix(predicted: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Count pixels by (target, predicted) class.

    Args:
        predicted: int (..., H, W), class ids; 255 counts as background.
        target: int (..., H, W), class ids; pixels of 255 (void) are not counted.
        num_classes: C, background included, at most 255.

    Returns:
        long (C, C), rows = target, columns = predicted.

    Raises:
        ValueError: the shapes differ, or a value is neither a class id nor 255.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"predicted {tuple(predicted.shape)} and target {tuple(target.shape)} must have one shape.")
    for name, ids in (("predicted", predicted), ("target", target)):
        if ids.dtype != torch.uint8:
            _check_ids(name, ids[(ids < 0) | (ids > VOID)].unique(), num_classes)
    # One count over all pairs of bytes; void and wrong values are then sorted out in a matrix, not in every pixel.
    pairs = torch.bincount((target.to(torch.int32) * 256 + predicted).flatten(), minlength=256 * 256).reshape(256, 256)
    _check_ids("target", num_classes + pairs[num_classes:VOID].sum(1).nonzero().flatten(), num_classes)
    _check_ids("predicted", num_classes + pairs[:VOID, num_classes:VOID].sum(0).nonzero().flatten(), num_classes)
    confusion = pairs[:num_classes, :num_classes].clone()
    confusion[:, 0] += pairs[:num_classes, VOID]
    return confusion


def iou_of(confusion: Tensor) -> Tensor:
    """Return the IoU float (C,) of each class of a confusion matrix (C, C); NaN where the union is empty."""
    hits = confusion.diagonal()
    return hits / (confusion.sum(0) + confusion.sum(1) - hits)


def _merge(confusion: Tensor, group_of: Tensor, num_groups: int) -> Tensor:
    """Sum the rows and columns of a confusion matrix (C, C) by group: (G, G)."""
    rows = confusion.new_zeros(num_groups, len(confusion)).index_add_(0, group_of, confusion)
    return confusion.new_zeros(num_groups, num_groups).index_add_(1, group_of, rows)


class SegmentationScores(Metric):
    """mIoU, mean class accuracy and global accuracy of the joint classes, the actors and the actions.

    All come from one joint confusion matrix over the data set; the actor and action matrices are its sums (Chen et al.,
    Tables 3 and 4; Yan et al.). Means run over the classes that have target pixels, background included. Pixels with
    target 255 are ignored; predicted 255 counts as background.

    Args:
        space: the classes, with their projections.
        **options: of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor
    actor_of: Tensor
    action_of: Tensor

    def __init__(self, space: LabelSpace, **options: Any) -> None:
        super().__init__(**options)
        self.space = space
        size = space.num_classes
        self.add_state("confusion", torch.zeros(size, size, dtype=torch.long), dist_reduce_fx="sum")
        self.register_buffer("actor_of", torch.as_tensor(space.actor_of, dtype=torch.long), persistent=False)
        self.register_buffer("action_of", torch.as_tensor(space.action_of, dtype=torch.long), persistent=False)

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Count the pixels of predicted and target int (..., H, W), class ids, 255 = void.

        Raises:
            ValueError: the shapes differ, or a value is neither a class id nor 255.
        """
        self.confusion += confusion_matrix(predicted, target, self.space.num_classes).to(self.confusion.device)

    def compute(self) -> dict[str, Tensor]:
        """Return scalars in [0, 1], NaN when no pixel was scored.

        Keys: ``miou``, ``cls_acc``, ``glo_acc`` (joint), the same with the prefix ``actor_``, and with ``action_`` when
        the label space has actions.
        """
        groups = [("", self.confusion), ("actor_", _merge(self.confusion, self.actor_of, len(self.space.actors)))]
        if self.space.has_actions:
            groups.append(("action_", _merge(self.confusion, self.action_of, len(self.space.actions))))
        scores = {}
        for prefix, confusion in groups:
            present = confusion.sum(1) > 0
            accuracy = confusion.diagonal() / confusion.sum(1)
            scores[f"{prefix}miou"] = iou_of(confusion)[present].mean()
            scores[f"{prefix}cls_acc"] = accuracy[present].mean()
            scores[f"{prefix}glo_acc"] = confusion.diagonal().sum() / confusion.sum()
        return scores

    def iou_per_class(self) -> Tensor:
        """Return the joint IoU float (C,) in the order of ``space.names``; NaN for classes without target pixels.

        Under DDP it must be called on all ranks, like :meth:`compute`.
        """
        alone = not self._is_synced
        with self.sync_context(self.dist_sync_fn, self.process_group, should_sync=alone, should_unsync=alone):
            return torch.where(self.confusion.sum(1) > 0, iou_of(self.confusion), torch.nan)


class RegionIntegrity(Metric):
    """Region integrity criterion: how good a model is, told without ground truth (Chen et al. 2020, Eq. 1-3).

    ``RIC = mIoU(M_refine, PA) + alpha * mIoU(M_init, M_refine)``, where M_init is the model's prediction and M_refine
    the prediction snapped to superpixels. The first term asks whether the model agrees with its pseudo-annotations
    (PA), the second (RII) whether its borders are those of the picture. Works with any segmentation model::

        criterion = RegionIntegrity(num_classes=21)
        criterion.update(prediction, refined, pa)
        criterion.compute()["ric"]

    Both mIoUs come from matrices over the data set, over classes with a non-empty union, background included. PA pixels
    of 255 (void) are ignored in the first term; 255 elsewhere counts as background.

    Args:
        num_classes: C, background included.
        alpha: weight of RII, 0.5 in the paper.
        **options: of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    agreement: Tensor
    integrity: Tensor

    def __init__(self, num_classes: int, alpha: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.num_classes = num_classes
        self.alpha = alpha
        self.add_state("agreement", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("integrity", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, refined: Tensor, pa: Tensor) -> None:
        """Count the pixels of the raw prediction, the refined prediction and the PA, each int (..., H, W).

        Raises:
            ValueError: the shapes differ, or a value is neither a class id nor 255.
        """
        refined_known = torch.where(refined == VOID, 0, refined)
        device = self.agreement.device
        self.agreement += confusion_matrix(refined, pa, self.num_classes).to(device)
        self.integrity += confusion_matrix(prediction, refined_known, self.num_classes).to(device)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars ``ric`` in [0, 1 + alpha], ``miou_pa`` and ``rii`` in [0, 1]; 0 if nothing was counted."""
        miou_pa = iou_of(self.agreement).nanmean().nan_to_num(0.0)
        rii = iou_of(self.integrity).nanmean().nan_to_num(0.0)
        return {"ric": miou_pa + self.alpha * rii, "miou_pa": miou_pa, "rii": rii}


class SequenceJaccard(Metric):
    """J of DAVIS: the IoU of the foreground, averaged over the frames of each video and then over videos.

    A frame where both masks are empty scores 1. Pixels with target 255 are ignored.

    Args:
        num_videos: number of videos; ids run from 0 to num_videos - 1.
        **options: of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    totals: Tensor
    frames: Tensor

    def __init__(self, num_videos: int, **options: Any) -> None:
        super().__init__(**options)
        self.num_videos = num_videos
        self.add_state("totals", torch.zeros(num_videos), dist_reduce_fx="sum")
        self.add_state("frames", torch.zeros(num_videos, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor, videos: list[int]) -> None:
        """Score frames.

        Args:
            predicted: int (N, H, W); foreground where neither 0 nor 255.
            target: int (N, H, W); foreground where neither 0 nor 255, ignored where 255.
            videos: N ids, the video of each frame.

        Raises:
            ValueError: the shapes differ, or an id is not in 0..num_videos-1.
        """
        if predicted.shape != target.shape or len(predicted) != len(videos):
            raise ValueError(
                f"predicted {tuple(predicted.shape)} and target {tuple(target.shape)} must be (N, H, W) with N videos, "
                f"got {len(videos)} videos."
            )
        if any(not 0 <= video < self.num_videos for video in videos):
            raise ValueError(f"videos must be ids in 0..{self.num_videos - 1}, got {sorted(set(videos))}.")
        known = target != VOID
        found = known & (predicted > 0) & (predicted != VOID)
        true = known & (target > 0)
        shared = (found & true).flatten(1).sum(1)
        union = (found | true).flatten(1).sum(1)
        jaccard = torch.where(union > 0, shared / union.clamp(min=1), 1.0)
        for video, score in zip(videos, jaccard.to(self.totals.device), strict=True):
            self.totals[video] += score
            self.frames[video] += 1

    def compute(self) -> Tensor:
        """Return the mean over the videos that have frames, a scalar in [0, 1]; NaN when there is none."""
        seen = self.frames > 0
        return (self.totals[seen] / self.frames[seen]).mean()
