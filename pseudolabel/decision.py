"""From the scores of classes to one class per pixel."""

from __future__ import annotations

from typing import Literal, cast, get_args

import numpy as np

from pseudolabel.types import DataError, FloatArray, UInt8Array

Decision = Literal["likeliest", "object_first"]
"""See :func:`decide`."""


def check_decision(decision: str) -> Decision:
    """Return ``decision``, or raise :class:`DataError` if there is no such."""
    if decision not in get_args(Decision):
        raise DataError(f"Unknown decision '{decision}'. Expected one of {', '.join(get_args(Decision))}.")
    return cast(Decision, decision)


def decide(scores: FloatArray, decision: Decision = "likeliest") -> UInt8Array:
    """Give every pixel one class.

    Args:
        scores: float32 (..., C, H, W) >= 0; class 0 is background, C >= 2.
        decision: ``"likeliest"``, the class of the largest score, as DeepLab has it; or ``"object_first"`` (ours): an
            object where the scores of all objects together exceed the background's, and then the likeliest of them.
            Where a network sees that something is an object but not which, the first calls it background.

    Returns:
        uint8 (..., H, W).
    """
    if decision == "likeliest":
        return np.asarray(scores.argmax(axis=-3), np.uint8)
    background, objects = scores[..., 0, :, :], scores[..., 1:, :, :]
    best = objects.argmax(axis=-3) + 1
    return np.where(objects.sum(axis=-3) > background, best, 0).astype(np.uint8)
