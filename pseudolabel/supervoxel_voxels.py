"""Level 0 of supervoxels: voxels are merged along the edges of a space-time graph, those of like colour first.

Felzenszwalb and Huttenlocher (IJCV 2004) on the voxels of some frames, as Grundmann et al. (CVPR 2010) and LIBSVX. Each
voxel has 26 neighbours: 8 in its frame, 9 in the frame before and 9 in the frame after. An edge is numbered
``voxel * 13 + step``: four steps within the frame, nine into the frame before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from pseudolabel.types import FloatArray, Int32Array

STEPS = 13
"""Edges of a voxel, each edge counted with one of its two voxels."""

_WITHIN = 4
_PER_LEVEL = 16
"""Edge weights are rounded to 1/16 of a grey level and sorted by counting. Among equal ones the voxels' order counts,
as in a stable sort."""

_MOST = int(np.ceil(np.sqrt(3) * 255 * _PER_LEVEL)) + 1
_NONE = np.iinfo(np.uint16).max


def merge_voxels(
    colours: FloatArray, motion: Int32Array, *, c: float, min_size: int, max_link: float
) -> tuple[Int32Array, int]:
    """Merge the voxels of a window.

    Two components merge when the edge between them weighs at most Int(C) + c / size of either, Int(C) being the
    greatest weight within; then each with fewer than ``min_size`` voxels merges along its lightest edge.

    Args:
        colours: float32 (T, H, W, 3), RGB in 0..255, smoothed.
        motion: int32 (T, H, W, 2), (rows, columns) from a pixel to its place in the frame before.
        c: see the settings.
        min_size: see the settings.
        max_link: see the settings.

    Returns:
        labels int32 (T * H * W,), 0..N-1 in the order in which they are met, and N.
    """
    frames, height, width = colours.shape[:3]
    back = motion[..., 0] * width + motion[..., 1] - height * width
    bins, counts = _weigh(colours.reshape(-1, 3), motion, int(min(max_link * _PER_LEVEL, _MOST)))
    ends = np.cumsum(counts)
    order = _sort(bins, ends - counts)
    del bins
    flat = np.ascontiguousarray(back, np.int32).ravel()
    return _merge(order, ends, flat, width, frames * height * width, c, min_size)  # type: ignore[no-any-return]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _weigh(colours: FloatArray, motion: Int32Array, most: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """Return the rounded weight of every edge and how many have each; edges in time above ``most`` are left out."""
    frames, height, width = motion.shape[:3]
    bins = np.full(frames * height * width * STEPS, _NONE, np.uint16)
    counts = np.zeros(_MOST, np.int64)
    voxel, edge = 0, 0
    for t in range(frames):
        for y in range(height):
            for x in range(width):
                for step in range(STEPS):
                    if step < _WITHIN:
                        down, right = (0, 1) if step == 0 else (1, step - 2)
                        j, i, other = y + down, x + right, voxel + down * width + right
                        inside = True
                    else:
                        down, right = (step - _WITHIN) // 3 - 1, (step - _WITHIN) % 3 - 1
                        j, i = y + motion[t, y, x, 0] + down, x + motion[t, y, x, 1] + right
                        other = ((t - 1) * height + j) * width + i
                        inside = t > 0
                    if inside and 0 <= j < height and 0 <= i < width:
                        red = colours[voxel, 0] - colours[other, 0]
                        green = colours[voxel, 1] - colours[other, 1]
                        blue = colours[voxel, 2] - colours[other, 2]
                        rounded = int(np.sqrt(red * red + green * green + blue * blue) * _PER_LEVEL + np.float32(0.5))
                        if step < _WITHIN or rounded <= most:
                            bins[edge] = rounded
                            counts[rounded] += 1
                    edge += 1
                voxel += 1
    return bins, counts


@njit(cache=True)  # type: ignore[untyped-decorator]
def _sort(bins: npt.NDArray[np.uint16], starts: npt.NDArray[np.int64]) -> Int32Array:
    """Return the edges from light to heavy (counting sort)."""
    free = starts.copy()
    total = 0
    for edge in range(len(bins)):
        total += bins[edge] != _NONE
    order = np.empty(total, np.int32)
    for edge in range(len(bins)):
        weight = bins[edge]
        if weight != _NONE:
            order[free[weight]] = edge
            free[weight] += 1
    return order


@njit(cache=True, inline="always")  # type: ignore[untyped-decorator]
def find_root(parent: Int32Array, node: int) -> int:
    """Return the root of a node's component; paths are halved on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(cache=True)  # type: ignore[untyped-decorator]
def join(parent: Int32Array, size: Int32Array, first: int, second: int) -> int:
    """Merge two roots and return the root of both."""
    if size[first] < size[second]:
        first, second = second, first
    parent[second] = first
    size[first] += size[second]
    return first


@njit(cache=True)  # type: ignore[untyped-decorator]
def number_roots(parent: Int32Array) -> tuple[Int32Array, int]:
    """Return the number of each node's component, in the order in which they are met, and how many there are."""
    count = 0
    numbers = np.full(len(parent), -1, np.int32)
    for node in range(len(parent)):
        root = find_root(parent, node)
        if numbers[root] < 0:
            numbers[root] = count
            count += 1
        numbers[node] = numbers[root]
    return numbers, count


@njit(cache=True)  # type: ignore[untyped-decorator]
def _merge(
    order: Int32Array,
    ends: npt.NDArray[np.int64],
    back: Int32Array,
    width: int,
    voxels: int,
    c: float,
    min_size: int,
) -> tuple[Int32Array, int]:
    parent = np.arange(voxels).astype(np.int32)
    size = np.ones(voxels, np.int32)
    limit = np.full(voxels, np.float32(c))
    left = 0  # edges between two components are looked at again
    begin = 0
    for weight in range(len(ends)):  # in rising order, so the weight that joins two components is the greatest within
        value = np.float32(weight / _PER_LEVEL)
        for place in range(begin, ends[weight]):
            edge = order[place]
            voxel = edge // STEPS
            other = _other_end(voxel, edge - voxel * STEPS, back, width)
            a, b = find_root(parent, voxel), find_root(parent, other)
            if a == b:
                continue
            if value <= limit[a] and value <= limit[b]:
                root = join(parent, size, a, b)
                limit[root] = value + c / size[root]
            else:
                order[left] = edge
                left += 1
        begin = ends[weight]
    for place in range(left):
        edge = order[place]
        voxel = edge // STEPS
        other = _other_end(voxel, edge - voxel * STEPS, back, width)
        a, b = find_root(parent, voxel), find_root(parent, other)
        if a != b and (size[a] < min_size or size[b] < min_size):
            join(parent, size, a, b)
    return number_roots(parent)


@njit(cache=True, inline="always")  # type: ignore[untyped-decorator]
def _other_end(voxel: int, step: int, back: Int32Array, width: int) -> int:
    if step == 0:
        return voxel + 1
    if step < _WITHIN:
        return voxel + width + step - 2
    step -= _WITHIN
    return voxel + back[voxel] + (step // 3 - 1) * width + step % 3 - 1
