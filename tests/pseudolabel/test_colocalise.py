from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pseudolabel.boxes import corloc
from pseudolabel.colocalise import ColocaliseSettings, colocalise
from pseudolabel.types import DataError

SIZE = (5, 48, 64)


def video(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, true boxes (T, 4), and scores (T, 3, H, W) of class 2 that know the place but not the outline."""
    rng = np.random.default_rng(seed)
    mask, boxes = np.zeros(SIZE, bool), np.zeros((SIZE[0], 4))
    for t in range(SIZE[0]):
        mask[t, 12:36, 8 + 4 * t : 32 + 4 * t] = True
        boxes[t] = [8 + 4 * t, 12, 32 + 4 * t, 36]
    frames = np.clip(np.where(mask[..., None], (190, 90, 60), (60, 90, 120)) + rng.normal(0, 12, (*SIZE, 3)), 0, 255)
    object_score = 0.1 + 0.8 * gaussian_filter(mask.astype(np.float32), (0, 6, 6))
    scores = np.stack([0.95 - object_score, np.full(SIZE, 0.05), object_score], axis=1)
    return frames.astype(np.uint8), boxes, scores.astype(np.float32)


def test_boxes_enclose_the_object() -> None:
    frames, truth, scores = video()
    labels, boxes = colocalise(frames, scores, 2, num_superpixels=120)
    assert labels.shape == SIZE and set(np.unique(labels)) == {0, 2}
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, truth, atol=6)  # a superpixel
    assert corloc(boxes, [box[None] for box in truth]) == 1.0


def test_likelihoods_find_what_scores_below_half_show() -> None:
    frames, truth, scores = video()
    scores[:, 2] *= 0.4  # nowhere above the background, but highest on the object
    scores[:, 0] = 0.95 - scores[:, 2]
    assert np.isnan(colocalise(frames, scores, 2, num_superpixels=120).boxes).all()
    settings = ColocaliseSettings(scores="likelihood")
    whole = colocalise(frames, scores, 2, num_superpixels=120, settings=settings)
    assert corloc(whole.boxes, [box[None] for box in truth]) == 1.0
    parts = colocalise(frames, scores, 2, num_superpixels=120, chunk=2, settings=settings)
    np.testing.assert_array_equal(whole.labels, parts.labels)


def test_chunks_change_nothing_and_frames_may_come_from_anywhere() -> None:
    frames, _, scores = video()

    class Lazy:
        longest = 0

        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __len__(self) -> int:
            return len(self.array)

        def __getitem__(self, index: slice) -> np.ndarray:
            Lazy.longest = max(Lazy.longest, len(self.array[index]))
            return self.array[index]

    whole = colocalise(frames, scores, 2, num_superpixels=60, settings=ColocaliseSettings(iterations=2))
    parts = colocalise(
        Lazy(frames), Lazy(scores), 2, num_superpixels=60, chunk=2, settings=ColocaliseSettings(iterations=2)
    )
    np.testing.assert_array_equal(whole.labels, parts.labels)
    np.testing.assert_array_equal(whole.boxes, parts.boxes)
    assert Lazy.longest == 2


def test_nothing_is_found_where_no_score_is_high() -> None:
    frames, _, scores = video()
    scores[:, 2] = 0.01
    labels, boxes = colocalise(frames, scores, 2, num_superpixels=60)
    assert not labels.any() and np.isnan(boxes).all()


def test_colours_decide_what_scores_leave_open() -> None:
    frames, _, scores = video()
    rough = (scores[:, 2] > scores[:, 0]).mean()
    labels, _ = colocalise(frames, scores, 2, num_superpixels=120, settings=ColocaliseSettings(alpha=0.0))
    area = 24 * 24 / (48 * 64)
    assert abs((labels > 0).mean() - area) < 0.5 * abs(rough - area)


def test_bad_input_is_refused() -> None:
    frames, _, scores = video()
    with pytest.raises(DataError, match="Predict every frame"):
        colocalise(frames, scores[:3], 2)
    with pytest.raises(DataError, match="class 3"):
        colocalise(frames, scores, 3)
    with pytest.raises(DataError, match="Resize"):
        colocalise(frames, scores[..., ::2], 2)
    broken = scores.copy()
    broken[4, 2, 0, 0] = np.nan
    with pytest.raises(DataError, match="softmax"):
        colocalise(frames, broken, 2)
    with pytest.raises(DataError, match="uint8"):
        colocalise(frames.astype(np.float32), scores, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", -1.0), ("high", 1.0), ("least_score", 0.0), ("bin_width", 2), ("iterations", 0), ("scores", "prior")],
)
def test_settings_are_checked(name: str, value: Any) -> None:
    with pytest.raises(DataError, match=name):
        ColocaliseSettings(**{name: value})
