"""What a region looks like, in words: histograms of RGB, Lab and HOG words (Liang et al. 2017, Sec. 3.2; SPEC H9, H-b).

The words of a descriptor are the centres of a k-means clustering of what a video's own frames show. A region is the
share of its pixels that are nearest to each word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from pseudolabel.types import DataError, FloatArray, Int32Array, UInt8Array, nearest_name

Descriptor = Literal["rgb", "lab", "hog"]
DESCRIPTORS: tuple[Descriptor, ...] = get_args(Descriptor)

_BLOCK = 2048  # pixels compared with all words at once, so that their distances stay in the cache
_FLAT = 4.0  # length of a HOG block, in grey levels per pixel, below which it is noise rather than texture
_CLIP = 0.2  # no orientation counts for more in a HOG block (Dalal & Triggs 2005, L2-Hys)
_CONVERGED = 1e-3  # k-means ends when no centre moves further


@dataclass(frozen=True)
class BagOfWordsSettings:
    """How regions are described.

    Attributes:
        words: of each descriptor, >= 1 (the paper's 75, read as per descriptor: SPEC H-b).
        descriptors: which, of ``"rgb"``, ``"lab"`` and ``"hog"``; at least one, none twice.
        frames: at most so many of the frames, evenly spread, are sampled for the words, >= 1 (this and what follows
            is ours; the paper gives none of it).
        samples: pixels, or HOG blocks, that are clustered per descriptor and video, >= 1.
        iterations: of k-means at most, >= 1.
        cell: side of a HOG cell in pixels, even, >= 2; there is a block of 2 x 2 cells every half cell.
        orientations: bins of 0 to 180 degrees, >= 2.
        seed: of the samples and of k-means.

    Raises:
        DataError: a value is out of its range.
    """

    words: int = 75
    descriptors: tuple[Descriptor, ...] = DESCRIPTORS
    frames: int = 32
    samples: int = 10_000
    iterations: int = 15
    cell: int = 8
    orientations: int = 9
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "descriptors", tuple(self.descriptors))
        for name, least in (("words", 1), ("frames", 1), ("samples", 1), ("iterations", 1), ("orientations", 2)):
            if getattr(self, name) < least:
                raise DataError(f"Bag of words: {name} must be >= {least}, got {getattr(self, name)}.")
        if self.cell < 2 or self.cell % 2:
            raise DataError(f"Bag of words: cell must be even and >= 2 pixels, got {self.cell}.")
        if not self.descriptors or len(set(self.descriptors)) != len(self.descriptors):
            raise DataError(f"Bag of words: name at least one descriptor, and none twice, got {self.descriptors}.")
        for name in self.descriptors:
            if name not in DESCRIPTORS:
                raise DataError(
                    f"Bag of words: unknown descriptor '{name}'{nearest_name(name, DESCRIPTORS)} "
                    f"Known: {', '.join(DESCRIPTORS)}."
                )


@dataclass(frozen=True)
class Vocabulary:
    """The words of a video.

    Attributes:
        words: float32 (V_d, D_d) per descriptor, in the order of ``settings.descriptors``; V_d <= ``settings.words``,
            fewer where the video shows fewer different things.
        settings: what they were learned with.
    """

    words: tuple[FloatArray, ...]
    settings: BagOfWordsSettings

    @property
    def size(self) -> int:
        """Length of a region's feature: the words of all descriptors."""
        return sum(len(words) for words in self.words)


def describe(frame: UInt8Array, descriptor: Descriptor, settings: BagOfWordsSettings) -> FloatArray:
    """Describe the places of a frame.

    Args:
        frame: uint8 (H, W, 3), RGB.
        descriptor: which.
        settings: its constants.

    Returns:
        float32 (h, w, D): the colour of every pixel (h, w = H, W; D = 3; Lab in CIE units, L in 0..100), or a HOG block
        every half cell, see :func:`hog_blocks`.
    """
    if descriptor == "rgb":
        return frame.astype(np.float32)
    if descriptor == "lab":
        return np.asarray(cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    return hog_blocks(frame, cell=settings.cell, orientations=settings.orientations)


def hog_blocks(frame: UInt8Array, *, cell: int = 8, orientations: int = 9) -> FloatArray:
    """Return dense histograms of oriented gradients (Dalal & Triggs 2005), a block of 2 x 2 cells every half cell.

    A gradient counts with its strength, shared out linearly between the two nearest orientations. Beyond the border
    the picture is continued by its edge pixels.

    Args:
        frame: uint8 (H, W, 3), RGB.
        cell: side of a cell in pixels, even.
        orientations: bins of 0 to 180 degrees (a gradient and its opposite are the same).

    Returns:
        float32 (ceil(2 H / cell) + 1, ceil(2 W / cell) + 1, 4 * orientations), each of length <= 1, near 0 where it is
        flat. Block (i, j) is centred on the corner of the pixels in row ``i * cell / 2`` and column ``j * cell / 2``.
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = grey.shape
    step = cell // 2
    rows, columns = -(-height // step), -(-width // step)
    down, right = rows * step - height + cell, columns * step - width + cell
    padded = cv2.copyMakeBorder(grey, cell, down, cell, right, cv2.BORDER_REPLICATE)
    centred = np.array([[-0.5, 0.0, 0.5]], np.float32)
    across = cv2.filter2D(padded, cv2.CV_32F, centred, borderType=cv2.BORDER_REPLICATE)
    along = cv2.filter2D(padded, cv2.CV_32F, centred.T, borderType=cv2.BORDER_REPLICATE)
    strength, angle = cv2.cartToPolar(across, along)
    place = angle * np.float32(orientations / np.pi) % orientations
    means = []
    for orientation in range(orientations):
        away = np.abs(place - np.float32(orientation))
        share = strength * np.maximum(1 - np.minimum(away, orientations - away), 0)
        means.append(cv2.resize(share, (columns + 4, rows + 4), interpolation=cv2.INTER_AREA))
    half = np.stack(means, axis=-1)  # (rows + 4, columns + 4, orientations), of step x step pixels
    cells = (half[:-1, :-1] + half[1:, :-1] + half[:-1, 1:] + half[1:, 1:]) / 4
    # The frame starts at half cell 2, so the block around its corner (i, j) has cells (i, j) to (i + 2, j + 2).
    blocks = np.concatenate([cells[a:, b:][: rows + 1, : columns + 1] for a in (0, 2) for b in (0, 2)], axis=-1)
    blocks /= np.sqrt(np.square(blocks).sum(axis=-1, keepdims=True) + np.float32(_FLAT**2))
    np.minimum(blocks, _CLIP, out=blocks)
    length = np.sqrt(np.square(blocks).sum(axis=-1, keepdims=True))
    return np.asarray(blocks / np.maximum(length, 2 * _CLIP), np.float32)  # an edge has length 1, noise stays short


def learn_vocabulary(
    frames: Sequence[UInt8Array] | UInt8Array, settings: BagOfWordsSettings | None = None
) -> Vocabulary:
    """Cluster what a video's frames show. The same frames and settings give the same words.

    Args:
        frames: uint8 (K, H, W, 3), RGB, K >= 1.
        settings: the paper's 75 words of three descriptors when None.

    Raises:
        DataError: there is no frame, or frames are not uint8 RGB.
    """
    settings = settings or BagOfWordsSettings()
    if not len(frames):
        raise DataError("Bag of words: no frame to learn words from. Give a video's key frames.")
    for frame in frames:
        _check(frame)
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(settings.frames, len(frames))).round().astype(int))
    rng = np.random.default_rng(settings.seed)
    words = []
    for descriptor in settings.descriptors:
        each = -(-settings.samples // len(chosen))
        picked = []
        for k in chosen:
            places = describe(frames[k], descriptor, settings)
            places = places.reshape(-1, places.shape[-1])  # (h, w, D) -> (h * w, D)
            picked.append(places[rng.choice(len(places), min(each, len(places)), replace=False)])
        words.append(cluster(np.concatenate(picked), settings))
    return Vocabulary(tuple(words), settings)


def cluster(samples: FloatArray, settings: BagOfWordsSettings) -> FloatArray:
    """Return at most ``settings.words`` k-means centres of samples (M, D), float32 (V, D), each different."""
    different = np.unique(samples, axis=0)
    if len(different) <= settings.words:
        return np.asarray(different, np.float32)
    cv2.setRNGSeed(settings.seed)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, settings.iterations, _CONVERGED)
    chosen = np.zeros(len(samples), np.int32)  # overwritten with the samples' clusters
    _, _, centres = cv2.kmeans(
        np.ascontiguousarray(samples, np.float32), settings.words, chosen, stop, 1, cv2.KMEANS_PP_CENTERS
    )
    return np.unique(np.asarray(centres, np.float32), axis=0)


def nearest_words(places: FloatArray, words: FloatArray) -> Int32Array:
    """Return the nearest word of every place, by Euclidean distance; the first of equals.

    Args:
        places: float32 (h, w, D) or (M, D).
        words: float32 (V, D).

    Returns:
        int32 (h, w) or (M,), 0..V-1.
    """
    flat = places.reshape(-1, places.shape[-1])
    nearest = np.empty(len(flat), np.int32)
    middle = words.mean(axis=0)  # numbers near 0 keep their digits in |w|^2 - 2 p w
    centred = words - middle
    towards, lengths = np.ascontiguousarray(2 * centred.T), np.square(centred).sum(axis=1)
    for start in range(0, len(flat), _BLOCK):
        closeness = (flat[start : start + _BLOCK] - middle) @ towards
        closeness -= lengths
        nearest[start : start + _BLOCK] = closeness.argmax(axis=1)
    return nearest.reshape(places.shape[:-1])


def region_features(frame: UInt8Array, regions: Int32Array, vocabulary: Vocabulary, *, count: int) -> FloatArray:
    """Return the bags of words of the regions of a frame.

    Args:
        frame: uint8 (H, W, 3), RGB.
        regions: int (H, W), ids 0..count-1.
        vocabulary: the video's words.
        count: N.

    Returns:
        float32 (N, V), >= 0: one histogram per descriptor, each summing to 1, side by side; 0 for ids that do not
        occur.

    Raises:
        DataError: frame and regions do not fit, or an id is out of its range.
    """
    _check(frame)
    if regions.shape != frame.shape[:2]:
        raise DataError(f"Bag of words: regions {regions.shape} do not fit the frame {frame.shape}.")
    if regions.min() < 0 or regions.max() >= count:
        raise DataError(f"Bag of words: ids must be 0..{count - 1}, got {regions.min()}..{regions.max()}.")
    area = np.maximum(np.bincount(regions.ravel(), minlength=count), 1)[:, None]
    bags = []
    settings = vocabulary.settings
    for descriptor, words in zip(settings.descriptors, vocabulary.words, strict=True):
        named = nearest_words(describe(frame, descriptor, settings), words)
        if descriptor == "hog":  # a pixel has the word of the nearest block
            step = settings.cell // 2
            rows, columns = ((np.arange(extent) + step // 2) // step for extent in frame.shape[:2])
            named = named[rows[:, None], columns]
        codes = regions.ravel().astype(np.int64) * len(words) + named.ravel()
        counts = np.bincount(codes, minlength=count * len(words)).reshape(count, len(words))
        bags.append(counts / area)
    return np.concatenate(bags, axis=1).astype(np.float32)


def _check(frame: UInt8Array) -> None:
    if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise DataError(
            f"Bag of words: frames must be uint8 (H, W, 3), got {frame.dtype} {tuple(frame.shape)}. "
            "Convert them to 8-bit RGB."
        )
