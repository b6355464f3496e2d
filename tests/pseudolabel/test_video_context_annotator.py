from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pseudolabel.annotate import annotate
from pseudolabel.store import PAStore
from pseudolabel.types import Clip, DataError, Tag
from pseudolabel.video_context import VideoContext
from pseudolabel.video_context_annotator import VideoContextAnnotator
from pseudolabel.video_context_energy import VideoContextSettings, infer_masks
from tests.pseudolabel.contexts import two_shots


@dataclass(frozen=True)
class FromFolder:
    folder: Path

    def __call__(self, video: str) -> VideoContext:
        return VideoContext.load(self.folder / f"{video}.npz")


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    frames, _, context = two_shots()
    context.save(tmp_path / "square.npz")
    return Clip(frames, context.indices, "square", 25.0, (Tag("square"),))


def test_it_annotates_the_key_frames(clip: Clip, tmp_path: Path) -> None:
    settings = VideoContextSettings(lambda_r=0.2, lambda_e=0.8)
    annotator = pickle.loads(pickle.dumps(VideoContextAnnotator(FromFolder(tmp_path), 3, settings)))
    _, masks, context = two_shots()
    scores = np.repeat(np.where(masks, 0.9, 0.05).astype(np.float32)[:, None], 4, axis=1)
    for given in (None, scores):
        found, expected = annotator(clip, given), infer_masks(context, given, settings, label=3)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.quality, expected.quality)
        assert set(np.unique(found.labels)) == {0, 3}


def test_annotate_skips_a_damaged_context_and_goes_on(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "torn.npz").write_bytes((tmp_path / "square.npz").read_bytes()[:500])
    store = PAStore(tmp_path / "pa")
    clips = [(replace(clip, name="torn"), None), (clip, None)]
    skipped = annotate(clips, VideoContextAnnotator(FromFolder(tmp_path)), store, 0)
    assert [video for video, _ in skipped] == ["torn"] and "make it anew" in skipped[0][1]
    assert store.is_written(0, "square")


def test_another_clip_is_refused(clip: Clip, tmp_path: Path) -> None:
    annotator = VideoContextAnnotator(FromFolder(tmp_path))
    with pytest.raises(DataError, match=r"Video 'square': the clip has frames \[1, 5, 10, 21, \.\.\.\] \(6\)"):
        annotator(replace(clip, indices=clip.indices + 1), None)
    with pytest.raises(DataError, match=r"size \(12, 32\)"):
        annotator(replace(clip, frames=clip.frames[:, ::2]), None)
    with pytest.raises(DataError, match="Video 'square': Video context: scores"):
        annotator(clip, np.zeros((6, 2, 3, 3), np.float32))
