"""From boxes to a mask: the best region proposal of every box (Liang et al., Eq. 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pseudolabel.detect_boxes import Boxes, box_iou
from pseudolabel.proposal_set import Proposals
from pseudolabel.superpixels import region_means
from pseudolabel.types import BoolArray, DataError, FloatArray

_BOXES_AT_ONCE = 512  # memory: this times the number of proposals


def best_proposals(
    boxes: Boxes, proposals: Proposals, scores: FloatArray | None, *, fill: float = 0.0
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

    Returns:
        int64 (N,), -1 for a box that overlaps with no proposal.

    Raises:
        DataError: scores have another size than the proposals, or are not finite.
    """
    best = np.full(len(boxes), -1, np.int64)
    if not len(boxes) or not len(proposals):
        return best
    confidence = np.zeros(len(proposals), np.float32)
    if scores is not None:
        confidence = _mean_scores(proposals, scores)
    if fill:
        confidence = confidence + np.float32(fill) * _filled(proposals)
    given = np.where(np.isfinite(boxes.boxes).all(axis=1, keepdims=True), boxes.boxes, 0)
    for start in range(0, len(boxes), _BOXES_AT_ONCE):
        overlap = box_iou(given[start : start + _BOXES_AT_ONCE], proposals.boxes)
        total = np.where(overlap > 0, overlap + confidence, -np.inf)
        chosen = total.argmax(axis=1)
        found = np.isfinite(total[np.arange(len(total)), chosen])
        best[start : start + len(total)] = np.where(found, chosen, -1)
    return best


def match_proposals(boxes: Boxes, proposals: Proposals, scores: FloatArray | None, *, fill: float = 0.0) -> BoolArray:
    """Return R_k, the union of the best proposals of all boxes of a frame (Eq. 3).

    Args:
        boxes: see :func:`best_proposals`.
        proposals: of the frame.
        scores: see :func:`best_proposals`.
        fill: see :func:`best_proposals`.

    Returns:
        bool (H, W); empty without boxes or without proposals.

    Raises:
        DataError: see :func:`best_proposals`.
    """
    best = best_proposals(boxes, proposals, scores, fill=fill)
    chosen = np.unique(best[best >= 0])
    held = np.asarray(proposals.members[chosen].any(axis=0))
    return held[proposals.regions]


def _filled(proposals: Proposals) -> FloatArray:
    """Return the share of its tight box that every proposal fills, float32 (R,); 0 for one without pixels."""
    sides = proposals.boxes[:, 2:] - proposals.boxes[:, :2]
    whole = np.nan_to_num(sides[:, 0] * sides[:, 1])
    return (proposals.areas / np.maximum(whole, 1)).astype(np.float32)


def _mean_scores(proposals: Proposals, scores: FloatArray) -> FloatArray:
    """Return the mean score of every proposal, float32 (R,)."""
    if scores.shape != proposals.regions.shape or not np.isfinite(scores).all():
        raise DataError(
            f"Matching: scores {scores.shape} must be finite and of the size of the proposals "
            f"{proposals.regions.shape}. Resize the network's scores to the frame."
        )
    count = proposals.members.shape[1]
    pixels = np.bincount(proposals.regions.ravel(), minlength=count).astype(np.float32)
    sums = region_means(proposals.regions, scores, count=count)[:, 0] * pixels
    members = proposals.members.astype(np.float32)
    return members @ sums / np.maximum(members @ pixels, 1)
