"""Exact cuts on pixel grids whose foregone pixels are settled first: many small problems of one size, fast.

The energy is that of `pseudolabel.energy` with contrast-sensitive Potts terms between a pixel and its four (or eight)
neighbours. A pixel whose best label leads by as much as all its undecided edges can weigh has this label in a minimum,
whatever the others do; settling it charges its edges to its neighbours, which may settle them in turn. The queue runs
until nothing more is settled, and the maximum flow sees only what is left.
"""

from __future__ import annotations

from typing import Any

import maxflow
import numpy as np
import numpy.typing as npt
from numba import njit

from pseudolabel.energy import minimize_multilabel
from pseudolabel.graphs import Connectivity, Float64Array, Int64Array
from pseudolabel.types import BoolArray, DataError, Int32Array, UInt8Array

STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""(down, right) to the neighbours that a pixel's four weights lead to; the other four hold the weights themselves."""

_FREE = -1
_DIAGONAL = float(np.sqrt(2.0))


def contrast_grid(
    frame: UInt8Array,
    valid: BoolArray,
    *,
    contrast: float = 0.5,
    connectivity: Connectivity = 8,
) -> Float64Array:
    """Return ``exp(-gamma ||z_i - z_j||^2) / dist(i, j)`` of all neighbours.

    Eq. 3 of Tokmakov et al. 2016 without lambda and Delta; gamma = contrast / mean ||z_i - z_j||^2 over the edges of
    the frame (SPEC M-a), 0 for a frame of one colour.

    Args:
        frame: uint8 (H, W, 3).
        valid: bool (H, W); edges with an end outside weigh nothing and do not count in gamma.
        contrast: the numerator of gamma, >= 0.
        connectivity: 4 or 8 neighbours.

    Returns:
        float64 (4, H, W): ``weights[k, y, x]`` belongs to the edge from (y, x) along ``STEPS[k]``, 0 where it leaves
        the picture (k >= 2 is 0 for 4 neighbours).
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, got {connectivity!r}")
    weights = np.zeros((4, *frame.shape[:2]))
    _contrast(np.ascontiguousarray(frame), valid, contrast, connectivity // 2, weights)
    return weights


def switch_off(weights: Float64Array, band: BoolArray) -> None:
    """Set the weights (4, H, W) of edges with both ends in ``band`` bool (H, W) to 0, in place (Delta of Eq. 3)."""
    height, width = band.shape
    for k, (down, right) in enumerate(STEPS):
        here = (slice(0, height - down), slice(max(-right, 0), width - max(right, 0)))
        there = (slice(down, height), slice(max(right, 0), width + min(right, 0)))
        weights[k][here][band[here] & band[there]] = 0.0


class GridCutter:
    """Minimises energies on grids of one size; keeps its memory between calls.

    Args:
        height: H.
        width: W.
        num_labels: L >= 2.
        reduce: settle foregone pixels first. False passes the whole grid on (for tests and benchmarks).
    """

    def __init__(self, height: int, width: int, num_labels: int, *, reduce: bool = True) -> None:
        if num_labels < 2:
            raise ValueError(f"num_labels must be >= 2, got {num_labels}")
        self.shape, self.num_labels, self.reduce = (height, width), num_labels, reduce
        self._state = np.empty((height, width), np.int32)
        self._reach = np.empty((height, width))
        self._queue = np.empty(height * width, np.int64)
        self._ends = np.empty((2, 4 * height * width), np.int64)
        self._weights = np.empty(4 * height * width)
        self._graph: Any = None

    def minimize(self, costs: Float64Array, weights: Float64Array, *, init: Int32Array | None = None) -> Int32Array:
        """Return a minimum: exact for two labels, else one that no expansion improves on the unsettled pixels.

        Args:
            costs: float64 (H, W, L), finite, cost of every label at every pixel. Overwritten.
            weights: float64 (4, H, W), Potts weights >= 0 as of :func:`contrast_grid`, 0 where they leave the picture.
            init: int32 (H, W), where expansions start; None = the cheapest labels. Of no use with two labels.

        Returns:
            int32 (H, W), labels 0..L-1.

        Raises:
            DataError: shapes do not fit.
        """
        if costs.shape != (*self.shape, self.num_labels) or weights.shape != (4, *self.shape):
            raise DataError(
                f"Grid cut: costs {costs.shape} and weights {weights.shape} do not fit, expected "
                f"{(*self.shape, self.num_labels)} and {(4, *self.shape)}."
            )
        if self.reduce:
            _settle(costs, weights, self._reach, self._state, self._queue)
        else:
            self._state.fill(_FREE)
        nodes, edges = _gather(weights, self._state, self._queue, self._reach, self._ends, self._weights)
        labels = self._state.copy()
        if nodes:
            free = self._queue[:nodes]
            left = costs.reshape(-1, self.num_labels)[free]
            labels.reshape(-1)[free] = self._solve(left, edges, None if init is None else init.reshape(-1)[free])
        return labels

    def _solve(self, costs: Float64Array, edges: int, init: Int32Array | None) -> Int32Array | BoolArray:
        ends, weights = self._ends[:, :edges], self._weights[:edges]
        if self.num_labels > 2:
            return minimize_multilabel(costs, ends.T, weights, init=init).labels
        if self._graph is None:  # of full size: a graph that grows copies itself
            self._graph = maxflow.GraphFloat(self._state.size, 4 * self._state.size)
        graph = self._graph
        graph.reset()
        ids = graph.add_grid_nodes(len(costs))
        graph.add_grid_tedges(ids, costs[:, 1], costs[:, 0])
        if edges:
            graph.add_edges(ends[0], ends[1], weights, weights)
        graph.maxflow()
        return np.asarray(graph.get_grid_segments(ids), bool)


def grid_energy(labels: npt.NDArray[Any], costs: Float64Array, weights: Float64Array) -> float:
    """Return the energy of labels int (H, W) with costs (H, W, L) and weights (4, H, W)."""
    height, width = labels.shape
    energy = float(np.take_along_axis(costs, labels[..., None].astype(np.int64), axis=2).sum())
    for k, (down, right) in enumerate(STEPS):
        here = (slice(0, height - down), slice(max(-right, 0), width - max(right, 0)))
        there = (slice(down, height), slice(max(right, 0), width + min(right, 0)))
        energy += float(weights[k][here][labels[here] != labels[there]].sum())
    return energy


@njit(cache=True)  # type: ignore[untyped-decorator]
def _contrast(frame: UInt8Array, valid: BoolArray, contrast: float, kinds: int, weights: Float64Array) -> None:
    height, width = valid.shape
    total, count = 0.0, 0
    for k in range(kinds):
        down, right = STEPS[k]
        for y in range(height - down):
            for x in range(max(-right, 0), width - max(right, 0)):
                weights[k, y, x] = -1.0
                if valid[y, x] and valid[y + down, x + right]:
                    squared = 0.0
                    for channel in range(frame.shape[2]):
                        difference = float(frame[y, x, channel]) - float(frame[y + down, x + right, channel])
                        squared += difference * difference
                    weights[k, y, x] = squared
                    total += squared
                    count += 1
    gamma = contrast * count / total if total else 0.0
    for k in range(kinds):
        down, right = STEPS[k]
        distance = 1.0 if k < 2 else _DIAGONAL
        for y in range(height - down):
            for x in range(max(-right, 0), width - max(right, 0)):
                squared_contrast = weights[k, y, x]
                weights[k, y, x] = np.exp(-gamma * squared_contrast) / distance if squared_contrast >= 0 else 0.0


@njit(cache=True)  # type: ignore[untyped-decorator]
def _lead(costs: Float64Array, y: int, x: int) -> tuple[int, float]:
    """Return the cheapest label of a pixel and by how much it leads."""
    best, lowest, second = 0, costs[y, x, 0], np.inf
    for label in range(1, costs.shape[2]):
        cost = costs[y, x, label]
        if cost < lowest:
            best, second, lowest = label, lowest, cost
        elif cost < second:
            second = cost
    return best, second - lowest


@njit(cache=True)  # type: ignore[untyped-decorator]
def _settle(
    costs: Float64Array, weights: Float64Array, reach: Float64Array, state: Int32Array, queue: Int64Array
) -> None:
    """Fill ``state`` with settled labels or FREE; ``costs`` of free pixels get the edges to settled ones."""
    height, width = state.shape
    reach[:] = 0.0
    for k in range(4):
        down, right = STEPS[k]
        for y in range(height - down):
            for x in range(max(-right, 0), width - max(right, 0)):
                reach[y, x] += weights[k, y, x]
                reach[y + down, x + right] += weights[k, y, x]
    found = 0
    for y in range(height):
        for x in range(width):
            best, lead = _lead(costs, y, x)
            state[y, x] = _FREE
            if lead >= reach[y, x]:
                state[y, x] = best
                queue[found] = y * width + x
                found += 1
    done = 0
    while done < found:
        y, x = queue[done] // width, queue[done] % width
        done += 1
        label = state[y, x]
        for k in range(8):
            down, right = STEPS[k % 4]
            if k < 4:
                j, i = y + down, x + right
            else:
                j, i = y - down, x - right
            if j < 0 or j >= height or i < 0 or i >= width or state[j, i] != _FREE:
                continue
            weight = weights[k, y, x] if k < 4 else weights[k - 4, j, i]
            if weight == 0:
                continue
            costs[j, i, label] -= weight  # as good as charging the weight to all other labels
            reach[j, i] -= weight
            best, lead = _lead(costs, j, i)
            if lead >= reach[j, i]:
                state[j, i] = best
                queue[found] = j * width + i
                found += 1


@njit(cache=True)  # type: ignore[untyped-decorator]
def _gather(
    weights: Float64Array,
    state: Int32Array,
    nodes: Int64Array,
    rank: Float64Array,
    ends: Int64Array,
    edge_weights: Float64Array,
) -> tuple[int, int]:
    """List the free pixels and the edges between them; return how many of each. ``rank`` is memory (H, W)."""
    height, width = state.shape
    free, edges = 0, 0
    for y in range(height):
        for x in range(width):
            if state[y, x] == _FREE:
                nodes[free] = y * width + x
                rank[y, x] = free
                free += 1
    for index in range(free):  # edge by edge of a pixel: neighbours in memory are neighbours in the picture
        y, x = nodes[index] // width, nodes[index] % width
        for k in range(4):
            down, right = STEPS[k]
            j, i = y + down, x + right
            if j < height and 0 <= i < width and state[j, i] == _FREE and weights[k, y, x] > 0:
                ends[0, edges], ends[1, edges] = index, np.int64(rank[j, i])
                edge_weights[edges] = weights[k, y, x]
                edges += 1
    return free, edges
