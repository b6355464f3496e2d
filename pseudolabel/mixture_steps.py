"""The compiled steps of Gaussian mixtures (`pseudolabel.appearance`).

Points come channels first, (D, N), and are gone through in blocks that stay in the cache; the inner loops run over
points, so that the compiler turns them into vector instructions, the exponential included.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pseudolabel.graphs import Float64Array, Int64Array

_BLOCK = 256
_FUSED = {"contract"}  # a * b + c in one instruction
_REORDERED = {"contract", "reassoc", "nsz"}  # only where nothing is written: else the order depends on the addresses
_LOWEST = -700.0  # exp of less is 0 for every purpose
_LOG2_E = 1 / math.log(2)
_LN2_HIGH = 6.93147180369123816490e-01  # ln 2 in two parts, the first with trailing zeros (Cody & Waite)
_LN2_LOW = 1.90821492927058770002e-10
_EXPONENT_BITS = 52
_MAGIC = 2.0**52 + 1023  # adding it leaves an integer's biased exponent in the last bits of a double
_TAYLOR = tuple(1 / math.factorial(power) for power in range(13))  # enough for |x| <= ln(2) / 2


@njit(cache=True, fastmath=_FUSED)  # type: ignore[untyped-decorator]
def _exponentials(values: Float64Array, scale: Float64Array, bits: Int64Array) -> None:
    """Replace ``values`` (B,), all <= 0, by their exponentials; ``bits`` is the memory of ``scale`` (B,)."""
    for b in range(len(values)):
        value = max(values[b], _LOWEST)
        power = math.floor(value * _LOG2_E + 0.5)
        values[b] = (value - power * _LN2_HIGH) - power * _LN2_LOW
        scale[b] = power + _MAGIC
    for b in range(len(values)):
        bits[b] <<= _EXPONENT_BITS
    for b in range(len(values)):
        rest = values[b]
        series = _TAYLOR[12]
        series = series * rest + _TAYLOR[11]
        series = series * rest + _TAYLOR[10]
        series = series * rest + _TAYLOR[9]
        series = series * rest + _TAYLOR[8]
        series = series * rest + _TAYLOR[7]
        series = series * rest + _TAYLOR[6]
        series = series * rest + _TAYLOR[5]
        series = series * rest + _TAYLOR[4]
        series = series * rest + _TAYLOR[3]
        series = series * rest + _TAYLOR[2]
        series = series * rest + _TAYLOR[1]
        series = series * rest + _TAYLOR[0]
        values[b] = series * scale[b]


@njit(cache=True, fastmath=_FUSED)  # type: ignore[untyped-decorator]
def _densities(
    points: Float64Array,
    begin: int,
    means: Float64Array,
    whitening: Float64Array,
    offsets: Float64Array,
    density: Float64Array,
    away: Float64Array,
    row: Float64Array,
    bits: Int64Array,
    highest: Float64Array,
    total: Float64Array,
) -> None:
    """Fill density (K, B) relative to the highest component (in logarithm, (B,)) and total (B,), its sum over K."""
    channels, size = points.shape[0], len(highest)
    highest[:] = -np.inf
    for k in range(len(means)):
        squared = density[k]
        squared[:] = 0
        for d in range(channels):
            for b in range(size):
                away[d, b] = points[d, begin + b] - means[k, d]
            row[:] = 0
            for e in range(d + 1):
                factor = whitening[k, d, e]
                for b in range(size):
                    row[b] += factor * away[e, b]
            for b in range(size):
                squared[b] += row[b] * row[b]
        offset = offsets[k]
        for b in range(size):
            squared[b] = offset - 0.5 * squared[b]
            highest[b] = max(highest[b], squared[b])
    total[:] = 0
    for k in range(len(means)):
        relative = density[k]
        for b in range(size):
            relative[b] -= highest[b]
        _exponentials(relative, row, bits)
        for b in range(size):
            total[b] += relative[b]


@njit(cache=True, fastmath=_FUSED)  # type: ignore[untyped-decorator]
def scores(
    points: Float64Array, means: Float64Array, whitening: Float64Array, offsets: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return ``highest`` and ``total``, both (N,): the density of a point is ``exp(highest) * total``.

    Args:
        points: float64 (D, N).
        means: float64 (K, D).
        whitening: float64 (K, D, D), inverse Cholesky factors of the covariances.
        offsets: float64 (K,), logarithm of each component's density at its mean.
    """
    channels, count = points.shape
    highest, total = np.empty(count), np.empty(count)
    density, away = np.empty((len(means), _BLOCK)), np.empty((channels, _BLOCK))
    row = np.empty(_BLOCK)
    bits = row.view(np.int64)
    for begin in range(0, count, _BLOCK):
        size = min(_BLOCK, count - begin)
        _densities(
            points,
            begin,
            means,
            whitening,
            offsets,
            density[:, :size],
            away[:, :size],
            row[:size],
            bits[:size],
            highest[begin : begin + size],
            total[begin : begin + size],
        )
    return highest, total


