"""Which frames of a video are looked at."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def sample_uniformly(num_frames: int, count: int | None, always: Iterable[int] = ()) -> npt.NDArray[np.int64]:
    """Return the centres of ``count`` equal parts of ``num_frames`` frames, together with the frames ``always`` wanted.

    Args:
        num_frames: length of the video in frames.
        count: how many; None = every frame.
        always: further frame numbers (frames with a true mask, so that pseudo-annotations can be scored).
    """
    if count is None or count >= num_frames:
        return np.arange(num_frames)
    centres = ((np.arange(count) + 0.5) * num_frames / count).astype(np.int64)
    extra = np.array([index for index in always if 0 <= index < num_frames], np.int64)
    return np.unique(np.concatenate([centres, extra]))


def clip_indices(num_frames: int, length: int, stride: int, start: int = 0) -> npt.NDArray[np.int64]:
    """Return ``length`` frame numbers ``stride`` apart from ``start``; a video that is too short is looped."""
    return (start + np.arange(length) * stride) % num_frames
