"""SLIC superpixels of one frame."""

from __future__ import annotations

import cv2
import numpy as np
from fast_slic import Slic
from fast_slic.base_slic import BaseSlic

from pseudolabel.types import DataError, Int32Array, UInt8Array

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
