from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.relevance import relevant_intervals
from pseudolabel.types import DataError


def test_more_than_five_consecutive_frames_are_one_video() -> None:
    scores = [0.9] * 6 + [0.1] + [0.9] * 5 + [0.1] * 2 + [0.9] * 7
    assert relevant_intervals(scores) == [(0, 6), (14, 21)]


def test_the_threshold_itself_is_not_above_it() -> None:
    scores = np.full(8, 0.8)
    assert relevant_intervals(scores) == []
    assert relevant_intervals(scores, threshold=0.79) == [(0, 8)]
    scores[3] = 0.0
    assert relevant_intervals(scores, threshold=0.5, more_than=3) == [(4, 8)]
    assert relevant_intervals(scores, threshold=0.5, more_than=2) == [(0, 3), (4, 8)]


def test_against_a_walk_over_the_frames() -> None:
    rng = np.random.default_rng(0)
    for length in (1, 7, 60, 200):
        scores = np.repeat(rng.random(length), 3)[:length]
        expected, run = [], 0
        for t in range(length + 1):
            if t < length and scores[t] > 0.3:
                run += 1
            else:
                if run > 5:
                    expected.append((t - run, t))
                run = 0
        assert relevant_intervals(scores, threshold=0.3) == expected


def test_no_frames_and_no_relevant_ones() -> None:
    assert relevant_intervals([]) == []
    assert relevant_intervals(np.zeros(20)) == []


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="score of frame 1 is nan"):
        relevant_intervals([0.5, np.nan])
    with pytest.raises(DataError, match=r"score of frame 0 is 3\.5.*sigmoid"):
        relevant_intervals([3.5])
    with pytest.raises(DataError, match="one number per frame"):
        relevant_intervals(np.zeros((4, 2)))
    with pytest.raises(DataError, match="more_than"):
        relevant_intervals([0.5], more_than=-1)
    with pytest.raises(DataError, match="threshold"):
        relevant_intervals([0.5], threshold=80)
