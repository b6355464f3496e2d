from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pseudolabel.supervoxel_shots import ShotFrames, find_shots_and_key_frames
from pseudolabel.types import DataError


def maps(*frames: list[int]) -> Iterator[np.ndarray]:
    return (np.array([ids], np.int32) for ids in frames)


def test_shots_and_key_frames_by_hand() -> None:
    labels = ([0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 2, 4], [5, 6, 7, 4], [5, 6, 7, 4])
    # changed: 0, 2 of 5, 0, 6 of 7, 0
    assert find_shots_and_key_frames(maps(*labels)) == [ShotFrames(0, 4, (0,)), ShotFrames(4, 6, (4,))]
    assert find_shots_and_key_frames(maps(*labels), key_changes=1) == [ShotFrames(0, 4, (0, 2)), ShotFrames(4, 6, (4,))]
    assert find_shots_and_key_frames(maps(*labels), key_changes=2)[0].key_frames == (0,), "more than, not as many as"
    assert find_shots_and_key_frames(maps(*labels), cut_share=0.9, key_changes=3) == [ShotFrames(0, 6, (0, 4))]


def test_one_frame_shots_and_no_frame() -> None:
    assert find_shots_and_key_frames(maps()) == []
    assert find_shots_and_key_frames(maps([3, 3])) == [ShotFrames(0, 1, (0,))]
    expected = [ShotFrames(0, 1, (0,)), ShotFrames(1, 2, (1,)), ShotFrames(2, 3, (2,))]
    assert find_shots_and_key_frames(maps([0], [1], [2]), key_changes=0) == expected


def test_bad_values_are_refused() -> None:
    with pytest.raises(DataError, match="cut_share"):
        find_shots_and_key_frames(maps([0]), cut_share=1.5)
    with pytest.raises(DataError, match="key_changes"):
        find_shots_and_key_frames(maps([0]), key_changes=-1)
