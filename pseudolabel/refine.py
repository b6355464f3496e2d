"""Snap masks to superpixels (Chen et al. 2020, WS2, Algorithm 2), or to the picture by a dense CRF."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from pseudolabel.types import VOID, BoolArray, DataError, FloatArray, Int32Array, UInt8Array

Overlap = Literal["share", "iou"]
"""How a superpixel p overlaps a mask M: ``"share"`` = |p and M| / |p|, ``"iou"`` = |p and M| / |p or M|."""


def _overlap(inside: npt.NDArray[np.int64], area: npt.NDArray[np.int64], overlap: Overlap) -> npt.NDArray[np.float64]:
    """Return the overlap (N, K) of N superpixels of size ``area`` (N,) with K masks; ``inside`` = shared pixels."""
    if overlap == "share":
        whole = np.broadcast_to(area[:, None], inside.shape)
    elif overlap == "iou":
        whole = area[:, None] + inside.sum(axis=0) - inside
    else:
        raise ValueError(f"overlap must be 'share' or 'iou', got {overlap!r}")
    return inside / np.maximum(whole, 1)


def _check(mask: npt.NDArray[np.generic], superpixels: Int32Array) -> None:
    if mask.shape != superpixels.shape or mask.ndim != 2:
        raise DataError(
            f"Refinement: mask {tuple(mask.shape)} and superpixels {tuple(superpixels.shape)} must both be (H, W) of "
            "one size. Compute the superpixels on the frame that the mask belongs to."
        )


def refine_mask(
    mask: BoolArray, superpixels: Int32Array, *, alpha: float = 0.5, beta: float = 0.4, overlap: Overlap = "share"
) -> BoolArray:
    """Return the union of the superpixels that overlap ``mask`` enough and are not too large.

    Algorithm 2 of Chen et al.: a superpixel p is selected when overlap(p, M_init) > alpha and area(p) / area(frame) <
    beta. Read literally (``overlap="iou"``), a superpixel much smaller than the mask is never selected; the default is
    the share of the superpixel that lies in the mask.

    Args:
        mask: bool (H, W), M_init.
        superpixels: int (H, W), ids 0..N-1.
        alpha: least overlap, in [0, 1].
        beta: a superpixel with this share of the frame or more is background, in (0, 1].
        overlap: ``"share"`` or ``"iou"``.

    Returns:
        bool (H, W), M_refine.

    Raises:
        DataError: mask and superpixels differ in size.
    """
    _check(mask, superpixels)
    area = np.bincount(superpixels.ravel())
    inside = np.bincount(superpixels[mask], minlength=len(area))[:, None]
    selected = (_overlap(inside, area, overlap)[:, 0] > alpha) & (area / mask.size < beta)
    return selected[superpixels]


def refine_labels(
    labels: UInt8Array,
    superpixels: Int32Array,
    *,
    num_classes: int,
    alpha: float = 0.5,
    beta: float = 0.4,
    overlap: Overlap = "share",
) -> UInt8Array:
    """Refine the masks of several classes at once (Algorithm 2 of Chen et al., one vote per superpixel).

    Every superpixel takes the foreground class that overlaps it most, if this overlap is > alpha and the superpixel's
    share of the frame is < beta, and is background otherwise. Void pixels stay void where their superpixel is not
    foreground and more than half void. For two classes without void it equals :func:`refine_mask`.

    Args:
        labels: uint8 (H, W), class ids 0..num_classes-1, 255 = void.
        superpixels: int (H, W), ids 0..N-1.
        num_classes: C, background included.
        alpha: least overlap, in [0, 1].
        beta: a superpixel with this share of the frame or more is background, in (0, 1].
        overlap: ``"share"`` or ``"iou"``.

    Returns:
        uint8 (H, W), class ids, 255 = void.

    Raises:
        DataError: labels and superpixels differ in size, or a label is neither < num_classes nor 255.
    """
    _check(labels, superpixels)
    if num_classes < 2:
        raise ValueError(f"num_classes counts the background too and must be >= 2, got {num_classes}")
    column_of = np.full(256, -1)
    column_of[:num_classes] = np.arange(num_classes)
    column_of[VOID] = num_classes
    columns = column_of[labels]
    if columns.min() < 0:
        raise DataError(
            f"Refinement: labels {np.unique(labels[columns < 0]).tolist()} are no class ids, expected "
            f"0..{num_classes - 1} or {VOID} (void). Translate the mask's values with LabelSpace.from_raw first."
        )
    width = num_classes + 1  # the last column counts void pixels
    num_superpixels = int(superpixels.max()) + 1
    codes = superpixels.astype(np.int64) * width + columns
    pixels = np.bincount(codes.ravel(), minlength=num_superpixels * width).reshape(num_superpixels, width)
    area = pixels.sum(axis=1)
    overlaps = _overlap(pixels[:, 1:num_classes], area, overlap)
    best = overlaps.argmax(axis=1)
    foreground = (overlaps[np.arange(num_superpixels), best] > alpha) & (area / labels.size < beta)
    refined = np.where(foreground, best + 1, 0).astype(np.uint8)[superpixels]
    mostly_void = ~foreground & (pixels[:, num_classes] > 0.5 * area)
    refined[(labels == VOID) & mostly_void[superpixels]] = VOID
    return refined


def dense_crf(
    scores: FloatArray,
    frame: UInt8Array,
    *,
    iterations: int = 10,
    bilateral_weight: float = 5.0,
    bilateral_xy: float = 50.0,
    bilateral_rgb: float = 10.0,
    smooth_weight: float = 3.0,
    smooth_xy: float = 3.0,
    floor: float = 1e-5,
) -> FloatArray:
    """Sharpen one frame's scores by a fully connected CRF (Kraehenbuehl & Koltun 2011), as DeepLab does at test time.

    The defaults are those of the DeepLab-CRF that Liang et al. use. A weight of 0 switches
    its term off. Needs the package pydensecrf2.

    Args:
        scores: float (C, H, W), softmax in [0, 1].
        frame: uint8 (H, W, 3), RGB.
        iterations: mean-field steps >= 0.
        bilateral_weight: weight of the term that joins near pixels of like colour.
        bilateral_xy: its reach in pixels, > 0.
        bilateral_rgb: its reach in colour, in 8-bit steps, > 0.
        smooth_weight: weight of the term that joins near pixels.
        smooth_xy: its reach in pixels, > 0.
        floor: least score, so that the logarithm stays finite.

    Returns:
        float32 (C, H, W), sums over C are 1.

    Raises:
        DataError: pydensecrf2 is not installed; sizes do not fit; scores are NaN or negative.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError:
        raise DataError(
            "Dense CRF: the package pydensecrf2 is not installed. Install it (make install), or switch the dense CRF "
            "off: crf.enabled=false (recipe=ws2: rounds.crf.enabled=false rounds.colours.weight=0), predict.py "
            "crf=false."
        ) from None
    if scores.ndim != 3 or not scores.size or frame.shape != (*scores.shape[1:], 3) or frame.dtype != np.uint8:
        raise DataError(
            f"Dense CRF: scores {scores.shape} and frame {frame.dtype} {frame.shape} do not fit, expected (C, H, W) "
            "and uint8 (H, W, 3). Resize the scores to the frame."
        )
    if not (np.isfinite(scores).all() and scores.min() >= 0):
        raise DataError("Dense CRF: scores must be finite and >= 0. Pass softmax scores, not logits.")
    num_classes, height, width = scores.shape
    crf = DenseCRF2D(width, height, num_classes)
    unary = -np.log(np.clip(scores, floor, None).astype(np.float32))
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(num_classes, -1)))  # (C, H, W) -> (C, H*W)
    if smooth_weight:
        crf.addPairwiseGaussian(sxy=smooth_xy, compat=smooth_weight)
    if bilateral_weight:
        crf.addPairwiseBilateral(
            sxy=bilateral_xy, srgb=bilateral_rgb, rgbim=np.ascontiguousarray(frame), compat=bilateral_weight
        )
    sharpened = np.array(crf.inference(iterations), np.float32)
    return sharpened.reshape(num_classes, height, width)
