from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.boxes import box_iou, corloc, largest_box, mean_corloc
from pseudolabel.types import DataError


def test_the_box_of_the_largest_component_by_hand() -> None:
    mask = np.zeros((8, 10), bool)
    mask[0, 0:3] = True
    mask[3:5, 4:6] = True
    mask[5, 6] = True  # joined by a corner
    assert largest_box(mask).tolist() == [4, 3, 7, 6]
    assert np.isnan(largest_box(np.zeros((3, 3), bool))).all()
    assert largest_box(np.ones((3, 4), bool)).tolist() == [0, 0, 4, 3]


def test_corloc_by_hand() -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [np.nan] * 4, [0, 0, 1, 1], [0, 0, 10, 10]]
    truth = [
        [[50, 50, 60, 60], [0, 0, 10, 19]],  # IoU 10 / 19 with the second: right
        [[0, 0, 10, 20]],  # IoU 1/2 exactly: wrong
        [[0, 0, 10, 10]],  # nothing found: wrong
        np.zeros((0, 4)),  # not annotated
        [[0, 0, 10, 10]],
    ]
    assert corloc(boxes, truth) == 0.5
    assert np.isnan(corloc(np.zeros((1, 4)), [[]]))
    assert mean_corloc({"cat": 0.5, "dog": 1.0, "none": float("nan")}) == 0.75
    assert np.isnan(mean_corloc({}))


def test_boxes_of_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="boxes must be"):
        corloc(np.zeros((2, 4)), [[[0, 0, 1, 1]]])
    with pytest.raises(DataError, match="frame 0"):
        corloc(np.zeros((1, 4)), [[0, 0, 1, 1]])


def test_iou_by_hand() -> None:
    first = np.array([[0, 0, 10, 10], [3, 3, 3, 3]], np.float32)
    second = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(box_iou(first, second), [[1 / 3, 1, 0, 0], [0, 0, 0, 0]], rtol=1e-6)
    assert box_iou(first[:0], second).shape == (0, 4)
    nothing = np.full((1, 4), np.nan)
    assert (box_iou(nothing, second) == 0).all()
