from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datamodules.motion_masks import MotionMasks
from datamodules.records import VideoRecord
from pseudolabel.types import LabelSpace, Tag
from recipes.mcnn_scores import score_motion

SPACE = LabelSpace((Tag("cat"), Tag("dog")))


def video(name: str, *tags: str, annotated: tuple[int, ...] = (0, 2, 9)) -> VideoRecord:
    return VideoRecord(name, Path(name), tuple(Tag(tag) for tag in tags), "train", annotated)


def test_only_videos_of_one_tag_measure_the_motion_segments(tmp_path: Path) -> None:
    """The dog's segments are right; what moves in the video of two tags is no cat, though that tag comes first."""
    masks, moved = MotionMasks(tmp_path), np.zeros((3, 4, 6), bool)
    moved[:, 1:3, 2:5] = True
    for name in ("rex", "both", "plain"):
        masks.write(name, moved)
    truth = {"rex": moved.astype(np.uint8) * 2, "both": moved.astype(np.uint8) * 2}
    cfg = SimpleNamespace(score_frames=None)
    workspace: Any = SimpleNamespace(
        space=SPACE, cfg=cfg, truth=lambda record, frame, size: truth[record.name][frame].reshape(size)
    )
    records = [video("rex", "dog"), video("both", "cat", "dog"), video("plain", "dog", annotated=())]
    found = score_motion(workspace, masks, [*records, video("unseen", "dog")])
    assert found["jaccard"] == pytest.approx(1.0) and found["frames"] == 2  # frame 9 lies beyond the end
    assert (found["videos"], found["all_videos"]) == (1, 2)
    cfg.score_frames = 1
    assert score_motion(workspace, masks, records)["frames"] == 1
    assert score_motion(workspace, masks, records[1:]) == {}
