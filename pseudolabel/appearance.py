"""How likely a colour is: Gaussian mixtures fitted to weighted points.

Used for foreground and background colours (Papazoglou & Ferrari 2013; Tokmakov et al. 2016, psi^m of Eq. 2; Hong et al.
2017, where attention weighs the points). Points are pixels or means of superpixels, of any number of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pseudolabel.graphs import Float64Array, Int64Array
from pseudolabel.mixture_steps import expectation, nearest_mean, scores
from pseudolabel.types import DataError

_CANDIDATES = 3  # of each k-means++ seed; the one that leaves the least inertia is taken
_LLOYD_STEPS = 5  # of k-means before EM; EM does the rest
_DENSE_BINS = 1 << 22  # up to so many colour bins are counted directly, more are sorted
_NOTHING = 1e-200  # a smaller share of the points is what exponentials leave of none
_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Mixture:
    """A mixture of K Gaussians with full covariances over D channels.

    Attributes:
        weights: float64 (K,), >= 0, sum 1.
        means: float64 (K, D).
        covariances: float64 (K, D, D), positive definite.

    Raises:
        DataError: shapes do not fit, or a covariance is not positive definite.
    """

    weights: Float64Array
    means: Float64Array
    covariances: Float64Array

    def __post_init__(self) -> None:
        for name in ("weights", "means", "covariances"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.float64))
        if self.means.ndim != 2:
            raise DataError(f"Mixture: means must be (K, D), got {self.means.shape}.")
        count, channels = self.means.shape
        if self.weights.shape != (count,) or self.covariances.shape != (count, channels, channels):
            raise DataError(
                f"Mixture: weights {self.weights.shape} and covariances {self.covariances.shape} do not fit means "
                f"{self.means.shape}, expected ({count},) and ({count}, {channels}, {channels})."
            )
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all() and self.weights.sum() > 0):
            raise DataError(f"Mixture: weights must be finite, >= 0 and not all 0, got {self.weights}.")

    def log_likelihood(self, points: npt.ArrayLike) -> Float64Array:
        """Return log p(x) of every point.

        Args:
            points: (N, D), finite.

        Returns:
            float64 (N,), natural logarithm.

        Raises:
            DataError: the points are not (N, D) or not finite.
        """
        values = _checked_points(points)
        if values.shape[1] != self.means.shape[1]:
            raise DataError(f"Mixture: points have {values.shape[1]} channels, the mixture {self.means.shape[1]}.")
        whitening, offsets = self._factors()
        highest, total = scores(_channels_first(values), self.means, whitening, offsets)
        return np.asarray(highest + np.log(total), np.float64)

    def _factors(self) -> tuple[Float64Array, Float64Array]:
        """Return inverse Cholesky factors (K, D, D) and the logarithm of each component's density at its mean (K,)."""
        try:
            lower = np.linalg.cholesky(self.covariances)
        except np.linalg.LinAlgError:
            raise DataError(
                "Mixture: a covariance is not positive definite. Give a larger regularisation (about the variance of "
                "the noise of the points)."
            ) from None
        whitening = np.ascontiguousarray(np.linalg.inv(lower))
        log_determinant = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1)
        with np.errstate(divide="ignore"):  # a component without weight takes no part
            log_weights = np.log(self.weights)
        return whitening, log_weights + log_determinant - 0.5 * self.means.shape[1] * _LOG_2PI


def fit_mixture(
    points: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    components: int = 5,
    em_iters: int = 10,
    seed: int = 0,
    regularisation: float = 1e-6,
    start: Mixture | None = None,
    bin_width: float | None = None,
) -> Mixture:
    """Fit a Gaussian mixture to weighted points by expectation-maximisation.

    A weight counts as that many copies of the point. The result depends on nothing but the arguments. Where there are
    fewer distinct points of weight > 0 than components, the mixture has as many components as distinct points.

    Args:
        points: (N, D), finite; uint8 or float.
        weights: (N,), finite, >= 0; None = 1 each.
        components: K >= 1: 5 for foreground and 8 for background in the papers' programs.
        em_iters: steps of EM >= 0 after the start; 0 = the start itself, 1 = as Papazoglou & Ferrari's program.
        seed: of the k-means++ start.
        regularisation: added to the variances in every step, in squared units of the points. For 8-bit colours about
            1 keeps flat areas from becoming spikes.
        start: the mixture to start from; None = k-means++ (Arthur & Vassilvitskii 2007) and a few steps of k-means.
        bin_width: merge points into cubes of this width first, each counting as its mean with the sum of weights; None
            = every point for itself. A multiple faster on 8-bit pixels with 4 to 8, at a small loss of likelihood.

    Returns:
        the mixture.

    Raises:
        DataError: no points, no weight, NaN or infinity, a negative weight, or shapes that do not fit.
    """
    values = _checked_points(points)
    if components < 1 or em_iters < 0:
        raise ValueError(f"components must be >= 1 and em_iters >= 0, got {components} and {em_iters}")
    if not (np.isfinite(regularisation) and regularisation >= 0):
        raise DataError(f"Mixture: regularisation must be finite and >= 0, got {regularisation}.")
    shares = np.ones(len(values)) if weights is None else np.ascontiguousarray(weights, np.float64)
    if shares.shape != values.shape[:1]:
        raise DataError(f"Mixture: {len(values)} points but weights of shape {shares.shape}.")
    if not np.isfinite(shares).all() or (shares < 0).any():
        raise DataError("Mixture: weights of points must be finite and >= 0. Clip them at 0.")
    if not shares.any():
        raise DataError(
            f"Mixture: no points to fit ({len(values)} given, the sum of their weights is 0). Check the mask or the "
            "threshold that chose them."
        )
    if not shares.all():
        values, shares = values[shares > 0], shares[shares > 0]
    if bin_width is not None:
        values, shares = _merge(values, shares, bin_width)
    turned = _channels_first(values)
    if start is None:
        mixture = _start(values, turned, shares, components, np.random.default_rng(seed), regularisation)
    elif start.means.shape[1] != values.shape[1]:
        raise DataError(f"Mixture: points have {values.shape[1]} channels, the start {start.means.shape[1]}.")
    else:
        mixture = start
    for _ in range(em_iters):
        mixture = _step(mixture, turned, shares, regularisation)
    return mixture


