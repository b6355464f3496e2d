from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.select import (
    Square,
    cut_and_paste,
    cut_patch,
    find_background_square,
    foreground_square,
    patch_passes,
)


def mask_with(size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


def test_foreground_square_encloses_with_margin() -> None:
    mask = mask_with((40, 60), slice(10, 20), slice(30, 36))  # 10 x 6, centre (15, 33)
    assert foreground_square(mask, margin=0.0) == Square(10, 28, 10)
    assert foreground_square(mask, margin=0.1) == Square(9, 27, 12)


def test_foreground_square_moves_into_the_frame() -> None:
    assert foreground_square(mask_with((40, 60), slice(0, 10), slice(54, 60)), margin=0.1) == Square(0, 48, 12)
    assert foreground_square(mask_with((40, 60), slice(38, 40), slice(0, 10)), margin=0.0) == Square(30, 0, 10)


def test_foreground_square_gives_up_its_margin_before_leaving_the_frame() -> None:
    assert foreground_square(mask_with((40, 60), slice(1, 39), slice(10, 20)), margin=0.1) == Square(0, 0, 40)


def test_an_object_longer_than_the_frame_is_high_reaches_over_the_border() -> None:
    square = foreground_square(mask_with((40, 60), slice(10, 20), slice(4, 56)), margin=0.0)
    assert square == Square(-6, 4, 52)
    square = foreground_square(mask_with((40, 60), slice(10, 20), slice(4, 56)), margin=0.5)
    assert square == Square(-10, 0, 60)


def test_an_empty_mask_has_no_square() -> None:
    assert foreground_square(np.zeros((8, 8), bool)) is None


@pytest.mark.parametrize("seed", range(10))
def test_foreground_square_always_covers_the_object(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 17)) < 0.02
    mask[rng.integers(12), rng.integers(17)] = True
    square = foreground_square(mask)
    assert square is not None
    rows, columns = np.nonzero(mask)
    assert square.y <= rows.min() and rows.max() < square.y + square.side
    assert square.x <= columns.min() and columns.max() < square.x + square.side


@pytest.mark.parametrize("tries", [0, 50])
def test_background_squares_are_drawn_uniformly_among_all_valid_ones(tries: int) -> None:
    labels = np.zeros((3, 6, 7), np.uint8)
    labels[0] = 1
    labels[1, :, 3:] = 2  # free: 3 columns
    labels[2, 0, 0] = 1
    labels[2, 4, 4] = 255  # void is no pseudo-object
    side = 3
    valid = {
        (t, y, x)
        for t in range(3)
        for y in range(6 - side + 1)
        for x in range(7 - side + 1)
        if not ((labels[t, y : y + side, x : x + side] > 0) & (labels[t, y : y + side, x : x + side] < 255)).any()
    }
    assert len(valid) == 4 + 19
    rng = np.random.default_rng(0)
    draws = [find_background_square(labels, side, rng, tries=tries) for _ in range(2300)]
    counts = {place: draws.count(place) for place in set(draws)}
    assert set(counts) == valid
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_square < 49  # 22 degrees of freedom, p = 0.001


def test_no_background_square() -> None:
    labels = np.zeros((2, 8, 8), np.uint8)
    rng = np.random.default_rng(0)
    assert find_background_square(labels, 9, rng) is None
    labels[:, 4, :] = 1
    assert find_background_square(labels, 5, rng) is None
    frame, y, _ = find_background_square(labels, 4, rng, tries=0) or (None, None, None)
    assert frame in (0, 1) and y == 0, "rows 0..3 are the only four free ones"


def test_cut_patch() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(cut_patch(image, Square(2, 3, 4), 4), image[2:6, 3:7])
    padded = cut_patch(image, Square(-2, 0, 4), 4, nearest=True)
    np.testing.assert_array_equal(padded, image[[0, 0, 0, 1], :4])
    halved = cut_patch(image, Square(0, 0, 8), 4)
    assert halved[1, 2] in (24, 25), "the mean of 20, 21, 28 and 29"
    labels = np.where(image > 30, 200, 7).astype(np.uint8)
    assert set(np.unique(cut_patch(labels, Square(0, 0, 8), 13, nearest=True))) == {7, 200}
    assert cut_patch(np.zeros((8, 8, 3), np.uint8), Square(0, 0, 8), 5).shape == (5, 5, 3)


