from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from pseudolabel.appearance import Mixture, fit_mixture
from pseudolabel.types import DataError


def cloud(rng: np.random.Generator, count: int = 900, channels: int = 3) -> np.ndarray:
    centres = rng.normal(0, 4, (4, channels))
    shapes = rng.normal(0, 1, (4, channels, channels))
    which = rng.integers(0, 4, count)
    return centres[which] + np.einsum("nij,nj->ni", shapes[which], rng.normal(0, 1, (count, channels)))


def assert_same(first: Mixture, second: Mixture, tolerance: float = 1e-9) -> None:
    for name in ("weights", "means", "covariances"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("em_iters", [1, 2, 15])
def test_equals_scikit_learn_from_the_same_start(em_iters: int, channels: int) -> None:
    points = cloud(np.random.default_rng(channels), channels=channels)
    start = fit_mixture(points, em_iters=0, regularisation=1e-3)
    peer = GaussianMixture(
        5,
        max_iter=em_iters,
        tol=0,
        reg_covar=1e-3,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=np.linalg.inv(start.covariances),
    ).fit(points)
    ours = fit_mixture(points, em_iters=em_iters, regularisation=1e-3, start=start)
    assert_same(ours, Mixture(peer.weights_, peer.means_, peer.covariances_))
    np.testing.assert_allclose(ours.log_likelihood(points), peer.score_samples(points), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("own_start", [False, True])
def test_whole_weights_equal_copies(own_start: bool) -> None:
    rng = np.random.default_rng(0)
    points, weights = cloud(rng, 400), rng.integers(0, 5, 400)
    copies = np.repeat(points, weights, axis=0)
    start = None if own_start else fit_mixture(copies, em_iters=0)
    weighted = fit_mixture(points, weights=weights, start=start, em_iters=8)
    assert_same(weighted, fit_mixture(copies, start=start, em_iters=8), 1e-7)
    assert_same(weighted, fit_mixture(points, weights=weights * 1e-3, start=start, em_iters=8), 1e-7)


def test_log_likelihood_equals_the_formula() -> None:
    rng = np.random.default_rng(1)
    mixture = fit_mixture(cloud(rng), components=3)
    points = rng.normal(0, 5, (70, 3))
    densities = [
        w * multivariate_normal(m, c).pdf(points)
        for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ]
    np.testing.assert_allclose(mixture.log_likelihood(points), np.log(np.sum(densities, axis=0)), rtol=1e-9)


def test_one_component_is_the_weighted_moments() -> None:
    rng = np.random.default_rng(2)
    points, weights = rng.normal(0, 3, (50, 3)), rng.random(50)
    mixture = fit_mixture(points, weights=weights, components=1, regularisation=0)
    np.testing.assert_allclose(mixture.means[0], np.average(points, axis=0, weights=weights))
    np.testing.assert_allclose(mixture.covariances[0], np.cov(points.T, aweights=weights, ddof=0))


def test_far_points_stay_finite() -> None:
    """The density underflows where the logarithm does not."""
    mixture = fit_mixture(np.random.default_rng(0).normal(0, 1, (200, 3)), components=2)
    far = mixture.log_likelihood(np.array([[1e4, 0, 0], [1e8, 0, 0]]))
    assert np.isfinite(far).all()
    assert far[1] < far[0] < -1e6


def test_em_raises_the_likelihood() -> None:
    points = cloud(np.random.default_rng(4))
    means = [fit_mixture(points, em_iters=n).log_likelihood(points).mean() for n in range(0, 12, 2)]
    assert (np.diff(means) > -1e-6).all()
    assert means[-1] > means[0]


def test_the_seed_decides() -> None:
    points = cloud(np.random.default_rng(5))
    assert_same(fit_mixture(points, seed=3), fit_mixture(points, seed=3), 0)
    assert not np.allclose(fit_mixture(points, seed=3).means, fit_mixture(points, seed=4).means)


def test_the_result_does_not_depend_on_where_the_points_lie_in_memory() -> None:
    points = cloud(np.random.default_rng(8), 200)
    kept, results = [], set()
    for offset in range(60):
        kept.append(np.zeros(37 * offset + 1))  # moves what is allocated next
        results.add(fit_mixture(points.copy()).covariances.tobytes())
    assert len(results) == 1


def test_the_start_finds_what_is_apart() -> None:
    rng = np.random.default_rng(6)
    centres = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 100], [100, 100, 100]])
    points = np.repeat(centres, 80, axis=0) + rng.normal(0, 1, (400, 3))
    found = [
        all(np.linalg.norm(fit_mixture(points, seed=seed).means - centre, axis=1).min() < 1 for centre in centres)
        for seed in range(10)
    ]
    assert all(found)


