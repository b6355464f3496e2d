from __future__ import annotations

import logging

import numpy as np
import pytest

from pseudolabel.detect_boxes import Boxes, check_frames, clean_boxes, clean_video_boxes, suppress_overlaps
from pseudolabel.types import DataError

NAN, INF = float("nan"), float("inf")


def boxes(*rows: tuple[float, ...]) -> Boxes:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4])


def test_boxes_are_made_fit_for_use() -> None:
    given = boxes(
        (2, 3, 6, 7, 0.1),
        (-5, -5, 4, 4, 0.9),  # clipped
        (2, 3, NAN, 7, 5),
        (2, 3, 6, 7, NAN),
        (2, 3, INF, 7, 5),
        (6, 3, 2, 7, 5),  # the wrong way round
        (2, 3, 2, 7, 5),  # no width
        (20, 0, 30, 5, 5),  # beyond the right side
        (-9, 0, 0, 5, 5),  # touches the left side from outside
        (0, 0, 20, 10, 0.5),
    )
    kept, dropped = clean_boxes(given, (10, 20))
    assert kept.boxes.tolist() == [[0, 0, 4, 4], [0, 0, 20, 10], [2, 3, 6, 7]]
    np.testing.assert_allclose(kept.scores, [0.9, 0.5, 0.1])
    assert dropped.counts() == (3, 2, 2, 1, 0)
    assert str(dropped) == "3 not finite, 2 without area, 2 outside of the frame, 1 clipped to the frame"
    again, nothing = clean_boxes(kept, (10, 20))
    assert again.boxes.tolist() == kept.boxes.tolist() and not any(nothing.counts())


def test_of_thousands_the_best_are_kept() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (5000, 2))
    scores = rng.normal(size=5000)
    many = Boxes(np.concatenate([corners, corners + 10], axis=1).astype(np.float32), scores.astype(np.float32))
    kept, dropped = clean_boxes(many, (60, 60), most=7)
    np.testing.assert_allclose(kept.scores, np.sort(scores)[::-1][:7], rtol=1e-6)
    assert dropped.counts() == (0, 0, 0, 0, 4993)
    with pytest.raises(DataError, match="most"):
        clean_boxes(many, (60, 60), most=0)


def test_a_video_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    found = [boxes((0, 0, 5, 5, 1), (NAN, 0, 5, 5, 1), (0, 0, 5, 5, NAN)), boxes((0, 0, 99, 5, 1), (0, 0, NAN, 5, -3))]
    with caplog.at_level(logging.WARNING):
        cleaned = clean_video_boxes(found, (10, 10), video="rex", threshold=-1)
    assert [len(one) for one in cleaned] == [1, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "boxes of video 'rex' that are dropped or clipped: 2 not finite, 1 clipped to the frame"
    ]


def test_a_video_without_a_box_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        cleaned = clean_video_boxes(
            [boxes((0, 0, 5, 5, -1)), Boxes.none()], (10, 10), video="rex", threshold=-1
        )  # "higher than": -1 is not
        assert clean_video_boxes([], (10, 10), video="none") == []
    assert [len(one) for one in cleaned] == [0, 0]
    assert [record.getMessage() for record in caplog.records] == ["no box in any of 2 frames of video 'rex'"]


def test_overlaps_are_suppressed_by_the_best() -> None:
    given = boxes((0, 0, 10, 10, 0.5), (1, 0, 11, 10, 0.9), (2, 0, 12, 10, 0.7), (30, 0, 40, 10, -2))
    assert suppress_overlaps(given).boxes[:, 0].tolist() == [1, 30]
    assert suppress_overlaps(given, most_overlap=0.7).boxes[:, 0].tolist() == [1, 30]  # 90 / 110 is more
    # the first overlaps with the kept one by 90 / 110, the third by 90 / 110, with each other by 80 / 120
    assert suppress_overlaps(given, most_overlap=0.9).boxes[:, 0].tolist() == [1, 2, 0, 30]
    assert len(suppress_overlaps(Boxes.none())) == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(N, 4\)"):
        Boxes(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))
    with pytest.raises(DataError, match="uint8"):
        check_frames(np.zeros((2, 4, 4), np.uint8), np.arange(2), "rex")
    with pytest.raises(DataError, match="one each"):
        check_frames(np.zeros((2, 4, 4, 3), np.uint8), np.arange(3), "rex")
