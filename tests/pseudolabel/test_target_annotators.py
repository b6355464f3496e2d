from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.target_annotators import ImageLevelAnnotator, TaggedOnly
from pseudolabel.types import Annotation, Clip, DataError, FloatArray, Scores, Tag


def clip(*tags: Tag) -> Clip:
    return Clip(np.zeros((2, 10, 10, 3), np.uint8), np.array([3, 7]), "video", 5.0, tags)


def everything(given: Clip, scores: Scores | None) -> Annotation:
    return Annotation(np.ones(given.frames.shape[:3], np.uint8), np.full(2, 0.5, np.float32))


def ramp(frames: np.ndarray) -> FloatArray:
    """Scores of the target that rise from left to right, from 0 to 0.9."""
    target = np.broadcast_to(np.arange(10, dtype=np.float32) / 10, frames.shape[:3])
    return np.stack([1 - target, target], axis=1)


def test_videos_without_the_tag_are_background() -> None:
    annotator = TaggedOnly(everything)
    assert annotator(clip(Tag("cat")), None).labels.all()
    found = annotator(clip(), ramp(clip().frames))
    assert not found.labels.any() and (found.quality == 1).all()


def test_the_tag_is_promised_a_fifth_of_every_frame() -> None:
    annotator = ImageLevelAnnotator(ramp)
    first = annotator(clip(Tag("cat")), None)
    assert (first.quality == 1).all() and first.labels[:, :, -2:].all() and not first.labels[:, :, :4].any()
    later = annotator(clip(Tag("cat")), ramp(clip().frames) * np.array([1, 0.99])[:, None, None].astype(np.float32))
    np.testing.assert_allclose(later.quality, 0.4), "the four columns in which the target wins"


def test_scores_of_more_classes_are_refused() -> None:
    with pytest.raises(DataError, match="expected scores of background and target, got 3"):
        ImageLevelAnnotator(ramp)(clip(Tag("cat")), np.zeros((2, 3, 10, 10), np.float32))
