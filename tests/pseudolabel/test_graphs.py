from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pseudolabel.graphs import Cliques, contrast_weights, grid_edges, robust_cliques
from pseudolabel.types import DataError

FEATURES = np.array([[0.0, 0], [3, 4], [3, 4], [0, 4]])
EDGES = np.array([[0, 1], [1, 2], [2, 3]])  # ||dz|| = 5, 0, 3


def test_grid_edges_by_hand() -> None:
    edges, distance = grid_edges(2, 2, 4)
    assert sorted(map(tuple, edges.tolist())) == [(0, 1), (0, 2), (1, 3), (2, 3)]
    np.testing.assert_array_equal(distance, 1)
    edges, distance = grid_edges(2, 2, 8)
    lengths = dict(zip(map(tuple, edges.tolist()), distance, strict=True))
    assert set(lengths) == {(0, 1), (0, 2), (1, 3), (2, 3), (0, 3), (1, 2)}
    assert lengths[0, 3] == lengths[1, 2] == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (4, 1), (3, 7)])
def test_grid_edges_of_any_size(height: int, width: int) -> None:
    edges, distance = grid_edges(height, width, 8)
    expected = {
        (a, b)
        for a in range(height * width)
        for b in range(a + 1, height * width)
        if max(abs(a // width - b // width), abs(a % width - b % width)) == 1
    }
    assert {tuple(sorted(edge)) for edge in edges.tolist()} == expected
    assert len(edges) == len(distance) == len(expected)


def test_cached_grids_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        grid_edges(3, 3, 4)[0][0] = 5


def test_unknown_connectivity() -> None:
    wrong: Any = 6
    with pytest.raises(ValueError, match="4 or 8"):
        grid_edges(3, 3, wrong)


def test_contrast_weights_by_hand() -> None:
    gamma = 0.5 / ((25 + 0 + 9) / 3)
    expected = 2 * np.exp(-gamma * np.array([25, 0, 9]))
    np.testing.assert_allclose(contrast_weights(FEATURES, EDGES, strength=2), expected)
    np.testing.assert_allclose(
        contrast_weights(FEATURES, EDGES, strength=2, gamma=0.1), 2 * np.exp(-0.1 * np.array([25, 0, 9]))
    )
    distance = np.array([1.0, 2, 4])
    gamma = 0.5 / ((25 + 0 + 9 / 4) / 3)
    expected = 2 * np.exp(-gamma * np.array([25, 0, 9])) / distance
    np.testing.assert_allclose(contrast_weights(FEATURES, EDGES, strength=2, distance=distance), expected)


def test_liangs_weights() -> None:
    """Eq. 6: exp(-beta D) with D Euclidean and beta = 1 / mean(D)."""
    expected = np.exp(-np.array([5, 0, 3]) / (8 / 3))
    np.testing.assert_allclose(contrast_weights(FEATURES, EDGES, strength=1, metric="euclidean", scale=1), expected)


def test_edges_inside_the_band_are_off() -> None:
    band = np.array([False, True, True, False])
    weights = contrast_weights(FEATURES, EDGES, strength=1, switched_off=band)
    assert weights[1] == 0
    assert (weights[[0, 2]] > 0).all()


def test_flat_features_and_no_edges() -> None:
    np.testing.assert_array_equal(contrast_weights(np.ones((4, 3)), EDGES, strength=3), 3)
    assert contrast_weights(FEATURES, np.zeros((0, 2), int), strength=1).shape == (0,)


def test_bytes_do_not_wrap_around() -> None:
    colours = np.array([[0], [255]], np.uint8)
    assert contrast_weights(colours, np.array([[0, 1]]), strength=1, gamma=1e-4) == pytest.approx(np.exp(-6.5025))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": -1.0}, "submodular"),
        ({"strength": np.nan}, "finite"),
        ({"distance": np.zeros(3)}, "distance must be > 0"),
        ({"distance": np.ones(2)}, "of shape"),
        ({"switched_off": np.zeros(3, bool)}, "switched_off"),
        ({"features": np.full((4, 1), np.nan)}, "NaN"),
        ({"features": np.zeros(4)}, r"must be \(N, D\)"),
        ({"edges": EDGES + 1}, r"expected 0\.\.3"),
    ],
)
def test_bad_weights_are_refused(change: dict[str, Any], message: str) -> None:
    arguments = {"features": FEATURES, "edges": EDGES, "strength": 1.0, **change}
    with pytest.raises(DataError, match=message):
        contrast_weights(**arguments)


def test_robust_cliques_by_hand() -> None:
    groups = np.array([2, 0, 2, -1, 0, 0, 5])
    cliques = robust_cliques(groups, variance=np.array([1.0, 9, 3, 9, 9, 9]), truncation_share=0.4)
    assert cliques.members.tolist() == [1, 4, 5, 0, 2]  # group 5 has one node, -1 is none
    assert cliques.starts.tolist() == [0, 3, 5]
    beta = 1 / ((1 + 3) / 2)
    np.testing.assert_allclose(cliques.cost, [3 * np.exp(-beta * 1), 2 * np.exp(-beta * 3)])
    np.testing.assert_allclose(cliques.truncation, [1.2, 0.8])
    heavy = robust_cliques(groups, weights=np.array([10, 1, 20, 1, 2, 3, 1.0]), strength=2)
    np.testing.assert_allclose(heavy.cost, [12, 60])
    np.testing.assert_allclose(heavy.truncation, [0.6, 3])
    np.testing.assert_allclose(heavy.sizes, [6, 30])


def test_no_groups_at_all() -> None:
    assert len(robust_cliques(np.array([-1, -1]))) == 0
    assert len(robust_cliques(np.array([0, 1, 2]))) == 0


def clique(**changes: Any) -> Cliques:
    parts: dict[str, Any] = {"members": [0, 1, 2, 3], "starts": [0, 4], "cost": [1.0], "truncation": [2.0]}
    return Cliques(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truncation": [2.01]}, r"expected 0 < Q <= \|s\| / 2 = 2"),
        ({"truncation": [0.0]}, "expected 0 < Q"),
        ({"truncation": [np.nan]}, "expected 0 < Q"),
        ({"cost": [-1.0]}, "cost"),
        ({"cost": [np.inf]}, "cost"),
        ({"cost": [1.0, 1.0]}, "do not fit"),
        ({"starts": [0, 3]}, "rise from 0"),
        ({"starts": [0, 4, 4], "cost": [1, 1.0], "truncation": [1, 1.0]}, "empty"),
        ({"weights": [1.0, 1, 1]}, r"must both be \(M,\)"),
        ({"weights": [1.0, 1, 1, 0]}, "finite and > 0"),
        ({"weights": [0.5, 0.5, 0.5, 0.5]}, r"expected 0 < Q <= \|s\| / 2 = 1"),
    ],
)
def test_bad_cliques_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        clique(**changes)
    with pytest.raises(DataError, match="truncation"):
        robust_cliques(np.zeros(4, int), truncation_share=0.6)


def test_groups_and_variance_must_fit() -> None:
    with pytest.raises(DataError, match="variance"):
        robust_cliques(np.array([0, 0, 1, 1]), variance=np.ones(1))
    with pytest.raises(DataError, match=r"must both be \(N,\)"):
        robust_cliques(np.array([0, 0]), weights=np.ones(3))