def test_cut_and_paste_puts_the_object_on_background_of_the_video() -> None:
    rng = np.random.default_rng(0)
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[..., 1] = 50  # background colour
    labels = np.zeros((3, 32, 32), np.uint8)
    labels[1, 4:12, 6:14] = 3
    frames[1][labels[1] == 3] = (200, 0, 0)
    labels[2, 5, 5] = 255  # void alone is no object
    patches = cut_and_paste(frames, labels, size=8, rng=rng, margin=0.0)
    assert patches.positions.tolist() == [1]
    assert patches.has_background.tolist() == [True]
    assert (patches.foreground == (200, 0, 0)).all() and (patches.pasted == (200, 0, 0)).all()

    frames[1, 3:13, 5:15][labels[1, 3:13, 5:15] == 0] = (9, 9, 9)  # a halo that the mask leaves out
    patches = cut_and_paste(frames, labels, size=10, rng=np.random.default_rng(1), margin=0.1)
    inside = np.zeros((10, 10), bool)
    inside[1:9, 1:9] = True
    assert (patches.foreground[0][~inside] == 9).all()
    assert (patches.pasted[0][inside] == (200, 0, 0)).all()
    outside = patches.pasted[0][~inside]
    assert not (outside == 200).any(), "no object pixel comes with the background"
    assert (outside == (0, 50, 0)).all(1).any()


def test_a_close_shot_takes_the_largest_smaller_background_and_enlarges_it() -> None:
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    labels = np.zeros((1, 32, 32), np.uint8)
    labels[0, 10:, :] = 1  # 22 x 32: the square is the whole frame, free are the 10 rows above
    frames[0, :10] = (0, 0, 80)
    frames[0, 10:] = (200, 0, 0)
    patches = cut_and_paste(frames, labels, size=32, rng=np.random.default_rng(0), margin=0.0)
    assert patches.has_background.tolist() == [True]
    assert (patches.pasted[0, :10] == (0, 0, 80)).all() and (patches.pasted[0, 10:] == (200, 0, 0)).all()


@pytest.mark.parametrize("free_rows", [0, 7])
def test_without_background_the_mean_colour_stands_in(free_rows: int) -> None:
    frames = np.full((1, 32, 32, 3), 100, np.uint8)
    frames[0, :16] = (200, 0, 0)
    labels = np.ones((1, 32, 32), np.uint8)
    labels[0, :free_rows] = 0
    if free_rows == 0:
        labels[0, 5, ::2] = 0
    patches = cut_and_paste(frames, labels, size=32, rng=np.random.default_rng(0), margin=0.0)
    assert patches.has_background.tolist() == [False]
    free = labels[0] == 0
    assert free.any() and (patches.pasted[0][free] == (150, 50, 50)).all()
    np.testing.assert_array_equal(patches.pasted[0][~free], frames[0][~free])


def test_a_video_without_objects_gives_no_patches() -> None:
    patches = cut_and_paste(
        np.zeros((4, 32, 32, 3), np.uint8), np.zeros((4, 32, 32), np.uint8), size=16, rng=np.random.default_rng(0)
    )
    assert patches.positions.shape == (0,) and patches.has_background.shape == (0,)
    assert patches.foreground.shape == patches.pasted.shape == (0, 16, 16, 3)


def test_chance_is_the_callers() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    labels = np.zeros((4, 32, 32), np.uint8)
    labels[:, 8:16, 8:14] = 1
    first = cut_and_paste(frames, labels, size=16, rng=np.random.default_rng(5))
    again = cut_and_paste(frames, labels, size=16, rng=np.random.default_rng(5))
    other = cut_and_paste(frames, labels, size=16, rng=np.random.default_rng(6))
    np.testing.assert_array_equal(first.pasted, again.pasted)
    assert (first.pasted != other.pasted).any()
    np.testing.assert_array_equal(first.foreground, other.foreground)


def test_patch_passes() -> None:
    real = np.array([0.9, 0.9, 0.1, 0.1, 0.5], np.float32)
    top1 = np.array([2, 1, 2, 1, 1])
    assert patch_passes(real, top1, 2).tolist() == [True, True, True, False, False]
    assert patch_passes(real, top1, 2, use="discriminator").tolist() == [True, True, False, False, False]
    assert patch_passes(real, top1, 2, use="classifier").tolist() == [True, False, True, False, False]
    assert patch_passes(real, top1, np.array([1, 1, 1, 1, 2])).tolist() == [True, True, False, True, False]
    assert patch_passes(real, top1, 3, threshold=0.05).all()
    with pytest.raises(ValueError, match="'both'"):
        patch_passes(real, top1, 2, use="both")  # type: ignore[arg-type]
