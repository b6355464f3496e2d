from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pseudolabel.label_prediction import LabelPredictionSettings, motion_band, predict_labels
from pseudolabel.types import VOID, DataError

SIZE = (4, 32, 40)


def shot(*, objects: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames, truth uint8 (T, H, W), wrong soft motion, and blurred scores (T, 4, H, W) of objects of classes 1, 3."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(SIZE, np.uint8)
    for t in range(SIZE[0]):
        truth[t, 8:22, 3 + t : 15 + t] = 1
        if objects == 2:
            truth[t, 10:24, 24 : 36 - t] = 3
    colours = np.array([[60, 90, 60], [170, 120, 70], [0, 0, 0], [170, 110, 80]])
    frames = np.clip(colours[truth] + rng.normal(0, 12, (*SIZE, 3)), 0, 255).astype(np.uint8)
    moved = np.roll(truth > 0, (3, 4), axis=(1, 2)).astype(np.float32)  # half on the object, half beside it
    motion = np.clip(gaussian_filter(moved, (0, 1, 1)), 0, 1)
    scores = np.stack([gaussian_filter((truth == each).astype(np.float32), (0, 4, 4)) for each in range(4)], axis=1)
    scores = 0.6 * scores + 0.1
    return frames, truth, motion, (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def agreement(labels: np.ndarray, truth: np.ndarray) -> float:
    """IoU of the foreground."""
    return float(((labels > 0) & (truth > 0)).sum() / ((labels > 0) | (truth > 0)).sum())


def test_one_tag_is_better_than_motion_and_scores() -> None:
    frames, truth, motion, scores = shot()
    labels = predict_labels(frames, scores, [1], motion=motion)
    assert labels.dtype == np.uint8 and set(np.unique(labels)) == {0, 1}
    single = max(agreement(motion > 0.5, truth), agreement(scores.argmax(axis=1), truth))
    assert agreement(labels, truth) > max(0.9, single)


def test_several_tags_are_told_apart_by_scores() -> None:
    frames, truth, motion, scores = shot(objects=2)
    labels = predict_labels(frames, scores, [1, 3], motion=motion)
    assert set(np.unique(labels)) == {0, 1, 3}
    assert agreement(labels, truth) > 0.9
    both = (labels > 0) & (truth > 0)
    assert (labels == truth)[both].mean() > 0.95


def test_a_class_that_is_no_tag_is_never_given() -> None:
    frames, _, motion, scores = shot(objects=2)
    labels = predict_labels(frames, scores, [3], motion=motion)
    assert set(np.unique(labels)) == {0, 3}
    assert not predict_labels(frames, scores, [], motion=motion).any()


def test_motion_alone_and_scores_alone() -> None:
    frames, truth, motion, scores = shot()
    assert agreement(predict_labels(frames, None, [1], motion=motion), truth) > agreement(motion > 0.5, truth)
    settings = LabelPredictionSettings(strength=0.0)
    labels = predict_labels(frames, scores, [1], motion=None, settings=settings)
    np.testing.assert_array_equal(labels, scores[:, 1] > scores[:, 0])  # without edges, the likelier of the two


def test_without_motion_segments_the_scores_decide() -> None:
    frames, _, motion, scores = shot()
    alone = predict_labels(frames, scores, [1], motion=None)
    for soft in (np.zeros_like(motion), np.full_like(motion, 0.4), np.ones_like(motion)):
        np.testing.assert_array_equal(predict_labels(frames, scores, [1], motion=soft), alone)
        np.testing.assert_array_equal(predict_labels(frames, None, [1], motion=soft), soft > 0.5)


def test_location_holds_labels_where_colours_tell_nothing() -> None:
    _, _, motion, _ = shot()
    segment = motion > 0.5
    grey = np.full((*SIZE, 3), 128, np.uint8)
    grey[:, ::2] += 9  # two colours, as frequent on the object as beside it
    spread = predict_labels(grey, None, [1], motion=motion)
    held = predict_labels(grey, None, [1], motion=motion, settings=LabelPredictionSettings(location=1, location_blur=2))
    assert agreement(held, segment) > 0.8 > agreement(spread, segment)


def test_location_by_hand() -> None:
    frames, _, motion, scores = shot()
    valid = np.ones(SIZE, bool)
    valid[:, :, 30:] = False
    settings = LabelPredictionSettings(
        strength=0,
        alpha=0,
        iterations=1,
        location=1e6,
        location_blur=3,
        foreground_components=1,
        background_components=1,
    )
    labels = predict_labels(frames, scores, [1], motion=motion, valid=valid, settings=settings)
    exists = valid.astype(float)
    smooth = [gaussian_filter(each, (0, 3, 3), mode="mirror") for each in (motion * exists, exists)]
    place = smooth[0] / np.maximum(smooth[1], 1e-3)
    clear = valid & (np.abs(place - 0.5) > 0.05)
    np.testing.assert_array_equal(labels[clear], place[clear] > 0.5)
    assert (labels[~valid] == VOID).all()


def test_a_prior_alone_erases_as_posterior_and_not_as_likelihood() -> None:
    frames, truth, motion, _ = shot()
    sure = np.repeat(np.array([0.9999, 0.0001], np.float32), SIZE[1] * SIZE[2]).reshape(2, *SIZE[1:])
    scores = np.repeat(sure[None], SIZE[0], axis=0)  # everywhere the same: the network knows no place
    posterior, likelihood = (
        predict_labels(frames, scores, [1], motion=motion, settings=LabelPredictionSettings(scores=kind))
        for kind in ("posterior", "likelihood")
    )
    np.testing.assert_array_equal(likelihood, predict_labels(frames, None, [1], motion=motion))
    assert agreement(likelihood, truth) > 0.9 > agreement(posterior, truth)
    halved = LabelPredictionSettings(scores="likelihood", alpha=0.5)  # and alpha weighs nothing that is constant
    np.testing.assert_array_equal(predict_labels(frames, scores, [1], motion=motion, settings=halved), likelihood)


def test_likelihoods_ignore_invalid_pixels_and_need_motion() -> None:
    frames, _, motion, scores = shot()
    settings = LabelPredictionSettings(scores="likelihood")
    valid = np.ones(SIZE, bool)
    valid[:, :, 30:] = False
    other = scores.copy()
    other[:, :, :, 30:] = np.array([0.0, 1.0, 0.0, 0.0])[:, None, None]
    first, second = (
        predict_labels(frames, each, [1], motion=motion, valid=valid, settings=settings) for each in (scores, other)
    )
    np.testing.assert_array_equal(first, second)
    alone = predict_labels(frames, scores, [1], motion=None)
    np.testing.assert_array_equal(predict_labels(frames, scores, [1], motion=None, settings=settings), alone)


def test_one_frame_without_a_segment_learns_from_its_neighbours() -> None:
    frames, truth, motion, scores = shot()
    motion[2] = 0
    labels = predict_labels(frames, scores, [1], motion=motion)
    assert agreement(labels[2], truth[2]) > 0.8


def test_invalid_pixels_are_void_and_change_nothing() -> None:
    frames, _, motion, scores = shot()
    wide = ((0, 0), (0, 5), (3, 0))
    valid = np.pad(np.ones(SIZE, bool), wide)
    padded_scores = np.pad(scores, ((0, 0), (0, 0), *wide[1:]), constant_values=0.25)
    labels = predict_labels(
        np.pad(frames, (*wide, (0, 0)), constant_values=255),
        padded_scores,
        [1],
        motion=np.pad(motion, wide, mode="edge"),
        valid=valid,
    )
    assert (labels[~valid] == VOID).all()
    np.testing.assert_array_equal(labels[:, :-5, 3:], predict_labels(frames, scores, [1], motion=motion))
    nothing = predict_labels(frames, scores, [1], motion=motion, valid=np.zeros(SIZE, bool))
    assert (nothing == VOID).all()


def test_one_frame_and_frames_of_one_colour() -> None:
    frames, truth, motion, scores = shot()
    assert agreement(predict_labels(frames[:1], scores[:1], [1], motion=motion[:1]), truth[:1]) > 0.9
    grey = np.full_like(frames, 128)
    labels = predict_labels(grey, scores, [1], motion=motion)
    assert labels.shape == SIZE and set(np.unique(labels)) <= {0, 1}


def test_alpha_weighs_the_scores() -> None:
    frames, _, motion, scores = shot()
    against = scores[:, [1, 0, 2, 3]]  # says the opposite of what colours say
    shares = []
    for alpha in (0.0, 1.0, 10.0):
        settings = LabelPredictionSettings(alpha=alpha, iterations=1)
        labels = predict_labels(frames, against, [1], motion=motion, settings=settings)
        shares.append((labels == (against[:, 1] > against[:, 0])).mean())
    assert shares[0] < shares[1] < shares[2]
    free = predict_labels(frames, None, [1], motion=motion, settings=LabelPredictionSettings(iterations=1))
    settings = LabelPredictionSettings(alpha=0.0, iterations=1)
    np.testing.assert_array_equal(predict_labels(frames, against, [1], motion=motion, settings=settings), free)


def test_strength_smoothes() -> None:
    frames, _, motion, scores = shot()
    lengths = []
    for strength in (0.0, 0.3, 3.0):
        settings = LabelPredictionSettings(strength=strength, iterations=1)
        labels = predict_labels(frames, scores, [1], motion=motion, settings=settings)
        lengths.append((labels[:, 1:] != labels[:, :-1]).sum() + (labels[..., 1:] != labels[..., :-1]).sum())
    assert lengths[0] > lengths[1] >= lengths[2] > 0


def test_the_lambda_of_a_frame_by_hand() -> None:
    # Two pixels of one colour (w = 1), unaries 2 ln 3 apart in sum |.| -> lambda = strength * mean |u| / 1.
    frames = np.zeros((1, 1, 2, 3), np.uint8)
    scores = np.array([[0.75, 0.1], [0.25, 0.9]])[None, :, None].astype(np.float64)  # differ by -ln 3 and ln 9
    balance = np.log(27) / 2
    for strength in (0.99 * np.log(3) / balance, 1.01 * np.log(3) / balance):
        settings = LabelPredictionSettings(strength=strength)
        labels = predict_labels(frames, scores, [1], motion=None, settings=settings)
        assert labels.ravel().tolist() == ([1, 1] if strength * balance > np.log(3) else [0, 1])


def test_binned_and_unbinned_colours_agree() -> None:
    frames, _, motion, scores = shot()
    binned, exact = (
        predict_labels(frames, scores, [1], motion=motion, settings=LabelPredictionSettings(bin_width=width))
        for width in (8, 1)
    )
    assert (binned == exact).mean() > 0.99


@pytest.mark.parametrize(
    "changes",
    [{"time_weight": "exponential"}, {"seeds": "segment"}, {"connectivity": 4}, {"band": 0}, {"outliers": 1e-3}],
)
def test_switches_change_little(changes: dict[str, Any]) -> None:
    frames, truth, motion, scores = shot()
    labels = predict_labels(frames, scores, [1], motion=motion, settings=LabelPredictionSettings(**changes))
    assert agreement(labels, truth) > 0.9


def test_the_band_by_hand() -> None:
    segment = np.zeros((1, 9), bool)
    segment[0, 4:] = True  # reaches the frame's border, which is no boundary
    assert motion_band(segment, 2).tolist() == [[False, False, True, True, True, True, False, False, False]]
    assert not motion_band(segment, 0).any() and not motion_band(np.ones((4, 4), bool), 3).any()


def test_labels_do_not_depend_on_anything_else() -> None:
    frames, _, motion, scores = shot(objects=2)
    given = [array.copy() for array in (frames, motion, scores)]
    first = predict_labels(frames, scores, [1, 3], motion=motion)
    np.testing.assert_array_equal(first, predict_labels(frames, scores, [1, 3], motion=motion))
    for before, after in zip(given, (frames, motion, scores), strict=True):
        np.testing.assert_array_equal(before, after)


def test_bad_input_is_refused() -> None:
    frames, _, motion, scores = shot()
    broken = scores.copy()
    broken[1, 1, 4, 4] = np.nan
    with pytest.raises(DataError, match="NaN"):
        predict_labels(frames, broken, [1], motion=motion)
    with pytest.raises(DataError, match="softmax"):
        predict_labels(frames, scores * 9, [1], motion=motion)
    with pytest.raises(DataError, match="NaN"):
        predict_labels(frames, scores, [1], motion=np.full(SIZE, np.nan, np.float32))
    with pytest.raises(DataError, match="Resize"):
        predict_labels(frames, scores[..., ::2], [1], motion=motion)
    with pytest.raises(DataError, match="tell the classes"):
        predict_labels(frames, None, [1, 3], motion=motion)
    with pytest.raises(DataError, match="neither"):
        predict_labels(frames, None, [1], motion=None)
    with pytest.raises(DataError, match="uint8"):
        predict_labels(frames[0], scores, [1], motion=motion)
    with pytest.raises(DataError, match="valid"):
        predict_labels(frames, scores, [1], motion=motion, valid=np.ones(SIZE))  # type: ignore[arg-type]
    for classes in ([3, 1], [0, 1], [1, 1], [4]):
        with pytest.raises(DataError, match="ascending"):
            predict_labels(frames, scores, classes, motion=motion)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", -1.0),
        ("strength", np.nan),
        ("iterations", 0),
        ("bin_width", 200),
        ("least_score", 0.0),
        ("outliers", 1.0),
        ("connectivity", 6),
        ("time_weight", "linear"),
        ("seeds", "hard"),
        ("scores", "prior"),
        ("band", -1),
        ("location", -0.5),
        ("location_blur", 0.0),
    ],
)
def test_settings_are_checked(name: str, value: Any) -> None:
    with pytest.raises(DataError, match=name):
        LabelPredictionSettings(**{name: value})
