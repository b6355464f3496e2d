from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modules.crf_predictor import CrfPredictor, check_crf, with_crf
from pseudolabel.decision import Decision, decide
from pseudolabel.types import DataError, FloatArray, LabelSpace, Tag, UInt8Array


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


@pytest.mark.parametrize("decision", ["object_first", "expected_overlap"])
def test_objects_are_parted_from_the_background_together_where_they_are_decided_on_first(decision: Decision) -> None:
    frames = np.full((1, 24, 30, 3), 40, np.uint8)
    frames[:, :, 15:] = 210
    torn = Torn()
    torn.decision = decision
    scores = CrfPredictor(torn).predict_scores(frames)
    assert scores.shape == (1, 3, 24, 30) and np.allclose(scores.sum(1), 1, atol=1e-5)
    assert (decide(scores, decision)[0] == np.where(np.arange(30) >= 15, 1, 0)).all()
    np.testing.assert_allclose(scores[:, 1], 1.5 * scores[:, 2], atol=1e-5)
    np.testing.assert_allclose(scores[:, 0], CrfPredictor(Half()).predict_scores(frames)[:, 0], atol=1e-5)
    torn.decision = "likeliest"
    assert CrfPredictor(torn).predict_scores(frames)[0, 0].mean() > scores[0, 0].mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bilateral_xy": 0}, "rounds.crf.bilateral_xy must be above 0, got 0"),
        ({"smooth_weight": -1.0}, "rounds.crf.smooth_weight must be at least 0, got -1.0"),
        ({"iterations": 2.5}, "rounds.crf.iterations must be a whole number of at least 0, got 2.5"),
        ({"bilateral_rbg": 3.0}, "no option 'bilateral_rbg'.*bilateral_rgb"),
        ({"enabled": None}, "rounds.crf.enabled must be true or false, got None"),
    ],
)
def test_options_that_cannot_be_are_refused_before_any_training(options: dict[str, Any], message: str) -> None:
    check_crf({"enabled": False, "iterations": 0, "smooth_weight": 0.0}, "rounds.crf")
    with pytest.raises(DataError, match=message):
        check_crf({"enabled": False, **options}, "rounds.crf")
