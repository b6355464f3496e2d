"""What the camera's motion does not explain: the residual flow, and how it hints at the object.

Goes beyond Papazoglou and Ferrari, who look at boundaries of the whole flow only. The background's flow is taken as
that of a plane (a homography, found robustly); what moves on its own stands out in the rest.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from pseudolabel.inside_outside import check_flow
from pseudolabel.types import BoolArray, DataError, FloatArray, UInt8Array

CameraModel = Literal["none", "translation", "homography"]

_FEWEST_POINTS = 8


def background_flow(
    flow: FloatArray,
    *,
    model: CameraModel = "homography",
    tolerance: float = 0.5,
    spacing: int = 6,
    max_iters: int = 300,
    most: float = 2.0,
) -> FloatArray:
    """Return the flow that the dominant motion would give at every pixel. Deterministic.

    Args:
        flow: float32 (H, W, 2), (dx, dy) in pixels.
        model: ``"homography"`` by RANSAC, ``"translation"`` = the median flow, ``"none"`` = no motion.
        tolerance: a point that differs by more pixels is no inlier.
        spacing: every so many pixels a point takes part.
        max_iters: of RANSAC.
        most: a homography whose flow is anywhere longer than this multiple of the longer edge is refused for the
            translation.

    Returns:
        float32 (H, W, 2).

    Raises:
        DataError: the flow is not (H, W, 2), or not finite.
    """
    check_flow(flow)
    if model not in ("none", "translation", "homography"):
        raise DataError(f"Camera: unknown model {model!r}, expected 'none', 'translation' or 'homography'.")
    height, width = flow.shape[:2]
    if model == "none":
        return np.zeros_like(flow, np.float32)
    points = np.mgrid[spacing // 2 : height : spacing, spacing // 2 : width : spacing].reshape(2, -1)[::-1].T
    moves = flow[points[:, 1], points[:, 0]]
    shift = np.median(moves, axis=0) if len(moves) else np.median(flow.reshape(-1, 2), axis=0)
    translation = np.broadcast_to(shift.astype(np.float32), flow.shape)
    if model == "translation" or len(points) < _FEWEST_POINTS:
        return np.array(translation)
    start = points.astype(np.float32)
    matrix, _ = cv2.findHomography(start, start + moves, cv2.RANSAC, tolerance, maxIters=max_iters)
    if matrix is None:
        return np.array(translation)
    x, y = np.arange(width), np.arange(height)[:, None]
    depth = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    if depth.min() <= 0:  # the horizon crosses the picture
        return np.array(translation)
    field = np.empty((height, width, 2), np.float32)
    field[..., 0] = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / depth - x
    field[..., 1] = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / depth - y
    return np.array(translation) if np.abs(field).max() > most * max(height, width) else field


def stays_within(flow: FloatArray) -> BoolArray:
    """Return bool (H, W): the pixels that the flow keeps in the picture; elsewhere flow is a guess."""
    height, width = flow.shape[:2]
    x, y = _targets(flow)
    return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))


def unexplained(
    first: UInt8Array,
    second: UInt8Array,
    flow: FloatArray,
    background: FloatArray,
    *,
    noise: float = 3.0,
    side: int = 7,
) -> FloatArray:
    """Return how much worse the background's motion explains the next frame than the flow does.

    e_b / (e_b + e_f + noise), with the mean absolute grey difference e around a pixel after following the background
    (b) or the flow (f). Sky, which any motion explains, gets 0; water, which none explains, about a half.

    Args:
        first: uint8 (H, W, 3), RGB.
        second: uint8 (H, W, 3), RGB, to which the flows point.
        flow: float32 (H, W, 2), in pixels.
        background: float32 (H, W, 2), see :func:`background_flow`.
        noise: difference in grey levels that says nothing.
        side: of the square around a pixel, in pixels.

    Returns:
        float32 (H, W) in [0, 1).
    """
    grey, following = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
    errors = []
    for field in (background, flow):
        moved = cv2.remap(following, *_targets(field), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference = cv2.absdiff(grey, moved)
        errors.append(np.asarray(cv2.boxFilter(difference, cv2.CV_32F, (side, side)), np.float32))
    return errors[0] / (errors[0] + errors[1] + np.float32(noise))


def _targets(flow: FloatArray) -> tuple[FloatArray, FloatArray]:
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)


def residual_evidence(speed: FloatArray, *, percentile: float = 98.0, floor: float = 1.0) -> FloatArray:
    """Scale the residual speed of a frame to [0, 1].

    Args:
        speed: float32 (H, W), length of the residual flow in pixels.
        percentile: the speed at this percentile, and all above, count as 1 ...
        floor: ... unless it is below so many pixels; then this speed counts as 1.

    Returns:
        float32 (H, W) in [0, 1].
    """
    top = max(float(np.percentile(speed[::2, ::2], percentile)), floor)
    return np.minimum(speed / np.float32(top), np.float32(1.0))


def scaled_strength(
    strength: FloatArray, *, percentile: float = 95.0, target: float = 1.5, floor: float = 0.05
) -> FloatArray:
    """Scale |grad f| of a frame, so that slow and smoothed flow shows boundaries as well.

    Args:
        strength: float32 (H, W), |grad f|.
        percentile: the value at this percentile ...
        target: ... becomes this one ...
        floor: ... unless it is below this one, which then does.

    Returns:
        float32 (H, W), >= 0.
    """
    top = max(float(np.percentile(strength[::2, ::2], percentile)), floor)
    return np.asarray(strength * np.float32(target / top))
