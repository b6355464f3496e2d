"""The decision between scores, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.decision import check_decision, decide, find_objects
from pseudolabel.types import DataError

SCORES = np.array([[[0.4, 0.5, 0.3]], [[0.35, 0.2, 0.1]], [[0.25, 0.3, 0.6]]], np.float32)  # (C, 1, 3)


def test_the_likeliest_class_may_be_background_beside_two_objects() -> None:
    assert decide(SCORES).tolist() == [[0, 0, 2]]


def test_objects_together_exceed_the_background() -> None:
    found = decide(SCORES, "object_first")
    assert found.dtype == np.uint8
    assert found.tolist() == [[1, 0, 2]]  # even: background


@pytest.mark.parametrize("decision", ["likeliest", "object_first", "expected_overlap"])
def test_frames_are_decided_each_by_itself(decision: str) -> None:
    other = np.stack([1 - 1.6 * SCORES[1] - 1.3 * SCORES[2], 1.6 * SCORES[1], 1.3 * SCORES[2]])
    both = decide(np.stack([SCORES, other]), check_decision(decision))
    for frame, scores in zip(both, (SCORES, other), strict=True):
        np.testing.assert_array_equal(frame, decide(scores, check_decision(decision)))


def test_the_expected_overlap_is_largest_below_one_half_where_a_network_is_unsure() -> None:
    unsure = np.array([[0.55, 0.45, 0.4, 0.05]], np.float32)
    by_count = [2 * unsure[0, :k].sum() / (k + unsure.sum()) for k in range(1, 5)]
    assert np.argmax(by_count) == 2  # the three likeliest
    assert find_objects(unsure, "expected_overlap").tolist() == [[True, True, True, False]]
    assert find_objects(unsure, "object_first").tolist() == [[True, False, False, False]]
    scores = np.stack([1 - unsure, 0.4 * unsure, 0.6 * unsure])
    assert decide(scores, "expected_overlap").tolist() == [[2, 2, 2, 0]]


def test_where_nothing_is_likelier_than_background_there_is_no_object() -> None:
    frames = np.array([[[0.5, 0.4, 0.4]], [[0.9, 0.4, 0.4]]], np.float32)
    assert find_objects(frames, "expected_overlap").sum(axis=(1, 2)).tolist() == [0, 3]


def test_a_haze_of_small_scores_beside_one_sure_pixel_is_no_object() -> None:
    haze = np.full((40, 60), 0.05, np.float32)
    haze[7, 8] = 0.51
    assert find_objects(haze, "expected_overlap").sum() == 1
    assert not find_objects(np.zeros((3, 4), np.float32), "expected_overlap").any()
    with pytest.raises(ValueError, match="likeliest"):
        find_objects(haze, "likeliest")


def test_a_sure_network_decides_the_same_by_either() -> None:
    sure = np.zeros((6, 8), np.float32)
    sure[2:5, 3:7] = 0.98
    assert (find_objects(sure, "expected_overlap") == find_objects(sure, "object_first")).all()
    noisy = np.random.default_rng(0).random((30, 40)).astype(np.float32) ** 2
    ranked = np.sort(noisy.ravel())[::-1].astype(np.float64)
    best = 2 * np.cumsum(ranked) / (np.arange(1, ranked.size + 1) + ranked.sum())
    taken = find_objects(noisy, "expected_overlap").sum()
    assert best[taken - 1] == pytest.approx(best.max(), abs=1e-4)


def test_an_unknown_decision_is_refused() -> None:
    with pytest.raises(DataError, match="object_first"):
        check_decision("object")
