"""From boxes to a mask: the best region proposal of every box (Liang et al., Eq. 3)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from pseudolabel.boxes import box_iou
from pseudolabel.detect_boxes import Boxes
from pseudolabel.proposal_set import Proposals
from pseudolabel.types import BoolArray, DataError, FloatArray, Int32Array

Confidence = Literal["mean", "overlap"]

_BOXES_AT_ONCE = 512  # memory: this times the number of proposals


def best_proposals(
    boxes: Boxes,
    proposals: Proposals,
    scores: FloatArray | None,
    *,
    fill: float = 0.0,
    confidence: Confidence = "mean",
) -> npt.NDArray[np.int64]:
    """Return the best proposal of every box: Eq. 3, argmax over r of IoU(r, h) + mean of g over r.

    The IoU is that of the box h with the tight box of the proposal r. Only proposals whose box overlaps with h are
    candidates (ours); of equals the first is taken, so a pool is best sorted with the likely objects in front.

    Args:
        boxes: of the frame; one that is not finite matches nothing.
        proposals: of the frame.
        scores: float32 (H, W), the network's confidence g in [0, 1]; None = there is no network yet.
        fill: weight of a further term, the share of its tight box that a proposal fills (ours; 0 is the paper, whose
            proposals come ranked by a learned objectness: hollow ones and frames around things are no objects).
        confidence: what is added of the scores: ``"mean"`` over the proposal, the paper; or ``"overlap"`` (ours), the
            soft IoU of the proposal with the scores within the box: a mean is highest for a small sure part, so that
            masks shrink from round to round.

    Returns:
        int64 (N,), -1 for a box that overlaps with no proposal.

    Raises:
        DataError: scores have another size than the proposals, or are not finite.
    """
    best = np.full(len(boxes), -1, np.int64)
    if not len(boxes) or not len(proposals):
        return best
    bonus = np.zeros((1, len(proposals)), np.float32)
    if fill:
        bonus = bonus + np.float32(fill) * _filled(proposals)
    given = np.where(np.isfinite(boxes.boxes).all(axis=1, keepdims=True), boxes.boxes, 0)
    if scores is not None:
        bonus = bonus + (
            _mean_scores(proposals, scores) if confidence == "mean" else _overlaps(given, proposals, scores)
        )
    for start in range(0, len(boxes), _BOXES_AT_ONCE):
        part = slice(start, start + _BOXES_AT_ONCE)
        overlap = box_iou(given[part], proposals.boxes)
        total = np.where(overlap > 0, overlap + (bonus[part] if len(bonus) > 1 else bonus), -np.inf)
        chosen = total.argmax(axis=1)
        found = np.isfinite(total[np.arange(len(total)), chosen])
        best[part] = np.where(found, chosen, -1)
    return best


def match_proposals(
    boxes: Boxes,
    proposals: Proposals,
    scores: FloatArray | None,
    *,
    fill: float = 0.0,
    confidence: Confidence = "mean",
) -> BoolArray:
    """Return R_k, the union of the best proposals of all boxes of a frame (Eq. 3).

    Args:
        boxes: see :func:`best_proposals`.
        proposals: of the frame.
        scores: see :func:`best_proposals`.
        fill: see :func:`best_proposals`.
        confidence: see :func:`best_proposals`.

    Returns:
        bool (H, W); empty without boxes or without proposals.

    Raises:
        DataError: see :func:`best_proposals`.
    """
    best = best_proposals(boxes, proposals, scores, fill=fill, confidence=confidence)
    chosen = np.unique(best[best >= 0])
    held = np.asarray(proposals.members[chosen].any(axis=0))
    return held[proposals.regions]


def painted_scores(boxes: Boxes, proposals: Proposals, *, fill: float = 0.0) -> FloatArray:
    """Return the highest score of a box whose best proposal holds a pixel (Eq. 3 without a network); 0 where none does.

    Args:
        boxes: of a frame, with scores >= 0.
        proposals: of the frame.
        fill: see :func:`best_proposals`.

    Returns:
        float32 (H, W).
    """
    best = best_proposals(boxes, proposals, None, fill=fill)
    held = np.zeros(proposals.members.shape[1], np.float32)
    for box in np.flatnonzero(best >= 0):
        held = np.where(proposals.members[best[box]], np.maximum(held, boxes.scores[box]), held)
    return np.asarray(held[proposals.regions], np.float32)


def _filled(proposals: Proposals) -> FloatArray:
    """Return the share of its tight box that every proposal fills, float32 (R,); 0 for one without pixels."""
    sides = proposals.boxes[:, 2:] - proposals.boxes[:, :2]
    whole = np.nan_to_num(sides[:, 0] * sides[:, 1])
    return (proposals.areas / np.maximum(whole, 1)).astype(np.float32)


def _mean_scores(proposals: Proposals, scores: FloatArray) -> FloatArray:
    """Return the mean score of every proposal, float32 (R,)."""
    _check_scores(proposals, scores)
    count = proposals.members.shape[1]
    members = proposals.members.astype(np.float32)
    sums = _region_sums(proposals.regions, scores, count)
    return members @ sums / np.maximum(members @ _region_sums(proposals.regions, None, count), 1)


def _overlaps(boxes: FloatArray, proposals: Proposals, scores: FloatArray) -> FloatArray:
    """Return the soft IoU of every proposal with the scores within every box, float32 (N, R)."""
    _check_scores(proposals, scores)
    count = proposals.members.shape[1]
    members = proposals.members.astype(np.float32)
    inside = members @ _region_sums(proposals.regions, scores, count)
    found = np.zeros((len(boxes), len(proposals)), np.float32)
    for row, corners in zip(found, boxes, strict=True):
        x0, y0, x1, y1 = np.clip(np.round(corners), 0, None).astype(int)
        window = np.s_[y0:y1, x0:x1]
        sums = _region_sums(proposals.regions[window], scores[window], count)
        missed = sums.sum() - members @ sums
        row[:] = inside / np.maximum(proposals.areas + missed, 1)
    return found


def _region_sums(regions: Int32Array, scores: FloatArray | None, count: int) -> FloatArray:
    """Return the sum of scores, or the number of pixels, of every region, float32 (count,)."""
    weights = None if scores is None else scores.ravel()
    return np.bincount(regions.ravel(), weights, minlength=count).astype(np.float32)


def _check_scores(proposals: Proposals, scores: FloatArray) -> None:
    if scores.shape != proposals.regions.shape or not np.isfinite(scores).all():
        raise DataError(
            f"Matching: scores {scores.shape} must be finite and of the size of the proposals "
            f"{proposals.regions.shape}. Resize the network's scores to the frame."
        )
