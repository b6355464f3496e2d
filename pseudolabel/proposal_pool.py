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
        outline: float64 (C,), pixel sides of the outline, the frame's border included.
        rim: float64 (C,), those on the frame's border.
    """

    nodes: IntArray
    areas: Float64Array
    contrast: Float64Array
    outline: Float64Array
    rim: Float64Array


def node_members(tree: RegionTree) -> BoolArray:
    """Return bool (2S - 1, S): the superpixels below each node."""
    count = len(tree.areas)
    members = np.zeros((2 * count - 1, count), bool)
    members[np.arange(count), np.arange(count)] = True
    for number, (one, two) in enumerate(tree.children, count):
        members[number] = members[one] | members[two]
    return members


def unite_nodes(tree: RegionTree, quotas: tuple[int, int, int], sizes: tuple[float, float]) -> Candidates:
    """List the nodes of a tree, and connected pairs, triplets and 4-tuples of them, from the top of the tree down.

    The frame is split again in the reverse order of the merging. After every split, the connected sets that hold
    exactly one of the two new regions are new; they are taken until the quota of their size is full.

    Args:
        tree: of S leaves.
        quotas: the most pairs, triplets and 4-tuples.
        sizes: least and most area in pixels.
    """
    count = len(tree.areas)
    total = 2 * count - 1
    tables = np.zeros((2, total, total), np.float32)
    tables[0, :count, :count], tables[1, :count, :count] = tree.length, tree.contrast
    own = np.zeros((4, total))  # area, contrast of the outline, its length, rim
    own[:, :count] = tree.areas, tree.contrast.sum(axis=1), tree.length.sum(axis=1) + tree.rim, tree.rim
    for number, (one, two) in enumerate(tree.children, count):
        tables[:, number] = tables[:, one] + tables[:, two]
        tables[:, :, number] = tables[:, :, one] + tables[:, :, two]
        own[:, number] = own[:, one] + own[:, two]
        own[1, number] -= 2 * tables[1, one, two]
        own[2, number] -= 2 * tables[0, one, two]
    nodes = np.full((total + sum(quotas), MOST_REGIONS), -1, np.int64)
    nodes[:total, 0] = np.arange(total)
    used = total + _combine(tree.children, tables[0], own[0], np.array(quotas), sizes[0], sizes[1], nodes[total:])
    nodes = nodes[:used]
    present = nodes >= 0
    sums = np.where(present, own[:, nodes], 0).sum(axis=2)
    for i in range(MOST_REGIONS):
        for j in range(i):
            both = present[:, i]
            sums[1, both] -= 2 * tables[1, nodes[both, i], nodes[both, j]]
            sums[2, both] -= 2 * tables[0, nodes[both, i], nodes[both, j]]
    right = (sums[0] >= sizes[0]) & (sums[0] <= sizes[1])
    return Candidates(nodes[right], *sums[:, right])


def pool_members(
    trees: Sequence[RegionTree], *, quotas: tuple[int, int, int], sizes: tuple[float, float], number: int
) -> BoolArray:
    """Return the members bool (R, S) of the best ``number`` distinct candidates of trees over the same S regions."""
    drawn = np.random.default_rng(0).integers(1 << 62, size=len(trees[0].areas))  # one number per region
    keys, values, places = [], [], []
    found = [unite_nodes(tree, quotas, sizes) for tree in trees]
    members = [node_members(tree) for tree in trees]
    for which, (candidates, below) in enumerate(zip(found, members, strict=True)):
        sums = np.append(below.astype(np.int64) @ drawn, 0)  # node -1 is none; overflow wraps, as meant
        keys.append(sums[candidates.nodes].sum(axis=1))
        values.append(objectness(candidates))
        places.append(np.stack([np.full(len(candidates.nodes), which), np.arange(len(candidates.nodes))], axis=1))
    _, first = np.unique(np.concatenate(keys), return_index=True)
    order = first[np.argsort(-np.concatenate(values)[first], kind="stable")][:number]
    chosen = np.concatenate(places)[order]
    result = np.zeros((len(chosen), len(drawn)), bool)
    for which, (candidates, below) in enumerate(zip(found, members, strict=True)):
        rows = np.flatnonzero(chosen[:, 0] == which)
        nodes = candidates.nodes[chosen[rows, 1]]
        padded = np.vstack([below, np.zeros((1, below.shape[1]), bool)])
        result[rows] = padded[nodes].any(axis=1)
    return result


def objectness(candidates: Candidates) -> Float64Array:
    """Return how much each candidate looks like an object: the mean contrast along its outline, rim included."""
    return candidates.contrast / np.maximum(candidates.outline, 1)


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
