"""Graphs and the terms on them: grids, contrast-sensitive Potts weights, robust P^n cliques.

A graph has N nodes (pixels, superpixels, supervoxels); a term that is not wanted is not passed. `pseudolabel.energy`
minimises what is built here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from pseudolabel.types import BoolArray, DataError, Int32Array

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Connectivity = Literal[4, 8]
Metric = Literal["squared", "euclidean"]
"""How two nodes' features differ: ``"squared"`` = ||dz||^2 (Tokmakov, Papazoglou), ``"euclidean"`` = ||dz|| (Liang)."""

_STEPS = {4: ((0, 1), (1, 0)), 8: ((0, 1), (1, 0), (1, 1), (1, -1))}
_ROUNDING = 1e-9  # Q computed as a share of |s| may exceed |s| / 2 by rounding alone


@dataclass(frozen=True)
class Cliques:
    """Robust P^n Potts cliques (Kohli et al. 2008; Liang et al. 2017, Eq. 7).

    A clique s of total weight W costs ``min(lambda_max, lambda_max / Q * (W - W_l))``, where W_l is the weight of its
    members that take the commonest label: nothing when all agree, lambda_max when more than Q disagree.

    Attributes:
        members: int32 (M,), node ids of all cliques, one after the other.
        starts: int64 (K+1,), clique k has the members ``starts[k]:starts[k+1]``.
        cost: float64 (K,), lambda_max >= 0.
        truncation: float64 (K,), Q in (0, W / 2].
        weights: float64 (M,), weight > 0 of each member in its clique; None = 1 each (Liang et al.).

    Raises:
        DataError: shapes do not fit together, or a value is out of its range.
    """

    members: Int32Array
    starts: Int64Array
    cost: Float64Array
    truncation: Float64Array
    weights: Float64Array | None = None

    def __post_init__(self) -> None:
        for name, kind in (
            ("members", np.int32),
            ("starts", np.int64),
            ("cost", np.float64),
            ("truncation", np.float64),
        ):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), kind))
        weights = np.ones(self.members.shape) if self.weights is None else self.weights
        object.__setattr__(self, "weights", np.ascontiguousarray(weights, np.float64))
        self._check()

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def clique_of(self) -> Int64Array:
        """int64 (M,), the clique of each member."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @property
    def member_weights(self) -> Float64Array:
        """float64 (M,), the weights with None filled in."""
        assert self.weights is not None  # set in __post_init__
        return self.weights

    @property
    def sizes(self) -> Float64Array:
        """float64 (K,), W: the total weight of each clique, |s| for unit weights."""
        return np.bincount(self.clique_of, self.member_weights, minlength=len(self)).astype(np.float64)

    def _check(self) -> None:
        count, starts = len(self.cost), self.starts
        if starts.shape != (count + 1,) or self.truncation.shape != (count,) or self.cost.ndim != 1:
            raise DataError(
                f"Cliques: starts {starts.shape}, cost {self.cost.shape} and truncation {self.truncation.shape} do not "
                "fit, expected (K+1,), (K,) and (K,)."
            )
        if starts[0] != 0 or starts[-1] != len(self.members) or (np.diff(starts) < 1).any():
            raise DataError(
                f"Cliques: starts must rise from 0 to the number of members {len(self.members)} and no clique may be "
                f"empty, got {starts[:5].tolist()} ... {starts[-1]}. Leave empty cliques out."
            )
        if self.member_weights.shape != self.members.shape or self.members.ndim != 1:
            raise DataError(
                f"Cliques: members {self.members.shape} and weights {self.member_weights.shape} must both be (M,)."
            )
        if not (np.isfinite(self.member_weights).all() and (self.member_weights > 0).all()):
            raise DataError("Cliques: weights of members must be finite and > 0. Leave members without weight out.")
        if not (np.isfinite(self.cost).all() and (self.cost >= 0).all()):
            raise DataError(f"Cliques: cost (lambda_max) must be finite and >= 0, got a least of {self.cost.min()}.")
        half = 0.5 * self.sizes * (1 + _ROUNDING)
        wrong = ~((self.truncation > 0) & (self.truncation <= half))
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"Cliques: truncation (Q) of clique {k} is {self.truncation[k]:g}, expected 0 < Q <= |s| / 2 = "
                f"{half[k]:g}; above it the robust P^n term is not exact. Lower the truncation share to 0.5 or less."
            )


def robust_cliques(
    groups: npt.NDArray[np.integer[Any]],
    *,
    variance: npt.ArrayLike | None = None,
    strength: float = 1.0,
    truncation_share: float = 0.1,
    beta: float | None = None,
    weights: npt.ArrayLike | None = None,
) -> Cliques:
    """Make one clique of every group of nodes, as Liang et al. do of every supervoxel (Eq. 7, SPEC H14).

    ``lambda_max = strength * |s| * exp(-beta * sigma_s)`` and ``Q = truncation_share * |s|``: a supervoxel of one
    colour is held together, a mixed one is not.

    Args:
        groups: int (N,), the group of each node; < 0 = in no clique. Groups of one node cost nothing and are left out.
        variance: (G,), sigma_s, the colour variance of every group 0..G-1; None = 0 for all.
        strength: factor on lambda_max, >= 0.
        truncation_share: Q / |s|, in (0, 0.5].
        beta: fall of lambda_max with the variance, >= 0; None = 1 / mean variance.
        weights: (N,), weight > 0 of each node (its size in pixels); None = 1.

    Returns:
        the cliques, in the order of the groups' ids.

    Raises:
        DataError: shapes do not fit or a value is out of its range.
    """
    groups = np.asarray(groups)
    node_weights = np.ones(len(groups)) if weights is None else np.asarray(weights, np.float64)
    if groups.ndim != 1 or node_weights.shape != groups.shape:
        raise DataError(f"Cliques: groups {groups.shape} and weights {node_weights.shape} must both be (N,).")
    members = np.argsort(groups, kind="stable")[int((groups < 0).sum()) :]
    ids, counts = np.unique(groups[members], return_counts=True)
    members = members[np.repeat(counts > 1, counts)]
    ids, counts = ids[counts > 1], counts[counts > 1]
    spread = np.zeros(len(ids))
    if variance is not None:
        known = np.asarray(variance, np.float64)
        if known.ndim != 1 or (len(ids) and ids[-1] >= len(known)):
            raise DataError(f"Cliques: variance {known.shape} must be (G,) with G > the greatest group {ids[-1:]}.")
        spread = known[ids]
    if beta is None:
        beta = 1 / spread.mean() if spread.any() else 0.0
    if not (np.isfinite(beta) and beta >= 0 and np.isfinite(spread).all() and (spread >= 0).all()):
        raise DataError(f"Cliques: beta and variance must be finite and >= 0, got beta {beta}, variance {spread}.")
    starts = np.concatenate([[0], np.cumsum(counts)])
    size = np.add.reduceat(node_weights[members], starts[:-1]) if len(ids) else np.zeros(0)
    return Cliques(
        members.astype(np.int32),
        starts,
        strength * size * np.exp(-beta * spread),
        truncation_share * size,
        node_weights[members],
    )


@lru_cache(maxsize=4)
def grid_edges(height: int, width: int, connectivity: Connectivity = 4) -> tuple[Int32Array, Float64Array]:
    """Return the edges of a pixel grid whose node ids are ``row * width + column``.

    Args:
        height: H.
        width: W.
        connectivity: 4 or 8 neighbours.

    Returns:
        edges int32 (E, 2) and their length in pixels float64 (E,), 1 or sqrt(2). Both are read-only: they are cached.
    """
    if connectivity not in _STEPS:
        raise ValueError(f"connectivity must be 4 or 8, got {connectivity!r}")
    ids = np.arange(height * width, dtype=np.int32).reshape(height, width)
    edges, lengths = [], []
    for down, right in _STEPS[connectivity]:
        first = ids[: height - down, max(-right, 0) : width - max(right, 0)]
        second = ids[down:, max(right, 0) : width + min(right, 0)]
        edges.append(np.stack([first.ravel(), second.ravel()], axis=1))
        lengths.append(np.full(first.size, np.hypot(down, right)))
    pairs, distance = np.concatenate(edges), np.concatenate(lengths)
    pairs.flags.writeable = distance.flags.writeable = False
    return pairs, distance


def contrast_weights(
    features: npt.NDArray[Any],
    edges: npt.NDArray[np.integer[Any]],
    *,
    strength: float,
    gamma: float | None = None,
    distance: npt.ArrayLike | None = None,
    switched_off: BoolArray | None = None,
    metric: Metric = "squared",
    scale: float = 0.5,
) -> Float64Array:
    """Return contrast-sensitive Potts weights ``strength * exp(-gamma * D(z_i, z_j)) / dist(i, j)``.

    The pairwise term of Tokmakov et al. (Eq. 3; the defaults), of Papazoglou & Ferrari (Eq. 9-10; for temporal links
    pass ``distance = 1 / overlap``) and of Liang et al. (Eq. 6; ``metric="euclidean", scale=1``).

    Args:
        features: (N, D), z: colours or descriptors of the nodes.
        edges: int (E, 2), node ids.
        strength: lambda >= 0; 0 switches the term off.
        gamma: fall with contrast, >= 0; None = ``scale / mean(D / dist)`` over all edges, 0 where nothing contrasts.
        distance: (E,), dist > 0 of the two nodes; None = 1.
        switched_off: bool (N,), the band around a motion boundary: edges with both ends in it weigh 0 (Delta in Eq. 3).
        metric: D = ``"squared"`` or ``"euclidean"`` distance of the features.
        scale: the numerator of gamma when it is None.

    Returns:
        float64 (E,), >= 0.

    Raises:
        DataError: shapes do not fit, an edge is out of range, or a value is out of its range.
    """
    features = np.asarray(features)
    if features.ndim != 2:
        raise DataError(f"Potts weights: features must be (N, D), got {features.shape}. Reshape an image to (H*W, D).")
    first, second = checked_edges(edges, len(features))
    if metric not in ("squared", "euclidean"):
        raise ValueError(f"metric must be 'squared' or 'euclidean', got {metric!r}")
    if not (np.isfinite(strength) and strength >= 0):
        raise DataError(f"Potts weights: strength must be finite and >= 0, got {strength}: else it is not submodular.")
    values = np.ascontiguousarray(features, np.float32 if features.dtype.kind in "ui" else np.float64)
    contrast = _squared_differences(values, first, second)
    if not np.isfinite(contrast).all():
        raise DataError("Potts weights: features hold NaN or infinity. Fill them before building the graph.")
    if metric == "euclidean":
        contrast = np.sqrt(contrast)
    inverse: Float64Array | float = 1.0
    if distance is not None:
        lengths = np.asarray(distance, np.float64)
        if lengths.shape != first.shape or not (lengths > 0).all():
            raise DataError(f"Potts weights: distance must be > 0 and of shape {first.shape}, got {lengths.shape}.")
        inverse = 1 / lengths
    if gamma is None:
        mean = float(np.mean(contrast * inverse)) if len(first) else 0.0
        gamma = scale / mean if mean > 0 else 0.0
    elif not (np.isfinite(gamma) and gamma >= 0):
        raise DataError(f"Potts weights: gamma must be finite and >= 0, got {gamma}.")
    weights = np.asarray(strength * np.exp(-gamma * contrast) * inverse, np.float64)
    if switched_off is not None:
        if switched_off.shape != (len(features),):
            raise DataError(f"Potts weights: switched_off must be ({len(features)},), got {switched_off.shape}.")
        weights[switched_off[first] & switched_off[second]] = 0
    return weights


def checked_edges(edges: npt.ArrayLike | None, num_nodes: int) -> tuple[Int32Array, Int32Array]:
    """Return the two ends of all edges, int32 (E,) each; none for None.

    Raises:
        DataError: not int (E, 2), or an id is not in 0..num_nodes-1, or an edge joins a node to itself.
    """
    pairs = np.zeros((0, 2), np.int32) if edges is None else np.asarray(edges)
    if not pairs.size:
        pairs = np.zeros((0, 2), np.int32)  # a list without an edge has no type
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "ui":
        raise DataError(f"Edges: expected integers (E, 2), got {pairs.dtype} {pairs.shape}.")
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= num_nodes):
        raise DataError(
            f"Edges: node ids run from {pairs.min()} to {pairs.max()}, expected 0..{num_nodes - 1}. "
            "Build the edges on the same nodes as the unaries."
        )
    first, second = (np.ascontiguousarray(pairs[:, side], np.int32) for side in (0, 1))
    if (first == second).any():
        raise DataError(f"Edges: edge {int(np.argmax(first == second))} joins a node to itself. Drop such edges.")
    return first, second


@njit(cache=True)  # type: ignore[untyped-decorator]
def _squared_differences(features: npt.NDArray[Any], first: Int32Array, second: Int32Array) -> Float64Array:
    """Return ||z_i - z_j||^2 of every edge, without (E, D) in memory."""
    squared = np.empty(len(first))
    for edge in range(len(first)):
        total = 0.0
        for channel in range(features.shape[1]):
            difference = features[first[edge], channel] - features[second[edge], channel]
            total += difference * difference
        squared[edge] = total
    return squared
