"""Imperfect detectors behind one interface (Liang et al., Sec. 3.2: "an imperfect human detector").

The paper takes the boxes of one class whose score is higher than -1, the margin of a support vector machine. Any
detector will do that gives boxes with scores: OpenCV's people detector, a table of boxes, or attention maps. Those that
need a network are in :mod:`modules.detectors`.
"""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.detect_boxes import (
    MARGIN_THRESHOLD,
    MOST_BOXES,
    PROBABILITY_THRESHOLD,
    Boxes,
    check_frames,
    clean_boxes,
    clean_video_boxes,
    suppress_overlaps,
)
from pseudolabel.detect_csv import CsvDetector
from pseudolabel.types import DataError, UInt8Array

__all__ = [
    "MARGIN_THRESHOLD",
    "PROBABILITY_THRESHOLD",
    "Boxes",
    "CsvDetector",
    "Detector",
    "HogDetector",
    "boxes_from_attention",
    "clean_boxes",
    "clean_video_boxes",
]

_WINDOW = (64, 128)  # width and height in pixels of what OpenCV's people detector looks at
_MARGIN = 16  # pixels around the person in it
_BODY = (0.7, 0.8)  # of the window's width and height that the person fills, limbs included
_EIGHT = 8  # neighbours of a pixel in a connected component


class Detector(Protocol):
    """Finds the object of one class in frames of a video."""

    def __call__(self, frames: UInt8Array, *, video: str, indices: npt.NDArray[np.int64]) -> list[Boxes]:
        """Detect in frames uint8 (T, H, W, 3), RGB, that have the numbers ``indices`` (T,) in ``video``.

        Returns:
            One :class:`Boxes` per frame, inside the frame, finite, of positive size, at most a set number.
        """
        ...


class HogDetector:
    """OpenCV's people detector: histograms of oriented gradients and a linear SVM (Dalal and Triggs, CVPR 2005).

    It is in OpenCV itself: nothing is loaded. It was trained on upright people of 96 pixels in windows of 64 x 128, so
    small frames are enlarged. "Imperfect" it is.

    Measured on the ten videos of DAVIS 2016 (train, 427x240) whose object is a person, often dancing or jumping, or
    with a stroller or kite in the mask: at -1 some box has an IoU > 0.5 with the true one in 41 % of the frames (67 to
    90 % in hike, lucia, rollerblade and tennis), of 8.4 boxes per frame of which 6 % are right; at -0.5 in 25 % (3.3
    boxes, 9 % right); at 0 in 19 % (1.3 boxes, 17 % right). Videos of animals and vehicles have 4.8 boxes per frame at
    -1. It takes 31 ms of one core per frame; with ``scale=1.05`` 54 ms, for 46 % at -1.

    Args:
        threshold: boxes of a higher margin are kept; the paper's is -1.
        least_height: height of the smallest person to be found, as share of the frame's, in (0, 1].
        scale: ratio between two sizes that are looked at, > 1; smaller = slower.
        stride: between windows, in pixels of the enlarged frame; a multiple of 8.
        most_overlap: IoU of two boxes that both stay, in [0, 1].
        most: boxes kept per frame, >= 1.

    Raises:
        DataError: an argument is out of its range.
    """

    def __init__(
        self,
        threshold: float = MARGIN_THRESHOLD,
        *,
        least_height: float = 1 / 3,
        scale: float = 1.1,
        stride: int = 8,
        most_overlap: float = 0.5,
        most: int = MOST_BOXES,
    ) -> None:
        if not 0 < least_height <= 1 or not scale > 1 or stride < 8 or stride % 8 or not 0 <= most_overlap <= 1:
            raise DataError(
                "HOG detector: least_height must be in (0, 1], scale > 1, stride a multiple of 8 and most_overlap in "
                f"[0, 1], got {least_height}, {scale}, {stride} and {most_overlap}."
            )
        self.threshold, self.least_height, self.scale, self.stride = threshold, least_height, scale, stride
        self.most_overlap, self.most = most_overlap, most

    def __call__(self, frames: UInt8Array, *, video: str, indices: npt.NDArray[np.int64]) -> list[Boxes]:
        """See :class:`Detector`."""
        size = check_frames(frames, indices, video)
        found = [suppress_overlaps(self._detect(frame), most_overlap=self.most_overlap) for frame in frames]
        return clean_video_boxes(found, size, video=video, threshold=self.threshold, most=self.most)

    def _detect(self, frame: UInt8Array) -> Boxes:
        height, width = frame.shape[:2]
        person = _WINDOW[1] - 2 * _MARGIN
        enlarged = max(person / (self.least_height * height), _WINDOW[0] / width, _WINDOW[1] / height, 1.0)
        shown = (math.ceil(width * enlarged), math.ceil(height * enlarged))
        picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        if enlarged > 1:
            picture = cv2.resize(picture, shown, interpolation=cv2.INTER_LINEAR)
        hog = cv2.HOGDescriptor()  # here: it cannot be sent to another process
        hog.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector(), np.float32))
        windows, margins = hog.detectMultiScale(
            picture,
            hitThreshold=self.threshold,
            winStride=(self.stride, self.stride),
            padding=(_MARGIN, _MARGIN),
            scale=self.scale,
            groupThreshold=0,
        )
        if not len(windows):
            return Boxes.none()
        corners = np.asarray(windows, np.float32)
        centre, half = corners[:, :2] + corners[:, 2:] / 2, corners[:, 2:] * np.array(_BODY, np.float32) / 2
        ratio = np.array([width / shown[0], height / shown[1]] * 2, np.float32)
        return Boxes(
            np.concatenate([centre - half, centre + half], axis=1) * ratio, np.ravel(np.asarray(margins, np.float32))
        )


