"""Exact and approximate minima of labelling energies on graphs (unary + contrast-sensitive Potts + robust P^n).

    E(x) = sum_i unary[i, x_i] + sum_(i,j) w_ij [x_i != x_j] + sum_s robust P^n(x_s)

Two labels: one maximum flow, exact. More: alpha-expansion (Boykov, Veksler, Zabih 2001), every move of which is one
exact two-label cut; the energy never rises and ends within twice the minimum of the Potts terms (Theorem 6.1).
Robust P^n terms take two auxiliary nodes per clique (Kohli, Ladicky, Torr 2008), in both cases without approximation.
A term that is not passed is off.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pseudolabel.expansion import Problem
from pseudolabel.graphs import (
    Cliques,
    Connectivity,
    Float64Array,
    contrast_weights,
    grid_edges,
    robust_cliques,
)
from pseudolabel.types import BoolArray, DataError, Int32Array, UInt8Array

__all__ = [
    "BinaryCut",
    "Cliques",
    "MultilabelCut",
    "contrast_weights",
    "energy_of",
    "grid_edges",
    "minimize_binary",
    "minimize_binary_grid",
    "minimize_multilabel",
    "minimize_multilabel_grid",
    "robust_cliques",
]


class BinaryCut(NamedTuple):
    """The minimum of a two-label energy: ``labels`` uint8 (N,) or (H, W), 0 or 1, and its ``energy``."""

    labels: UInt8Array
    energy: float


class MultilabelCut(NamedTuple):
    """A labelling that no expansion improves.

    Attributes:
        labels: int32 (N,) or (H, W), 0..L-1.
        energy: its energy.
        energies: the energy at the start and after every sweep over the labels; never rises.
    """

    labels: Int32Array
    energy: float
    energies: tuple[float, ...]


def energy_of(
    labels: npt.ArrayLike,
    unary: npt.ArrayLike,
    edges: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    cliques: Cliques | None = None,
) -> float:
    """Return the energy of a labelling.

    Args:
        labels: int (N,), 0..L-1.
        unary: float (N, L), cost of every label at every node.
        edges: int (E, 2), node ids; None = no pairwise term.
        weights: float (E,), Potts weights >= 0.
        cliques: robust P^n cliques; None = no higher-order term.

    Raises:
        DataError: shapes do not fit, or a value is out of its range.
    """
    problem = Problem(unary, edges, weights, cliques)
    return problem.energy_of(problem.checked_labels(labels))


def minimize_binary(
    unary: npt.ArrayLike,
    edges: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    *,
    cliques: Cliques | None = None,
) -> BinaryCut:
    """Return the exact minimum of a two-label energy by one maximum flow.

    Args:
        unary: float (N, 2), cost of label 0 and of label 1 at every node; finite, may be negative.
        edges: int (E, 2), node ids; None = no pairwise term.
        weights: float (E,), Potts weights >= 0.
        cliques: robust P^n cliques; None = no higher-order term.

    Returns:
        labels uint8 (N,) and their energy.

    Raises:
        DataError: NaN or infinity, a negative weight, an edge or member out of range, or shapes that do not fit.
    """
    problem = Problem(unary, edges, weights, cliques)
    if problem.num_labels != 2:
        raise DataError(
            f"Binary energy: unary must be (N, 2), got {problem.unary.shape}. Use minimize_multilabel for more labels."
        )
    labels = problem.binary_minimum()
    return BinaryCut(labels.astype(np.uint8), problem.energy_of(labels))


def minimize_multilabel(
    unary: npt.ArrayLike,
    edges: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    *,
    init: npt.ArrayLike | None = None,
    max_sweeps: int = 100,
    cliques: Cliques | None = None,
) -> MultilabelCut:
    """Minimise an energy of several labels by alpha-expansion (Boykov, Veksler, Zabih 2001); exact for two labels.

    Args:
        unary: float (N, L), cost of every label at every node; finite, may be negative.
        edges: int (E, 2), node ids; None = no pairwise term.
        weights: float (E,), Potts weights >= 0, one per edge.
        init: int (N,), labels to start from; None = the cheapest of each node.
        max_sweeps: sweeps over all labels at most; it ends earlier when no label improves.
        cliques: robust P^n cliques; None = no higher-order term.

    Returns:
        labels, energy, and energies per sweep.

    Raises:
        DataError: NaN or infinity, a negative weight, an edge or member out of range, or shapes that do not fit.
    """
    problem = Problem(unary, edges, weights, cliques)
    labels = np.argmin(problem.unary, axis=1).astype(np.int32) if init is None else problem.checked_labels(init)
    energies = [problem.energy_of(labels)]
    if problem.num_labels == 2:  # one cut finds what expansions would only approach
        cut = problem.binary_minimum()
        if problem.energy_of(cut) < energies[0]:  # else the start is a minimum already, up to rounding
            labels = cut
        energies.append(problem.energy_of(labels))
        return MultilabelCut(labels, energies[-1], tuple(energies))
    energy, unimproved = energies[0], 0
    for _ in range(max_sweeps):
        for alpha in range(problem.num_labels):
            if unimproved >= problem.num_labels:  # every label was tried on this very labelling
                break
            moved = problem.expand(labels, alpha)
            lower = problem.energy_of(moved)
            unimproved += 1
            if lower < energy:
                labels, energy, unimproved = moved, lower, 1
        if energy == energies[-1] and len(energies) > 1:
            break
        energies.append(energy)
        if unimproved >= problem.num_labels:
            break
    return MultilabelCut(labels, energy, tuple(energies))


def minimize_binary_grid(
    unary: npt.NDArray[Any],
    features: npt.NDArray[Any] | None = None,
    *,
    strength: float,
    gamma: float | None = None,
    connectivity: Connectivity = 8,
    switched_off: BoolArray | None = None,
) -> BinaryCut:
    """Return the exact two-label minimum on a pixel grid with contrast-sensitive Potts weights.

    Args:
        unary: float (H, W, 2).
        features: (H, W, D), the image whose contrast lowers the weights; None = the same weight everywhere.
        strength: lambda >= 0; 0 = no pairwise term.
        gamma: see :func:`pseudolabel.graphs.contrast_weights`.
        connectivity: 4 or 8 neighbours; weights are divided by the distance of the pixels.
        switched_off: bool (H, W), the band in which no edge weighs.

    Returns:
        labels uint8 (H, W) and their energy.

    Raises:
        DataError: as :func:`minimize_binary`, and features or switched_off of another size.
    """
    nodes, edges, weights = _grid(unary, features, strength, gamma, connectivity, switched_off)
    cut = minimize_binary(nodes, edges, weights)
    return BinaryCut(cut.labels.reshape(unary.shape[:2]), cut.energy)


def minimize_multilabel_grid(
    unary: npt.NDArray[Any],
    features: npt.NDArray[Any] | None = None,
    *,
    strength: float,
    gamma: float | None = None,
    connectivity: Connectivity = 8,
    switched_off: BoolArray | None = None,
    init: npt.NDArray[Any] | None = None,
    max_sweeps: int = 100,
) -> MultilabelCut:
    """Minimise by alpha-expansion on a pixel grid; arguments as :func:`minimize_binary_grid` with unary (H, W, L).

    Args:
        unary: float (H, W, L).
        features: (H, W, D) or None.
        strength: lambda >= 0; 0 = no pairwise term.
        gamma: see :func:`pseudolabel.graphs.contrast_weights`.
        connectivity: 4 or 8 neighbours; weights are divided by the distance of the pixels.
        switched_off: bool (H, W), the band in which no edge weighs.
        init: int (H, W), labels to start from; None = the cheapest of each pixel.
        max_sweeps: sweeps over all labels at most.

    Returns:
        labels int32 (H, W), energy, and energies per sweep.

    Raises:
        DataError: as :func:`minimize_multilabel`, and features or switched_off of another size.
    """
    nodes, edges, weights = _grid(unary, features, strength, gamma, connectivity, switched_off)
    start = None if init is None else np.asarray(init).reshape(-1)
    cut = minimize_multilabel(nodes, edges, weights, init=start, max_sweeps=max_sweeps)
    return MultilabelCut(cut.labels.reshape(unary.shape[:2]), cut.energy, cut.energies)


def _grid(
    unary: npt.NDArray[Any],
    features: npt.NDArray[Any] | None,
    strength: float,
    gamma: float | None,
    connectivity: Connectivity,
    switched_off: BoolArray | None,
) -> tuple[npt.NDArray[Any], Int32Array | None, Float64Array | None]:
    if unary.ndim != 3:
        raise DataError(f"Grid energy: unary must be (H, W, L), got {unary.shape}.")
    height, width, num_labels = unary.shape
    for name, array in (("features", features), ("switched_off", switched_off)):
        if array is not None and array.shape[:2] != (height, width):
            raise DataError(f"Grid energy: {name} {array.shape} must be of the unary's size {height} x {width}.")
    nodes = unary.reshape(-1, num_labels)  # (H, W, L) -> (N, L)
    if strength == 0:
        return nodes, None, None
    edges, distance = grid_edges(height, width, connectivity)
    values = np.zeros((height * width, 1)) if features is None else features.reshape(height * width, -1)
    off = None if switched_off is None else switched_off.reshape(-1)
    weights = contrast_weights(values, edges, strength=strength, gamma=gamma, distance=distance, switched_off=off)
    return nodes, edges, weights
