"""What the regions of a frame hold and how they touch: colours, outlines and the contrast along them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from pseudolabel.graphs import Float64Array
from pseudolabel.types import FloatArray, Int32Array, UInt8Array

BINS = 16
"""Of the histogram of each channel of Lab."""

_SMOOTH = 1.0  # deviation in pixels of the Gaussian before gradients
_LEVELS = 256
_CELLS = 8  # of each channel in the joint histogram
_GREY = 128  # a and b of grey in 8-bit Lab
_CELL = 10  # width of a cell of a and b; the outermost cells take the rest


@dataclass(frozen=True)
class FrameColours:
    """What the pixels of a frame look like.

    Attributes:
        lab: uint8 (H, W, 3).
        cells: int32 (H, W), the cell of each pixel's colour in a grid over Lab, 0..B-1; only cells in use are counted.
        edges: float32 (H, W), length of the gradient of Lab, in levels per pixel.
    """

    lab: UInt8Array
    cells: Int32Array
    edges: FloatArray


@dataclass(frozen=True)
class RegionGraph:
    """The S regions of a partition and their neighbours.

    Attributes:
        contrast: float32 (S, S), sum of the contrast along the boundary of two regions, 0 where they do not touch.
        length: float32 (S, S), pixel sides of that boundary.
        areas: float64 (S,), pixels.
        rim: float64 (S,), pixel sides on the frame's border.
        boxes: float64 (S, 4), tight boxes x0, y0, x1, y1.
        histograms: float32 (S, 48 + B), pixels per bin of L, of a, of b, and per cell of all three.
    """

    contrast: FloatArray
    length: FloatArray
    areas: Float64Array
    rim: Float64Array
    boxes: Float64Array
    histograms: FloatArray


def observe_colours(frame: UInt8Array) -> FrameColours:
    """Return what the pixels of a frame uint8 (H, W, 3), RGB, look like."""
    lab = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2LAB), np.uint8)
    smooth = cv2.GaussianBlur(lab, (0, 0), _SMOOTH)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    edges = np.sqrt((across * across + down * down).sum(axis=2))
    levels = np.arange(_LEVELS)
    light = levels * _CELLS // _LEVELS
    hue = np.clip((levels - _GREY) // _CELL + _CELLS // 2, 0, _CELLS - 1)
    codes = (light[lab[..., 0]] * _CELLS + hue[lab[..., 1]]) * _CELLS + hue[lab[..., 2]]
    rank = np.cumsum(np.bincount(codes.ravel(), minlength=_CELLS**3) > 0) - 1
    return FrameColours(lab, rank[codes].astype(np.int32), edges)


def describe_regions(colours: FrameColours, regions: Int32Array) -> RegionGraph:
    """Measure regions and their boundaries.

    Args:
        colours: of the frame.
        regions: int32 (H, W), ids 0..S-1 without gaps.
    """
    count, cells = int(regions.max()) + 1, int(colours.cells.max()) + 1
    contrast, length = np.zeros((count, count), np.float32), np.zeros((count, count), np.float32)
    areas, rim = np.zeros(count), np.zeros(count)
    boxes = np.full((count, 4), np.array([np.inf, np.inf, 0, 0]))
    histograms = np.zeros((count, 3 * BINS + cells), np.float32)
    _describe(colours.lab, colours.cells, colours.edges, regions, contrast, length, areas, rim, boxes, histograms)
    return RegionGraph(contrast, length, areas, rim, boxes, histograms)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _describe(
    lab: UInt8Array,
    cells: Int32Array,
    edges: FloatArray,
    regions: Int32Array,
    contrast: FloatArray,
    length: FloatArray,
    areas: Float64Array,
    rim: Float64Array,
    boxes: Float64Array,
    histograms: FloatArray,
) -> None:
    height, width = regions.shape
    for y in range(height):
        for x in range(width):
            own = regions[y, x]
            areas[own] += 1
            rim[own] += (y == 0) + (x == 0) + (y == height - 1) + (x == width - 1)
            boxes[own, 0], boxes[own, 1] = min(boxes[own, 0], x), min(boxes[own, 1], y)
            boxes[own, 2], boxes[own, 3] = max(boxes[own, 2], x + 1), max(boxes[own, 3], y + 1)
            for channel in range(3):
                histograms[own, channel * BINS + np.int64(lab[y, x, channel]) * BINS // _LEVELS] += 1
            histograms[own, 3 * BINS + cells[y, x]] += 1
            for down in range(2):
                v, u = y + down, x + 1 - down
                if v < height and u < width and regions[v, u] != own:
                    other = regions[v, u]
                    step = max(edges[y, x], edges[v, u])
                    contrast[own, other] += step
                    contrast[other, own] += step
                    length[own, other] += 1
                    length[other, own] += 1
