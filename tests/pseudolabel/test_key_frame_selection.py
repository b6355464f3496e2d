from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.key_frame_selection import choose_key_frames, choose_negatives, count_negatives
from pseudolabel.types import DataError


def test_the_best_of_each_shot_by_hand() -> None:
    quality = [0.5, 0.9, 0.7, 0.0, 0.2, 0.2, 0.2]
    shots = [0, 0, 0, 0, 8, 8, 8]
    assert choose_key_frames(quality, shots, most=2).tolist() == [False, True, True, False, True, True, False]
    assert choose_key_frames(quality, shots).tolist() == [True, True, True, False, True, True, True]
    mixed = [3, 6, 4, 0, 1, 5, 2]  # in any order
    chosen = choose_key_frames(np.array(quality)[mixed], np.array(shots)[mixed], most=1)
    assert sorted(np.array(mixed)[chosen].tolist()) == [1, 6]  # of equals, the first in the list


def test_five_per_shot_is_the_papers() -> None:
    quality = np.linspace(0.9, 0.1, 30)
    assert np.flatnonzero(choose_key_frames(quality, np.arange(30) // 10)).tolist() == [
        *range(5),
        *range(10, 15),
        *range(20, 25),
    ]
    assert choose_key_frames([], []).shape == (0,)


@pytest.mark.parametrize(
    ("quality", "shots", "most", "message"),
    [
        ([0.5], [0, 0], 5, "must both be"),
        ([0.5, np.nan], [0, 0], 5, "frame 1 is nan"),
        ([1.5], [0], 5, "expected"),
        ([0.5], [0], 0, "most"),
    ],
)
def test_bad_qualities_are_refused(quality: list[float], shots: list[int], most: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_key_frames(quality, shots, most=most)


def test_negatives_are_drawn_evenly_from_the_candidates() -> None:
    candidates = np.array([True, False, True, True, False, True])
    counts = np.zeros(6, int)
    for seed in range(400):
        chosen = choose_negatives(candidates, 2, np.random.default_rng(seed))
        assert chosen.sum() == 2 and not chosen[~candidates].any()
        counts += chosen
    assert (abs(counts[candidates] - 200) < 50).all()
    np.testing.assert_array_equal(choose_negatives(candidates, 9, np.random.default_rng(0)), candidates)
    assert not choose_negatives(candidates, 0, np.random.default_rng(0)).any()
    assert choose_negatives(np.zeros(0, bool), 3, np.random.default_rng(0)).shape == (0,)


def test_a_third_of_the_images_is_negative() -> None:
    assert [count_negatives(count) for count in (0, 1, 10, 107_000)] == [0, 0, 5, 53_500]
    assert count_negatives(10, share=0.0) == 0


def test_bad_candidates_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="bool"):
        choose_negatives(np.array([3, 4]), 1, rng)
    with pytest.raises(DataError, match="count"):
        choose_negatives(np.ones(2, bool), -1, rng)
    with pytest.raises(DataError, match="share"):
        count_negatives(3, share=1.0)
