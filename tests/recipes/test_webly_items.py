from __future__ import annotations

import numpy as np
import pytest
import torch

from modules.image_inference import combine_foregrounds
from recipes.webly_items import binarise


def scores_of(*pixels: tuple[float, float]) -> np.ndarray:
    """One frame of one row: the probabilities of two classes at each pixel, as a model gives them out."""
    foregrounds = torch.tensor(pixels).T[:, None]  # (2, 1, W)
    return combine_foregrounds(foregrounds, torch.tensor([1, 2]), num_classes=3)[None].numpy()


def test_half_is_the_decision_of_the_scores() -> None:
    scores = scores_of((0.6, 0.1), (0.45, 0.4), (0.2, 0.7), (0.0, 0.0), (1.0, 1.0))
    labels, sure = binarise(scores, foreground=0.5, margin=0.0)
    assert labels.tolist() == [[[1, 0, 2, 0, 1]]] and labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, scores.argmax(1))
    np.testing.assert_allclose(sure, [[[0.6, 0.55, 0.7, 1.0, 1.0]]], atol=1e-6)


def test_a_lower_threshold_takes_in_what_is_less_sure() -> None:
    scores = scores_of((0.6, 0.1), (0.45, 0.4), (0.1, 0.35), (0.2, 0.1))
    assert binarise(scores, foreground=0.3, margin=0.0)[0].tolist() == [[[1, 1, 2, 0]]]


@pytest.mark.parametrize(("margin", "expected"), [(0.08, [1, 1, 255, 0]), (0.16, [1, 255, 255, 255])])
def test_what_lies_near_the_threshold_is_void(margin: float, expected: list[int]) -> None:
    scores = scores_of((0.6, 0.1), (0.45, 0.4), (0.1, 0.35), (0.2, 0.1))
    assert binarise(scores, foreground=0.3, margin=margin)[0].tolist() == [[expected]]
