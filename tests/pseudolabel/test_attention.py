from __future__ import annotations

import cv2
import numpy as np
import pytest

from pseudolabel.attention import (
    label_by_attention,
    maps_at,
    normalize,
    otsu_levels,
    otsu_mask,
    otsu_threshold,
    resize_maps,
    shift_maps,
    uniform_frames,
)


def test_normalize_each_map_by_itself() -> None:
    maps = np.array([[[1.0, 3.0], [2.0, 5.0]], [[-1.0, 0.0], [0.0, 1.0]], [[4.0, 4.0], [4.0, 4.0]]])
    result = normalize(maps)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[[0, 0.5], [0.25, 1]], [[0, 0.5], [0.5, 1]], [[0, 0], [0, 0]]])


@pytest.mark.parametrize("seed", range(20))
def test_otsu_equals_opencv_on_uint8(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = rng.integers(0, 255, 2)
    image = np.concatenate([rng.normal(low, 20, 500), rng.normal(high, 10, rng.integers(10, 500))])
    image = np.clip(image, 0, 255).astype(np.uint8)[None]
    expected, mask = cv2.threshold(image, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    assert otsu_threshold(image) == expected
    np.testing.assert_array_equal(otsu_mask(image), mask > 0)


def test_otsu_of_two_values_takes_the_lowest_of_equal_thresholds() -> None:
    image = np.array([[10, 10, 10, 200]], np.uint8)
    assert otsu_threshold(image) == 10
    np.testing.assert_array_equal(otsu_mask(image), [[False, False, False, True]])


def test_otsu_maximises_the_variance_between_classes_on_floats() -> None:
    values = np.random.default_rng(0).gamma(1.0, 3.0, 400).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    levels = np.minimum(((values - low) / (high - low) * 32).astype(int), 31)

    def between(threshold: float) -> float:
        above = values > threshold
        if above.all() or not above.any():
            return 0.0
        return float(above.mean() * (1 - above.mean()) * (levels[above].mean() - levels[~above].mean()) ** 2)

    best = max(between(low + (high - low) * k / 32) for k in range(1, 32))
    assert between(otsu_threshold(values, bins=32)) == pytest.approx(best)


def test_otsu_levels_maximise_the_variance_between_three_classes() -> None:
    values = np.random.default_rng(1).gamma(1.0, 3.0, 300).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    levels = np.minimum(((values - low) / (high - low) * 24).astype(int), 23)

    def between(lower: float, upper: float) -> float:
        classes = [values < lower, (values >= lower) & (values < upper), values >= upper]
        return sum(float(c.mean() * levels[c].mean() ** 2) for c in classes if c.any())

    steps = [low + (high - low) * k / 24 for k in range(1, 24)]
    best = max(between(a, b) for a in steps for b in steps if a < b)
    lower, upper = otsu_levels(values, bins=24)
    assert low < lower < upper < high
    assert between(lower, upper) == pytest.approx(best)


def test_otsu_levels_of_few_values() -> None:
    assert otsu_levels(np.array([0.2, 0.2])) == pytest.approx((0.2, 0.2))
    lower, upper = otsu_levels(np.array([0.0, 0.0, 1.0]))
    assert 0 < lower == upper < 1
    lower, upper = otsu_levels(np.array([0.0, 0.5, 1.0]))
    assert 0 < lower <= 0.5 < upper <= 1


def test_otsu_splits_a_blob_from_its_ground_and_ignores_scale() -> None:
    attention = np.full((32, 32), 0.1, np.float32)
    attention[8:20, 8:20] = 0.8
    attention += np.random.default_rng(0).normal(0, 0.03, attention.shape).astype(np.float32)
    expected = np.zeros((32, 32), bool)
    expected[8:20, 8:20] = True
    np.testing.assert_array_equal(otsu_mask(attention), expected)
    np.testing.assert_array_equal(otsu_mask(attention * 1e-4), expected)


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0])
def test_otsu_of_a_constant_map_is_empty(value: float) -> None:
    assert not otsu_mask(np.full((4, 4), value, np.float32)).any()


