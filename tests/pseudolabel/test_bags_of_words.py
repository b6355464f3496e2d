from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pseudolabel.bags_of_words import (
    BagOfWordsSettings,
    Vocabulary,
    cluster,
    describe,
    hog_blocks,
    learn_vocabulary,
    nearest_words,
    region_features,
)
from pseudolabel.types import DataError

RED, GREEN, BLUE = (200, 30, 40), (40, 180, 50), (20, 60, 220)


def flag() -> np.ndarray:
    """Two thirds red above green on the left half; blue on the right half. 12 x 16 pixels."""
    frame = np.zeros((12, 16, 3), np.uint8)
    frame[:8, :8], frame[8:, :8], frame[:, 8:] = RED, GREEN, BLUE
    return frame


def stripes(angle: float) -> np.ndarray:
    """A wave whose gradient points along ``angle`` degrees, 32 x 48 pixels."""
    y, x = np.mgrid[:32, :48]
    wave = np.sin((x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))) / 1.5)
    return np.repeat((128 + 100 * wave)[..., None], 3, axis=-1).astype(np.uint8)


def test_colour_words_by_hand() -> None:
    settings = BagOfWordsSettings(words=8, descriptors=("rgb", "lab"))
    vocabulary = learn_vocabulary([flag()], settings)
    assert [len(words) for words in vocabulary.words] == [3, 3] and vocabulary.size == 6  # three colours, three words
    regions = np.repeat((np.arange(16) // 8)[None], 12, axis=0).astype(np.int32)
    bags = region_features(flag(), regions, vocabulary, count=3)
    assert bags.dtype == np.float32 and bags.shape == (3, 6)
    for start in (0, 3):
        left, right, absent = bags[:, start : start + 3]
        np.testing.assert_allclose(sorted(left), [0, 1 / 3, 2 / 3], rtol=1e-6)
        np.testing.assert_allclose(sorted(right), [0, 0, 1])
        assert left @ right == 0
        assert not absent.any()


def test_the_papers_feature_has_225_numbers() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    vocabulary = learn_vocabulary([frame, frame[::-1].copy()])
    assert vocabulary.size == 225
    bags = region_features(frame, np.zeros((48, 64), np.int32), vocabulary, count=1)
    np.testing.assert_allclose(bags.reshape(3, 75).sum(axis=1), 1, rtol=1e-5)


def test_lab_is_in_cie_units() -> None:
    white = np.full((2, 2, 3), 255, np.uint8)
    np.testing.assert_allclose(describe(white, "lab", BagOfWordsSettings())[0, 0], [100, 0, 0], atol=0.1)


@pytest.mark.parametrize(("angle", "orientation"), [(0, 0), (40, 2), (90, 4.5), (140, 7), (160, 8)])
def test_hog_finds_the_orientation(angle: float, orientation: float) -> None:
    blocks = hog_blocks(stripes(angle))
    assert blocks.shape == (9, 13, 36)
    middle = blocks[4, 6].reshape(4, 9).sum(axis=0)
    turns = 2 * np.pi / 9 * np.arange(9)  # the mean over a circle of nine bins
    mean = np.angle((middle * np.exp(1j * turns)).sum()) / (2 * np.pi) * 9
    assert abs((mean - orientation + 4.5) % 9 - 4.5) < 0.25
    assert np.linalg.norm(blocks[4, 6]) == pytest.approx(1, abs=0.01)


def test_hog_knows_no_sign_and_no_contrast_but_flatness() -> None:
    frame = stripes(30)
    np.testing.assert_allclose(hog_blocks(255 - frame), hog_blocks(frame), atol=0.01)
    np.testing.assert_allclose(hog_blocks(frame // 2 + 20), hog_blocks(frame), atol=0.03)
    assert not hog_blocks(np.full((9, 7, 3), 99, np.uint8)).any()
    assert hog_blocks(np.zeros((9, 7, 3), np.uint8)).shape == (4, 3, 36)  # odd sizes


def test_hog_blocks_are_where_they_say() -> None:
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:, 20:] = 200  # an edge between the columns 19 and 20
    strong = np.linalg.norm(hog_blocks(frame), axis=-1)[4]
    assert np.flatnonzero(strong > 0).tolist() == [3, 4, 5, 6, 7]  # the block around 12 reaches to 19, that of 28 to 20
    np.testing.assert_allclose(strong[3:8], strong[7:2:-1], rtol=1e-5)


def test_hog_words_tell_textures_apart() -> None:
    frame = np.concatenate([stripes(0), stripes(90)], axis=1)
    regions = np.zeros(frame.shape[:2], np.int32)
    regions[:, 48:] = 1
    vocabulary = learn_vocabulary([frame], BagOfWordsSettings(words=4, descriptors=("hog",)))
    bags = region_features(frame, regions, vocabulary, count=2)
    np.testing.assert_allclose(bags.sum(axis=1), 1, rtol=1e-6)
    assert np.minimum(bags[0], bags[1]).sum() < 0.2


def test_nearest_words_equal_brute_force() -> None:
    rng = np.random.default_rng(2)
    places, words = rng.uniform(0, 255, (70, 41, 3)).astype(np.float32), rng.uniform(0, 255, (20, 3)).astype(np.float32)
    expected = np.square(places[:, :, None] - words).sum(axis=-1).argmin(axis=-1)
    found = nearest_words(places, words)  # 2870 places: more than one block
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_clusters() -> None:
    settings = BagOfWordsSettings(words=3)
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0], [100, 0], [0, 100]], np.float32)
    samples = (np.repeat(centres, 50, axis=0) + rng.normal(0, 1, (150, 2))).astype(np.float32)
    np.testing.assert_allclose(cluster(samples, settings), centres[[0, 2, 1]], atol=0.6)  # sorted
    np.testing.assert_array_equal(cluster(samples, settings), cluster(samples, settings))
    assert cluster(np.ones((500, 2), np.float32), settings).tolist() == [[1, 1]]
    np.testing.assert_array_equal(cluster(np.repeat(centres, 90, axis=0), settings), centres[[0, 2, 1]])


def test_words_are_the_same_again_and_few_frames_are_looked_at() -> None:
    frames = np.random.default_rng(4).integers(0, 255, (5, 24, 24, 3)).astype(np.uint8)
    settings = BagOfWordsSettings(words=6, frames=2, samples=200)
    first, again = learn_vocabulary(frames, settings), learn_vocabulary(frames, settings)
    frames[2] = 0  # of five frames, the first and the last are sampled
    for words, same, without in zip(first.words, again.words, learn_vocabulary(frames, settings).words, strict=True):
        np.testing.assert_array_equal(words, same)
        np.testing.assert_array_equal(words, without)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": 0}, "words"),
        ({"cell": 7}, "even"),
        ({"descriptors": ()}, "at least one"),
        ({"descriptors": ("rgb", "rgb")}, "twice"),
        ({"descriptors": ("hogg",)}, "did you mean 'hog'"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        BagOfWordsSettings(**change)


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="no frame"):
        learn_vocabulary([])
    with pytest.raises(DataError, match="uint8"):
        learn_vocabulary([np.zeros((4, 4, 3), np.float32)])  # type: ignore[list-item]
    words = Vocabulary((np.zeros((1, 3), np.float32),), BagOfWordsSettings(descriptors=("rgb",)))
    with pytest.raises(DataError, match="do not fit"):
        region_features(flag(), np.zeros((3, 3), np.int32), words, count=1)
    with pytest.raises(DataError, match=r"0\.\.0"):
        region_features(flag(), np.ones((12, 16), np.int32), words, count=1)
