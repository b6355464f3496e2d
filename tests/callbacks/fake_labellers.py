"""Labellers for tests, in a module of their own: workers import it, and torch takes seconds."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import cv2
import numpy as np
import pytest

from pseudolabel.types import VOID, BoolArray, DataError, FloatArray, UInt8Array

STEP_SECONDS = 0.12


def best_allowed(
    frames: UInt8Array, allowed: BoolArray, scores: FloatArray, motion: FloatArray | None, valid: BoolArray
) -> UInt8Array:
    assert frames.dtype == np.uint8 and frames.shape == (*valid.shape, 3) and scores.dtype == np.float32
    assert motion is None or float(motion[0, 0, 0]) == pytest.approx(frames[0, 0, 0, 0] / 255)
    return np.where(allowed[:, :, None, None], scores, -1).argmax(1).astype(np.uint8)


def only_void(frames: UInt8Array, allowed: Any, scores: Any, motion: Any, valid: Any) -> UInt8Array:
    assert motion is None
    return np.full(frames.shape[:3], VOID, np.uint8)


def slow(frames: UInt8Array, allowed: Any, scores: Any, motion: Any, valid: Any) -> UInt8Array:
    time.sleep(STEP_SECONDS)
    return np.ones(frames.shape[:3], np.uint8)


def threads_and_process(frames: UInt8Array, allowed: Any, scores: Any, motion: Any, valid: Any) -> UInt8Array:
    if cv2.getNumThreads() != 1 or os.environ["OMP_NUM_THREADS"] != "1":
        raise ValueError("several threads")
    if "torch" in sys.modules:
        raise ValueError("torch")
    return np.ones(frames.shape[:3], np.uint8)


def broken(frames: UInt8Array, allowed: Any, scores: Any, motion: Any, valid: Any) -> UInt8Array:
    if frames[0, 0, 0, 0] == 2:
        raise ValueError("no colours")
    return np.zeros(frames.shape[:3], np.uint8)


def refused(frames: UInt8Array, allowed: Any, scores: Any, motion: Any, valid: Any) -> UInt8Array:
    raise DataError("allowed names no object")


def dying(frames: UInt8Array, allowed: Any, scores: Any, motion: Any, valid: Any) -> UInt8Array:
    os._exit(1)


def too_wide(frames: UInt8Array, allowed: Any, scores: Any, motion: Any, valid: Any) -> UInt8Array:
    return np.zeros((2, 8, 9), np.uint8)


def class_seven(frames: UInt8Array, allowed: Any, scores: Any, motion: Any, valid: Any) -> UInt8Array:
    return np.full(frames.shape[:3], 7, np.uint8)