def test_uniform_frames_are_the_centres_of_equal_parts() -> None:
    assert uniform_frames(2, 16).tolist() == [4, 12]
    assert uniform_frames(4, 16).tolist() == [2, 6, 10, 14]
    assert uniform_frames(3, 24).tolist() == [4, 12, 20]
    assert uniform_frames(1, 5).tolist() == [2]
    assert uniform_frames(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert uniform_frames(4, 2).tolist() == [0, 0, 1, 1]


def test_maps_at_is_linear_between_and_constant_beyond() -> None:
    maps = np.array([0.0, 8.0, 4.0], np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    result = maps_at(maps, 24, [0, 4, 6, 12, 14.5, 20, 23])  # maps stand at frames 4, 12, 20
    assert result.shape == (7, 2, 3) and result.dtype == np.float32
    np.testing.assert_allclose(result[:, 1, 2], [0, 0, 2, 8, 6.75, 4, 4])


def test_maps_at_with_one_map_or_more_maps_than_frames() -> None:
    one = np.full((1, 2, 2), 3.0)
    np.testing.assert_array_equal(maps_at(one, 4, [0, 3]), np.full((2, 2, 2), 3.0))
    many = np.arange(4.0)[:, None, None]
    result = maps_at(many, 2, [0, 1])[:, 0, 0]
    assert result[0] in (0.0, 1.0) and result[1] in (2.0, 3.0)


def test_resize_maps_is_bilinear_on_every_map() -> None:
    maps = (
        np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)[None, None].repeat(2, 0) * np.array([1, 10])[:, None, None, None]
    )
    result = resize_maps(maps, (4, 6))
    assert result.shape == (2, 1, 4, 6)
    np.testing.assert_allclose(result[1], 10 * result[0], rtol=1e-6)
    np.testing.assert_allclose(result[0, 0, :, 0], [0, 0.5, 1.5, 2], rtol=1e-6)  # half-pixel centres
    np.testing.assert_allclose(result[0, 0, 0], [0, 0, 1 / 3, 2 / 3, 1, 1], atol=1e-6)


def test_label_by_attention() -> None:
    attention = np.array([[[0.9, 0.2, 0.9, 0.5]], [[0.5, 0.6, 0.1, 0.5]]])
    masks = np.array([[[True, True, False, True]], [[True, True, False, True]]])
    assert label_by_attention(attention, masks, [7, 3]).tolist() == [[7, 3, 0, 7]]
    masks[0, 0, 0] = False  # the stronger tag's mask does not cover this pixel
    labels = label_by_attention(attention, masks, [7, 3])
    assert labels.tolist() == [[3, 3, 0, 7]] and labels.dtype == np.uint8


def test_label_by_attention_without_tags_is_background() -> None:
    assert (label_by_attention(np.zeros((0, 2, 3)), np.zeros((0, 2, 3), bool), []) == np.zeros((2, 3))).all()


def test_maps_are_moved_by_parts_of_a_cell() -> None:
    maps = np.zeros((2, 3, 4), np.float32)
    maps[0, 1, 1] = 1.0
    moved = shift_maps(maps, 0.25)
    assert moved.shape == maps.shape and moved.dtype == np.float32 and not moved[1].any()
    np.testing.assert_allclose(moved[0, 1:, 1:3], [[0.5625, 0.1875], [0.1875, 0.0625]])
    assert moved[0].sum() == pytest.approx(1.0)


def test_moved_maps_repeat_their_border() -> None:
    maps = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(shift_maps(maps, 0.0), maps)
    np.testing.assert_allclose(shift_maps(maps, 1.0), [[0, 0, 1], [0, 0, 1]])
    np.testing.assert_allclose(shift_maps(maps, -5.0), np.full((2, 3), 5.0))
