from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
import pytest

from pseudolabel.shots import (
    FrameChanges,
    Shot,
    detect_shots,
    find_cuts,
    foreground_shares,
    frame_changes,
    key_frames,
    prune_shots,
    sample_shot,
    shots_between,
    supervoxel_changes,
    supervoxel_cuts,
)
from pseudolabel.types import DataError


def scene(seed: int, frames: int, *, size: tuple[int, int] = (48, 64)) -> Iterator[np.ndarray]:
    """A camera that moves over a smooth random picture of a few colours of its own."""
    rng = np.random.default_rng(seed)
    height, width = size
    picture = rng.normal(0, 1, (height + 8, width + 2 * frames + 8, 3)).astype(np.float32)
    picture = cv2.GaussianBlur(picture, (0, 0), 4) * 200 + rng.uniform(60, 200, 3)
    for t in range(frames):
        view = picture[4 : 4 + height, 4 + 2 * t : 4 + 2 * t + width] + rng.normal(0, 2, (height, width, 3))
        yield np.clip(view, 0, 255).astype(np.uint8)


def scenes(*lengths: int) -> Iterator[np.ndarray]:
    for seed, length in enumerate(lengths):
        yield from scene(seed, length)


def test_cuts_are_found_and_motion_is_not_a_cut() -> None:
    assert detect_shots(scenes(12, 9, 15)) == [Shot(0, 12), Shot(12, 21), Shot(21, 36)]
    assert detect_shots(scene(3, 20)) == [Shot(0, 20)]


def test_each_measure_finds_them_alone() -> None:
    changes = frame_changes(scenes(10, 10))
    assert find_cuts(changes, residual_ratio=None).tolist() == [10]
    assert find_cuts(changes, histogram=None).tolist() == [10]
    with pytest.raises(ValueError, match="not both be None"):
        find_cuts(changes, histogram=None, residual_ratio=None)


def test_residual_sees_a_cut_between_pictures_of_the_same_colours() -> None:
    """The picture is turned upside down: the histogram stays as it is."""
    frames = list(scene(1, 16))
    frames = frames[:8] + [frame[::-1, ::-1] for frame in frames[8:]]
    changes = frame_changes(frames)
    assert changes.histogram.max() < 0.3
    assert find_cuts(changes, histogram=None).tolist() == [8]


def test_one_colour_step_by_hand() -> None:
    frames = [np.full((20, 20, 3), value, np.uint8) for value in (0, 0, 255)]
    frames[2][:5] = 0  # a quarter keeps its bin
    changes = frame_changes(frames)
    np.testing.assert_allclose(changes.histogram, [0, 0.75])
    assert changes.residual[0] == 0
    assert changes.residual[1] == pytest.approx(0.75, abs=0.1)


def test_thresholds_by_hand() -> None:
    changes = FrameChanges(np.array([0.1, 0.5, 0.5, 0.5, 0.3]), np.array([0.02, 0.02, 0.07, 0.2, 0.2]))  # median 0.07
    assert find_cuts(changes).tolist() == [4]  # limit min(0.21, 0.1)
    assert find_cuts(changes, histogram=0.2).tolist() == [4, 5]
    assert find_cuts(changes, residual_ratio=0.5).tolist() == [3, 4]
    assert find_cuts(changes, residual_always=0.01).tolist() == [2, 3, 4]


def test_a_clip_of_nothing_but_cuts() -> None:
    assert detect_shots(scenes(1, 1, 1, 1)) == [Shot(0, 1), Shot(1, 2), Shot(2, 3), Shot(3, 4)]


def test_no_frame_one_frame_and_a_still() -> None:
    assert detect_shots([]) == []
    assert detect_shots(scene(0, 1)) == [Shot(0, 1)]
    assert detect_shots([next(scene(0, 1))] * 5) == [Shot(0, 5)]


