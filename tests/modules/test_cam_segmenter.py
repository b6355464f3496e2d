from __future__ import annotations

import numpy as np
import pytest
import torch

from modules.cam_segmenter import CamSegmenter
from modules.encoder2d import Encoder2D
from pseudolabel.types import LabelSpace, Tag

SPACE = LabelSpace((Tag("cat"), Tag("dog")))


def encoder() -> Encoder2D:
    torch.manual_seed(0)
    options = {"backbone_args": {"channels": [8, 8, 16, 16]}, "output_stride": 8, "multi_label": True}
    return Encoder2D(["dog", "cat", "cow"], backbone="resnet18", **options).eval()


def test_attention_of_present_classes_is_the_segmentation() -> None:
    module, rng = encoder(), np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 33, 41, 3)).astype(np.uint8)
    scores = CamSegmenter(module, SPACE, scales=(1.0,), class_threshold=0.0).predict_scores(frames)
    assert scores.shape == (2, 3, 33, 41) and scores.sum(1) == pytest.approx(1, abs=1e-5)
    maps = module.attention(frames, [1, 0], method="cam", reduce="max")  # cat, dog are the encoder's 1 and 0
    low, high = maps.min((-2, -1), keepdims=True), maps.max((-2, -1), keepdims=True)
    stretched = ((maps - low) / np.maximum(high - low, 1e-12)).transpose(1, 0, 2, 3)
    background = 1 - stretched.max(1, keepdims=True)
    expected = np.concatenate([background, stretched], axis=1).argmax(1)
    assert (scores.argmax(1) == expected).mean() > 0.999


def test_an_absent_class_is_never_shown() -> None:
    module = encoder()
    with torch.no_grad():
        module.classifier.bias[:] = torch.tensor([-20.0, 20.0, 0.0])  # dog never, cat always
    frames = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    scores = CamSegmenter(module, SPACE).predict_scores(frames)
    assert not scores[:, 2].any() and scores[:, 1].any()
