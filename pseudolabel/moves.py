"""One expansion move as a small graph: who may still change, at what cost (the compiled core of the energies)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pseudolabel.graphs import Float64Array, Int64Array
from pseudolabel.types import BoolArray, Int32Array

FREE, KEEP, TAKE = -1, 0, 1
"""States of a node in a move: undecided, keeps its label, takes the label alpha."""

_FEW = 0.01  # pruning stops when a pass settles less than this share of the undecided nodes


class Move(NamedTuple):
    """What is left of a move to alpha after all nodes with a foregone conclusion are settled.

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


def build_move(
    labels: Int32Array,
    alpha: int,
    unary: Float64Array,
    first: Int32Array,
    second: Int32Array,
    weights: Float64Array,
    locked: BoolArray,
    *,
    max_passes: int = 20,
) -> Move:
    """Build the expansion move of ``labels`` to ``alpha`` and settle the nodes whose best choice no neighbour can turn.

    A node whose unary difference outweighs all its undecided edges has the same value in a minimum whatever the others
    do; settling it may settle its neighbours. On images few nodes are left, and the maximum flow runs on these alone.

    Args:
        labels: int32 (N,), the present labelling.
        alpha: the label offered to every node.
        unary: float64 (N, L).
        first: int32 (E,), one end of each edge.
        second: int32 (E,), the other end.
        weights: float64 (E,), Potts weights >= 0.
        locked: bool (N,), nodes that further terms look at: never settled here.
        max_passes: how often the edges are gone through at most; 0 = settle nothing.

    Returns:
        the move; the energy it leaves out is constant.
    """
    return Move(*_build(labels, alpha, unary, first, second, weights, locked, max_passes))


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
    locked: BoolArray,
    max_passes: int,
) -> tuple[Any, ...]:
    count = len(labels)
    state = np.empty(count, np.int8)
    keep, take = np.zeros(count), np.zeros(count)
    undecided = 0
    for node in range(count):
        if labels[node] == alpha:
            state[node] = TAKE
        else:
            state[node] = FREE
            keep[node], take[node] = unary[node, labels[node]], unary[node, alpha]
            undecided += 1
    live = np.empty(len(first), np.int32)
    alive = 0
    for edge in range(len(first)):
        if _fold(edge, labels, state, keep, take, first, second, weights):
            live[alive] = edge
            alive += 1
    lower, upper = np.empty(count), np.empty(count)
    for _ in range(max_passes):
        lower[:] = 0
        upper[:] = 0
        for index in range(alive):  # what undecided neighbours can do to cost(take) - cost(keep), at least and at most
            edge = live[index]
            i, j, weight = first[edge], second[edge], weights[edge]
            lower[i] -= weight
            lower[j] -= weight
            if labels[i] == labels[j]:
                upper[i] += weight
                upper[j] += weight
        settled = 0
        for node in range(count):
            if state[node] == FREE and not locked[node]:
                difference = take[node] - keep[node]
                if difference + lower[node] >= 0:
                    state[node] = KEEP
                    settled += 1
                elif difference + upper[node] < 0:
                    state[node] = TAKE
                    settled += 1
        still = 0
        for index in range(alive):
            edge = live[index]
            if _fold(edge, labels, state, keep, take, first, second, weights):
                live[still] = edge
                still += 1
        alive = still
        undecided -= settled
        if settled <= _FEW * undecided:
            break
    rank = np.empty(count, np.int64)
    nodes = np.empty(undecided, np.int64)
    found = 0
    for node in range(count):
        if state[node] == FREE:
            rank[node] = found
            nodes[found] = node
            found += 1
    ends_i, ends_j = np.empty(alive, np.int64), np.empty(alive, np.int64)
    forward, backward = np.empty(alive), np.empty(alive)
    for index in range(alive):
        edge = live[index]
        i, j = first[edge], second[edge]
        ends_i[index], ends_j[index] = rank[i], rank[j]
        backward[index] = weights[edge]
        if labels[i] == labels[j]:
            forward[index] = weights[edge]
        else:  # paid unless both take alpha: w [i keeps] + w [i takes, j keeps]
            forward[index] = 0.0
            keep[i] += weights[edge]
    return state, nodes, keep[nodes], take[nodes], ends_i, ends_j, forward, backward


@njit(cache=True)  # type: ignore[untyped-decorator]
def _fold(
    edge: int,
    labels: Int32Array,
    state: npt.NDArray[np.int8],
    keep: Float64Array,
    take: Float64Array,
    first: Int32Array,
    second: Int32Array,
    weights: Float64Array,
) -> bool:
    """Say whether both ends are free; where one is settled, charge the edge to the other."""
    i, j = first[edge], second[edge]
    if state[i] == FREE and state[j] == FREE:
        return True
    if state[i] != FREE:
        i, j = j, i
    if state[i] == FREE:
        if state[j] == TAKE:
            keep[i] += weights[edge]
        elif labels[i] == labels[j]:
            take[i] += weights[edge]
    return False
