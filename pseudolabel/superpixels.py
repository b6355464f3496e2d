"""SLIC superpixels of one frame, their neighbours in space and time, and what they hold."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from fast_slic import Slic
from fast_slic.base_slic import BaseSlic
from scipy import sparse

from pseudolabel.types import DataError, FloatArray, Int32Array, UInt8Array

IntArray = npt.NDArray[np.int64]

MIN_PIXELS = 16
"""A superpixel has at least so many pixels on average; on small frames fewer superpixels are made."""

_MOST_SUPERPIXELS = np.iinfo(np.int16).max  # fast-slic numbers them in int16
_CPU_AVX2 = 11  # OpenCV's CPU_AVX2, which its Python module does not name


def _slic_class() -> type[BaseSlic]:
    """Return the fastest implementation that this CPU and this build of fast-slic can run."""
    if not cv2.checkHardwareSupport(_CPU_AVX2):
        return Slic
    try:
        from fast_slic.avx2 import SlicAvx2
    except ImportError:
        return Slic
    return SlicAvx2


def segment_superpixels(frame: UInt8Array, *, n: int = 200, compactness: float = 10.0) -> Int32Array:
    """Segment a frame into compact regions that keep to its edges (SLIC, Achanta et al. 2012).

    Deterministic on one machine. Uses one thread; run frames on several workers instead.

    Args:
        frame: uint8 (H, W, 3), RGB.
        n: number of superpixels wanted; SLIC makes about as many.
        compactness: weight of distance in the picture against distance in colour; higher = squarer.

    Returns:
        int32 (H, W), C-contiguous, ids 0..N-1 without gaps.

    Raises:
        DataError: the frame is not uint8 (H, W, 3).
    """
    if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise DataError(
            f"Superpixels: frame must be uint8 (H, W, 3), got {frame.dtype} {tuple(frame.shape)}. "
            "Convert it to 8-bit RGB."
        )
    height, width = frame.shape[:2]
    wanted = max(1, min(n, height * width // MIN_PIXELS, _MOST_SUPERPIXELS))
    if wanted == 1:
        return np.zeros((height, width), np.int32)
    slic = _slic_class()(num_components=wanted, compactness=compactness, num_threads=1)  # anew: it is stateful
    labels = slic.iterate(np.ascontiguousarray(frame)).astype(np.int32)
    used = np.bincount(labels.ravel()) > 0
    rank = (np.cumsum(used) - 1).astype(np.int32)
    return rank[labels]


def adjacency(labels: Int32Array) -> tuple[IntArray, FloatArray]:
    """Find which superpixels touch, and along how many pixel sides.

    Args:
        labels: int (H, W), ids >= 0.

    Returns:
        edges int64 (E, 2) with i < j, sorted, and the length of the common boundary, float32 (E,), counted in pixel
        sides (4-neighbours).
    """
    _check_labels(labels)
    first = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()])
    second = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()])
    differs = first != second
    first, second = first[differs], second[differs]
    size = int(labels.max()) + 1
    return _count_pairs(np.minimum(first, second), np.maximum(first, second), (size, size))


def _count_pairs(
    first: npt.NDArray[np.integer[Any]], second: npt.NDArray[np.integer[Any]], shape: tuple[int, int]
) -> tuple[IntArray, FloatArray]:
    """Return the distinct pairs (E, 2), sorted, and how often each occurs (E,); linear in the number of pairs."""
    ones = np.ones(len(first), np.float32)
    table = sparse.coo_matrix((ones, (first, second)), shape).tocsr()  # sums duplicates
    table.sort_indices()
    rows = np.repeat(np.arange(shape[0]), np.diff(table.indptr))
    return np.stack([rows, table.indices.astype(np.int64)], axis=1), table.data


def _areas(labels: Int32Array, count: int | None) -> npt.NDArray[np.float64]:
    return np.maximum(np.bincount(labels.ravel(), minlength=count or 0), 1).astype(np.float64)


def centres(labels: Int32Array, *, count: int | None = None) -> FloatArray:
    """Return the centre (x, y) of every superpixel in pixels.

    Args:
        labels: int (H, W), ids >= 0.
        count: N; the highest id + 1 when None.

    Returns:
        float32 (N, 2); zero for ids that do not occur.
    """
    _check_labels(labels)
    height, width = labels.shape
    area, flat = _areas(labels, count), labels.ravel()
    x = np.bincount(flat, np.tile(np.arange(width), height), len(area)) / area
    y = np.bincount(flat, np.repeat(np.arange(height), width), len(area)) / area
    return np.stack([x, y], axis=1).astype(np.float32)


def region_means(labels: Int32Array, values: npt.NDArray[np.generic], *, count: int | None = None) -> FloatArray:
    """Return the mean of ``values`` in every superpixel.

    Args:
        labels: int (H, W), ids >= 0.
        values: (H, W) or (H, W, D), any number type or bool.
        count: N; the highest id + 1 when None.

    Returns:
        float32 (N, D), D = 1 for values (H, W); zero for ids that do not occur.

    Raises:
        DataError: values and labels differ in size.
    """
    _check_labels(labels)
    if values.shape[:2] != labels.shape:
        raise DataError(
            f"Superpixels: values {tuple(values.shape)} do not fit labels {tuple(labels.shape)}, expected the same "
            "height and width. Compute the superpixels on the frame that the values belong to."
        )
    area, flat = _areas(labels, count), labels.ravel()
    columns = values.reshape(len(flat), -1)
    sums = [np.bincount(flat, columns[:, d], len(area)) for d in range(columns.shape[1])]
    return (np.stack(sums, axis=1) / area[:, None]).astype(np.float32)


def temporal_links(labels_a: Int32Array, labels_b: Int32Array, flow: FloatArray) -> tuple[IntArray, FloatArray]:
    """Link superpixels of two frames that share at least one pixel along the flow.

    phi of Papazoglou and Ferrari (ICCV 2013), section 3.2: the share of the pixels of i in frame a that land in j of
    frame b when they move by their (rounded) flow. Pixels that leave the picture land nowhere, but count in the share.

    Args:
        labels_a: int (H, W), ids of frame a.
        labels_b: int (H, W), ids of frame b.
        flow: (H, W, 2), (dx, dy) in pixels from frame a to frame b.

    Returns:
        edges int64 (E, 2), (id in a, id in b), sorted, and overlap float32 (E,) in (0, 1].

    Raises:
        DataError: the three differ in size.
    """
    _check_labels(labels_a)
    _check_labels(labels_b)
    if labels_a.shape != labels_b.shape or flow.shape != (*labels_a.shape, 2):
        raise DataError(
            f"Superpixels: labels {tuple(labels_a.shape)} and {tuple(labels_b.shape)} and flow {tuple(flow.shape)} do "
            "not fit, expected (H, W), (H, W) and (H, W, 2) of one size. Compute all of them on frames of one size."
        )
    height, width = labels_a.shape
    moved = np.rint(flow).astype(np.int64)
    x = moved[..., 0] + np.arange(width)
    y = moved[..., 1] + np.arange(height)[:, None]
    stays = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    area = _areas(labels_a, None)
    edges, pixels = _count_pairs(labels_a[stays], labels_b[y[stays], x[stays]], (len(area), int(labels_b.max()) + 1))
    return edges, (pixels / area[edges[:, 0]]).astype(np.float32)


def _check_labels(labels: Int32Array) -> None:
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(
            f"Superpixels: labels must be whole numbers >= 0 of shape (H, W), got {labels.dtype} "
            f"{tuple(labels.shape)}. See segment_superpixels."
        )
