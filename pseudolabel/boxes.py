"""Boxes of masks, their IoU, and CorLoc, the score of one box per frame (Tokmakov et al. 2016, Sec. 4.5; SPEC A-X)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.types import BoolArray, DataError, FloatArray

_EIGHT = 8  # neighbours of a pixel in a connected component


def largest_box(mask: BoolArray) -> FloatArray:
    """Return the box of the largest connected component (8 neighbours) of a mask.

    Args:
        mask: bool (H, W).

    Returns:
        float32 (4,), x0, y0, x1, y1 in pixels, x1 and y1 beyond the last pixel; NaN for an empty mask.
    """
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=_EIGHT)
    if count < 2:
        return np.full(4, np.nan, np.float32)
    left, top, width, height, _ = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())]
    return np.array([left, top, left + width, top + height], np.float32)


def corloc(boxes: npt.ArrayLike, truth_boxes: Sequence[npt.ArrayLike], *, least_iou: float = 0.5) -> float:
    """Return CorLoc: the share of the annotated frames whose box overlaps a true one by IoU > 0.5 (SPEC A-X).

    Args:
        boxes: (F, 4), x0, y0, x1, y1; NaN = nothing found, which is wrong.
        truth_boxes: per frame (K, 4); frames with K = 0 are not annotated and do not count.
        least_iou: in [0, 1).

    Returns:
        in [0, 1]; NaN if no frame is annotated.

    Raises:
        DataError: shapes do not fit.
    """
    found = np.asarray(boxes, np.float64)
    if found.ndim != 2 or found.shape[1] != 4 or len(found) != len(truth_boxes):
        raise DataError(f"CorLoc: boxes must be ({len(truth_boxes)}, 4), one per frame of truth, got {found.shape}.")
    hits = []
    for t, given in enumerate(truth_boxes):
        truth = np.asarray(given, np.float64)
        if not truth.size:
            continue
        if truth.ndim != 2 or truth.shape[1] != 4:
            raise DataError(f"CorLoc: true boxes of frame {t} must be (K, 4), got {truth.shape}.")
        hits.append(bool((box_iou(found[t][None], truth) > least_iou).any()))
    return float(np.mean(hits)) if hits else float("nan")


def mean_corloc(by_class: Mapping[str, float]) -> float:
    """Return the mean over classes of CorLoc, leaving out classes without annotated frames (NaN); NaN for none."""
    values = [value for value in by_class.values() if np.isfinite(value)]
    return float(np.mean(values)) if values else float("nan")


def box_iou(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> FloatArray:
    """Return the IoU of (N, 4) and (R, 4) boxes, each with each, float32 (N, R) in [0, 1]; 0 for no area or NaN."""
    left_top = np.maximum(first[:, None, :2], second[None, :, :2])
    shared = np.maximum(np.minimum(first[:, None, 2:], second[None, :, 2:]) - left_top, 0).prod(axis=2)
    union = _box_areas(first)[:, None] + _box_areas(second)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared, np.float32), where=union > 0)


def _box_areas(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
