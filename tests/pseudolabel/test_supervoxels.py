from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from pseudolabel.supervoxel_shots import find_shots_and_key_frames
from pseudolabel.supervoxels import (
    SupervoxelSettings,
    segment_hierarchy,
    segment_supervoxels,
    stream_pairs,
    stream_supervoxels,
)
from pseudolabel.types import DataError

SMALL = SupervoxelSettings(min_size=20, part_size=20, window=4, overlap=1, levels=6)


def scene(frames: int, *, seed: int = 0, size: tuple[int, int] = (32, 40)) -> np.ndarray:
    """A red square that moves over smooth noise."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.uniform(0, 255, (*size, 3)).astype(np.float32), (0, 0), 3)
    ground = (ground - ground.mean()) / ground.std() * 25 + rng.uniform(70, 180, 3)
    clip = np.repeat(ground[None], frames, axis=0)
    for t in range(frames):
        clip[t, 10:22, 5 + t : 17 + t] = (230, 20, 30)
    return np.clip(clip + rng.normal(0, 1.5, clip.shape), 0, 255).astype(np.uint8)


def test_hidden_levels_are_levels_without_a_number() -> None:
    shown = replace(SMALL, hidden_levels=0, c_reg=50.0, c_reg_growth=2.0, min_size_growth=1.0)
    hidden = replace(shown, hidden_levels=2, c_reg=200.0)
    frames = scene(6)
    for level in (1, 3):
        numbered = segment_supervoxels(frames, level=level + 2, settings=shown)
        np.testing.assert_array_equal(segment_supervoxels(frames, level=level, settings=hidden), numbered)
    assert numbered.max() > 0


def test_parts_of_level_0_have_their_own_least_size() -> None:
    frames = scene(4)  # one window
    for least in (5, 60):
        sizes = np.bincount(segment_supervoxels(frames, level=0, settings=replace(SMALL, part_size=least)).ravel())
        assert least <= sizes.min() < 2 * least


def test_levels_are_a_tree_and_the_object_keeps_its_id() -> None:
    frames = scene(11)
    tree = segment_hierarchy(frames, SMALL)
    maps = [tree.project(level) for level in range(tree.levels + 1)]
    assert tree.levels == 6 and maps[0].shape == frames.shape[:3] and maps[0].dtype == np.int32
    for lower, upper in pairwise(maps):
        np.testing.assert_array_equal(np.unique(upper), np.arange(upper.max() + 1))
        for window in (slice(0, 4), slice(4, 8), slice(8, 11)):
            pairs = np.unique(np.stack([lower[window].ravel(), upper[window].ravel()]), axis=1)
            assert len(np.unique(pairs[0])) == len(pairs[0]), "each lies in one"
    assert maps[6].max() < maps[0].max()
    ids = [np.bincount(maps[6][t, 12:20, 7 + t : 15 + t].ravel()).argmax() for t in range(11)]
    assert len(set(ids)) == 1, "over three windows"
    square = np.zeros((11, 32, 40), bool)
    for t in range(11):
        square[t, 10:22, 5 + t : 17 + t] = True
    joint = ((maps[6] == ids[0]) & square).sum() / ((maps[6] == ids[0]) | square).sum()
    assert joint > 0.9


def test_a_window_as_long_as_the_clip_makes_one_tree() -> None:
    tree = segment_hierarchy(scene(11), replace(SMALL, window=11))
    for level in range(tree.levels):
        pairs = np.unique(np.stack([tree.project(level).ravel(), tree.project(level + 1).ravel()]), axis=1)
        np.testing.assert_array_equal(pairs[0], np.arange(len(pairs[0])), "each lies in one, and there are no gaps")


def test_later_windows_fit_the_object_as_well_as_the_first() -> None:
    frames = scene(24, size=(32, 48))
    labels = segment_supervoxels(frames, level=4, settings=SMALL)
    wrong = []
    for t in range(24):
        square = np.zeros((32, 48), bool)
        square[10:22, 5 + t : 17 + t] = True
        whole = np.bincount(labels[t].ravel())
        inside = np.bincount(labels[t].ravel(), square.ravel(), len(whole))
        wrong.append(np.minimum(inside, whole - inside).sum() / square.sum())
    assert max(wrong[4:]) < max(wrong[:4]) + 0.05


def test_what_changes_between_windows_is_told_from_what_changes_in_the_video() -> None:
    frames = np.repeat(scene(1), 12, axis=0)  # nothing moves
    rng = np.random.default_rng(1)
    noisy = np.clip(frames + rng.normal(0, 6, frames.shape), 0, 255).astype(np.uint8)
    pairs = list(stream_pairs(noisy, level=0, settings=SMALL))
    assert pairs[0].before is None and all(pair.before is not None for pair in pairs[1:])
    assert all(pair.labels.min() >= 0 for pair in pairs)
    for inside in (1, 2, 3, 5, 6, 7, 9, 10, 11):
        np.testing.assert_array_equal(pairs[inside].before, pairs[inside - 1].labels)
    borders = [(pairs[t].before, pairs[t - 1].labels, pairs[t].labels) for t in (4, 8)]
    for before, seen, labels in borders:
        assert len(np.setxor1d(before, labels)) < len(np.setxor1d(seen, labels))


def test_one_level_and_the_stream_equal_the_tree() -> None:
    frames = scene(9)
    tree = segment_hierarchy(frames, SMALL)
    for level in (0, 3, 6):
        np.testing.assert_array_equal(segment_supervoxels(frames, level=level, settings=SMALL), tree.project(level))
    streamed = list(stream_supervoxels(iter(frames), level=3, settings=SMALL))
    np.testing.assert_array_equal(streamed, tree.project(3))


def test_what_was_given_out_never_changes() -> None:
    frames = scene(12)
    for level in (0, 4):
        whole = segment_supervoxels(frames, level=level, settings=SMALL)
        np.testing.assert_array_equal(segment_supervoxels(frames[:8], level=level, settings=SMALL), whole[:8])


def test_a_cut_is_found_and_windows_are_none() -> None:
    frames = np.concatenate([scene(9), scene(7, seed=5)])
    shots = find_shots_and_key_frames(stream_pairs(frames, level=2, settings=SMALL))
    assert [(shot.start, shot.stop) for shot in shots] == [(0, 9), (9, 16)]


def test_memory_does_not_grow_with_length() -> None:
    def endless(count: int) -> Iterator[np.ndarray]:
        clip = scene(8)
        return (clip[t % 8] for t in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in stream_supervoxels(endless(count), level=6, settings=SMALL):
            pass
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(8)
    assert peak(64) < 1.05 * peak(16) + 20_000


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (5, 6)])
def test_tiny_frames(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    labels = segment_supervoxels(frames, level=2, settings=SMALL)
    assert labels.shape == (5, *size)
    np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))


def test_one_frame_without_motion_and_smoothing() -> None:
    settings = replace(SMALL, follow_motion=False, sigma=0.0)
    frame = np.zeros((1, 16, 16, 3), np.uint8)
    frame[:, :, 8:] = 200
    labels = segment_supervoxels(frame, level=1, settings=settings)
    np.testing.assert_array_equal(labels[0], np.repeat([[0] * 8 + [1] * 8], 16, axis=0))


def test_bad_input_is_refused() -> None:
    good = scene(3)
    with pytest.raises(DataError, match="no frame"):
        segment_supervoxels([])
    with pytest.raises(DataError, match="frame 1 is 20x32, the first one 40x32"):
        segment_supervoxels([good[0], good[1][:, :20]])
    with pytest.raises(DataError, match="frame 0 must be uint8"):
        segment_supervoxels(good.astype(np.float32))
    with pytest.raises(DataError, match=r"0\.\.6, got 7"):
        segment_supervoxels(good, level=7, settings=SMALL)
    with pytest.raises(DataError, match="level must be"):
        segment_hierarchy(good, SMALL).project(7)
    with pytest.raises(DataError, match="overlap must be"):
        SupervoxelSettings(window=2, overlap=3)
    assert list(stream_supervoxels([])) == []