def boxes_from_attention(
    maps: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    *,
    threshold: float = PROBABILITY_THRESHOLD,
    share: float = 0.2,
    least_area: float = 0.005,
    most: int = MOST_BOXES,
    video: str = "",
) -> list[Boxes]:
    """Turn attention maps of a class into boxes: the class may be any that a classifier knows.

    "We first segment the regions of which the value is above 20% of the max value of the CAM" (Zhou et al. 2016, Sec.
    3.2). Each connected component (8 neighbours) is a box, not only the largest: there may be several objects.

    Args:
        maps: (T, H, W), >= 0; a map without a positive value gives no box.
        scores: (T,), class score of each frame, a probability or a logit; its boxes get it.
        threshold: boxes of a higher score are kept: for logits, :data:`MARGIN_THRESHOLD`.
        share: of the map's maximum, in [0, 1).
        least_area: of a component, as share of the frame in [0, 1] (ours).
        most: boxes kept per frame; larger components first.
        video: its name, for messages.

    Returns:
        One :class:`Boxes` per frame.

    Raises:
        DataError: shapes do not fit or a value is out of its range.
    """
    if maps.ndim != 3 or np.shape(scores) != maps.shape[:1]:
        raise DataError(
            f"Boxes from attention: got maps {maps.shape} and scores {np.shape(scores)}, expected (T, H, W) and (T,)."
        )
    if not 0 <= share < 1 or not 0 <= least_area <= 1:
        raise DataError(
            f"Boxes from attention: share must be in [0, 1) and least_area in [0, 1], got {share}, {least_area}."
        )
    if not np.isfinite(maps).all() or (maps.size and maps.min() < 0):
        raise DataError("Boxes from attention: maps must be finite and >= 0. Pass them through ReLU.")
    found = []
    for one, score in zip(maps, scores, strict=True):
        mask = (one > share * one.max()).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=_EIGHT)
        parts = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= least_area * one.size].astype(np.float32)
        parts = parts[np.argsort(-parts[:, cv2.CC_STAT_AREA], kind="stable")]
        corners = np.concatenate([parts[:, :2], parts[:, :2] + parts[:, 2:4]], axis=1)
        found.append(Boxes(corners, np.full(len(corners), score, np.float32)))
    return clean_video_boxes(found, maps.shape[1:], video=video, threshold=threshold, most=most)
