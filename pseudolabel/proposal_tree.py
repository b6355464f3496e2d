"""A binary tree of regions of one frame: neighbours are merged two by two, the most alike first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from pseudolabel.graphs import Float64Array
from pseudolabel.proposal_graph import BINS, RegionGraph
from pseudolabel.superpixels import IntArray
from pseudolabel.types import BoolArray, DataError, FloatArray, Int32Array

_TINY = 1e-9  # regions of equal colours are still merged in the order of their size and shape


@dataclass(frozen=True)
class TreeWeights:
    """How unlike two neighbouring regions i and j are (ours).

    ``(channels * chi_1 + cells * chi_2 + fill * F) * min(|i|, |j|)^area / B^enclosure`` with the chi-square distances
    of their colours, both in [0, 1].

    Attributes:
        channels: of chi_1, the mean over the histograms of L, a and b, >= 0.
        cells: of chi_2, over the histogram of cells of the Lab space, >= 0.
        fill: of F, the share of the frame that the box around both holds besides them (selective search's fill), >= 0.
        area: exponent of the smaller area as share of the frame, >= 0; higher = small regions are merged earlier.
        enclosure: exponent of B, the share of the shorter outline of the two that is their common boundary, >= 0;
            higher = what lies within another region is merged with it earlier.

    Raises:
        DataError: a weight is negative.
    """

    channels: float = 0.0
    cells: float = 1.0
    fill: float = 0.0
    area: float = 0.5
    enclosure: float = 0.0

    def __post_init__(self) -> None:
        if not min(self.channels, self.cells, self.fill, self.area, self.enclosure) >= 0:
            raise DataError(f"Region trees: weights must be >= 0, got {self}.")


@dataclass(frozen=True)
class RegionTree:
    """Leaves 0..S-1 are the regions of ``graph``; node S + m is what merging number m made; the last is the frame.

    Attributes:
        graph: the leaves.
        children: int64 (S - 1, 2), the two nodes that merging m united.
    """

    graph: RegionGraph
    children: IntArray

    def members(self) -> BoolArray:
        """Return bool (2S - 1, S): the leaves below each node."""
        count = len(self.graph.areas)
        below = np.zeros((count + len(self.children), count), bool)
        below[np.arange(count), np.arange(count)] = True
        for number, (one, two) in enumerate(self.children, count):
            below[number] = below[one] | below[two]
        return below


def build_tree(graph: RegionGraph, weights: TreeWeights) -> RegionTree:
    """Merge the most alike neighbours until one region is left (agglomerative, greedy)."""
    return RegionTree(graph, _mergings(graph, weights, 1))


def merge_regions(graph: RegionGraph, weights: TreeWeights, count: int) -> Int32Array:
    """Merge the most alike neighbours until ``count`` regions are left; int32 (S,), the new id of each region."""
    leaves = len(graph.areas)
    children = _mergings(graph, weights, max(count, 1))
    top = np.arange(leaves + len(children))
    for number in range(len(children) - 1, -1, -1):
        top[children[number]] = top[leaves + number]
    return np.unique(top[:leaves], return_inverse=True)[1].astype(np.int32)


def _mergings(graph: RegionGraph, weights: TreeWeights, count: int) -> IntArray:
    children = np.zeros((max(len(graph.areas) - count, 0), 2), np.int64)
    _merge(
        graph.length.copy(),
        graph.areas.copy(),
        graph.length.sum(axis=1) + graph.rim,
        graph.boxes.copy(),
        graph.histograms.copy(),
        np.array([weights.channels, weights.cells, weights.fill, weights.area, weights.enclosure]),
        children,
    )
    return children


@njit(cache=True)  # type: ignore[untyped-decorator]
def _unlike(
    i: int,
    j: int,
    shared: float,
    areas: Float64Array,
    outlines: Float64Array,
    boxes: Float64Array,
    histograms: FloatArray,
    weights: Float64Array,
    frame: float,
) -> float:
    total = _TINY
    one, two = np.float32(1 / areas[i]), np.float32(1 / areas[j])
    for part in range(2):
        if weights[part] > 0:
            distance = np.float32(0)
            first, last = (0, 3 * BINS) if part == 0 else (3 * BINS, histograms.shape[1])
            for k in range(first, last):
                p, q = histograms[i, k] * one, histograms[j, k] * two
                if p + q > 0:
                    distance += (p - q) * (p - q) / (p + q)
            total += weights[part] * distance / (6.0 if part == 0 else 2.0)
    if weights[2] > 0:
        width = max(boxes[i, 2], boxes[j, 2]) - min(boxes[i, 0], boxes[j, 0])
        height = max(boxes[i, 3], boxes[j, 3]) - min(boxes[i, 1], boxes[j, 1])
        total += weights[2] * (width * height - areas[i] - areas[j]) / frame
    total *= (min(areas[i], areas[j]) / frame) ** weights[3]
    return total / (shared / min(outlines[i], outlines[j])) ** weights[4]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _merge(
    length: FloatArray,
    areas: Float64Array,
    outlines: Float64Array,
    boxes: Float64Array,
    histograms: FloatArray,
    weights: Float64Array,
    children: IntArray,
) -> None:
    count, frame = len(areas), areas.sum()
    names = np.arange(count)
    alive = np.ones(count, np.bool_)
    cost = np.full((count, count), np.inf, np.float32)
    for i in range(count):
        for j in range(i):
            if length[i, j] > 0:
                cost[i, j] = _unlike(i, j, length[i, j], areas, outlines, boxes, histograms, weights, frame)
                cost[j, i] = cost[i, j]
    nearest, lowest = np.zeros(count, np.int64), np.zeros(count, np.float32)
    for i in range(count):
        nearest[i] = cost[i].argmin()
        lowest[i] = cost[i, nearest[i]]
    for m in range(len(children)):
        one = int(lowest.argmin())
        two = nearest[one]
        children[m, 0], children[m, 1] = names[one], names[two]
        alive[two] = False
        names[one] = count + m
        areas[one] += areas[two]
        outlines[one] += outlines[two] - 2 * length[one, two]
        histograms[one] += histograms[two]
        for side in range(2):
            boxes[one, side] = min(boxes[one, side], boxes[two, side])
            boxes[one, 2 + side] = max(boxes[one, 2 + side], boxes[two, 2 + side])
        lowest[two], lowest[one], cost[one, two] = np.inf, np.inf, np.inf
        for k in range(count):
            if not alive[k] or k == one:
                continue
            if length[two, k] > 0:
                length[one, k] += length[two, k]
                length[k, one] = length[one, k]
                cost[k, two] = np.inf
            if length[one, k] > 0:
                cost[one, k] = _unlike(one, k, length[one, k], areas, outlines, boxes, histograms, weights, frame)
                cost[k, one] = cost[one, k]
                if nearest[k] in (one, two):
                    nearest[k] = cost[k].argmin()
                elif cost[k, one] < lowest[k]:
                    nearest[k] = one
                lowest[k] = cost[k, nearest[k]]
                if cost[one, k] < lowest[one]:
                    nearest[one], lowest[one] = k, cost[one, k]
