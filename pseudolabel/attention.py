"""From attention maps to masks: normalising, thresholding, placing in time, resolving several tags."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.types import BoolArray, FloatArray, UInt8Array


def normalize(maps: npt.NDArray[Any]) -> FloatArray:
    """Stretch each map to [0, 1] by its own minimum and maximum.

    Args:
        maps: float (..., h, w), finite.

    Returns:
        float32 (..., h, w) in [0, 1]; a constant map becomes 0.
    """
    values = np.asarray(maps, np.float32)
    low = values.min(axis=(-2, -1), keepdims=True)
    extent = values.max(axis=(-2, -1), keepdims=True) - low
    return np.divide(values - low, extent, out=np.zeros_like(values), where=extent > 0)


def otsu_threshold(values: npt.NDArray[Any], bins: int = 256) -> float:
    """Return the threshold that maximises the variance between two classes of a histogram (Otsu, 1979).

    Values above it are foreground. Of several best thresholds the lowest is taken, as in OpenCV.

    Args:
        values: finite numbers of any shape, at least one. uint8 values are their own 256 levels; others are counted in
            equal bins between their minimum and maximum.
        bins: number of bins for values other than uint8.

    Returns:
        The threshold in units of ``values``; for constant values that value, so that nothing lies above it.
    """
    low, high = values.min(), values.max()
    if low == high:
        return float(low)
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        thresholds = np.arange(256, dtype=np.float64)
    else:
        counts, edges = np.histogram(values, bins=bins, range=(float(low), float(high)))
        thresholds = edges[1:]
    levels = np.arange(len(counts))
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sum_below = np.cumsum(counts * levels)[:-1]
    sum_above = (counts * levels).sum() - sum_below
    between = np.zeros(len(below))
    split = (below > 0) & (above > 0)
    between[split] = (below * above)[split] * (sum_below[split] / below[split] - sum_above[split] / above[split]) ** 2
    return float(thresholds[between.argmax()])


def otsu_levels(values: npt.NDArray[Any], bins: int = 256) -> tuple[float, float]:
    """Return the two thresholds that maximise the variance between three classes of a histogram (Otsu, 1979, Sec. V).

    They part the values into low, middle and high. Of several best pairs the lowest is taken.

    Args:
        values: finite floats of any shape, at least one, counted in equal bins between their minimum and maximum.
        bins: number of bins.

    Returns:
        (lower, upper) in units of ``values``; both the maximum if the values are constant.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return high, high
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    mass = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    moment = np.concatenate([[0], np.cumsum(counts * np.arange(bins))]).astype(np.float64)
    # score[i, j] = (sum of levels)^2 / count of the bins i..j-1: a class's part of the variance between classes
    count, total = mass[None] - mass[:, None], moment[None] - moment[:, None]
    score = np.divide(total**2, count, out=np.full_like(total, -np.inf), where=count > 0)
    inner = slice(1, bins)
    between = score[0, inner, None] + score[inner, inner] + score[inner, bins]
    between[np.tril_indices(bins - 1)] = -np.inf
    if not np.isfinite(between.max()):  # fewer than three levels are taken: two classes, and nothing in the middle
        threshold = otsu_threshold(np.asarray(values, np.float32), bins)
        return threshold, threshold
    first, second = np.unravel_index(between.argmax(), between.shape)
    return float(edges[first + 1]), float(edges[second + 1])


def otsu_mask(attention: npt.NDArray[Any]) -> BoolArray:
    """Return bool (H, W), where one map (H, W) lies above its own Otsu threshold; all False for a constant map."""
    return np.asarray(attention > otsu_threshold(attention))


def uniform_frames(num_maps: int, num_frames: int) -> npt.NDArray[np.int64]:
    """Assign t' maps of a clip to frames: map k belongs to the centre of the k-th of t' equal parts.

    "Our empirical findings suggest that a uniform sampling works the best" (Chen et al. 2020, Sec. 4).

    Args:
        num_maps: t', >= 1.
        num_frames: t, the clip's frames, >= 1.

    Returns:
        int (t',), rising frame numbers in [0, t).
    """
    return (2 * np.arange(num_maps) + 1) * num_frames // (2 * num_maps)


def maps_at(maps: npt.NDArray[Any], num_frames: int, frames: npt.ArrayLike) -> FloatArray:
    """Read the maps of a clip at any frames, linear in time between the frames of :func:`uniform_frames`.

    Args:
        maps: float (t', h, w), the clip's maps in order.
        num_frames: the clip's frames.
        frames: (N,) frame numbers in the clip, also between frames; before the first map and after the last one the map
            stays the same.

    Returns:
        float32 (N, h, w).
    """
    times = np.asarray(frames, np.float64)
    positions = uniform_frames(len(maps), num_frames)
    after = np.clip(np.searchsorted(positions, times, side="right"), 1, max(1, len(maps) - 1))
    before = after - 1
    after = np.minimum(after, len(maps) - 1)
    share = (times - positions[before]) / np.maximum(positions[after] - positions[before], 1)
    share = np.clip(share, 0.0, 1.0).astype(np.float32)[:, None, None]
    values = np.asarray(maps, np.float32)
    return (1 - share) * values[before] + share * values[after]


def resize_maps(maps: npt.NDArray[Any], size: tuple[int, int]) -> FloatArray:
    """Resize maps bilinearly.

    Args:
        maps: float (..., h, w).
        size: (H, W).

    Returns:
        float32 (..., H, W).
    """
    values = np.asarray(maps, np.float32)
    resized = np.empty((int(np.prod(values.shape[:-2])), *size), np.float32)
    for one, out in zip(values.reshape(-1, *values.shape[-2:]), resized, strict=True):
        out[:] = cv2.resize(np.ascontiguousarray(one), size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized.reshape(*values.shape[:-2], *size)


def shift_maps(maps: npt.NDArray[Any], cells: float) -> FloatArray:
    """Move maps down and to the right, bilinearly; what leaves is lost, rows and columns at the border are repeated.

    Args:
        maps: float (..., h, w).
        cells: by how many cells of the map; negative: up and to the left.

    Returns:
        float32 (..., h, w).
    """
    moved = np.asarray(maps, np.float32)
    for axis in (-2, -1):
        length = moved.shape[axis]
        places = np.clip(np.arange(length) - cells, 0, length - 1)
        before = np.floor(places).astype(int)
        share = (places - before).astype(np.float32).reshape(-1, *([1] if axis == -2 else []))
        after = np.minimum(before + 1, length - 1)
        moved = (1 - share) * moved.take(before, axis) + share * moved.take(after, axis)
    return moved


def label_by_attention(attention: npt.NDArray[Any], masks: BoolArray, class_ids: npt.ArrayLike) -> UInt8Array:
    """Give each pixel the tag of the largest attention among the tags whose mask covers it (several tags in a video).

    Args:
        attention: float (K, H, W), one map per tag, finite and on one scale.
        masks: bool (K, H, W).
        class_ids: (K,) class ids in 1..254.

    Returns:
        uint8 (H, W), class ids; 0 where no mask covers the pixel. Of equal maps the first wins.
    """
    labels = np.zeros(masks.shape[1:], np.uint8)
    if len(masks):
        best = np.where(masks, attention, -np.inf).argmax(axis=0)
        labels = np.where(masks.any(axis=0), np.asarray(class_ids, np.uint8)[best], labels)
    return labels
