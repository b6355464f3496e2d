"""A checked labelling energy and its exact expansion move: what `pseudolabel.energy` minimises with."""

from __future__ import annotations

from typing import Any

import maxflow
import numpy as np
import numpy.typing as npt

from pseudolabel.graphs import Cliques, Float64Array, checked_edges
from pseudolabel.moves import TAKE, Move, Workspace, potts_energy
from pseudolabel.types import BoolArray, DataError, Int32Array


class Problem:
    """A checked energy and its expansion move."""

    def __init__(
        self,
        unary: npt.ArrayLike,
        edges: npt.ArrayLike | None,
        weights: npt.ArrayLike | None,
        cliques: Cliques | None,
    ) -> None:
        self.unary = np.ascontiguousarray(unary, np.float64)
        if self.unary.ndim != 2 or self.unary.shape[1] < 1:
            raise DataError(f"Energy: unary must be (N, L) with L >= 1, got {self.unary.shape}.")
        if not np.isfinite(self.unary).all():
            node, label = np.argwhere(~np.isfinite(self.unary))[0]
            raise DataError(
                f"Energy: unary of node {node}, label {label} is {self.unary[node, label]}, expected finite costs. "
                "Clip probabilities above 0 before taking the logarithm."
            )
        self.num_nodes, self.num_labels = self.unary.shape
        self.first, self.second = checked_edges(edges, self.num_nodes)
        self.weights = np.ascontiguousarray(np.zeros(0) if weights is None else weights, np.float64)
        if self.weights.shape != self.first.shape:
            raise DataError(f"Energy: {len(self.first)} edges but weights of shape {self.weights.shape}.")
        if len(self.weights) and not (np.isfinite(self.weights).all() and self.weights.min() >= 0):
            raise DataError(
                f"Energy: pairwise weights must be finite and >= 0, got a least of {self.weights.min()}: a negative "
                "one is not submodular and has no exact minimum. Clip the weights at 0."
            )
        self.cliques = cliques if cliques is not None and len(cliques) else None
        self._locked = np.zeros(self.num_nodes, bool)
        if self.cliques is not None:
            members = self.cliques.members
            if members.min() < 0 or members.max() >= self.num_nodes:
                raise DataError(
                    f"Cliques: members run from {members.min()} to {members.max()}, expected 0..{self.num_nodes - 1}."
                )
            self._locked[members] = True
        self._workspace: Workspace | None = None
        self._graph: Any = None

    def checked_labels(self, labels: npt.ArrayLike) -> Int32Array:
        """Return ``labels`` as int32 (N,), or raise a DataError."""
        given = np.asarray(labels)
        if given.shape != (self.num_nodes,) or given.dtype.kind not in "uib":
            raise DataError(f"Energy: labels must be integers ({self.num_nodes},), got {given.dtype} {given.shape}.")
        if len(given) and (given.min() < 0 or given.max() >= self.num_labels):
            raise DataError(f"Energy: labels must be in 0..{self.num_labels - 1}, got {given.min()}..{given.max()}.")
        return given.astype(np.int32)

    def energy_of(self, labels: Int32Array) -> float:
        """Return the energy of checked labels int32 (N,)."""
        energy = float(potts_energy(labels, self.unary, self.first, self.second, self.weights))
        if self.cliques is not None:
            sizes = self.cliques.sizes
            disagreeing = sizes - self._label_weights(labels).max(axis=1)
            slope = self.cliques.cost / self.cliques.truncation
            energy += float(np.minimum(self.cliques.cost, slope * disagreeing).sum())
        return energy

    def binary_minimum(self) -> Int32Array:
        """A move to label 1 from all 0 can reach every labelling: its minimum is the minimum."""
        return self.expand(np.zeros(self.num_nodes, np.int32), 1)

    def expand(self, labels: Int32Array, alpha: int) -> Int32Array:
        """Return the best labelling in which every node keeps its label or takes alpha."""
        if self._workspace is None:
            self._workspace = Workspace(self.first, self.second, self.weights, self._locked)
        move = self._workspace.build_move(labels, alpha, self.unary)
        takes = move.state == TAKE
        if len(move.nodes):
            takes[move.nodes] = self._cut(move, labels, alpha)
        return np.where(takes, np.int32(alpha), labels)

    def _cut(self, move: Move, labels: Int32Array, alpha: int) -> BoolArray:
        """Return which free nodes take alpha: the sink side of a minimum cut."""
        if self._graph is None:  # of full size: a graph that grows copies itself, which costs as much as the flow
            auxiliary = 0 if self.cliques is None else 2 * len(self.cliques)
            links = 0 if self.cliques is None else 2 * len(self.cliques.members)
            self._graph = maxflow.GraphFloat(self.num_nodes + auxiliary, len(self.first) + links)
        graph = self._graph
        graph.reset()  # keeps its memory
        ids = graph.add_grid_nodes(len(move.nodes))
        graph.add_grid_tedges(ids, move.take, move.keep)
        if len(move.first):
            graph.add_edges(move.first, move.second, move.forward, move.backward)
        if self.cliques is not None:
            self._add_cliques(graph, move, labels, alpha)
        graph.maxflow()
        return np.asarray(graph.get_grid_segments(ids), bool)

    def _label_weights(self, labels: Int32Array) -> Float64Array:
        """Return (K, L): the weight of the members of each clique that take each label."""
        assert self.cliques is not None
        codes = self.cliques.clique_of * self.num_labels + labels[self.cliques.members]
        count = len(self.cliques)
        table = np.bincount(codes, self.cliques.member_weights, minlength=count * self.num_labels)
        return table.astype(np.float64).reshape(count, self.num_labels)

    def _add_cliques(self, graph: Any, move: Move, labels: Int32Array, alpha: int) -> None:
        """Add two auxiliary nodes per clique: its cost as a function of the move is exactly their minimum.

        With theta = lambda / Q: min(lambda, theta * weight that keeps another label than alpha) + min(lambda, R +
        theta * weight that leaves the dominant label d) - lambda, where R = theta * (W - W_d) is paid already. As
        Q <= W / 2, at most one of the two is below lambda. A clique without a dominant label (W - W_d >= Q) has the
        first term only.
        """
        cliques = self.cliques
        assert cliques is not None
        slope = cliques.cost / cliques.truncation
        held = self._label_weights(labels)
        dominant = held.argmax(axis=1)
        paid = slope * (cliques.sizes - held.max(axis=1))
        leaving = (paid < cliques.cost) & (dominant != alpha)
        rank = np.zeros(self.num_nodes, np.int64)
        rank[move.nodes] = np.arange(len(move.nodes))
        clique_of, present = cliques.clique_of, labels[cliques.members]
        capacity = slope[clique_of] * cliques.member_weights
        keeps = graph.add_grid_nodes(len(cliques))  # on the source side when lambda is paid
        graph.add_grid_tedges(keeps, np.zeros(len(cliques)), cliques.cost)
        others = present != alpha
        ids, none = rank[cliques.members[others]], np.zeros(int(others.sum()))
        graph.add_edges(ids, keeps[clique_of[others]], capacity[others], none)
        leaves = graph.add_grid_nodes(len(cliques))  # on the sink side when lambda is paid
        graph.add_grid_tedges(leaves, np.where(leaving, cliques.cost - paid, 0.0), np.zeros(len(cliques)))
        held_by = leaving[clique_of] & (present == dominant[clique_of])
        ids, none = rank[cliques.members[held_by]], np.zeros(int(held_by.sum()))
        graph.add_edges(leaves[clique_of[held_by]], ids, capacity[held_by], none)
