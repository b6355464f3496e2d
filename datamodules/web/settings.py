"""The settings of retrieval, and how a scorer is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pseudolabel.types import DataError, FloatArray, UInt8Array

Scorer = Callable[[Sequence[UInt8Array]], FloatArray]
"""Images uint8 (H, W, 3) of any sizes -> scores (N, C) in [0, 1], a column per class."""


@dataclass(frozen=True)
class RetrieveSettings:
    """Every constant of the retrieval; the defaults are the paper's unless marked.

    Attributes:
        thumbnail: a thumbnail passes with a score above, in [0, 1].
        key_frame: a key frame passes with a score above, in [0, 1].
        key_frames_per_video: at most so many of those that pass are kept, those of the highest score.
        margin: seconds kept before and after a key frame.
        trim_at_cuts: a window ends at the cuts beside its key frames, so that no clip holds a cut (ours).
        videos_per_class: a class is done when so many videos have given a clip.
        search_limit: hits asked for per class (ours).
        longest: videos known to last more seconds are left out (ours); None = none is.
        batch: images scored together, and held in memory (ours).

    Raises:
        DataError: a value is out of range.
    """

    thumbnail: float = 0.8
    key_frame: float = 0.8
    key_frames_per_video: int = 15
    margin: float = 2.0
    trim_at_cuts: bool = False
    videos_per_class: int = 300
    search_limit: int = 1000
    longest: float | None = 3600.0
    batch: int = 16

    def __post_init__(self) -> None:
        for name in ("thumbnail", "key_frame"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"Retrieval: {name} must be in [0, 1], got {getattr(self, name)}.")
        for name in ("key_frames_per_video", "videos_per_class", "search_limit", "batch"):
            if getattr(self, name) < 1:
                raise DataError(f"Retrieval: {name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.margin < float("inf") or (self.longest is not None and not self.longest > 0):
            raise DataError(
                f"Retrieval: margin and longest must be positive seconds, got {self.margin} and {self.longest}."
            )


def scores_of(score: Scorer, images: Sequence[UInt8Array], num_classes: int) -> FloatArray:
    """Return the checked scores of some images, float32 (N, C).

    Raises:
        DataError: the scorer gives another shape, or values that are not in [0, 1].
    """
    if not images:
        return np.zeros((0, num_classes), np.float32)
    scores = np.asarray(score(images), np.float32)
    if scores.shape != (len(images), num_classes):
        raise DataError(
            f"Retrieval: the scorer gave {scores.shape} for {len(images)} images and {num_classes} classes. Expected "
            f"{(len(images), num_classes)}: one row per image, one column per class, in the order of the classes."
        )
    if not ((scores >= 0) & (scores <= 1)).all():
        raise DataError(
            f"Retrieval: the scorer gave values from {scores.min()} to {scores.max()}, expected [0, 1]. Give scores, "
            "after the sigmoid, and not logits."
        )
    return scores
