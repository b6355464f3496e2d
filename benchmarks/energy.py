"""Mixtures and energies against what people use: ``OMP_NUM_THREADS=1 python -m benchmarks.energy``, about a minute.

Prints one table; a ratio is the peer's time over ours, both in CPU seconds of this run, the best of several turns each.
Ours runs on one thread; the variable holds the peers to one as well. ortools is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import maxflow
import numpy as np
import numpy.typing as npt
from maxflow.fastmin import aexpansion_grid, energy_of_grid_labeling
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

from pseudolabel.appearance import fit_mixture
from pseudolabel.energy import energy_of, minimize_binary, minimize_multilabel, minimize_multilabel_grid
from pseudolabel.graphs import contrast_weights, grid_edges, robust_cliques

Array = npt.NDArray[Any]
_INTEGER_STEPS = 1000
"""Peers that know integers only get costs in thousandths."""


class Row(NamedTuple):
    """A line of the table: ``same`` tells how well the results agree."""

    what: str
    ours: float
    peer: str
    theirs: float
    same: str


def picture(height: int, width: int, *, seed: int = 0) -> tuple[Array, Array]:
    """Return a noisy picture of coloured patches, uint8 (H, W, 3), and how much each of 10 labels fits, (H, W, 10)."""
    rng = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(rng.normal(size=(height, width)), 9) for _ in range(10)], axis=-1)
    colours = rng.uniform(30, 225, (10, 3))
    frame = colours[fields.argmax(axis=-1)] + rng.normal(0, 12, (height, width, 3))
    fit = -20 * fields / fields.std() / 10 + rng.normal(0, 1, fields.shape)
    return np.clip(frame, 0, 255).astype(np.uint8), fit


def race(ours: Callable[[], Any], theirs: Callable[[], Any], *, repeats: int) -> tuple[float, float, Any, Any]:
    """Run both in turns; return the best seconds of each and their last results. The first call of ours compiles."""
    ours()
    best, results = [float("inf")] * 2, [None, None]
    for _ in range(repeats):
        for side, run in enumerate((ours, theirs)):
            start = time.process_time()
            results[side] = run()
            best[side] = min(best[side], time.process_time() - start)
    return best[0], best[1], results[0], results[1]


def mixtures(frame: Array, *, repeats: int) -> list[Row]:
    """Gaussian mixtures of 5 components over all pixels, against scikit-learn."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    warnings.simplefilter("ignore", ConvergenceWarning)
    points = frame.reshape(-1, 3).astype(np.float64)
    start = fit_mixture(points, em_iters=0, regularisation=1.0)
    settings: dict[str, Any] = {"max_iter": 10, "tol": 0, "reg_covar": 1.0}
    given = {
        "weights_init": start.weights,
        "means_init": start.means,
        "precisions_init": np.linalg.inv(start.covariances),
    }
    ours, theirs, mixture, peer = race(
        lambda: fit_mixture(points, start=start, regularisation=1.0),
        lambda: GaussianMixture(5, **settings, **given).fit(points),
        repeats=repeats,
    )
    gap = np.abs(mixture.means - peer.means_).max()
    rows = [Row("mixture, 10 EM steps from one start", ours, "scikit-learn", theirs, f"means differ by {gap:.0e}")]
    ours, theirs, own_score, score = race(
        lambda: mixture.log_likelihood(points), lambda: peer.score_samples(points), repeats=repeats
    )
    gap = np.abs(own_score - score).max()
    rows.append(Row("mixture, log-likelihood", ours, "scikit-learn", theirs, f"they differ by {gap:.0e}"))
    for bin_width, name in ((None, "every pixel"), (8.0, "8-bit colours in bins of 8")):
        ours, theirs, mixture, peer = race(
            lambda width=bin_width: fit_mixture(points, regularisation=1.0, bin_width=width),  # type: ignore[misc]
            lambda: GaussianMixture(5, random_state=0, **settings).fit(points),
            repeats=max(1, repeats // 2),
        )
        levels = f"log-likelihood {mixture.log_likelihood(points).mean():.3f}, theirs {peer.score(points):.3f}"
        rows.append(Row(f"mixture with k-means start, {name}", ours, "scikit-learn", theirs, levels))
    return rows


def binary_cuts(frame: Array, fit: Array, *, repeats: int) -> list[Row]:
    """Exact two-label cuts on a contrast-sensitive grid of 8 neighbours, graph given as edges."""
    height, width = frame.shape[:2]
    edges, distance = grid_edges(height, width, 8)
    pixels = frame.reshape(-1, 3)
    rows = []
    for name, unary, strength in (
        ("colours", colour_unary(pixels, fit), 2.0),
        ("noise", fit[..., :2].reshape(-1, 2), 2.0),
    ):
        weights = contrast_weights(pixels, edges, strength=strength, distance=distance)
        for peer, run in _solvers().items():
            ours, theirs, cut, energy = race(
                lambda unary=unary, weights=weights: minimize_binary(unary, edges, weights),  # type: ignore[misc]
                lambda run=run, unary=unary, weights=weights: run(unary, edges, weights),  # type: ignore[misc]
                repeats=repeats if peer == "PyMaxflow, whole graph" else min(repeats, 2),
            )
            same = f"energy {cut.energy:.1f}, theirs {energy:.1f}"
            rows.append(Row(f"binary cut, {name}, {len(unary):,} pixels", ours, peer, theirs, same))
    return rows


def colour_unary(pixels: Array, fit: Array) -> Array:
    """Return (N, 2): how well colours fit mixtures of background and foreground, learnt from a mask with errors."""
    rng = np.random.default_rng(0)
    mask = (fit.argmin(axis=-1) < 3).ravel() ^ (rng.random(len(pixels)) < 1 / 3)
    sides = [fit_mixture(pixels[mask == side], regularisation=1.0, bin_width=8.0) for side in (False, True)]
    return -np.stack([side.log_likelihood(pixels) for side in sides], axis=1)


def _solvers() -> dict[str, Callable[[Array, Array, Array], float]]:
    solvers: dict[str, Callable[[Array, Array, Array], float]] = {
        "PyMaxflow, whole graph": _by_pymaxflow,
        "scipy maximum_flow": _by_scipy,
    }
    if importlib.util.find_spec("ortools") is not None:
        solvers["ortools SimpleMaxFlow"] = _by_ortools
    return solvers


def _by_pymaxflow(unary: Array, edges: Array, weights: Array) -> float:
    graph = maxflow.GraphFloat(len(unary), len(edges))
    ids = graph.add_grid_nodes(len(unary))
    graph.add_edges(edges[:, 0], edges[:, 1], weights, weights)
    graph.add_grid_tedges(ids, unary[:, 1], unary[:, 0])
    graph.maxflow()
    return energy_of(graph.get_grid_segments(ids).astype(np.int32), unary, edges, weights)


def _arcs(unary: Array, edges: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return tails, heads and whole-number capacities; the source is node N, the sink N + 1."""
    count = len(unary)
    difference = unary[:, 1] - unary[:, 0]
    to_one, to_zero = np.flatnonzero(difference < 0), np.flatnonzero(difference > 0)
    tails = np.concatenate([edges[:, 0], edges[:, 1], np.full(len(to_zero), count), to_one])
    heads = np.concatenate([edges[:, 1], edges[:, 0], to_zero, np.full(len(to_one), count + 1)])
    costs = np.concatenate([weights, weights, difference[to_zero], -difference[to_one]])
    return tails, heads, np.rint(costs * _INTEGER_STEPS).astype(np.int64)


def _by_scipy(unary: Array, edges: Array, weights: Array) -> float:
    count = len(unary)
    tails, heads, capacity = _arcs(unary, edges, weights)
    graph = csr_matrix((capacity.astype(np.int32), (tails, heads)), shape=(count + 2, count + 2))
    flow = maximum_flow(graph, count, count + 1)
    return float(flow.flow_value / _INTEGER_STEPS + unary.min(axis=1).sum())


def _by_ortools(unary: Array, edges: Array, weights: Array) -> float:
    from ortools.graph.python.max_flow import SimpleMaxFlow

    count, solver = len(unary), SimpleMaxFlow()
    solver.add_arcs_with_capacity(*_arcs(unary, edges, weights))
    solver.solve(count, count + 1)
    return float(solver.optimal_flow() / _INTEGER_STEPS + unary.min(axis=1).sum())


def expansions(fit: Array, *, repeats: int) -> list[Row]:
    """Alpha-expansion on uniform Potts, 4 neighbours, against PyMaxflow's own."""
    rows = []
    for labels, strength in ((5, 0.5), (5, 2.0), (10, 0.5), (10, 2.0)):
        unary = np.ascontiguousarray(fit[..., :labels])
        potts = strength * (1 - np.eye(labels))
        ours, theirs, cut, other = race(
            lambda unary=unary, strength=strength: minimize_multilabel_grid(  # type: ignore[misc]
                unary, strength=strength, connectivity=4
            ),
            lambda unary=unary, potts=potts: aexpansion_grid(unary, potts),  # type: ignore[misc]
            repeats=repeats,
        )
        reached = energy_of_grid_labeling(unary, potts, other)
        gap = (cut.energy - reached) / abs(reached)
        name = f"expansion, {labels} labels, Potts {strength:g}"
        rows.append(Row(name, ours, "aexpansion_grid", theirs, f"relative energy {gap:+.0e}"))
    return rows


def clique_overhead(*, repeats: int, nodes: int = 15000, groups: int = 300, seed: int = 0) -> list[Row]:
    """What robust P^n cliques add to a cut over the superpixels of a clip; here the peer is ours without them."""
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(nodes))
    edges, _ = grid_edges(side, side, 8)
    weights = rng.random(len(edges))
    block = np.arange(side) * int(np.sqrt(groups)) // side
    members = (block[:, None] * (block[-1] + 1) + block).ravel()
    rows = []
    for labels, minimize in ((2, minimize_binary), (4, minimize_multilabel)):
        unary = rng.normal(0, 2, (side * side, labels))
        cliques = robust_cliques(members, strength=0.3)
        ours, theirs, cut, plain = race(
            lambda unary=unary, cliques=cliques, minimize=minimize: minimize(  # type: ignore[misc]
                unary, edges, weights, cliques=cliques
            ),
            lambda unary=unary, minimize=minimize: minimize(unary, edges, weights),  # type: ignore[misc]
            repeats=repeats,
        )
        changed = f"{(cut.labels != plain.labels).mean():.0%} of the labels differ"
        what = f"robust P^n, {labels} labels, {side * side:,} nodes, {len(cliques)} cliques"
        rows.append(Row(what, ours, "ours without cliques", theirs, changed))
    return rows


def show(rows: list[Row]) -> None:
    """Print the table."""
    print(f"{'what':58} {'ours ms':>9}  {'peer':24} {'peer ms':>9} {'ratio':>7}  agreement")
    for row in rows:
        times = f"{row.ours * 1e3:9.1f}  {row.peer:24} {row.theirs * 1e3:9.1f} {row.theirs / row.ours:7.2f}"
        print(f"{row.what:58} {times}  {row.same}", flush=True)


def benchmark(*, height: int = 240, width: int = 427, repeats: int = 5) -> list[Row]:
    """Run all races on a picture of ``height`` x ``width`` (the default: 10^5 pixels, DAVIS at 240p)."""
    frame, fit = picture(height, width)
    rows = mixtures(frame, repeats=repeats)
    rows += binary_cuts(frame, fit, repeats=repeats)
    rows += expansions(fit, repeats=repeats)
    return rows + clique_overhead(repeats=repeats)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Mixtures and energies against peers, as ratios.")
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=427)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    show(benchmark(height=arguments.height, width=arguments.width, repeats=arguments.repeats))
