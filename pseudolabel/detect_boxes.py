"""Boxes with scores: what a detector gives, made fit for use whatever it gave."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pseudolabel.boxes import box_iou
from pseudolabel.types import DataError, FloatArray, UInt8Array

_log = logging.getLogger(__name__)

MARGIN_THRESHOLD = -1.0
"""Boxes with a higher score count, where the score is a margin (Liang et al., Sec. 3.2)."""

PROBABILITY_THRESHOLD = 0.27
"""The same for scores in [0, 1]: sigmoid(-1) (SPEC H-g)."""

MOST_BOXES = 100
"""At most so many boxes of a frame are kept, those of the highest score (ours)."""


@dataclass(frozen=True)
class Boxes:
    """The boxes of one frame.

    Attributes:
        boxes: float32 (N, 4), x0, y0, x1, y1 in pixels, x1 and y1 beyond the last pixel.
        scores: float32 (N,), higher = surer, on the detector's own scale.

    Raises:
        DataError: shapes do not fit.
    """

    boxes: FloatArray
    scores: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float32))
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float32))
        if self.scores.ndim != 1 or self.boxes.shape != (len(self.scores), 4):
            raise DataError(
                f"Boxes: got boxes {self.boxes.shape} and scores {self.scores.shape}, expected (N, 4) and (N,). "
                "Give x0, y0, x1, y1 and one score per box."
            )

    @classmethod
    def none(cls) -> Boxes:
        """Return the boxes of a frame in which nothing was found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Boxes:
        """Return the boxes of these numbers, or where this mask (N,) is true."""
        return Boxes(self.boxes[chosen], self.scores[chosen])


@dataclass(frozen=True)
class DroppedBoxes:
    """How many boxes :func:`clean_boxes` changed or dropped, and why.

    Attributes:
        not_finite: dropped, a corner or the score is NaN or infinite.
        empty: dropped, no width or no height (corners the wrong way round as well).
        outside: dropped, wholly outside of the frame.
        clipped: kept, the part inside the frame.
        surplus: dropped, of the lowest scores, as there were too many.
    """

    not_finite: int = 0
    empty: int = 0
    outside: int = 0
    clipped: int = 0
    surplus: int = 0

    def __add__(self, other: DroppedBoxes) -> DroppedBoxes:
        return DroppedBoxes(*(own + theirs for own, theirs in zip(self.counts(), other.counts(), strict=True)))

    def counts(self) -> tuple[int, int, int, int, int]:
        """Return the five numbers in the order of the attributes."""
        return self.not_finite, self.empty, self.outside, self.clipped, self.surplus

    def __str__(self) -> str:
        words = ("not finite", "without area", "outside of the frame", "clipped to the frame", "beyond the most kept")
        return ", ".join(f"{count} {word}" for count, word in zip(self.counts(), words, strict=True) if count)


def clean_boxes(boxes: Boxes, size: tuple[int, int], *, most: int = MOST_BOXES) -> tuple[Boxes, DroppedBoxes]:
    """Make the boxes of one frame fit for use.

    Args:
        boxes: of one frame; anything may be in them.
        size: (H, W) of the frame.
        most: number kept, >= 1, of the highest scores; equal scores in the order given.

    Returns:
        Boxes inside the frame, finite, with x0 < x1 and y0 < y1, sorted by falling score; and what was done to them.

    Raises:
        DataError: ``most`` is below 1.
    """
    if most < 1:
        raise DataError(f"Boxes: the most per frame must be >= 1, got {most}.")
    found, scores = boxes.boxes, boxes.scores
    height, width = size
    finite = np.isfinite(found).all(axis=1) & np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        whole = (found[:, 2:] > found[:, :2]).all(axis=1)
        inside = np.clip(found, 0, np.array([width, height, width, height], np.float32))
        seen = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    kept = np.flatnonzero(finite & whole & seen)
    order = kept[np.argsort(-scores[kept], kind="stable")][:most]
    dropped = DroppedBoxes(
        not_finite=int((~finite).sum()),
        empty=int((finite & ~whole).sum()),
        outside=int((finite & whole & ~seen).sum()),
        clipped=int((inside[order] != found[order]).any(axis=1).sum()),
        surplus=len(kept) - len(order),
    )
    return Boxes(inside[order], scores[order]), dropped


def clean_video_boxes(
    found: Sequence[Boxes],
    size: tuple[int, int],
    *,
    video: str,
    threshold: float = -np.inf,
    most: int = MOST_BOXES,
) -> list[Boxes]:
    """Clean the boxes of all frames of a video, and tell in one line what was wrong, or that nothing was found.

    Args:
        found: per frame.
        size: (H, W) of the frames.
        video: its name, for the message.
        threshold: boxes of a higher score are kept; those of a lower one are not worth a word.
        most: see :func:`clean_boxes`.
    """
    total, cleaned = DroppedBoxes(), []
    for boxes in found:
        unsure = boxes.scores <= threshold  # false for NaN, which is told
        kept, dropped = clean_boxes(boxes.take(~unsure), size, most=most)
        cleaned.append(kept)
        total += dropped
    if any(total.counts()):
        _log.warning("boxes of video '%s' that are dropped or clipped: %s", video, total)
    if found and not any(map(len, cleaned)):
        _log.warning("no box in any of %d frames of video '%s'", len(found), video)
    return cleaned


def suppress_overlaps(boxes: Boxes, *, most_overlap: float = 0.5) -> Boxes:
    """Keep the best of boxes that overlap (greedy non-maximum suppression).

    Args:
        boxes: finite, of positive size.
        most_overlap: of a kept box with one of a higher score, as IoU in [0, 1].

    Returns:
        The kept ones by falling score.
    """
    order = np.argsort(-boxes.scores, kind="stable")
    overlap = box_iou(boxes.boxes[order], boxes.boxes[order])
    alive = np.ones(len(order), bool)
    for rank in range(len(order)):
        if alive[rank]:
            alive[rank + 1 :] &= overlap[rank, rank + 1 :] <= most_overlap
    return boxes.take(order[alive])


def check_frames(frames: UInt8Array, indices: npt.NDArray[np.int64], video: str) -> tuple[int, int]:
    """Return (H, W) of frames that a detector is given.

    Raises:
        DataError: frames are not uint8 (T, H, W, 3), or there is not one index per frame.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape[1:3]:
        raise DataError(
            f"Detector: frames of video '{video}' must be uint8 (T, H, W, 3), got {frames.dtype} {frames.shape}. "
            "Decode them as 8-bit RGB."
        )
    if np.shape(indices) != (len(frames),):
        raise DataError(
            f"Detector: {len(frames)} frames of video '{video}' but indices {np.shape(indices)}, expected one each."
        )
    return frames.shape[1], frames.shape[2]


def scale_of(before: tuple[int, int], after: tuple[int, int]) -> FloatArray:
    """Return the factors float32 (4,) of x0, y0, x1, y1 between two sizes (H, W)."""
    return np.array([after[1] / before[1], after[0] / before[0]] * 2, np.float32)
