from __future__ import annotations

import numpy as np

from modules.crf_predictor import CrfPredictor, with_crf
from pseudolabel.decision import Decision, decide
from pseudolabel.types import FloatArray, LabelSpace, Tag, UInt8Array


class Half:
    """Sees the object a few columns too small, and unsure."""

    space = LabelSpace((Tag("red"),))
    max_side = 99
    decision: Decision = "object_first"

    def predict_scores(self, frames: UInt8Array, *, batch_size: int = 16) -> FloatArray:
        target = np.where(np.arange(frames.shape[2]) >= 17, 0.7, 0.3).astype(np.float32)
        shown = np.broadcast_to(target, frames.shape[:3])
        return np.stack([1 - shown, shown], axis=1)


def test_scores_follow_the_edges_of_every_frame() -> None:
    frames = np.full((2, 24, 30, 3), 40, np.uint8)
    frames[0, :, 15:], frames[1, :, 12:] = 210, 210
    predictor = CrfPredictor(Half())
    scores = predictor.predict_scores(frames)
    assert scores.shape == (2, 2, 24, 30) and np.allclose(scores.sum(1), 1, atol=1e-5)
    assert [int(found.argmax(1).sum(1)[0]) for found in scores.transpose(0, 2, 1, 3)] == [15, 18]
    assert (predictor.space, predictor.max_side, predictor.decision) == (Half.space, 99, "object_first")
    assert np.allclose(
        CrfPredictor(Half(), bilateral_weight=0.0, smooth_weight=0.0).predict_scores(frames),
        Half().predict_scores(frames),
        atol=1e-5,
    )


def test_with_crf_switches_it_on_with_its_options() -> None:
    half = Half()
    assert with_crf(half, {}) is half and with_crf(half, {"enabled": False, "iterations": 3}) is half
    wrapped = with_crf(half, {"enabled": True, "iterations": 3})
    assert isinstance(wrapped, CrfPredictor) and wrapped.options == {"iterations": 3}


class Torn(Half):
    """Sees an object on the right half of the frame, but is torn between two classes."""

    space = LabelSpace((Tag("red"), Tag("blue")))

    def predict_scores(self, frames: UInt8Array, *, batch_size: int = 16) -> FloatArray:
        half = super().predict_scores(frames)
        return np.stack([half[:, 0], 0.6 * half[:, 1], 0.4 * half[:, 1]], axis=1)


def test_objects_are_parted_from_the_background_together_where_they_are_decided_on_first() -> None:
    frames = np.full((1, 24, 30, 3), 40, np.uint8)
    frames[:, :, 15:] = 210
    scores = CrfPredictor(Torn()).predict_scores(frames)
    assert scores.shape == (1, 3, 24, 30) and np.allclose(scores.sum(1), 1, atol=1e-5)
    assert (decide(scores, "object_first")[0] == np.where(np.arange(30) >= 15, 1, 0)).all()
    np.testing.assert_allclose(scores[:, 1], 1.5 * scores[:, 2], atol=1e-5)
    np.testing.assert_allclose(scores[:, 0], CrfPredictor(Half()).predict_scores(frames)[:, 0], atol=1e-5)
    torn = Torn()
    torn.decision = "likeliest"
    assert CrfPredictor(torn).predict_scores(frames)[0, 0].mean() > scores[0, 0].mean()
