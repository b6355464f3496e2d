from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from pseudolabel.energy import (
    Cliques,
    energy_of,
    minimize_binary,
    minimize_binary_grid,
    minimize_multilabel,
    minimize_multilabel_grid,
)
from pseudolabel.expansion import Problem
from pseudolabel.types import DataError

Instance = tuple[np.ndarray, np.ndarray | None, np.ndarray | None, Cliques | None]


def random_cliques(rng: np.random.Generator, nodes: int, *, weighted: bool) -> Cliques:
    members, starts, cost, truncation, weights = [], [0], [], [], []
    for _ in range(rng.integers(1, 4)):
        chosen = rng.choice(nodes, rng.integers(2, nodes + 1), replace=False)
        own = rng.uniform(0.2, 3, len(chosen)) if weighted else np.ones(len(chosen))
        members.extend(chosen)
        weights.extend(own)
        starts.append(len(members))
        cost.append(rng.uniform(0, 6))
        truncation.append(own.sum() * rng.choice([0.05, 0.1, 0.3, 0.5]))
    return Cliques(
        np.array(members),
        np.array(starts),
        np.array(cost),
        np.array(truncation),
        np.array(weights) if weighted else None,
    )


def random_instance(rng: np.random.Generator, nodes: int, labels: int, *, potts: bool, cliques: str) -> Instance:
    unary = rng.normal(0, 2, (nodes, labels))
    if rng.random() < 0.3:
        unary = np.round(unary)  # ties
    edges = weights = None
    if potts:
        pairs = np.array(list(itertools.combinations(range(nodes), 2)))
        edges = pairs[rng.random(len(pairs)) < 0.6]
        weights = rng.choice([0.1, 1, 3]) * rng.random(len(edges))
    terms = None if cliques == "none" else random_cliques(rng, nodes, weighted=cliques == "weighted")
    return unary, edges, weights, terms


def by_definition(
    labellings: np.ndarray,
    unary: np.ndarray,
    edges: np.ndarray | None,
    weights: np.ndarray | None,
    cliques: Cliques | None,
) -> np.ndarray:
    """The energy of each row, term by term; in Eq. 7 of Liang et al. N = W - the weight of the commonest label."""
    x = np.atleast_2d(labellings)
    energy = unary[np.arange(x.shape[1]), x].sum(axis=1)
    if edges is not None and weights is not None:
        for (i, j), weight in zip(edges, weights, strict=True):
            energy += weight * (x[:, i] != x[:, j])
    if cliques is not None:
        for k in range(len(cliques.cost)):
            part = slice(cliques.starts[k], cliques.starts[k + 1])
            own = cliques.member_weights[part]
            inside = x[:, cliques.members[part]]
            commonest = np.max([(inside == label) @ own for label in range(unary.shape[1])], axis=0)
            disagree, lam, q = own.sum() - commonest, cliques.cost[k], cliques.truncation[k]
            energy += np.where(disagree <= q, disagree * lam / q, lam)
    return energy


def brute_force(instance: Instance) -> float:
    nodes, labels = instance[0].shape
    return float(by_definition(np.indices((labels,) * nodes).reshape(nodes, -1).T, *instance).min())


@pytest.mark.parametrize("cliques", ["none", "uniform", "weighted"])
@pytest.mark.parametrize("potts", [False, True])
def test_binary_minimum_equals_brute_force(potts: bool, cliques: str) -> None:
    rng = np.random.default_rng([potts, len(cliques)])
    for _ in range(80):  # times six combinations of terms
        unary, edges, weights, terms = instance = random_instance(
            rng, int(rng.integers(2, 8)), 2, potts=potts, cliques=cliques
        )
        least = brute_force(instance)
        cut = minimize_binary(unary, edges, weights, cliques=terms)
        assert cut.labels.dtype == np.uint8
        assert cut.energy == pytest.approx(least, abs=1e-9)
        assert by_definition(cut.labels, *instance)[0] == pytest.approx(cut.energy, abs=1e-9)
        start = rng.integers(0, 2, len(unary))
        assert minimize_multilabel(unary, edges, weights, cliques=terms, init=start).energy == pytest.approx(least)


@pytest.mark.parametrize("cliques", ["none", "uniform", "weighted"])
@pytest.mark.parametrize("potts", [False, True])
def test_each_expansion_is_the_best_move(potts: bool, cliques: str) -> None:
    rng = np.random.default_rng([7, potts, len(cliques)])
    for _ in range(25):
        nodes, labels = int(rng.integers(2, 7)), int(rng.integers(3, 5))
        instance = random_instance(rng, nodes, labels, potts=potts, cliques=cliques)
        present = rng.choice(rng.integers(0, labels, 2), nodes).astype(np.int32)  # few labels: dominant ones occur
        alpha = int(rng.integers(labels))
        moved = Problem(*instance).expand(present, alpha)
        assert ((moved == present) | (moved == alpha)).all()
        moves = np.where(np.indices((2,) * nodes).reshape(nodes, -1).T, alpha, present)
        assert by_definition(moved, *instance)[0] == pytest.approx(by_definition(moves, *instance).min(), abs=1e-9)


