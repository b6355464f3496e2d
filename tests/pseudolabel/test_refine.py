from __future__ import annotations

import sys
from typing import Literal

import numpy as np
import pytest

from pseudolabel.refine import dense_crf, refine_labels, refine_mask
from pseudolabel.types import DataError

SUPERPIXELS = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 4, 0), 4, 1).astype(np.int32)  # four 4x4 blocks


def brute_force(mask: np.ndarray, superpixels: np.ndarray, alpha: float, beta: float, overlap: str) -> np.ndarray:
    """Algorithm 2, line by line."""
    refined = np.zeros_like(mask)
    for p in np.unique(superpixels):
        region = superpixels == p
        both = (region & mask).sum()
        value = both / region.sum() if overlap == "share" else both / (region | mask).sum()
        if value > alpha and region.sum() / mask.size < beta:
            refined |= region
    return refined


def test_share_fills_and_removes() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:4, :3] = True  # 12 of 16 pixels of block 0
    mask[0:4, 4] = True  # 4 of 16 pixels of block 1
    mask[4:8, 0:2] = True  # 8 of 16 pixels of block 2: not more than half
    np.testing.assert_array_equal(refine_mask(mask, SUPERPIXELS), SUPERPIXELS == 0)
    assert refine_mask(mask, SUPERPIXELS, alpha=0.49)[6, 3]


def test_literal_iou_differs() -> None:
    mask = (SUPERPIXELS == 0) | (SUPERPIXELS == 1)
    np.testing.assert_array_equal(refine_mask(mask, SUPERPIXELS), mask)
    assert not refine_mask(mask, SUPERPIXELS, overlap="iou").any(), "IoU is 16 / 32, not more than 0.5"
    np.testing.assert_array_equal(refine_mask(mask, SUPERPIXELS, overlap="iou", alpha=0.4), mask)


def test_large_superpixels_are_background() -> None:
    mask = np.ones((8, 8), bool)
    assert refine_mask(mask, SUPERPIXELS, beta=0.26).all()
    assert not refine_mask(mask, SUPERPIXELS, beta=0.25).any(), "0.25 < 0.25 is false"


@pytest.mark.parametrize("overlap", ["share", "iou"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_algorithm_line_by_line(overlap: Literal["share", "iou"], seed: int) -> None:
    rng = np.random.default_rng(seed)
    superpixels = rng.integers(0, 6, (9, 7)).astype(np.int32)
    mask = rng.random((9, 7)) < rng.choice([0.1, 0.5, 0.9])
    alpha, beta = float(rng.choice([0.1, 0.3, 0.5])), float(rng.choice([0.1, 0.2, 0.4]))
    expected = brute_force(mask, superpixels, alpha, beta, overlap)
    np.testing.assert_array_equal(refine_mask(mask, superpixels, alpha=alpha, beta=beta, overlap=overlap), expected)
    labels = refine_labels(mask.astype(np.uint8), superpixels, num_classes=2, alpha=alpha, beta=beta, overlap=overlap)
    np.testing.assert_array_equal(labels, expected.astype(np.uint8))


def test_labels_take_the_class_of_the_largest_overlap() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[:4, :4] = 2
    labels[0, :4] = 5  # block 0: 12 of class 2, 4 of class 5
    labels[:4, 4:] = 2
    labels[:2, 4:] = 5  # block 1: a tie of 8 and 8, neither more than half
    labels[4:, :2] = 5
    labels[4:7, 2] = 5  # block 2: 11 of class 5
    refined = refine_labels(labels, SUPERPIXELS, num_classes=6)
    assert (refined[:4, :4] == 2).all()
    assert (refined[:4, 4:] == 0).all()
    assert (refined[4:, :4] == 5).all()
    assert (refined[4:, 4:] == 0).all()


def test_iou_for_several_classes_uses_each_class_own_mask() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[:4, :4] = 1  # 16 pixels, all in block 0
    labels[:4, 4:] = 2
    labels[4:] = 2  # class 2 has 48 pixels in three blocks: IoU 1/3 each
    refined = refine_labels(labels, SUPERPIXELS, num_classes=3, overlap="iou")
    np.testing.assert_array_equal(refined, (SUPERPIXELS == 0).astype(np.uint8))


def test_void_stays_only_in_superpixels_that_are_mostly_void() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[:3, :4] = 255  # block 0: 12 of 16 void
    labels[:2, 4:] = 255  # block 1: 8 of 16 void
    labels[4:, :4] = 1
    labels[4, :4] = 255  # block 2: 12 of 16 class 1, the rest void
    refined = refine_labels(labels, SUPERPIXELS, num_classes=2)
    assert (refined[:3, :4] == 255).all() and (refined[3, :4] == 0).all()
    assert (refined[:4, 4:] == 0).all()
    assert (refined[4:, :4] == 1).all()


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="one size"):
        refine_mask(np.zeros((8, 7), bool), SUPERPIXELS)
    labels = np.full((8, 8), 3, np.uint8)
    with pytest.raises(DataError, match=r"\[3\].*0\.\.2"):
        refine_labels(labels, SUPERPIXELS, num_classes=3)
    with pytest.raises(ValueError, match="overlap"):
        refine_mask(np.zeros((8, 8), bool), SUPERPIXELS, overlap="dice")  # type: ignore[arg-type]


def two_halves(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dark and a bright half, and scores with the edge two columns off and a tenth of the pixels wrong."""
    frame = np.full((24, 30, 3), 40, np.uint8)
    frame[:, 15:] = 210
    true = np.arange(30) >= 15
    likely = np.broadcast_to(np.arange(30) >= 17, (24, 30)) ^ (rng.random((24, 30)) < 0.1)
    foreground = np.where(likely, 0.7, 0.3).astype(np.float32)
    return np.stack([1 - foreground, foreground]), frame, np.broadcast_to(true, (24, 30))


def test_dense_crf_follows_the_picture() -> None:
    scores, frame, true = two_halves(np.random.default_rng(0))
    sharp = dense_crf(scores, frame)
    assert sharp.dtype == np.float32
    assert sharp.shape == scores.shape
    np.testing.assert_allclose(sharp.sum(axis=0), 1, atol=1e-5)
    assert (scores.argmax(axis=0) == true).mean() < 0.9
    np.testing.assert_array_equal(sharp.argmax(axis=0), true)
    blind = dense_crf(scores, frame, bilateral_weight=0).argmax(axis=0)
    assert (blind == true).mean() < 1, "without colour the edge stays where it was"


def test_dense_crf_without_terms_is_the_scores() -> None:
    scores, frame, _ = two_halves(np.random.default_rng(1))
    np.testing.assert_allclose(dense_crf(scores, frame, bilateral_weight=0, smooth_weight=0), scores, atol=1e-5)
    certain = np.round(scores)
    np.testing.assert_allclose(dense_crf(certain, frame, iterations=0), certain, atol=1e-4)


def test_dense_crf_refuses_bad_input() -> None:
    scores, frame, _ = two_halves(np.random.default_rng(2))
    with pytest.raises(DataError, match="do not fit"):
        dense_crf(scores, frame[1:])
    with pytest.raises(DataError, match="do not fit"):
        dense_crf(scores[0], frame)
    with pytest.raises(DataError, match="not logits"):
        dense_crf(scores - 1, frame)
    with pytest.raises(DataError, match="finite"):
        dense_crf(scores * np.float32(np.nan), frame)


def test_dense_crf_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(DataError, match="make install"):
        dense_crf(np.ones((1, 2, 2), np.float32), np.zeros((2, 2, 3), np.uint8))
