"""One expansion move as a small graph: who may still change, at what cost (the compiled core of the energies)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pseudolabel.graphs import Float64Array, Int64Array
from pseudolabel.types import BoolArray, Int32Array

FREE, KEEP, TAKE = -1, 0, 1
"""States of a node in a move: undecided, keeps its label, takes the label alpha."""

_WORTHWHILE = 0.05  # a further pass pays if the last one settled such a share of the nodes


class Move(NamedTuple):
    """What is left of a move to alpha after all nodes with a foregone conclusion are settled.

    The arrays are views of a :class:`Workspace`, good until its next use.

    Attributes:
        state: int8 (N,), FREE, KEEP or TAKE.
        nodes: int64 (F,), ids of the free nodes.
        keep: float64 (F,), cost of keeping.
        take: float64 (F,), cost of taking alpha.
        first: int64 (G,), one end of each edge between free nodes, as an index into ``nodes``.
        second: int64 (G,), its other end.
        forward: float64 (G,), cost of (first keeps, second takes).
        backward: float64 (G,), cost of (first takes, second keeps).
    """

    state: npt.NDArray[np.int8]
    nodes: Int64Array
    keep: Float64Array
    take: Float64Array
    first: Int64Array
    second: Int64Array
    forward: Float64Array
    backward: Float64Array


class Workspace:
    """Memory for the moves of one graph: fetching it anew for every move would cost as much as the move."""

    def __init__(self, first: Int32Array, second: Int32Array, weights: Float64Array, locked: BoolArray) -> None:
        """Keep a graph.

        Args:
            first: int32 (E,), one end of each edge.
            second: int32 (E,), the other end.
            weights: float64 (E,), Potts weights >= 0.
            locked: bool (N,), nodes that further terms look at: never settled.
        """
        nodes, edges = len(locked), len(first)
        self.first, self.second, self.weights = first, second, weights
        self.reach = np.zeros(nodes)
        for ends in (first, second):
            self.reach += np.bincount(ends, weights, nodes)
        self.reach[locked] = np.inf  # no difference is as large
        self.state = np.zeros(nodes, np.int8)
        self.node_ids = np.zeros((2, nodes), np.int64)
        self.node_costs = np.zeros((4, nodes))
        self.live = np.zeros(edges, np.int32)
        self.edge_ends = np.zeros((2, edges), np.int64)
        self.edge_costs = np.zeros((2, edges))

    def build_move(self, labels: Int32Array, alpha: int, unary: Float64Array, *, max_passes: int = 5) -> Move:
        """Build the expansion move of ``labels`` to ``alpha`` and settle the nodes whose best choice nothing can turn.

        A node whose unary difference outweighs all its undecided edges has the same value in a minimum whatever the
        others do; settling it may settle its neighbours. The maximum flow then runs on those that are left.

        Args:
            labels: int32 (N,), the present labelling.
            alpha: the label offered to every node.
            unary: float64 (N, L).
            max_passes: how often the edges are gone through to settle nodes, after a first look at the nodes alone;
                less often where it does not pay.

        Returns:
            the move; the energy it leaves out is constant.
        """
        free, alive = _build(
            labels,
            alpha,
            unary,
            self.first,
            self.second,
            self.weights,
            self.reach,
            max_passes,
            self.state,
            self.node_ids,
            self.node_costs,
            self.live,
            self.edge_ends,
            self.edge_costs,
        )
        return Move(
            self.state,
            self.node_ids[0, :free],
            self.node_costs[2, :free],
            self.node_costs[3, :free],
            self.edge_ends[0, :alive],
            self.edge_ends[1, :alive],
            self.edge_costs[0, :alive],
            self.edge_costs[1, :alive],
        )


@njit(cache=True)  # type: ignore[untyped-decorator]
def potts_energy(
    labels: Int32Array, unary: Float64Array, first: Int32Array, second: Int32Array, weights: Float64Array
) -> float:
    """Return the sum of the unaries (N, L) and of the weights (E,) of the edges whose ends differ."""
    energy = 0.0
    for node in range(len(labels)):
        energy += unary[node, labels[node]]
    for edge in range(len(first)):
        if labels[first[edge]] != labels[second[edge]]:
            energy += weights[edge]
    return energy


@njit(cache=True)  # type: ignore[untyped-decorator]
def _build(
    labels: Int32Array,
    alpha: int,
    unary: Float64Array,
    first: Int32Array,
    second: Int32Array,
    weights: Float64Array,
    reach: Float64Array,
    max_passes: int,
    state: npt.NDArray[np.int8],
    node_ids: Int64Array,
    node_costs: Float64Array,
    live: Int32Array,
    edge_ends: Int64Array,
    edge_costs: Float64Array,
) -> tuple[int, int]:
    """Fill the workspace; return the numbers of free nodes and of edges between them."""
    nodes, rank = node_ids[0], node_ids[1]
    keep, take, lower, upper = node_costs[0], node_costs[1], node_costs[2], node_costs[3]
    free = 0
    for node in range(len(labels)):
        if labels[node] == alpha:
            state[node] = TAKE
            continue
        keep[node], take[node] = unary[node, labels[node]], unary[node, alpha]
        difference = take[node] - keep[node]
        if difference >= reach[node]:
            state[node] = KEEP
        elif difference < -reach[node]:
            state[node] = TAKE
        else:
            state[node] = FREE
            nodes[free] = node
            free += 1
    alive = len(first)
    last = max_passes if free < (1 - _WORTHWHILE) * len(labels) else 0
    for turn in range(max_passes + 1):
        for index in range(free):
            lower[nodes[index]] = 0.0
            upper[nodes[index]] = 0.0
        still = 0
        for index in range(alive):
            edge = index if turn == 0 else live[index]
            i, j = np.uint32(first[edge]), np.uint32(second[edge])  # unsigned: no test for a negative index
            if state[i] == FREE and state[j] == FREE:
                live[still] = edge
                still += 1
                weight = weights[edge]
                lower[i] -= weight  # the least and the most that undecided neighbours can do to take - keep
                lower[j] -= weight
                if labels[i] == labels[j]:
                    upper[i] += weight
                    upper[j] += weight
                continue
            if state[i] != FREE:  # one end is settled: charge the edge to the other
                i, j = j, i
            if state[i] == FREE:
                if state[j] == TAKE:
                    keep[i] += weights[edge]
                elif labels[i] == labels[j]:
                    take[i] += weights[edge]
        alive = still
        if turn == last:
            break
        left = 0
        for index in range(free):
            node = nodes[index]
            difference = take[node] - keep[node]
            if reach[node] == np.inf:
                nodes[left] = node
                left += 1
            elif difference + lower[node] >= 0:
                state[node] = KEEP
            elif difference + upper[node] < 0:
                state[node] = TAKE
            else:
                nodes[left] = node
                left += 1
        if left == free:
            break
        if left > (1 - _WORTHWHILE) * free:
            last = turn + 1
        free = left
    for index in range(free):
        rank[nodes[index]] = index
    for index in range(alive):
        edge = live[index]
        i, j = np.uint32(first[edge]), np.uint32(second[edge])
        edge_ends[0, index], edge_ends[1, index] = rank[i], rank[j]
        edge_costs[1, index] = weights[edge]
        if labels[i] == labels[j]:
            edge_costs[0, index] = weights[edge]
        else:  # paid unless both take alpha: w [i keeps] + w [i takes, j keeps]
            edge_costs[0, index] = 0.0
            keep[i] += weights[edge]
    for index in range(free):  # lower and upper have served
        lower[index] = keep[nodes[index]]
    for index in range(free):
        upper[index] = take[nodes[index]]
    return free, alive
