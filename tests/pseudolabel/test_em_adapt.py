from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.em_adapt import adapt_scores, em_adapt_labels
from pseudolabel.types import VOID, DataError


def softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return (powers / powers.sum(axis=axis, keepdims=True)).astype(np.float32)


def random_scores(seed: int, classes: int = 5, side: int = 20, frames: int | None = None) -> np.ndarray:
    shape = (classes, side, side) if frames is None else (frames, classes, side, side)
    return softmax(np.random.default_rng(seed).normal(0, 2, shape), axis=-3)


def plain(logits: list[list[float]], classes: list[int], rng: np.random.Generator) -> list[int]:
    """The steps of the module's text with loops and sorting."""
    pixels = range(len(logits[0]))
    rows = [list(row) for row in logits]
    present = [0, *classes]
    for _ in range(5):
        for label in (0, *rng.permutation(classes).tolist()):
            best = [max(rows[each][i] for each in present) for i in pixels]
            lack = sorted(best[i] - rows[label][i] for i in pixels)
            needed = lack[int((0.2 if label else 0.4) * len(pixels))]
            if needed > 0:
                rows[label] = [score + needed + 1e-5 for score in rows[label]]
    return [max(present, key=lambda each: rows[each][i]) for i in pixels]


@pytest.mark.parametrize("classes", [[2], [1, 3], [1, 2, 4]])
def test_equals_a_plain_reimplementation(classes: list[int]) -> None:
    for seed in range(4):
        scores = random_scores(seed, side=12)
        logits = np.log(scores.reshape(5, -1).astype(np.float64))
        expected = plain(logits.tolist(), classes, np.random.default_rng([seed, 0]))
        labels = em_adapt_labels(scores.astype(np.float64), classes, seed=seed)
        assert labels.ravel().tolist() == expected


@pytest.mark.parametrize("classes", [[1], [1, 2], [1, 2, 3]])
def test_portions_are_kept(classes: list[int]) -> None:
    scores = random_scores(7, side=40)
    scores[0] *= 1e-3
    scores[1:3] *= 1e-2
    shares = np.bincount(em_adapt_labels(scores, classes).ravel(), minlength=5) / 1600
    tolerance = 0.0 if len(classes) == 1 else 0.01
    assert shares[0] >= 0.4 - tolerance
    assert (shares[classes] >= 0.2 - tolerance).all()
    assert shares.sum() == shares[[0, *classes]].sum()


def test_one_round_gives_the_last_class_its_portion() -> None:
    scores = random_scores(3)
    scores[2] *= 1e-6
    labels = em_adapt_labels(scores, [2], iterations=1, background=0.0, foreground=0.3)
    assert (labels == 2).sum() == 121  # the pixel of rank 120 of 400 is won, and nothing beyond
    assert not em_adapt_labels(scores, [2], iterations=0).any()


def test_absent_classes_never_win_and_the_mean_stays() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (4, 50))
    adapted = adapt_scores(logits, [2], rng=np.random.default_rng(0))
    assert adapted[[1, 3]].max() <= adapted[[0, 2]].min()
    before, after = (rows[[0, 2]].max(axis=0).mean() for rows in (logits, adapted))
    assert after == pytest.approx(before)


def test_frames_by_themselves_and_void() -> None:
    scores = random_scores(5, frames=2)
    valid = np.ones((2, 20, 20), bool)
    valid[1, :, 12:] = False
    labels = em_adapt_labels(scores, [1, 2], valid=valid)
    assert ((labels == VOID) == ~valid).all()
    np.testing.assert_array_equal(labels[0], em_adapt_labels(scores[0], [1, 2]))
    assert (labels[1][valid[1]] == 0).mean() >= 0.39
    assert not em_adapt_labels(scores, []).any()


def test_bad_input_is_refused() -> None:
    scores = random_scores(0)
    with pytest.raises(DataError, match="ascending"):
        em_adapt_labels(scores, [2, 1])
    with pytest.raises(DataError, match="ascending"):
        em_adapt_labels(scores, [9])
    with pytest.raises(DataError, match="softmax"):
        em_adapt_labels(np.where(scores == scores.max(), np.nan, scores), [1])
    with pytest.raises(DataError, match="portion"):
        em_adapt_labels(scores, [1], foreground=1.2)
    with pytest.raises(DataError, match="valid"):
        em_adapt_labels(scores, [1], valid=np.ones((3, 3), bool))
