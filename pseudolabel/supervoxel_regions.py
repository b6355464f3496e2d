"""The levels above level 0 of supervoxels: regions are merged along the edges of a region graph.

Grundmann et al. (CVPR 2010), section 2.2: an edge weighs how far the Lab histograms of its two regions differ. Each
level merges the regions of the level below as level 0 merges voxels, with a greater ``c_reg`` and ``min_size``.

Ours: the distance is multiplied by how much colours differ right at the common border, and divided by the share of the
smaller region's border that is common. Histograms alone join what looks alike on the whole but has an edge between, or
meets in a few pixels only: both kinds of region reach over the edge of an object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from pseudolabel.supervoxel_settings import SupervoxelSettings
from pseudolabel.supervoxel_voxels import find_root, join, number_roots
from pseudolabel.types import FloatArray, Int32Array, UInt8Array


@dataclass(frozen=True)
class RegionGraph:
    """The regions of one level.

    Attributes:
        sizes: int32 (N,), voxels of each.
        histograms: float32 (N, 3 * bins), counts of L, a and b.
        first: int32 (E,), one end of each edge.
        second: int32 (E,), the other; no pair is there twice, nor with itself.
        contacts: float32 (E,), pixel sides and links in time that the two ends share, > 0.
        steps: float32 (E,), the colour difference across each contact, RGB grey levels, summed over them.
    """

    sizes: Int32Array
    histograms: FloatArray
    first: Int32Array
    second: Int32Array
    contacts: FloatArray
    steps: FloatArray


def region_graph(
    labels: Int32Array,
    count: int,
    colours: FloatArray,
    lab: UInt8Array,
    motion: Int32Array,
    *,
    settings: SupervoxelSettings,
) -> RegionGraph:
    """Return the graph of level 0. Regions are neighbours that share a pixel side, or a link in time.

    Args:
        labels: int32 (T, H, W), 0..N-1.
        count: N.
        colours: float32 (T, H, W, 3), RGB in 0..255, smoothed.
        lab: uint8 (T, H, W, 3), Lab, each channel over 0..255.
        motion: int32 (T, H, W, 2), (rows, columns) from a pixel to its place in the frame before.
        settings: see there.
    """
    first, second, steps = _touching(labels, motion, colours, settings.max_link**2)
    return RegionGraph(
        np.bincount(labels.ravel(), minlength=count).astype(np.int32),
        _histograms(labels.ravel(), count, lab.reshape(-1, 3), _bin_of(settings), settings.histogram_bins),
        *_distinct(first, second, np.ones_like(steps), steps, count),
    )


def edge_weights(graph: RegionGraph, *, contrast: float | None) -> FloatArray:
    """Return how far the two ends of each edge are from being one region.

    The weight is d * (s / n) / contrast * p / n, with d the chi-squared distance of the histograms, s / n the mean
    colour difference over the n contacts, and p all contacts of that end that has fewer.

    Args:
        graph: of a level.
        contrast: grey levels; None = d alone. See the settings.

    Returns:
        float32 (E,), >= 0.
    """
    distances = _distances(graph.histograms, graph.first, graph.second)
    if contrast is None:
        return distances  # type: ignore[no-any-return]
    count = len(graph.sizes)
    border = np.bincount(graph.first, graph.contacts, count) + np.bincount(graph.second, graph.contacts, count)
    smaller = np.minimum(border[graph.first], border[graph.second])
    return (distances * graph.steps * smaller / (contrast * np.square(graph.contacts))).astype(np.float32)


def merge_regions(
    graph: RegionGraph, *, c_reg: float, min_size: float, contrast: float | None
) -> tuple[Int32Array, int]:
    """Merge the regions of one level into those of the next.

    Args:
        graph: of the level.
        c_reg: how far regions may differ, weight times voxels.
        min_size: of a region of the next level, voxels.
        contrast: see :func:`edge_weights`.

    Returns:
        int32 (N,), the region of the next level of each region, 0..M-1, and M.
    """
    weights = edge_weights(graph, contrast=contrast)
    order = np.argsort(weights, kind="stable")
    ends = graph.first[order], graph.second[order], weights[order]
    return _merge(*ends, graph.sizes, c_reg, min_size)  # type: ignore[no-any-return]


def contract(graph: RegionGraph, labels: Int32Array, count: int) -> RegionGraph:
    """Return the graph of the next level, with regions 0..``count``-1, region i of this one lying in ``labels[i]``."""
    first, second = labels[graph.first], labels[graph.second]
    apart = first != second
    return RegionGraph(
        np.bincount(labels, graph.sizes, count).astype(np.int32),
        _sums(labels, graph.histograms, count),
        *_distinct(first[apart], second[apart], graph.contacts[apart], graph.steps[apart], count),
    )


def _bin_of(settings: SupervoxelSettings) -> Int32Array:
    """Return the bin of each value of L, a and b, int32 (3, 256); 8-bit a and b have their zero at 128."""
    bins, reach, value = settings.histogram_bins, settings.histogram_reach, np.arange(256)
    chroma = np.clip(np.floor((value - 128 + reach) * bins / (2 * reach)), 0, bins - 1)
    return np.stack([value * bins // 256, chroma, chroma]).astype(np.int32)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _touching(
    labels: Int32Array, motion: Int32Array, colours: FloatArray, most: float
) -> tuple[Int32Array, Int32Array, FloatArray]:
    """Return the two labels wherever they differ across a pixel side or a link in time, and how far colours do there.

    Most pairs are there repeatedly.
    """
    frames, height, width = labels.shape
    first, second, steps = np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
    for turn in range(2):  # count, then write
        found = 0
        for t in range(frames):
            for y in range(height):
                for x in range(width):
                    own = labels[t, y, x]
                    for way in range(3):
                        s, j, i = t, y, x
                        if way == 0:
                            i = x + 1
                        elif way == 1:
                            j = y + 1
                        else:
                            s, j, i = t - 1, y + motion[t, y, x, 0], x + motion[t, y, x, 1]
                        if s < 0 or not (0 <= j < height and 0 <= i < width) or labels[s, j, i] == own:
                            continue
                        red = colours[t, y, x, 0] - colours[s, j, i, 0]
                        green = colours[t, y, x, 1] - colours[s, j, i, 1]
                        blue = colours[t, y, x, 2] - colours[s, j, i, 2]
                        square = red * red + green * green + blue * blue
                        if way == 2 and square > most:
                            continue
                        if turn == 1:
                            first[found], second[found], steps[found] = own, labels[s, j, i], np.sqrt(square)
                        found += 1
        if turn == 0:
            first, second, steps = np.empty(found, np.int32), np.empty(found, np.int32), np.empty(found, np.float32)
    return first, second, steps


@njit(cache=True)  # type: ignore[untyped-decorator]
def _distinct(
    first: Int32Array, second: Int32Array, contacts: FloatArray, steps: FloatArray, count: int
) -> tuple[Int32Array, Int32Array, FloatArray, FloatArray]:
    """Return each pair of regions once, the lower number first, in rising order of it; linear in the pairs.

    The contacts and steps of a pair are summed.
    """
    starts = np.zeros(count + 1, np.int64)
    for edge in range(len(first)):
        starts[min(first[edge], second[edge]) + 1] += 1
    starts = np.cumsum(starts)
    free = starts[:-1].copy()
    order = np.empty(len(first), np.int32)
    for edge in range(len(first)):
        lower = min(first[edge], second[edge])
        order[free[lower]] = edge
        free[lower] += 1
    place_of = np.full(count, -1, np.int32)  # of the pair with the present lower number
    one, other = np.empty(len(first), np.int32), np.empty(len(first), np.int32)
    all_contacts, all_steps = np.zeros(len(first), np.float32), np.zeros(len(first), np.float32)
    kept = 0
    for lower in range(count):
        begin = kept
        for edge in order[starts[lower] : starts[lower + 1]]:
            higher = max(first[edge], second[edge])
            if place_of[higher] < begin:
                place_of[higher] = kept
                one[kept], other[kept] = lower, higher
                kept += 1
            all_contacts[place_of[higher]] += contacts[edge]
            all_steps[place_of[higher]] += steps[edge]
    return one[:kept].copy(), other[:kept].copy(), all_contacts[:kept].copy(), all_steps[:kept].copy()


@njit(cache=True)  # type: ignore[untyped-decorator]
def _histograms(labels: Int32Array, count: int, lab: UInt8Array, bin_of: Int32Array, bins: int) -> FloatArray:
    counts = np.zeros((count, 3 * bins), np.float32)
    for voxel in range(len(labels)):
        for channel in range(3):
            counts[labels[voxel], channel * bins + bin_of[channel, lab[voxel, channel]]] += 1
    return counts


@njit(cache=True)  # type: ignore[untyped-decorator]
def _sums(labels: Int32Array, histograms: FloatArray, count: int) -> FloatArray:
    sums = np.zeros((count, histograms.shape[1]), np.float32)
    for region in range(len(labels)):
        sums[labels[region]] += histograms[region]
    return sums


@njit(cache=True)  # type: ignore[untyped-decorator]
def _distances(histograms: FloatArray, first: Int32Array, second: Int32Array) -> FloatArray:
    """Return the chi-squared distance of each edge's two histograms, summed over L, a and b: in [0, 6]."""
    shares = np.empty_like(histograms)
    for region in range(len(histograms)):
        shares[region] = histograms[region] * np.float32(3) / max(histograms[region].sum(), np.float32(1))
    distance = np.empty(len(first), np.float32)
    for edge in range(len(first)):
        total = np.float32(0)
        for place in range(histograms.shape[1]):
            p, q = shares[first[edge], place], shares[second[edge], place]
            if p + q > 0:
                total += (p - q) * (p - q) / (p + q)
        distance[edge] = total
    return distance


@njit(cache=True)  # type: ignore[untyped-decorator]
def _merge(
    first: Int32Array, second: Int32Array, weights: FloatArray, sizes: Int32Array, c_reg: float, min_size: float
) -> tuple[Int32Array, int]:
    parent, size = np.arange(len(sizes)).astype(np.int32), sizes.copy()
    limit = np.float32(c_reg) / size.astype(np.float32)
    for turn in range(2):  # first by the threshold, then what is too small
        for edge in range(len(first)):
            a, b = find_root(parent, first[edge]), find_root(parent, second[edge])
            if a == b:
                continue
            alike = turn == 0 and weights[edge] <= limit[a] and weights[edge] <= limit[b]
            small = turn == 1 and (size[a] < min_size or size[b] < min_size)
            if alike or small:
                root = join(parent, size, a, b)
                limit[root] = weights[edge] + np.float32(c_reg) / np.float32(size[root])
    return number_roots(parent)
