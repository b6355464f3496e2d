"""Which labelled key frames train the network, and which frames show that nothing is there (Liang et al., Sec. 3.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pseudolabel.types import BoolArray, DataError


def choose_key_frames(quality: npt.ArrayLike, shots: npt.ArrayLike, *, most: int = 5) -> BoolArray:
    """Choose the key frames of the highest labelling quality in every shot (SPEC H16, H-e).

    "Only up to 5 key frames with the highest labeling qualities are selected." A frame of quality 0 has no object (or
    one that nothing speaks for) and is left out; of equals, the earlier is taken.

    Args:
        quality: float (F,), omega in [0, 1]; F may be 0.
        shots: int (F,), the shot of each frame, in any order. Frames of several videos need shots that differ.
        most: frames per shot, >= 1 (the paper's 5).

    Returns:
        bool (F,).

    Raises:
        DataError: shapes do not fit, a quality is not in [0, 1], or ``most`` is below 1.
    """
    omega, shot_of = np.asarray(quality, np.float64), np.asarray(shots)
    if omega.ndim != 1 or shot_of.shape != omega.shape:
        raise DataError(f"Key frames: quality {omega.shape} and shots {shot_of.shape} must both be (F,).")
    wrong = np.flatnonzero(~((omega >= 0) & (omega <= 1)))  # NaN as well
    if len(wrong):
        raise DataError(f"Key frames: the quality of frame {wrong[0]} is {omega[wrong[0]]}, expected [0, 1].")
    if most < 1:
        raise DataError(f"Key frames: most must be >= 1, got {most}.")
    order = np.lexsort((-omega, shot_of))  # stable: equals stay in order
    ordered = shot_of[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    chosen = np.zeros(len(omega), bool)
    chosen[order[rank < most]] = True
    return chosen & (omega > 0)


def choose_negatives(candidates: npt.ArrayLike, count: int, rng: np.random.Generator) -> BoolArray:
    """Choose negative images "randomly from the frames in which no human instance is detected".

    Args:
        candidates: bool (F,), frames without a detection.
        count: how many are wanted, >= 0; where there are fewer candidates, all are taken.
        rng: source of chance.

    Returns:
        bool (F,), min(count, candidates) of them True.

    Raises:
        DataError: candidates are not bool (F,), or count is negative.
    """
    free = np.asarray(candidates)
    if free.ndim != 1 or (free.dtype != bool and free.size):
        raise DataError(f"Negatives: candidates must be bool (F,), got {free.dtype} {free.shape}. Pass a mask.")
    if count < 0:
        raise DataError(f"Negatives: count must be >= 0, got {count}.")
    places = np.flatnonzero(free)
    chosen = np.zeros(len(free), bool)
    chosen[rng.choice(places, min(count, len(places)), replace=False)] = True
    return chosen


def count_negatives(positives: int, *, share: float = 1 / 3) -> int:
    """Return how many negatives make up ``share`` of all training images.

    Args:
        positives: labelled key frames, >= 0.
        share: of negatives, in [0, 1) ("approximately 1/3 of the images", SPEC H5).

    Raises:
        DataError: an argument is out of its range.
    """
    if positives < 0 or not 0 <= share < 1:
        raise DataError(f"Negatives: positives must be >= 0 and share in [0, 1), got {positives} and {share}.")
    return round(positives * share / (1 - share))
