from __future__ import annotations

import itertools

import numpy as np
import pytest

from pseudolabel.energy import contrast_weights, grid_edges, minimize_binary
from pseudolabel.grid_cut import STEPS, GridCutter, contrast_grid, grid_energy, switch_off
from pseudolabel.types import DataError


def flat(weights: np.ndarray) -> np.ndarray:
    """(4, H, W) -> (E,) in the order of grid_edges."""
    height, width = weights.shape[1:]
    parts = [
        weights[k, : height - down, max(-right, 0) : width - max(right, 0)].ravel()
        for k, (down, right) in enumerate(STEPS)
    ]
    return np.concatenate(parts)


def random_weights(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    frame = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return strength * contrast_grid(frame, np.ones((height, width), bool))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_contrast_equals_the_weights_of_graphs(connectivity: int) -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    edges, distance = grid_edges(7, 9, connectivity)  # type: ignore[arg-type]
    pixels = frame.reshape(-1, 3).astype(np.float64)
    mean = ((pixels[edges[:, 0]] - pixels[edges[:, 1]]) ** 2).sum(axis=1).mean()
    expected = contrast_weights(pixels, edges, strength=1.0, gamma=0.5 / mean, distance=distance)
    weights = contrast_grid(frame, np.ones((7, 9), bool), connectivity=connectivity)  # type: ignore[arg-type]
    np.testing.assert_allclose(flat(weights)[: len(edges)], expected, rtol=1e-12)
    assert not flat(weights)[len(edges) :].any()


def test_edges_to_invalid_pixels_neither_weigh_nor_count() -> None:
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 256, (5, 8, 3)).astype(np.uint8)
    valid = np.ones((5, 8), bool)
    valid[:, 5:] = False
    weights = contrast_grid(frame, valid)
    alone = contrast_grid(frame[:, :5], np.ones((5, 5), bool))
    np.testing.assert_allclose(weights[:, :, :5], alone)
    assert not weights[:, :, 5:].any()


def test_a_frame_of_one_colour_has_plain_potts_weights() -> None:
    weights = contrast_grid(np.full((3, 3, 3), 9, np.uint8), np.ones((3, 3), bool))
    np.testing.assert_allclose(weights[:, 0, 1], [1, 1, np.sqrt(0.5), np.sqrt(0.5)])


def test_switched_off_inside_the_band_only() -> None:
    weights = np.zeros((4, 1, 4))
    weights[0, 0, :3] = 1
    switch_off(weights, np.array([[False, True, True, False]]))
    assert weights[0, 0].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("num_labels", [2, 3])
def test_settled_minima_equal_brute_force(num_labels: int) -> None:
    rng = np.random.default_rng(num_labels)
    for _ in range(8):
        costs = rng.normal(0, 1, (2, 3, num_labels))
        weights = random_weights(rng, 2, 3, rng.choice([0.05, 0.2, 0.6]))
        labels = GridCutter(2, 3, num_labels).minimize(costs.copy(), weights)
        every = itertools.product(range(num_labels), repeat=6)
        least = min(grid_energy(np.array(each).reshape(2, 3), costs, weights) for each in every)
        reached = grid_energy(labels, costs, weights)
        if num_labels == 2:
            assert reached == pytest.approx(least)
        else:  # expansion: a local minimum, hardly ever another on so few pixels
            assert least - 1e-9 <= reached <= least + 0.1 * abs(least)


@pytest.mark.parametrize("strength", [0.1, 0.4, 1.0, 4.0])
def test_reduction_keeps_the_energy(strength: float) -> None:
    rng = np.random.default_rng(3)
    costs = rng.normal(0, 1, (24, 31, 2))
    weights = random_weights(rng, 24, 31, strength)
    reduced = GridCutter(24, 31, 2).minimize(costs.copy(), weights)
    whole = GridCutter(24, 31, 2, reduce=False).minimize(costs.copy(), weights)
    energy = minimize_binary(costs.reshape(-1, 2), grid_edges(24, 31, 8)[0], flat(weights)).energy
    assert grid_energy(reduced, costs, weights) == pytest.approx(energy)
    assert grid_energy(whole, costs, weights) == pytest.approx(energy)


def test_what_can_be_settled_is_settled() -> None:
    costs = np.zeros((1, 5, 2))
    costs[0, :, 1] = [9, 0.5, 0.5, 0.5, 0.5]  # only the first is sure of itself, the others follow one by one
    weights = np.zeros((4, 1, 5))
    weights[0, 0, :4] = 1
    cutter = GridCutter(1, 5, 2)
    assert not cutter.minimize(costs, weights).any()
    assert (cutter._state == 0).all()


def test_a_cutter_can_be_used_again() -> None:
    rng = np.random.default_rng(4)
    cutter = GridCutter(6, 6, 2)
    for _ in range(3):
        costs, weights = rng.normal(0, 1, (6, 6, 2)), random_weights(rng, 6, 6, 0.5)
        again = GridCutter(6, 6, 2).minimize(costs.copy(), weights)
        np.testing.assert_array_equal(cutter.minimize(costs.copy(), weights), again)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="do not fit"):
        GridCutter(3, 3, 2).minimize(np.zeros((3, 3, 3)), np.zeros((4, 3, 3)))
