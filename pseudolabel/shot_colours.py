"""What foreground and background look like at every frame of a shot: mixtures on histograms of its colours.

psi^m of Tokmakov et al. 2016 (Eq. 2): one pair of Gaussian mixtures per frame t, fitted on the pixels of all frames of
the shot, each weighted "inversely according to their distance from t" (Sec. 4.2). Pixels are counted in bins of colours
once per shot and labelling, so that a fit, an update and a look-up cost as much as there are bins, not pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numba import njit

from pseudolabel.appearance import Mixture, fit_mixture
from pseudolabel.graphs import Float64Array, Int64Array
from pseudolabel.types import BoolArray, DataError, FloatArray, Int32Array, UInt8Array

TimeWeight = Literal["inverse", "exponential"]
"""``"inverse"``: 1 / (1 + |dt|) (SPEC M-d); ``"exponential"``: exp(-fade dt^2) (Papazoglou & Ferrari 2013)."""

BACKGROUND, FOREGROUND = 0, 1
LEAST_SHARE = 1e-4
"""A side with a smaller share of the shot's valid pixels has no colours to speak of: no mixture is fitted to it."""

_LEVELS = 256
_DENSE_BINS = 1 << 18  # up to so many possible bins are counted in a table, more are sorted
_NOISE = 1.0  # variance of 8-bit rounding and compression


def time_weights(count: int, *, kind: TimeWeight = "inverse", fade: float = 1e-4) -> Float64Array:
    """Return how much frame s counts in the mixtures of frame t, float64 (T, T) in (0, 1], 1 on the diagonal.

    Args:
        count: T.
        kind: see :data:`TimeWeight`.
        fade: of ``"exponential"``, per squared frame, >= 0.
    """
    away = np.abs(np.subtract.outer(np.arange(count), np.arange(count))).astype(np.float64)
    if kind == "inverse":
        return 1.0 / (1.0 + away)
    if kind == "exponential":
        return np.exp(-fade * away * away)
    raise ValueError(f"time weights must be 'inverse' or 'exponential', got {kind!r}")


@dataclass(frozen=True)
class ColourBins:
    """The colours of a shot in cubes of ``width`` levels.

    Attributes:
        codes: int32 (T, H, W), the bin of each pixel, 0..B-1; 0 for pixels that are not valid.
        colours: float64 (B, 3), the mean colour of the valid pixels of each bin.
        used: per frame, int64 ids of the bins that occur in it.
        width: side of a cube in levels; 1 = every colour for itself.
    """

    codes: Int32Array
    colours: Float64Array
    used: tuple[Int64Array, ...]
    width: int

    @property
    def noise(self) -> float:
        """Variance that is added to every mixture: of the camera, and of what lies within a bin."""
        return _NOISE + (self.width**2 - 1) / 12.0

    def count(self, foreground: FloatArray, valid: BoolArray) -> Float64Array:
        """Return float64 (T, 2, B): how much background and foreground each bin holds in each frame.

        Args:
            foreground: float32 (T, H, W) in [0, 1]; the rest to 1 is background.
            valid: bool (T, H, W); other pixels weigh nothing.
        """
        held = np.zeros((len(self.codes), 2, len(self.colours)))
        _count(self.codes, foreground, valid, held)
        return held


