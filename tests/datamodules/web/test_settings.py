from __future__ import annotations

import numpy as np
import pytest

from datamodules.web.settings import RetrieveSettings, scores_of
from pseudolabel.types import DataError

IMAGES = [np.zeros((4, 6, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)]


def test_the_paper_s_values() -> None:
    paper = RetrieveSettings()
    assert (paper.thumbnail, paper.key_frame, paper.key_frames_per_video) == (0.8, 0.8, 15)
    assert (paper.margin, paper.videos_per_class) == (2.0, 300)


@pytest.mark.parametrize(
    "change",
    [
        {"thumbnail": 1.1},
        {"key_frame": -0.1},
        {"key_frame": float("nan")},
        {"key_frames_per_video": 0},
        {"videos_per_class": 0},
        {"search_limit": 0},
        {"batch": 0},
        {"margin": 0.0},
        {"margin": float("inf")},
        {"longest": 0.0},
    ],
)
def test_ranges(change: dict[str, float]) -> None:
    with pytest.raises(DataError, match=f"{next(iter(change))}.* must be"):
        RetrieveSettings(**change)  # type: ignore[arg-type]


def test_scores_are_checked() -> None:
    good = np.array([[0.0, 1.0, 0.5], [0.2, 0.3, 0.4]])
    np.testing.assert_allclose(scores_of(lambda _: good, IMAGES, 3), good)  # type: ignore[arg-type, return-value]
    assert scores_of(lambda _: good, [], 3).shape == (0, 3)  # type: ignore[arg-type, return-value]
    for bad, message in (
        (good[:1], r"gave \(1, 3\) for 2 images"),
        (good[:, :2], r"gave \(2, 2\)"),
        (good * 3, "not logits"),
        (good - 0.1, "not logits"),
        (good * np.nan, "expected"),
    ):
        with pytest.raises(DataError, match=message):
            scores_of(lambda _, bad=bad: bad, IMAGES, 3)  # type: ignore[misc]
