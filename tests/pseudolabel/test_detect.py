from __future__ import annotations

import logging
import pickle

import cv2
import numpy as np
import pytest

from pseudolabel.boxes import box_iou
from pseudolabel.detect import Detector, HogDetector, boxes_from_attention
from pseudolabel.types import DataError


def draw_person(height: int, width: int, *, centre: int, top: int, tall: int) -> np.ndarray:
    """A dark upright figure on a light noisy ground, uint8 (height, width, 3)."""
    ground = np.random.default_rng(0).normal(200, 3, (height, width, 3))
    frame = np.ascontiguousarray(np.clip(ground, 0, 255).astype(np.uint8))
    unit, dark = tall / 8, (40, 40, 40)

    def at(x: float, y: float) -> tuple[int, int]:
        return round(centre + x * unit), round(top + y * unit)

    cv2.ellipse(frame, at(0, 0.5), (round(0.4 * unit), round(0.55 * unit)), 0, 0, 360, dark, -1)
    body = np.array([at(-0.9, 1.3), at(0.9, 1.3), at(1.0, 3.9), at(0.6, 4.2), at(-0.6, 4.2), at(-1.0, 3.9)])
    cv2.fillPoly(frame, [body.astype(np.int32)], dark)
    for side in (-1, 1):
        leg = np.array([at(0.7 * side, 4.0), at(0.05 * side, 4.0), at(0.25 * side, 8.0), at(0.8 * side, 8.0)])
        cv2.fillPoly(frame, [leg.astype(np.int32)], dark)
    return frame


@pytest.mark.parametrize(("size", "tall"), [((240, 320), 150), ((96, 128), 60), ((240, 320), 85)])
def test_people_are_found_in_small_frames_too(size: tuple[int, int], tall: int) -> None:
    height, width = size
    centre, top = width // 3, (height - tall) // 2
    frame = draw_person(height, width, centre=centre, top=top, tall=tall)
    detector: Detector = pickle.loads(pickle.dumps(HogDetector(0.0)))  # as a worker gets it
    found = detector(np.stack([frame, np.full_like(frame, 200)]), video="walk", indices=np.array([3, 9]))
    truth = np.array([[centre - tall / 8, top, centre + tall / 8, top + tall]], np.float32)
    assert len(found[0]) >= 1, "nobody found"
    assert len(found[1]) == 0
    assert box_iou(truth, found[0].boxes[:1])[0, 0] > 1 / 3
    assert (found[0].scores > 0).all() and (np.diff(found[0].scores) <= 0).all()
    assert (found[0].boxes >= 0).all() and (found[0].boxes <= np.array([width, height, width, height])).all()


def test_a_lower_threshold_gives_more_boxes_that_do_not_overlap_much() -> None:
    frame = draw_person(120, 160, centre=60, top=15, tall=90)[None]
    few = HogDetector(0.5)(frame, video="walk", indices=np.zeros(1, np.int64))[0]
    many = HogDetector(-1.0)(frame, video="walk", indices=np.zeros(1, np.int64))[0]
    assert len(many) > len(few) and many.scores.min() > -1
    overlap = box_iou(many.boxes, many.boxes) - np.eye(len(many))
    assert overlap.max() < 0.7  # 0.5 before the boxes were clipped to the frame


def test_frames_smaller_than_the_window_and_videos_without_people(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = HogDetector(0.0)(np.full((2, 20, 15, 3), 90, np.uint8), video="wall", indices=np.arange(2))
    assert [len(one) for one in found] == [0, 0] and "no box in any of 2 frames of video 'wall'" in caplog.text
    assert HogDetector()(np.zeros((0, 20, 15, 3), np.uint8), video="wall", indices=np.arange(0)) == []


@pytest.mark.parametrize("option", [{"least_height": 0}, {"scale": 1.0}, {"stride": 4}, {"most_overlap": 2}])
def test_options_out_of_range_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(DataError, match="HOG detector"):
        HogDetector(**option)  # type: ignore[arg-type]


def test_boxes_from_attention_by_hand() -> None:
    maps = np.zeros((4, 20, 30), np.float32)
    maps[0, 2:6, 3:9] = 0.5
    maps[0, 10:18, 20:28] = 2.0
    maps[0, 0, 29] = 1.0  # one pixel
    maps[0, 10:18, 2:8] = 0.3  # below 20 % of 2
    maps[1, 2:6, 3:9] = 1.0
    maps[3, :, :] = 1.0
    scores = np.array([0.9, 0.2, 0.9, 0.5])
    found = boxes_from_attention(maps, scores)
    assert found[0].boxes.tolist() == [[20, 10, 28, 18], [3, 2, 9, 6]]  # larger first
    np.testing.assert_allclose(found[0].scores, 0.9)
    assert len(found[1]) == 0  # not sure of the class
    assert len(found[2]) == 0  # attends to nothing
    assert found[3].boxes.tolist() == [[0, 0, 30, 20]]
    assert len(boxes_from_attention(maps, scores, most=1)[0]) == 1
    assert len(boxes_from_attention(maps, scores, least_area=0)[0]) == 3
    assert len(boxes_from_attention(maps, scores, share=0.1)[0]) == 3
    assert [len(one) for one in boxes_from_attention(maps, scores - 1, threshold=-1)] == [2, 1, 0, 1]  # logits


def test_attention_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(T, H, W\) and \(T,\)"):
        boxes_from_attention(np.zeros((2, 4, 4)), np.zeros(3))
    with pytest.raises(DataError, match="finite"):
        boxes_from_attention(np.full((1, 4, 4), np.nan), np.ones(1))
    with pytest.raises(DataError, match="share"):
        boxes_from_attention(np.zeros((1, 4, 4)), np.ones(1), share=1.0)