def _step(mixture: Mixture, turned: Float64Array, shares: Float64Array, regularisation: float) -> Mixture:
    """One step of EM; a component that no point belongs to keeps its shape and loses its weight."""
    whitening, offsets = mixture._factors()
    mass, first, second = expectation(turned, shares, mixture.means, whitening, offsets)
    means, covariances = mixture.means.copy(), mixture.covariances.copy()
    alive = mass > _NOTHING * mass.sum()
    mass[~alive] = 0
    shift = first[alive] / mass[alive, None]
    means[alive] += shift
    covariances[alive] = second[alive] / mass[alive, None, None] - shift[:, :, None] * shift[:, None, :]
    covariances[alive] += regularisation * np.eye(means.shape[1])
    return Mixture(mass / mass.sum(), means, covariances)


def _start(
    values: Float64Array,
    turned: Float64Array,
    shares: Float64Array,
    components: int,
    rng: np.random.Generator,
    regularisation: float,
) -> Mixture:
    """k-means++ seeds, some k-means, then the moments of the clusters."""

    def draw(mass: Float64Array) -> int:
        cumulated = np.cumsum(mass)
        return min(int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right")), len(mass) - 1)

    chosen = [draw(shares)]
    _, distance = nearest_mean(turned, values[chosen])
    while len(chosen) < components and distance.any():  # else all points are among the means
        mass = distance * shares
        candidates = [draw(mass) for _ in range(_CANDIDATES)]
        closer = [np.minimum(distance, nearest_mean(turned, values[[each]])[1]) for each in candidates]
        best = int(np.argmin([shares @ each for each in closer]))
        chosen.append(candidates[best])
        distance = closer[best]
    means = values[chosen]
    for _ in range(_LLOYD_STEPS):
        nearest, _ = nearest_mean(turned, means)
        mass, total = _sums(nearest, turned, shares, len(means))
        kept = mass > 0
        means = total[kept] / mass[kept, None]
    nearest, _ = nearest_mean(turned, means)
    mass, total = _sums(nearest, turned, shares, len(means))
    kept = mass > 0
    rank = np.cumsum(kept) - 1
    nearest, mass = rank[nearest], mass[kept]
    means = total[kept] / mass[:, None]
    away = turned - means[nearest].T
    channels = len(turned)
    covariances = np.empty((len(mass), channels, channels))
    for i in range(channels):
        for j in range(i + 1):
            spread = np.bincount(nearest, shares * away[i] * away[j], minlength=len(mass)) / mass
            covariances[:, i, j] = covariances[:, j, i] = spread
    return Mixture(mass / mass.sum(), means, covariances + regularisation * np.eye(channels))


def _sums(
    nearest: Int64Array, turned: Float64Array, shares: Float64Array, count: int
) -> tuple[Float64Array, Float64Array]:
    """Return the weight (K,) and the weighted sum (K, D) of the points of each cluster."""
    mass = np.bincount(nearest, shares, minlength=count).astype(np.float64)
    return mass, np.stack([np.bincount(nearest, shares * channel, minlength=count) for channel in turned], axis=1)


def _merge(values: Float64Array, shares: Float64Array, width: float) -> tuple[Float64Array, Float64Array]:
    """Merge the points of each cube of side ``width`` into their weighted mean."""
    if not (np.isfinite(width) and width > 0):
        raise DataError(f"Mixture: bin_width must be finite and > 0, got {width}.")
    cells = np.floor(values / width).astype(np.int64)
    cells -= cells.min(axis=0)
    extent = cells.max(axis=0) + 1
    if np.prod(extent.astype(np.float64)) <= _DENSE_BINS:
        codes = np.ravel_multi_index(tuple(cells.T), tuple(extent))
    else:
        codes = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
    mass = np.bincount(codes, shares)
    used = mass > 0
    total = np.stack([np.bincount(codes, shares * channel)[used] for channel in values.T], axis=1)
    return total / mass[used, None], mass[used].astype(np.float64)


def _checked_points(points: npt.ArrayLike) -> Float64Array:
    values: npt.NDArray[Any] = np.asarray(points)
    if values.ndim != 2 or values.shape[1] < 1 or values.dtype.kind not in "buif":
        raise DataError(f"Mixture: points must be numbers (N, D), got {values.dtype} {values.shape}.")
    values = np.ascontiguousarray(values, np.float64)
    if not np.isfinite(values).all():
        raise DataError("Mixture: points hold NaN or infinity. Leave them out or fill them.")
    return values


def _channels_first(values: Float64Array) -> Float64Array:
    return np.ascontiguousarray(values.T)  # (N, D) -> (D, N)
