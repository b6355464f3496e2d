from __future__ import annotations

import numpy as np
import pytest

from datamodules.transforms import (
    CropBox,
    RandomCrop,
    crop_and_pad,
    fit_longest_side,
    jitter_colour,
    random_resized_box,
    resize,
)
from pseudolabel.types import VOID


def test_resize_averages_areas_when_shrinking() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2] = 100
    image[0, 2] = 40
    small = resize(image, (2, 2))
    assert small[..., 0].tolist() == [[100, 10], [0, 0]]


def test_resize_copies_values_of_masks() -> None:
    mask = np.array([[0, 7], [255, 3]], np.uint8)
    large = resize(mask, (6, 8), nearest=True)
    assert large.shape == (6, 8)
    assert np.array_equal(large, np.kron(mask, np.ones((3, 4), np.uint8)))


def test_resize_to_the_same_size_is_the_same_array() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert resize(image, (4, 6)) is image


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((240, 320), 160, (120, 160)),
        ((320, 240), 160, (160, 120)),
        ((100, 50), 100, (100, 50)),
        ((1, 500), 100, (1, 100)),
    ],
)
def test_fit_longest_side(size: tuple[int, int], longest: int, expected: tuple[int, int]) -> None:
    assert fit_longest_side(size, longest) == expected
    assert fit_longest_side(size, None) == size


def test_crop_box_cuts_images_and_masks_alike() -> None:
    frames = np.arange(2 * 5 * 6 * 3).reshape(2, 5, 6, 3)
    box = CropBox(1, 2, 3, 4)
    cut = box.cut(frames)
    assert np.array_equal(cut, frames[:, 1:4, 2:6])
    assert np.array_equal(box.cut(frames[..., 0]), cut[..., 0])
    assert np.array_equal(box.cut(frames[0]), cut[0])


def test_random_resized_box_keeps_to_the_frame_and_to_its_share() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        box = random_resized_box((60, 80), rng, area=(0.25, 0.5))
        assert 0 <= box.top <= 60 - box.height
        assert 0 <= box.left <= 80 - box.width
        assert 0.23 <= box.height * box.width / 4800 <= 0.53
        assert 0.74 <= (box.width / 80) / (box.height / 60) <= 1.34
    whole = random_resized_box((60, 80), rng, area=(1.0, 1.0), aspect=(1.0, 1.0))
    assert whole == CropBox(0, 0, 60, 80)


def test_jitter_changes_all_frames_alike() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(np.uint8).repeat(3, axis=0)
    changed = jitter_colour(frames, np.random.default_rng(1), strength=0.3)
    assert changed.shape == frames.shape and changed.dtype == np.uint8
    assert not np.array_equal(changed, frames)
    assert np.array_equal(changed[0], changed[2])


def test_jitter_of_strength_zero_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    frames = np.full((1, 2, 2, 3), 9, np.uint8)
    assert jitter_colour(frames, rng, strength=0.0) is frames
    assert rng.random() == np.random.default_rng(0).random()


def test_crop_and_pad_moves_image_and_labels_together() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (40, 50)).astype(np.uint8)
    image = np.repeat(labels[..., None], 3, axis=2)
    mirrored = set()
    for seed in range(20):
        cropped, cut = crop_and_pad(image, labels, 16, np.random.default_rng(seed))
        assert cropped.shape == (16, 16, 3) and cut.shape == (16, 16)
        assert np.array_equal(cropped[..., 1], cut)
        windows = np.lib.stride_tricks.sliding_window_view(labels, (16, 16))
        mirrored.add(not (windows == cut).all(axis=(2, 3)).any())
    assert mirrored == {True, False}


def test_crop_and_pad_fills_small_frames_with_void() -> None:
    image = np.full((10, 6, 3), 50, np.uint8)
    labels = np.full((10, 6), 2, np.uint8)
    cropped, cut = crop_and_pad(image, labels, 12, np.random.default_rng(0), mirror=False)
    assert (cut[:10, :6] == 2).all()
    assert (cut[10:] == VOID).all() and (cut[:, 6:] == VOID).all()
    assert (cropped == 50).all()


def test_crop_and_pad_scales_before_the_crop() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = 1
    image = np.zeros((40, 40, 3), np.uint8)
    _, cut = crop_and_pad(image, labels, 20, np.random.default_rng(0), scales=(0.5, 0.5))
    assert cut.sum() == 100  # the whole frame at half its size: 20 x 20 -> 10 x 10 pixels


def test_crop_and_pad_is_decided_by_its_generator() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    labels = image[..., 0] // 64
    first, again, other = (
        crop_and_pad(image, labels, 16, np.random.default_rng(seed), scales=(0.8, 1.2)) for seed in (3, 3, 4)
    )
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_boxes_go_the_way_of_the_picture() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[12:22, 20:36] = 1
    box = np.array([[20, 12, 36, 22]], np.float32)
    mirrored = set()
    for seed in range(30):
        drawn = RandomCrop.draw((40, 60), 32, np.random.default_rng(seed), scales=(0.5, 2.0))
        rows, columns = np.nonzero(drawn.labels(labels) == 1)
        found = drawn.boxes(box, (40, 60), least=0.0)
        assert len(found) == bool(len(rows))
        if len(rows):
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(found[0], tight, atol=1.5)
            mirrored.add(drawn.mirrored)
    assert mirrored == {True, False}


def test_boxes_that_are_mostly_cut_off_are_left_out() -> None:
    drawn = RandomCrop((40, 60), 0, 30, 30, mirrored=False)
    boxes = np.array([[0, 0, 20, 20], [20, 5, 40, 15], [26, 5, 31, 15]], np.float32)
    assert drawn.boxes(boxes, (40, 60)).tolist() == [[0, 5, 10, 15]]
    assert len(drawn.boxes(boxes, (40, 60), least=0.0)) == 2
    assert drawn.boxes(np.zeros((0, 4), np.float32), (40, 60)).shape == (0, 4)
