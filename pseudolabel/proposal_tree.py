"""A binary tree of regions of one frame: neighbours are merged two by two, the most alike first."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from pseudolabel.graphs import Float64Array
from pseudolabel.superpixels import IntArray
from pseudolabel.types import FloatArray, Int32Array, UInt8Array

_BINS = 16  # of each Lab channel's histogram
_LEVELS = 256
_SMOOTH = 1.0  # deviation in pixels of the Gaussian before gradients
_TINY = 1e-12


@dataclass(frozen=True)
class RegionTree:
    """Leaves 0..S-1 are the superpixels; node S + m is what merging number m made; the last one is the frame.

    Attributes:
        children: int64 (S - 1, 2), the two nodes that merging m united.
        strength: float64 (S - 1,), how unlike these two were.
        contrast: float64 (S, S), sum of the contrast along the boundary of two superpixels, 0 where they do not touch.
        length: float64 (S, S), pixel sides of that boundary.
        areas: float64 (S,), pixels of the superpixels.
        rim: float64 (S,), pixel sides that each superpixel has on the frame's border.
    """

    children: IntArray
    strength: Float64Array
    contrast: Float64Array
    length: Float64Array
    areas: Float64Array
    rim: Float64Array


@dataclass(frozen=True)
class TreeWeights:
    """How unlike two neighbouring regions are: a weighted sum, times a power of the smaller one's area.

    Attributes:
        boundary: of the mean contrast along their boundary.
        colour: of the distance of their mean Lab colours.
        histogram: of the chi-square distance of their Lab histograms.
        area: exponent of the smaller region's share of the frame; higher = small regions are merged earlier.
    """

    boundary: float = 1.0
    colour: float = 0.5
    histogram: float = 20.0
    area: float = 0.25


@dataclass(frozen=True)
class RegionGraph:
    """What the superpixels of a frame hold and how they touch, S of them.

    Attributes:
        contrast: see :class:`RegionTree`.
        length: see :class:`RegionTree`.
        areas: see :class:`RegionTree`.
        rim: see :class:`RegionTree`.
        colours: float64 (S, 3), sums of Lab.
        histograms: float64 (S, 48), counts of the three channels of Lab.
    """

    contrast: Float64Array
    length: Float64Array
    areas: Float64Array
    rim: Float64Array
    colours: Float64Array
    histograms: Float64Array


def describe_regions(frame: UInt8Array, regions: Int32Array) -> RegionGraph:
    """Measure superpixels and their boundaries.

    Args:
        frame: uint8 (H, W, 3), RGB.
        regions: int32 (H, W), ids 0..S-1 without gaps.
    """
    count = int(regions.max()) + 1
    lab = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2LAB), np.uint8)
    smooth = cv2.GaussianBlur(lab, (0, 0), _SMOOTH)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    edges = np.sqrt((across * across + down * down).sum(axis=2))
    contrast, length = np.zeros((count, count)), np.zeros((count, count))
    areas, rim = np.zeros(count), np.zeros(count)
    colours, histograms = np.zeros((count, 3)), np.zeros((count, 3 * _BINS))
    _describe(lab, edges, regions, contrast, length, areas, rim, colours, histograms)
    return RegionGraph(contrast, length, areas, rim, colours, histograms)


def build_tree(graph: RegionGraph, weights: TreeWeights) -> RegionTree:
    """Merge the most alike neighbours until one region is left (agglomerative, greedy)."""
    count = len(graph.areas)
    children, strength = np.zeros((count - 1, 2), np.int64), np.zeros(count - 1)
    _merge(
        graph.contrast.copy(),
        graph.length.copy(),
        graph.areas.copy(),
        graph.colours.copy(),
        graph.histograms.copy(),
        np.array([weights.boundary, weights.colour, weights.histogram, weights.area]),
        children,
        strength,
    )
    return RegionTree(children, strength, graph.contrast, graph.length, graph.areas, graph.rim)


def cut_tree(tree: RegionTree, count: int) -> Int32Array:
    """Undo the last mergings so that ``count`` regions are left; int32 (S,), the new id of each superpixel."""
    leaves = len(tree.areas)
    kept = max(leaves - max(count, 1), 0)
    top = np.arange(leaves + kept)
    for number in range(kept - 1, -1, -1):
        top[tree.children[number]] = top[leaves + number]
    return np.unique(top[:leaves], return_inverse=True)[1].astype(np.int32)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _describe(
    lab: UInt8Array,
    edges: FloatArray,
    regions: Int32Array,
    contrast: Float64Array,
    length: Float64Array,
    areas: Float64Array,
    rim: Float64Array,
    colours: Float64Array,
    histograms: Float64Array,
) -> None:
    height, width = regions.shape
    for y in range(height):
        for x in range(width):
            own = regions[y, x]
            areas[own] += 1.0
            rim[own] += (y == 0) + (x == 0) + (y == height - 1) + (x == width - 1)
            for channel in range(3):
                value = lab[y, x, channel]
                colours[own, channel] += value
                histograms[own, channel * _BINS + np.int64(value) * _BINS // _LEVELS] += 1.0
            for down in range(2):
                v, u = y + down, x + 1 - down
                if v < height and u < width and regions[v, u] != own:
                    other = regions[v, u]
                    step = np.float64(max(edges[y, x], edges[v, u]))
                    contrast[own, other] += step
                    contrast[other, own] += step
                    length[own, other] += 1.0
                    length[other, own] += 1.0


@njit(cache=True)  # type: ignore[untyped-decorator]
def _unlike(
    i: int,
    j: int,
    contrast: Float64Array,
    length: Float64Array,
    areas: Float64Array,
    colours: Float64Array,
    histograms: Float64Array,
    weights: Float64Array,
    frame: float,
) -> float:
    colour = 0.0
    for channel in range(3):
        colour += (colours[i, channel] / areas[i] - colours[j, channel] / areas[j]) ** 2
    chi = 0.0
    for k in range(histograms.shape[1]):
        first, second = histograms[i, k] / areas[i], histograms[j, k] / areas[j]
        if first + second > 0:
            chi += (first - second) ** 2 / (first + second)
    mean = contrast[i, j] / length[i, j]
    total = weights[0] * mean + weights[1] * np.sqrt(colour) + weights[2] * chi / 6.0
    return (total + _TINY) * (min(areas[i], areas[j]) / frame) ** weights[3]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _merge(
    contrast: Float64Array,
    length: Float64Array,
    areas: Float64Array,
    colours: Float64Array,
    histograms: Float64Array,
    weights: Float64Array,
    children: IntArray,
    strength: Float64Array,
) -> None:
    count, frame = len(areas), areas.sum()
    name = np.arange(count)
    alive = np.ones(count, np.bool_)
    cost = np.full((count, count), np.inf)
    nearest = np.zeros(count, np.int64)
    for i in range(count):
        for j in range(i):
            if length[i, j] > 0:
                cost[i, j] = _unlike(i, j, contrast, length, areas, colours, histograms, weights, frame)
                cost[j, i] = cost[i, j]
    for i in range(count):
        nearest[i] = cost[i].argmin()
    for m in range(count - 1):
        best, one = np.inf, 0
        for i in range(count):
            if alive[i] and cost[i, nearest[i]] < best:
                best, one = cost[i, nearest[i]], i
        two = nearest[one]
        children[m, 0], children[m, 1], strength[m] = name[one], name[two], best
        alive[two] = False
        name[one] = count + m
        areas[one] += areas[two]
        colours[one] += colours[two]
        histograms[one] += histograms[two]
        for k in range(count):
            if length[two, k] > 0 and k != one and alive[k]:
                contrast[one, k] += contrast[two, k]
                length[one, k] += length[two, k]
                contrast[k, one], length[k, one] = contrast[one, k], length[one, k]
        cost[two, :] = np.inf
        cost[:, two] = np.inf
        for k in range(count):
            if alive[k] and k != one and length[one, k] > 0:
                cost[one, k] = _unlike(one, k, contrast, length, areas, colours, histograms, weights, frame)
                cost[k, one] = cost[one, k]
        nearest[one] = cost[one].argmin()
        for k in range(count):
            if alive[k] and k != one:
                if nearest[k] == one or nearest[k] == two:
                    nearest[k] = cost[k].argmin()
                elif cost[k, one] < cost[k, nearest[k]]:
                    nearest[k] = one