@njit(cache=True, fastmath=_REORDERED)  # type: ignore[untyped-decorator]
def _sum(values: Float64Array) -> float:
    total = 0.0
    for b in range(len(values)):
        total += values[b]
    return total


@njit(cache=True, fastmath=_REORDERED)  # type: ignore[untyped-decorator]
def _dot(first: Float64Array, second: Float64Array) -> float:
    total = 0.0
    for b in range(len(first)):
        total += first[b] * second[b]
    return total


@njit(cache=True, fastmath=_FUSED)  # type: ignore[untyped-decorator]
def expectation(
    points: Float64Array,
    shares: Float64Array,
    means: Float64Array,
    whitening: Float64Array,
    offsets: Float64Array,
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return the moments of the points about the present means, each point shared out by its responsibilities.

    Args:
        points: float64 (D, N).
        shares: float64 (N,), weights of the points.
        means: float64 (K, D).
        whitening: float64 (K, D, D), inverse Cholesky factors of the covariances.
        offsets: float64 (K,), logarithm of each component's density at its mean.

    Returns:
        mass (K,), first moments (K, D) and second moments (K, D, D), not divided by the mass.
    """
    channels, count = points.shape
    mass = np.zeros(len(means))
    first, second = np.zeros((len(means), channels)), np.zeros((len(means), channels, channels))
    density, away = np.empty((len(means), _BLOCK)), np.empty((channels, _BLOCK))
    row, highest, total = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    bits = row.view(np.int64)
    for begin in range(0, count, _BLOCK):
        size = min(_BLOCK, count - begin)
        _densities(
            points,
            begin,
            means,
            whitening,
            offsets,
            density[:, :size],
            away[:, :size],
            row[:size],
            bits[:size],
            highest[:size],
            total[:size],
        )
        for b in range(size):
            total[b] = shares[begin + b] / total[b]
        for k in range(len(means)):
            belonging = density[k, :size]
            for b in range(size):
                belonging[b] *= total[b]
            mass[k] += _sum(belonging)
            for d in range(channels):
                for b in range(size):
                    away[d, b] = points[d, begin + b] - means[k, d]
                    row[b] = belonging[b] * away[d, b]
                first[k, d] += _sum(row[:size])
                for e in range(d + 1):
                    second[k, d, e] += _dot(row[:size], away[e, :size])
    for k in range(len(means)):
        for d in range(channels):
            for e in range(d):
                second[k, e, d] = second[k, d, e]
    return mass, first, second


@njit(cache=True)  # type: ignore[untyped-decorator]
def nearest_mean(points: Float64Array, means: Float64Array) -> tuple[Int64Array, Float64Array]:
    """Return which of the means (K, D) is nearest to each of the points (D, N), and its squared distance, both (N,)."""
    channels, count = points.shape
    nearest, distance = np.zeros(count, np.int64), np.full(count, np.inf)
    squared = np.empty(_BLOCK)
    for begin in range(0, count, _BLOCK):
        size = min(_BLOCK, count - begin)
        for k in range(len(means)):
            squared[:] = 0
            for d in range(channels):
                mean = means[k, d]
                for b in range(size):
                    difference = points[d, begin + b] - mean
                    squared[b] += difference * difference
            for b in range(size):
                if squared[b] < distance[begin + b]:
                    distance[begin + b], nearest[begin + b] = squared[b], k
    return nearest, distance
