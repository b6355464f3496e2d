"""Sets of up to four neighbouring regions of a tree, as Multiscale Combinatorial Grouping makes them (MCG [23])."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from pseudolabel.graphs import Float64Array
from pseudolabel.proposal_tree import RegionTree
from pseudolabel.superpixels import IntArray
from pseudolabel.types import BoolArray, FloatArray

MOST_REGIONS = 4
"""A proposal unites at most so many regions of the tree (MCG: singletons, pairs, triplets and 4-tuples)."""


@dataclass(frozen=True)
class Candidates:
    """Sets of tree nodes, C of them, that might be objects.

    Attributes:
        nodes: int64 (C, 4), the united nodes, -1 = none.
        areas: float64 (C,), pixels.
        contrast: float64 (C,), sum of the contrast along the outline; the frame's border has none.
        outlines: float64 (C,), pixel sides of the outline, the frame's border included.
        boxes: float64 (C, 4), tight boxes x0, y0, x1, y1.
    """

    nodes: IntArray
    areas: Float64Array
    contrast: Float64Array
    outlines: Float64Array
    boxes: Float64Array

    @property
    def objectness(self) -> Float64Array:
        """How much each looks like an object (C,): the contrast along its outline is strong and its shape compact.

        The mean contrast, times the root of: the share that it fills of its box, times root of area over outline.
        """
        filled = self.areas / (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        return self.contrast / self.outlines * np.sqrt(filled * np.sqrt(self.areas) / self.outlines)


def unite_nodes(tree: RegionTree, quotas: tuple[int, int, int], sizes: tuple[float, float]) -> Candidates:
    """List the nodes of a tree, and connected pairs, triplets and 4-tuples of them, from the top of the tree down.

    The frame is split again in the reverse order of the merging. After every split, the connected sets that hold
    exactly one of the two new regions are new; they are taken until the quota of their size is full.

    Args:
        tree: of S leaves.
        quotas: the most pairs, triplets and 4-tuples.
        sizes: least and most area in pixels; of nodes, of tuples and on the way to larger tuples.
    """
    graph, leaves = tree.graph, len(tree.graph.areas)
    total = 2 * leaves - 1
    tables = np.zeros((2, total, total), np.float32)
    tables[0, :leaves, :leaves], tables[1, :leaves, :leaves] = graph.length, graph.contrast
    own = np.zeros((total + 1, 3))  # area, contrast of the outline, its length; the last row is "none"
    own[:leaves, 0], own[:leaves, 1] = graph.areas, graph.contrast.sum(axis=1)
    own[:leaves, 2] = graph.length.sum(axis=1) + graph.rim
    boxes = np.tile(np.array([np.inf, np.inf, -np.inf, -np.inf]), (total + 1, 1))
    boxes[:leaves] = graph.boxes
    _sum_nodes(tree.children, tables, own, boxes)
    nodes = np.full((total + sum(quotas), MOST_REGIONS), -1, np.int64)
    nodes[:total, 0] = np.arange(total)
    used = _combine(tree.children, tables[0], own[:, 0], np.array(quotas), sizes[0], sizes[1], nodes[total:])
    nodes = nodes[: total + used]
    nodes = nodes[(own[nodes, 0].sum(axis=1) >= sizes[0]) & (own[nodes, 0].sum(axis=1) <= sizes[1])]
    sums = own[nodes].sum(axis=1)
    for i in range(MOST_REGIONS):
        for j in range(i):
            both = np.flatnonzero(nodes[:, i] >= 0)
            shared = tables[:, nodes[both, i], nodes[both, j]]
            sums[both, 1] -= 2 * shared[1]
            sums[both, 2] -= 2 * shared[0]
    corners = np.concatenate([boxes[nodes, :2].min(axis=1), boxes[nodes, 2:].max(axis=1)], axis=1)
    return Candidates(nodes, sums[:, 0], sums[:, 1], sums[:, 2], corners)


def pool_members(
    trees: Sequence[RegionTree], *, quotas: tuple[int, int, int], sizes: tuple[float, float], number: int
) -> BoolArray:
    """Return the best ``number`` distinct candidates of trees over the same S regions.

    Args:
        trees: at least one.
        quotas: see :func:`unite_nodes`, for each tree.
        sizes: see :func:`unite_nodes`.
        number: R at most.

    Returns:
        bool (R, S), which regions each unites, by falling :attr:`Candidates.objectness`.
    """
    found = [unite_nodes(tree, quotas, sizes) for tree in trees]
    below = [np.vstack([tree.members(), np.zeros((1, len(tree.graph.areas)), bool)]) for tree in trees]
    drawn = np.random.default_rng(0).integers(1 << 62, size=below[0].shape[1])  # a set's key is the sum of its regions'
    keys = [(rows @ drawn)[one.nodes].sum(axis=1) for one, rows in zip(found, below, strict=True)]  # wraps, as meant
    _, first = np.unique(np.concatenate(keys), return_index=True)
    value = np.concatenate([one.objectness for one in found])
    order = first[np.argsort(-value[first], kind="stable")][:number]
    ends = np.cumsum([len(one.nodes) for one in found])
    members = np.zeros((len(order), below[0].shape[1]), bool)
    for one, rows, end in zip(found, below, ends, strict=True):
        here = np.flatnonzero((order < end) & (order >= end - len(one.nodes)))
        chosen = one.nodes[order[here] - end + len(one.nodes)]
        for place in range(MOST_REGIONS):
            members[here] |= rows[chosen[:, place]]
    return members


@njit(cache=True)  # type: ignore[untyped-decorator]
def _sum_nodes(children: IntArray, tables: FloatArray, own: Float64Array, boxes: Float64Array) -> None:
    """Fill in what the inner nodes hold: tables (2, N, N) of boundary and contrast, own (N, 3) and boxes (N, 4)."""
    leaves = len(children) + 1
    for m in range(leaves - 1):
        one, two, node = children[m, 0], children[m, 1], leaves + m
        for which in range(2):
            for k in range(node):
                tables[which, node, k] = tables[which, one, k] + tables[which, two, k]
                tables[which, k, node] = tables[which, node, k]
            own[node, 2 - which] = own[one, 2 - which] + own[two, 2 - which] - 2 * tables[which, one, two]
        own[node, 0] = own[one, 0] + own[two, 0]
        for side in range(2):
            boxes[node, side] = min(boxes[one, side], boxes[two, side])
            boxes[node, 2 + side] = max(boxes[one, 2 + side], boxes[two, 2 + side])


@njit(cache=True)  # type: ignore[untyped-decorator]
def _combine(
    children: IntArray,
    touch: FloatArray,
    areas: Float64Array,
    quotas: IntArray,
    least: float,
    most: float,
    found: IntArray,
) -> int:
    """Write sets of 2, 3 and 4 nodes to ``found`` (sum of the quotas, 4) and return how many."""
    leaves = len(children) + 1
    alive = np.zeros(2 * leaves - 1, np.bool_)
    alive[2 * leaves - 2] = True
    near = np.zeros(2 * leaves - 1, np.int64)
    left = quotas.copy()
    used = 0
    for m in range(leaves - 2, -1, -1):
        if left.sum() == 0:
            break
        alive[leaves + m] = False
        alive[children[m, 0]] = alive[children[m, 1]] = True
        for side in range(2):
            new, twin = children[m, side], children[m, 1 - side]
            count = 0
            for k in range(2 * leaves - 1):
                if alive[k] and k != new and k != twin:
                    near[count] = k
                    count += 1
            for p in range(count):
                one = near[p]
                if touch[new, one] == 0:
                    continue
                area = areas[new] + areas[one]
                if left[0] > 0 and least <= area <= most:
                    found[used, 0], found[used, 1] = new, one
                    used, left[0] = used + 1, left[0] - 1
                if left[1] + left[2] == 0 or area > most:
                    continue
                for q in range(count):
                    two = near[q]
                    joins = touch[new, two] > 0
                    if two == one or (joins and q < p) or not (joins or touch[one, two] > 0):
                        continue
                    larger = area + areas[two]
                    if left[1] > 0 and least <= larger <= most:
                        found[used, 0], found[used, 1], found[used, 2] = new, one, two
                        used, left[1] = used + 1, left[1] - 1
                    if left[2] == 0 or larger > most:
                        continue
                    for r in range(count):
                        three = near[r]
                        if three in (one, two) or areas[three] + larger > most:
                            continue
                        fresh = touch[new, three] > 0
                        if fresh and (r < q if joins else r < p):
                            continue
                        if not (fresh or touch[one, three] > 0 or touch[two, three] > 0):
                            continue
                        if left[2] > 0 and least <= larger + areas[three]:
                            found[used, 0], found[used, 1] = new, one
                            found[used, 2], found[used, 3] = two, three
                            used, left[2] = used + 1, left[2] - 1
    return used