@pytest.mark.parametrize("cliques", ["none", "weighted"])
def test_expansion_never_raises_the_energy_and_keeps_its_bound(cliques: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        unary, edges, weights, terms = random_instance(rng, 6, 3, potts=True, cliques=cliques)
        unary = unary - unary.min()  # the bound is on energies >= 0
        start = rng.integers(0, 3, 6)
        cut = minimize_multilabel(unary, edges, weights, init=start, cliques=terms)
        assert cut.energies[0] == pytest.approx(by_definition(start, unary, edges, weights, terms)[0])
        assert all(after <= before for before, after in itertools.pairwise(cut.energies))
        own = by_definition(cut.labels, unary, edges, weights, terms)[0]
        assert cut.energy == cut.energies[-1] == pytest.approx(own)
        least = brute_force((unary, edges, weights, terms))
        assert least - 1e-9 <= cut.energy
        if terms is None:
            assert cut.energy <= 2 * least + 1e-9


def test_sweeps_are_limited() -> None:
    rng = np.random.default_rng(0)
    unary, edges, weights, _ = random_instance(rng, 30, 6, potts=True, cliques="none")
    assert len(minimize_multilabel(unary, edges, weights, max_sweeps=1).energies) == 2
    still = minimize_multilabel(unary, edges, weights, max_sweeps=0)
    np.testing.assert_array_equal(still.labels, unary.argmin(axis=1))


def test_a_hand_worked_chain() -> None:
    unary = np.array([[0.0, 3.0], [1.0, 0.0], [0.0, 3.0]])
    edges = np.array([[0, 1], [1, 2]])
    assert minimize_binary(unary).labels.tolist() == [0, 1, 0]
    assert minimize_binary(unary, edges, np.array([0.4, 0.4])).labels.tolist() == [0, 1, 0]  # 0.8 < 1
    smooth = minimize_binary(unary, edges, np.array([0.6, 0.6]))  # 1.2 > 1
    assert smooth.labels.tolist() == [0, 0, 0]
    assert smooth.energy == 1.0


def test_a_hand_worked_clique() -> None:
    """Q = 2, lambda = 4: two who disagree cost 4, one costs 2."""
    clique = Cliques(np.arange(4), np.array([0, 4]), np.array([4.0]), np.array([2.0]))
    unary = np.zeros((4, 2))
    for ones, cost in ((0, 0.0), (1, 2.0), (2, 4.0), (3, 2.0), (4, 0.0)):
        assert energy_of(np.arange(4) < ones, unary, cliques=clique) == cost
    unary[:3, 0], unary[3, 1] = 1, 1.5  # the odd one gives in for 1.5 rather than pay 2
    assert minimize_binary(unary, cliques=clique).labels.tolist() == [1, 1, 1, 1]
    unary[3, 1] = 2.5
    assert minimize_binary(unary, cliques=clique).labels.tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("connectivity", [4, 8])
def test_grids_equal_general_graphs(connectivity: Any) -> None:
    rng = np.random.default_rng(1)
    unary, image = rng.normal(0, 1, (3, 4, 2)), rng.integers(0, 256, (3, 4, 3)).astype(np.uint8)
    band = np.zeros((3, 4), bool)
    band[1:, 2:] = True
    edges, weights = [], []
    steps = [(0, 1), (1, 0), (1, 1), (1, -1)][: connectivity // 2]
    contrasts = []
    for y, x in np.ndindex(3, 4):
        for dy, dx in steps:
            if 0 <= y + dy < 3 and 0 <= x + dx < 4:
                edges.append([y * 4 + x, (y + dy) * 4 + x + dx])
                contrasts.append(((image[y, x].astype(float) - image[y + dy, x + dx]) ** 2).sum())
                weights.append(0.0 if band[y, x] and band[y + dy, x + dx] else 1 / np.hypot(dy, dx))
    distance = np.array([np.hypot((b // 4) - (a // 4), b % 4 - a % 4) for a, b in edges])
    gamma = 0.5 / np.mean(np.array(contrasts) / distance)
    full = 1.3 * np.array(weights) * np.exp(-gamma * np.array(contrasts))
    least = brute_force((unary.reshape(-1, 2), np.array(edges), full, None))
    arguments: dict[str, Any] = {"strength": 1.3, "connectivity": connectivity, "switched_off": band}
    cut = minimize_binary_grid(unary, image, **arguments)
    assert cut.labels.shape == (3, 4)
    assert cut.energy == pytest.approx(least, rel=1e-6)
    multi = minimize_multilabel_grid(unary, image, init=np.zeros((3, 4), int), **arguments)
    assert multi.energy == pytest.approx(least, rel=1e-6)
    unsmoothed = minimize_binary_grid(unary, image, strength=0)
    np.testing.assert_array_equal(unsmoothed.labels, unary.argmin(axis=-1))


def test_large_grids_equal_an_independent_solver() -> None:
    """The nodes settled before the flow do not change the minimum."""
    import maxflow

    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1, (60, 80))
    unary = np.stack([noise, -noise], axis=-1) + rng.normal(0, 0.3, (60, 80, 2))
    for strength in (0.2, 0.7, 2.0):
        graph = maxflow.GraphFloat()
        ids = graph.add_grid_nodes((60, 80))
        graph.add_grid_edges(ids, strength, symmetric=True)
        graph.add_grid_tedges(ids, unary[..., 1], unary[..., 0])
        cut = minimize_binary_grid(unary, strength=strength, connectivity=4)
        assert cut.energy == pytest.approx(graph.maxflow(), rel=1e-9)


def test_expansion_reaches_what_pymaxflow_reaches() -> None:
    from maxflow.fastmin import aexpansion_grid, energy_of_grid_labeling

    rng = np.random.default_rng(2)
    unary = rng.normal(0, 1, (30, 40, 4))
    potts = 0.6 * (1 - np.eye(4))
    peer = energy_of_grid_labeling(unary, potts, aexpansion_grid(unary, potts))
    assert minimize_multilabel_grid(unary, strength=0.6, connectivity=4).energy == pytest.approx(peer, rel=1e-3)


def test_no_nodes_and_one_label() -> None:
    assert minimize_binary(np.zeros((0, 2))).labels.shape == (0,)
    assert minimize_multilabel(np.ones((3, 1))).energy == 3


UNARY = np.zeros((3, 2))
EDGES = np.array([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("unary", "edges", "weights", "message"),
    [
        (np.array([[0, np.nan]]), None, None, "node 0, label 1 is nan"),
        (np.array([[0, 1.0], [np.inf, 0]]), None, None, "node 1, label 0 is inf"),
        (UNARY[:, 0], None, None, r"must be \(N, L\)"),
        (np.zeros((3, 3)), None, None, r"must be \(N, 2\)"),
        (UNARY, EDGES, np.array([1.0, -0.1]), "not submodular"),
        (UNARY, EDGES, np.array([1.0, np.nan]), "finite"),
        (UNARY, EDGES, np.ones(3), "2 edges but weights of shape"),
        (UNARY, EDGES, None, "2 edges but weights of shape"),
        (UNARY, EDGES + 1, np.ones(2), r"run from 1 to 3, expected 0\.\.2"),
        (UNARY, EDGES - 1, np.ones(2), "run from -1"),
        (UNARY, EDGES.astype(float), np.ones(2), r"expected integers \(E, 2\)"),
        (UNARY, EDGES.T[0], np.ones(2), r"expected integers \(E, 2\)"),
        (UNARY, np.array([[1, 1]]), np.ones(1), "joins a node to itself"),
    ],
)
def test_bad_energies_are_refused(unary: Any, edges: Any, weights: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        minimize_binary(unary, edges, weights)


def test_bad_labels_and_grids_are_refused() -> None:
    with pytest.raises(DataError, match="must be integers"):
        energy_of(np.zeros(2, int), UNARY)
    with pytest.raises(DataError, match=r"in 0\.\.1"):
        minimize_multilabel(UNARY, init=np.array([0, 1, 2]))
    with pytest.raises(DataError, match="members run from 0 to 3"):
        minimize_binary(UNARY, cliques=Cliques(np.array([0, 3]), np.array([0, 2]), np.ones(1), np.ones(1)))
    with pytest.raises(DataError, match=r"must be \(H, W, L\)"):
        minimize_binary_grid(UNARY, strength=1)
    with pytest.raises(DataError, match="of the unary's size 2 x 2"):
        minimize_binary_grid(np.zeros((2, 2, 2)), np.zeros((2, 3, 3)), strength=1)


@pytest.mark.parametrize("edges", [[], np.zeros((0, 2)), None])
def test_a_graph_may_have_no_edge(edges: Any) -> None:
    unary = np.array([[0.0, 1.0], [2.0, 1.0]])
    assert minimize_binary(unary, edges, None if edges is None else []).labels.tolist() == [0, 1]