def bin_colours(frames: UInt8Array, valid: BoolArray, *, width: int = 8) -> ColourBins:
    """Sort the pixels of a shot into bins of colours.

    Args:
        frames: uint8 (T, H, W, 3).
        valid: bool (T, H, W).
        width: side of a bin in levels, 1..128.

    Raises:
        DataError: the width is out of its range.
    """
    if not 1 <= width <= _LEVELS // 2:
        raise DataError(f"Colours: bin_width must be in 1..{_LEVELS // 2} levels, got {width}.")
    side = -(-_LEVELS // width)
    raw = np.empty(frames.shape[:3], np.int32)
    _encode(np.ascontiguousarray(frames), width, side, raw)
    if side**3 <= _DENSE_BINS:
        present = np.bincount(raw[valid], minlength=side**3) > 0
        rank = (np.cumsum(present) - 1).astype(np.int32)
        count = int(present.sum())
        codes = np.where(valid, rank[raw], np.int32(0))
    else:
        distinct, inverse = np.unique(raw[valid], return_inverse=True)
        count = len(distinct)
        codes = np.zeros(raw.shape, np.int32)
        codes[valid] = inverse.reshape(-1)
    mass, total = np.zeros((len(frames), count)), np.zeros((count, 3))
    _sum_colours(frames, valid, codes, mass, total)
    used = tuple(np.flatnonzero(row) for row in mass)
    return ColourBins(codes, total / mass.sum(axis=0)[:, None], used, width)


@dataclass
class ColourModels:
    """A foreground and a background mixture for every frame of a shot.

    Args:
        bins: the shot's colours.
        share: float64 (T, T), how much frame s counts at frame t.
        components: of background and foreground.
        em_iters: steps of EM of the start, which is fitted to the whole shot.
        refit_iters: further steps of EM of every frame, at the start and at every update.
        outliers: share of a uniform density over all colours that is mixed in, in [0, 1); 0 = none (the paper).
        seed: of the start.
    """

    bins: ColourBins
    share: Float64Array
    components: tuple[int, int]
    em_iters: int = 10
    refit_iters: int = 2
    outliers: float = 0.0
    seed: int = 0
    _mixtures: dict[tuple[int, int], Mixture] = field(default_factory=dict)

    def fit(self, held: Float64Array) -> None:
        """Fit all mixtures to the weights ``held`` (T, 2, B); a side without weight keeps the mixtures it has."""
        valid = held.sum()
        for side in (BACKGROUND, FOREGROUND):
            total = held[:, side].sum(axis=0)
            if total.sum() <= LEAST_SHARE * valid:
                continue
            start = None if (0, side) in self._mixtures else self._fit(total, side, None, self.em_iters)
            for t, weights in enumerate(self.share @ held[:, side]):
                self._mixtures[t, side] = self._fit(weights, side, self._mixtures.get((t, side), start))

    def _fit(self, weights: Float64Array, side: int, start: Mixture | None, steps: int | None = None) -> Mixture:
        return fit_mixture(
            self.bins.colours,
            weights=weights,
            components=self.components[side],
            em_iters=self.refit_iters if steps is None else steps,
            seed=self.seed,
            regularisation=self.bins.noise,
            start=start,
        )

    @property
    def fitted(self) -> bool:
        """Whether both sides have mixtures."""
        return all((0, side) in self._mixtures for side in (BACKGROUND, FOREGROUND))

    def costs(self, t: int) -> tuple[Float64Array, Float64Array]:
        """Return psi^m = -log p(z) at every pixel of frame t, float64 (H, W) each: of background, of foreground."""
        used, codes = self.bins.used[t], self.bins.codes[t]
        sides = []
        for side in (BACKGROUND, FOREGROUND):
            table = np.zeros(len(self.bins.colours))
            density = self._mixtures[t, side].log_likelihood(self.bins.colours[used])
            if self.outliers:
                uniform = np.log(self.outliers) - 3 * np.log(_LEVELS)
                density = np.logaddexp(np.log1p(-self.outliers) + density, uniform)
            table[used] = -density
            sides.append(table[codes])
        return sides[0], sides[1]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _encode(frames: UInt8Array, width: int, side: int, codes: Int32Array) -> None:
    table = np.arange(_LEVELS) // width
    for t in range(frames.shape[0]):
        for y in range(frames.shape[1]):
            for x in range(frames.shape[2]):
                red, green, blue = table[frames[t, y, x, 0]], table[frames[t, y, x, 1]], table[frames[t, y, x, 2]]
                codes[t, y, x] = (red * side + green) * side + blue


@njit(cache=True)  # type: ignore[untyped-decorator]
def _sum_colours(
    frames: UInt8Array, valid: BoolArray, codes: Int32Array, mass: Float64Array, total: Float64Array
) -> None:
    for t in range(codes.shape[0]):
        for y in range(codes.shape[1]):
            for x in range(codes.shape[2]):
                if valid[t, y, x]:
                    code = codes[t, y, x]
                    mass[t, code] += 1.0
                    for channel in range(3):
                        total[code, channel] += frames[t, y, x, channel]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _count(codes: Int32Array, foreground: FloatArray, valid: BoolArray, held: Float64Array) -> None:
    for t in range(codes.shape[0]):
        for y in range(codes.shape[1]):
            for x in range(codes.shape[2]):
                if valid[t, y, x]:
                    code, share = codes[t, y, x], np.float64(foreground[t, y, x])
                    held[t, 0, code] += 1.0 - share
                    held[t, 1, code] += share