def test_bins_lose_little() -> None:
    rng = np.random.default_rng(7)
    pixels = np.clip(cloud(rng, 5000) * 12 + 120, 0, 255).astype(np.uint8)
    start = fit_mixture(pixels, em_iters=0)
    full = fit_mixture(pixels, regularisation=1.0, start=start)
    binned = fit_mixture(pixels, regularisation=1.0, start=start, bin_width=4)
    gap = full.log_likelihood(pixels).mean() - binned.log_likelihood(pixels).mean()
    assert abs(gap) < 0.05
    assert_same(fit_mixture(pixels, bin_width=1, start=start), fit_mixture(pixels, start=start), 1e-7)  # a bin a colour
    wide = rng.normal(0, 1e6, (300, 3))  # too many cells to count directly
    options: dict[str, Any] = {"em_iters": 0, "components": 1}
    assert_same(fit_mixture(wide, bin_width=1e-3, **options), fit_mixture(wide, **options))


def test_fewer_points_than_components() -> None:
    points = np.array([[0.0, 0, 0], [9, 9, 9], [9, 9, 9]])
    mixture = fit_mixture(points, components=5, regularisation=1e-2)
    assert mixture.means.shape == (2, 3)
    np.testing.assert_allclose(np.sort(mixture.weights), [1 / 3, 2 / 3])
    single = fit_mixture(points[1:], components=5, regularisation=1e-2)
    np.testing.assert_allclose(single.means, [[9, 9, 9]])
    assert np.isfinite(single.log_likelihood(points)).all()


def test_points_without_weight_do_not_matter() -> None:
    rng = np.random.default_rng(8)
    points = cloud(rng, 300)
    weights = np.ones(300)
    weights[200:] = 0
    assert_same(fit_mixture(points, weights=weights), fit_mixture(points[:200]), 0)


def test_a_component_without_points_keeps_its_shape() -> None:
    start = Mixture(np.array([0.5, 0.5]), np.array([[0.0], [1e9]]), np.array([[[1.0]], [[2.0]]]))
    mixture = fit_mixture(np.random.default_rng(0).normal(0, 1, (100, 1)), start=start, em_iters=3)
    np.testing.assert_allclose(mixture.weights, [1, 0], atol=1e-200)
    assert mixture.means[1, 0] == 1e9
    assert np.isfinite(mixture.log_likelihood(np.zeros((3, 1)))).all()


def test_no_points_to_score() -> None:
    assert fit_mixture(np.eye(3)).log_likelihood(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (np.zeros((0, 3)), {}, "no points to fit"),
        (np.zeros((4, 3)), {"weights": np.zeros(4)}, "sum of their weights is 0"),
        (np.zeros((4, 3)), {"weights": np.array([1, 1, 1, -1])}, ">= 0"),
        (np.zeros((4, 3)), {"weights": np.array([1, 1, 1, np.nan])}, "finite"),
        (np.zeros((4, 3)), {"weights": np.ones(3)}, "4 points but weights"),
        (np.array([[0.0, np.nan]]), {}, "NaN"),
        (np.array([[0.0, np.inf]]), {}, "NaN or infinity"),
        (np.zeros(4), {}, r"\(N, D\)"),
        (np.zeros((4, 3)), {"regularisation": -1.0}, "regularisation"),
        (np.zeros((4, 3)), {"regularisation": 0.0}, "not positive definite"),
        (np.zeros((4, 3)), {"bin_width": 0.0}, "bin_width"),
        (np.zeros((4, 3)), {"start": Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])}, "3 channels"),
    ],
)
def test_bad_input_is_refused(points: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_mixture(points, **options)


def test_bad_mixtures_are_refused() -> None:
    with pytest.raises(DataError, match="do not fit"):
        Mixture(np.ones(2), np.zeros((1, 2)), np.eye(2)[None])
    with pytest.raises(DataError, match="not all 0"):
        Mixture(np.zeros(1), np.zeros((1, 2)), np.eye(2)[None])
    with pytest.raises(DataError, match="3 channels, the mixture 2"):
        Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None]).log_likelihood(np.zeros((1, 3)))
    with pytest.raises(DataError, match="not positive definite"):
        Mixture(np.ones(1), np.zeros((1, 2)), -np.eye(2)[None]).log_likelihood(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="components"):
        fit_mixture(np.zeros((3, 1)), components=0)
