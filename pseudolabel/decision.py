"""From the scores of classes to one class per pixel."""

from __future__ import annotations

from typing import Literal, cast, get_args

import numpy as np

from pseudolabel.types import BoolArray, DataError, FloatArray, UInt8Array

Decision = Literal["likeliest", "object_first", "expected_overlap"]
"""See :func:`decide`."""
EVEN = 0.5
"""The score from which an object is likelier than background."""
_STEPS = 512


def check_decision(decision: str) -> Decision:
    """Return ``decision``, or raise :class:`DataError` if there is no such."""
    if decision not in get_args(Decision):
        raise DataError(f"Unknown decision '{decision}'. Expected one of {', '.join(get_args(Decision))}.")
    return cast(Decision, decision)


def decide(scores: FloatArray, decision: Decision = "likeliest") -> UInt8Array:
    """Give every pixel one class.

    Args:
        scores: float32 (..., C, H, W) >= 0; class 0 is background, C >= 2.
        decision: ``"likeliest"``, the class of the largest score, as DeepLab has it; or, of ours, ``"object_first"``
            and ``"expected_overlap"``: what :func:`find_objects` finds takes the likeliest class of the objects. Where
            a network sees that something is an object but not which, ``"likeliest"`` calls it background.

    Returns:
        uint8 (..., H, W).
    """
    if decision == "likeliest":
        return np.asarray(scores.argmax(axis=-3), np.uint8)
    objects = scores[..., 1:, :, :]
    best = objects.argmax(axis=-3) + 1
    foreground = objects.sum(axis=-3)
    whole = np.maximum(foreground + scores[..., 0, :, :], np.finfo(np.float32).tiny)
    return np.where(find_objects(foreground / whole, decision), best, 0).astype(np.uint8)


def find_objects(foreground: FloatArray, decision: Decision, *, least: float = 0.2) -> BoolArray:
    """Find what is an object, whichever it is.

    ``"object_first"`` takes what is likelier an object than background. ``"expected_overlap"`` takes, in every frame,
    all pixels from that score on which makes 2 S_k / (k + S) largest, where the k likeliest pixels have the sum S_k of
    scores, and all pixels S: the Dice overlap to be expected in a frame of many pixels whose scores are probabilities
    (Lipton et al. 2014; for IoU: Nowozin, CVPR 2014). The less sure a network is, the lower its best threshold, half of
    that overlap. A frame where nothing is likelier an object than background has none.

    Args:
        foreground: float32 (..., H, W) in [0, 1], the share of all objects in a pixel's score.
        decision: ``"object_first"`` or ``"expected_overlap"``.
        least: the threshold of ``"expected_overlap"`` is not lower, so that a haze of small scores is no object.

    Returns:
        bool (..., H, W).

    Raises:
        ValueError: another decision.
    """
    if decision == "object_first":
        return np.asarray(foreground > EVEN)
    if decision != "expected_overlap":
        raise ValueError(f"'{decision}' does not find objects first")
    found = np.zeros(foreground.shape, bool)
    for index in np.ndindex(foreground.shape[:-2]):
        frame = np.clip(foreground[index], 0.0, 1.0)
        if frame.size and frame.max() > EVEN:
            found[index] = frame >= max(_best_threshold(frame), least)
    return found


def _best_threshold(foreground: FloatArray) -> float:
    """Return the threshold of the largest expected Dice overlap, in steps of 1 / 512."""
    steps = np.minimum((foreground.ravel() * _STEPS).astype(np.int64), _STEPS - 1)
    taken = np.cumsum(np.bincount(steps, minlength=_STEPS)[::-1])
    gained = np.cumsum(np.bincount(steps, foreground.ravel(), minlength=_STEPS)[::-1])
    overlap = 2 * gained / np.maximum(taken + gained[-1], 1e-12)
    return float(_STEPS - 1 - overlap.argmax()) / _STEPS
