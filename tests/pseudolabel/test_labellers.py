from __future__ import annotations

import pickle

import numpy as np
import pytest

from pseudolabel.em_adapt import em_adapt_labels
from pseudolabel.label_prediction import LabelPredictionSettings, predict_labels
from pseudolabel.labellers import LABELLERS, HardLabeller, MotionLabeller, NetworkLabeller, make_labeller
from pseudolabel.types import VOID, DataError
from tests.pseudolabel.test_label_prediction import SIZE, shot


def tags(*ids: int) -> np.ndarray:
    allowed = np.zeros((SIZE[0], 4), bool)
    allowed[:, [0, *ids]] = True
    return allowed


@pytest.mark.parametrize("name", LABELLERS)
def test_every_labeller_keeps_to_tags_and_voids_and_can_be_pickled(name: str) -> None:
    frames, _, motion, scores = shot(objects=2)
    valid = np.ones(SIZE, bool)
    valid[:, :3] = False
    labeller = make_labeller(name)
    for ids in ((1,), (1, 3), ()):
        labels = labeller(frames, tags(*ids), scores, motion, valid)
        assert labels.dtype == np.uint8 and ((labels == VOID) == ~valid).all()
        assert set(np.unique(labels[valid])) == {0, *ids}
        again = pickle.loads(pickle.dumps(labeller))(frames, tags(*ids), scores, motion, valid)
        np.testing.assert_array_equal(again, labels)


def test_motion_is_label_prediction_with_its_settings() -> None:
    frames, _, motion, scores = shot()
    settings = LabelPredictionSettings(alpha=2.0, iterations=1)
    expected = predict_labels(frames, scores, [1], motion=motion, settings=settings)
    valid = np.ones(SIZE, bool)
    np.testing.assert_array_equal(MotionLabeller(settings)(frames, tags(1), scores, motion, valid), expected)
    made = make_labeller("motion", alpha=2.0, iterations=1)
    assert made == MotionLabeller(settings)
    mixed = tags(1)
    mixed[2, 3] = True
    with pytest.raises(DataError, match="share its tags"):
        made(frames, mixed, scores, motion, valid)


def test_hard_copies_the_segment_and_the_best_tag() -> None:
    frames, _, motion, scores = shot(objects=2)
    valid = np.ones(SIZE, bool)
    np.testing.assert_array_equal(HardLabeller()(frames, tags(3), scores, motion, valid), 3 * (motion > 0.5))
    labels = HardLabeller()(frames, tags(1, 3), scores, motion, valid)
    segment = motion > 0.5
    np.testing.assert_array_equal(labels > 0, segment)
    np.testing.assert_array_equal(labels[segment] == 3, (scores[:, 3] > scores[:, 1])[segment])
    with pytest.raises(DataError, match="Segment the motion"):
        HardLabeller()(frames, tags(1), scores, None, valid)


def test_still_images_have_their_own_tags() -> None:
    frames, _, _, scores = shot(objects=2)
    allowed = tags(1)
    allowed[1] = [True, False, False, True]
    valid = np.ones(SIZE, bool)
    for name in ("network", "em_adapt"):
        labels = make_labeller(name)(frames, allowed, scores, None, valid)
        assert set(np.unique(labels[0])) == {0, 1} and set(np.unique(labels[1])) == {0, 3}
    alone = NetworkLabeller()(frames[1:2], allowed[1:2], scores[1:2], None, valid[1:2])
    np.testing.assert_array_equal(NetworkLabeller()(frames, allowed, scores, None, valid)[1:2], alone)
    np.testing.assert_array_equal(labels[1], em_adapt_labels(scores[1], [3]))


def test_typos_name_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'motion'"):
        make_labeller("motoin")
    with pytest.raises(DataError, match="did you mean 'alpha'"):
        make_labeller("motion", alhpa=1.0)
    with pytest.raises(DataError, match="did you mean 'foreground'"):
        make_labeller("em_adapt", foregroud=0.1)
    with pytest.raises(DataError, match="unknown option 'alpha'"):
        make_labeller("hard", alpha=1.0)


def test_shapes_are_checked() -> None:
    frames, _, motion, scores = shot()
    valid = np.ones(SIZE, bool)
    with pytest.raises(DataError, match="allowed"):
        make_labeller("motion")(frames, tags(1)[0], scores, motion, valid)
    with pytest.raises(DataError, match="scores"):
        make_labeller("hard")(frames, tags(1), scores[:, :3], motion, valid)
