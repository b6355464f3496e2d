"""Co-localisation: one box per frame around a video's common object (Tokmakov et al. 2016, Sec. 4.5; SPEC M13).

"We compute a foreground GMM by considering pixels with high predictions for the object category as foreground. A
background GMM is also computed in a similar fashion"; the energy of Eq. 2 is minimised by a cut over superpixels, and
the box of the largest connected component is kept. Frames are gone through in chunks: memory is flat in their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pseudolabel.appearance import Mixture, fit_mixture
from pseudolabel.boxes import largest_box
from pseudolabel.energy import contrast_weights, minimize_binary
from pseudolabel.graphs import Float64Array
from pseudolabel.label_settings import SCORE_TERMS, ScoreTerm
from pseudolabel.superpixels import adjacency, centres, region_means, segment_superpixels
from pseudolabel.types import BoolArray, DataError, FloatArray, UInt8Array

_LEVELS = 256
_NOISE = 1.0  # variance of 8-bit rounding and compression
_SCORE_TOLERANCE = 1e-3  # softmax in half precision


class Frames(Protocol):
    """An array (T, …) or anything else with a length whose slices are arrays: a memory map, a video on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class ColocaliseSettings:
    """Every constant of :func:`colocalise`.

    Attributes:
        high: a pixel whose class score is more than this share of class and background score together starts the
            foreground's colours, all others the background's; in [0, 1).
        alpha: weight of the network's scores in the unary term, >= 0; 0 = colours alone.
        strength: of the pairwise term, >= 0, in units of the frame's mean unary difference per mean edge (SPEC M-b).
        contrast: numerator of gamma = contrast / mean(||z_i - z_j||^2 / dist), >= 0.
        iterations: of {fit colours, cut}, >= 1.
        foreground_components: of the mixture, >= 1.
        background_components: of the mixture, >= 1.
        em_iters: steps of EM, >= 0.
        scores: see :data:`pseudolabel.label_settings.ScoreTerm`, here over the video; ``high`` and ``alpha`` use them.
        bin_width: colours are counted in cubes of so many levels, 4..128.
        least_score: scores are clipped here before the logarithm, in (0, 1).
        seed: of the mixtures' start.

    Raises:
        DataError: a value is out of its range.
    """

    high: float = 0.5
    alpha: float = 1.0
    strength: float = 1.0
    contrast: float = 0.5
    iterations: int = 1
    foreground_components: int = 5
    background_components: int = 8
    em_iters: int = 10
    scores: ScoreTerm = "posterior"
    bin_width: int = 8
    least_score: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("alpha", "strength", "contrast"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise DataError(f"Co-localisation: {name} must be finite and >= 0, got {getattr(self, name)}.")
        if not (0 <= self.high < 1 and 0 < self.least_score < 1 and 4 <= self.bin_width <= 128):
            raise DataError(
                "Co-localisation: high must be in [0, 1), least_score in (0, 1) and bin_width in 4..128, got "
                f"{self.high}, {self.least_score} and {self.bin_width}."
            )
        if min(self.iterations, self.foreground_components, self.background_components) < 1 or self.em_iters < 0:
            raise DataError("Co-localisation: iterations and components must be >= 1 and em_iters >= 0.")
        if self.scores not in SCORE_TERMS:
            raise DataError(f"Co-localisation: scores must be one of {SCORE_TERMS}, got {self.scores!r}.")


class Colocalisation(NamedTuple):
    """Where the object is.

    Attributes:
        labels: uint8 (T, H, W), ``class_id`` on the object, else 0.
        boxes: float32 (T, 4), x0, y0, x1, y1 in pixels, x1 and y1 beyond the last pixel; NaN where nothing is found.
    """

    labels: UInt8Array
    boxes: FloatArray


class _Chunk(NamedTuple):
    frames: UInt8Array
    scores: FloatArray  # (n, 2, H, W), of background and the class, over their prior
    where: slice


def colocalise(
    frames: Frames,
    scores: Frames,
    class_id: int,
    *,
    num_superpixels: int = 1500,
    compactness: float = 30.0,
    chunk: int = 32,
    settings: ColocaliseSettings | None = None,
) -> Colocalisation:
    """Find the object of a video in every frame.

    A video without a single pixel of high score, or with nothing else, has no colours to compare: it is left empty.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
        scores: float (T, C, H, W), softmax scores in [0, 1], class 0 is background.
        class_id: the video's class, in 1..C-1.
        num_superpixels: wanted per frame.
        compactness: of the superpixels.
        chunk: frames held in memory at once, >= 1; changes nothing but memory.
        settings: None = the defaults.

    Returns:
        labels and boxes.

    Raises:
        DataError: shapes do not fit, NaN or a value out of its range.
    """
    settings = settings or ColocaliseSettings()
    if len(frames) != len(scores) or not len(frames) or chunk < 1:
        raise DataError(
            f"Co-localisation: got {len(frames)} frames, scores of {len(scores)} and chunks of {chunk}, expected as "
            "many scores as frames and at least 1 of each. Predict every frame."
        )
    labels = np.zeros((len(frames), *frames[:1].shape[1:3]), np.uint8)
    prior = np.ones(2)
    if settings.scores == "likelihood":
        sums = [part.scores.sum(axis=(0, 2, 3), dtype=np.float64) for part in _chunks(frames, scores, class_id, chunk)]
        prior = np.maximum(np.sum(sums, axis=0) / labels.size, settings.least_score)
    for iteration in range(settings.iterations):
        bins = _Bins(settings.bin_width)
        for part in _chunks(frames, scores, class_id, chunk, prior):
            score = part.scores[:, 1]
            high = score > settings.high * (score + part.scores[:, 0])
            bins.add(part.frames, high if iteration == 0 else labels[part.where] > 0)
        mixtures = bins.fit(settings)
        if mixtures is None:
            break  # at first: nothing is found; later: the last cut stands
        for part in _chunks(frames, scores, class_id, chunk, prior):
            for t, (frame, score) in enumerate(zip(part.frames, part.scores, strict=True), part.where.start):
                regions = segment_superpixels(frame, n=num_superpixels, compactness=compactness)
                labels[t] = _cut(frame, score, regions, mixtures, settings)[regions] * np.uint8(class_id)
    return Colocalisation(labels, np.stack([largest_box(mask > 0) for mask in labels]))


class _Bins:
    """Colours of foreground and background of a whole video, counted in a table of fixed size."""

    def __init__(self, width: int) -> None:
        self.width, self.side = width, -(-_LEVELS // width)
        self.mass = np.zeros((2, self.side**3))
        self.total = np.zeros((self.side**3, 3))

    def add(self, frames: UInt8Array, foreground: BoolArray) -> None:
        """Count frames (n, H, W, 3) with their foreground (n, H, W)."""
        cells = (frames // self.width).astype(np.int64)
        codes = ((cells[..., 0] * self.side + cells[..., 1]) * self.side + cells[..., 2]).ravel()
        for side in (0, 1):
            chosen = codes[foreground.ravel() == bool(side)]
            self.mass[side] += np.bincount(chosen, minlength=len(self.total))
        for channel in range(3):
            self.total[:, channel] += np.bincount(codes, frames[..., channel].ravel(), len(self.total))

    def fit(self, settings: ColocaliseSettings) -> tuple[Mixture, Mixture] | None:
        """Return the mixtures of background and foreground, None where a side is empty."""
        if not self.mass.any(axis=1).all():
            return None
        used = self.mass.sum(axis=0) > 0
        colours = self.total[used] / self.mass.sum(axis=0)[used, None]
        background, foreground = (
            fit_mixture(
                colours,
                weights=mass[used],
                components=components,
                em_iters=settings.em_iters,
                seed=settings.seed,
                regularisation=_NOISE + (self.width**2 - 1) / 12.0,  # of the camera, and of what lies within a bin
            )
            for mass, components in zip(
                self.mass, (settings.background_components, settings.foreground_components), strict=True
            )
        )
        return background, foreground


def _chunks(
    frames: Frames, scores: Frames, class_id: int, size: int, prior: Float64Array | None = None
) -> Iterator[_Chunk]:
    """Yield checked chunks; ``prior`` (2,) of background and the class divides their scores."""
    for start in range(0, len(frames), size):
        where = slice(start, min(start + size, len(frames)))
        pictures, given = np.asarray(frames[where]), np.asarray(scores[where])
        expected = (len(pictures), *pictures.shape[1:3])
        if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8:
            raise DataError(
                f"Co-localisation: frames must be uint8 (T, H, W, 3), got {pictures.dtype} {pictures.shape}."
            )
        if given.ndim != 4 or (len(given), *given.shape[2:]) != expected or not 1 <= class_id < given.shape[1]:
            raise DataError(
                f"Co-localisation: scores must be (T, C, H, W) of frames {expected} with class {class_id} in 1..C-1, "
                f"got {given.shape}. Resize the scores to the frames."
            )
        within = np.asarray(given[:, [0, class_id]], np.float32)
        if not (within.min() >= -_SCORE_TOLERANCE and within.max() <= 1 + _SCORE_TOLERANCE):  # false for NaN
            raise DataError(
                f"Co-localisation: scores must be softmax scores in [0, 1], got {within.min()}..{within.max()}."
            )
        if prior is not None:
            within = within / prior.astype(np.float32)[:, None, None]
        yield _Chunk(pictures, within, where)


def _cut(
    frame: UInt8Array,
    scores: FloatArray,
    regions: npt.NDArray[np.int32],
    mixtures: tuple[Mixture, Mixture],
    settings: ColocaliseSettings,
) -> UInt8Array:
    """Return which superpixels are the object, uint8 (N,) in {0, 1}, by one exact cut (Eq. 2 and 3 on superpixels)."""
    colours = region_means(regions, frame)
    network = -np.log(np.maximum(scores, settings.least_score))
    unary = settings.alpha * region_means(regions, np.moveaxis(network, 0, -1)).astype(np.float64)
    unary -= np.stack([mixture.log_likelihood(colours) for mixture in mixtures], axis=1)
    edges, _ = adjacency(regions)
    if not len(edges):
        return minimize_binary(unary).labels
    places = centres(regions)
    distance = np.maximum(np.linalg.norm(places[edges[:, 0]] - places[edges[:, 1]], axis=1), 1.0)
    weights = contrast_weights(colours, edges, strength=1.0, distance=distance, scale=settings.contrast)
    balance = float(np.abs(unary[:, 1] - unary[:, 0]).mean() / weights.mean())
    return minimize_binary(unary, edges, settings.strength * balance * weights).labels