def test_memory_does_not_grow_with_length() -> None:
    def peak(frames: int) -> int:
        tracemalloc.start()
        frame = np.zeros((60, 80, 3), np.uint8)
        detect_shots(frame + np.uint8(t % 3) for t in range(frames))
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(3)
    assert peak(60) < peak(10) + 50_000  # 50 frames are 720,000 bytes


def test_bad_frames_are_refused() -> None:
    good = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(DataError, match="frame 1 is"):
        detect_shots([good, good[:10]])
    with pytest.raises(DataError, match="frame 0 must be uint8"):
        detect_shots([good.astype(float)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="bins"):
        frame_changes([good], bins=1)


def test_shots_between_cuts() -> None:
    assert shots_between([5, 3, 5, 0, 9], 8) == [Shot(0, 3), Shot(3, 5), Shot(5, 8)]
    assert shots_between([], 0) == []
    assert Shot(3, 5).length == 2


def test_supervoxel_changes_by_hand() -> None:
    frames = [{1, 2, 3, 4}, {1, 2, 3, 5}, {1, 2, 6, 7}, {8, 9}]
    changes = supervoxel_changes(pairwise(frames))
    assert changes.new.tolist() == [1, 2, 2]
    assert changes.lost.tolist() == [1, 2, 4]
    assert changes.union.tolist() == [5, 6, 6]
    assert supervoxel_cuts(changes).tolist() == [2, 3]  # 2/5, 4/6, 6/6
    assert supervoxel_cuts(changes, share=0.7).tolist() == [3]
    assert supervoxel_cuts(changes, share=4 / 6).tolist() == [3], "more than, not as much as"
    assert key_frames(changes, more_than=3).tolist() == [0, 2, 3]
    assert key_frames(changes, more_than=4).tolist() == [0, 3]
    assert key_frames(changes).tolist() == [0]
    maps = (np.array([sorted(ids) * 2]) for ids in frames)  # label maps, streamed
    np.testing.assert_array_equal(supervoxel_changes(pairwise(maps)), changes)
    assert supervoxel_changes(pairwise([{1}])).new.shape == (0,)


def test_foreground_shares() -> None:
    masks = np.zeros((3, 2, 5), np.uint8)
    masks[1, 0] = 3
    masks[2, 0, 0], masks[2, 1] = 1, 255
    np.testing.assert_allclose(foreground_shares(masks), [0, 0.5, 0.1])
    np.testing.assert_allclose(foreground_shares(masks > 0), [0, 0.5, 0.6])


def test_pruning_by_hand() -> None:
    shares = np.full(100, 0.2)
    shares[25] = 0.024  # too little
    shares[60:65] = 0.51  # too much
    shares[[0, 99]] = 0.025, 0.5  # just enough
    assert prune_shots(shares, [(0, 100)]) == [(65, 100)]  # runs of 25, 34, 35
    assert prune_shots(shares, [(0, 19), (20, 40), (26, 46), (26, 45)]) == [(26, 46)]
    assert prune_shots(shares, [(0, 100)], least_frames=36) == []
    assert prune_shots(shares, [(0, 100)], most_share=0.6) == [(26, 100)]
    assert prune_shots(shares, [(0, 51)], least_share=0.03) == [(26, 51)]
    assert prune_shots(shares, [(5, 46)], least_frames=5) == [(5, 25)], "of equal runs the first"
    assert prune_shots(np.zeros(50), [(0, 50), (10, 10)]) == []


def test_bad_pruning_is_refused() -> None:
    with pytest.raises(DataError, match="outside the video"):
        prune_shots(np.zeros(5), [(0, 6)])
    with pytest.raises(DataError, match="NaN"):
        prune_shots(np.array([np.nan]), [(0, 1)])


def test_ten_frames_of_a_shot() -> None:
    assert sample_shot((100, 120)).tolist() == list(range(101, 121, 2))
    assert sample_shot((7, 10)).tolist() == [7, 8, 9]
    assert len(np.unique(sample_shot((3, 56)))) == 10
