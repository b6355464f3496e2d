"""Which parts of a video show its class: runs of frames that the classifier is sure of (Hong et al. 2017, Sec. 3.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pseudolabel.types import DataError


def relevant_intervals(scores: npt.ArrayLike, *, threshold: float = 0.8, more_than: int = 5) -> list[tuple[int, int]]:
    """Return the runs of consecutive chosen frames; each is one relevant video.

    A frame is chosen if its score y . f_enc(v) is larger than the threshold, and "if more than 5 consecutive frames are
    chosen, we consider them as a single relevant video".

    Args:
        scores: (T,) class scores of the frames in [0, 1]; T may be 0.
        threshold: a chosen frame has a larger score, in [0, 1]. The paper does not state it for frames; 0.8 is what it
            asks of thumbnails and key frames (SPEC W-b).
        more_than: a run has more frames than this, >= 0.

    Returns:
        (start, stop) of every run in order, frames ``start`` to ``stop - 1``.

    Raises:
        DataError: scores are not (T,), not finite or not in [0, 1], or an argument is out of its range.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 1:
        raise DataError(f"Relevance: scores must be (T,), one number per frame, got {values.shape}.")
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))  # NaN as well
    if len(wrong):
        raise DataError(
            f"Relevance: the score of frame {wrong[0]} is {values[wrong[0]]}, expected a probability in [0, 1]. Pass "
            "the sigmoid or softmax of the logits."
        )
    if not 0 <= threshold <= 1 or more_than < 0:
        raise DataError(f"Relevance: threshold must be in [0, 1] and more_than >= 0, got {threshold} and {more_than}.")
    chosen = np.concatenate([[False], values > threshold, [False]])
    starts, stops = np.flatnonzero(chosen[1:] != chosen[:-1]).reshape(-1, 2).T
    return [(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True) if stop - start > more_than]
