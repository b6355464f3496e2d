from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from datamodules.motion_masks import MotionMasks
from datamodules.records import VideoRecord
from modules.crf_predictor import CrfPredictor
from pseudolabel.types import LabelSpace, Tag
from recipes import mcnn_scores
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


@pytest.mark.parametrize("enabled", [False, True])
def test_the_dense_crf_follows_the_model_if_it_is_wanted(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[Any] = []
    monkeypatch.setattr(mcnn_scores, "score_segmenter", lambda space, model, records, radius: scored.append(model))
    cfg = OmegaConf.create({"score_frames": None, "crf": {"enabled": enabled, "iterations": 3}})
    model: Any = SimpleNamespace(space=SPACE, max_side=None, decision="likeliest")
    workspace: Any = SimpleNamespace(cfg=cfg, train=[video("rex", "dog")], test=[video("max", "dog")])
    assert set(mcnn_scores.score_model(workspace, model, None)) == {"train", "test"}
    assert len(scored) == 2
    for one in scored:
        assert isinstance(one, CrfPredictor) == enabled and (
            one.options == {"iterations": 3} if enabled else one is model
        )
