from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.key_frame_store import KeyFrames, KeyFrameStore
from datamodules.target import TargetSource
from recipes.key_frame_workspace import KeyFrameWorkspace, open_key_frames
from recipes.workspace import open_source
from tests.recipes.human_toys import boxes_table, human_config
from tests.recipes.moving import moving_folder


@pytest.fixture
def workspace(tmp_path: Path) -> KeyFrameWorkspace:
    """Three videos that show red, with 1, 2 and 4 key frames; three that do not; one broken."""
    data = moving_folder(tmp_path / "data", videos=6)
    boxes_table(data)
    cfg = human_config(data, tmp_path)
    store = KeyFrameStore(tmp_path / "key_frames")
    for name, count in (("video1", 1), ("video3", 2), ("video5", 4)):
        maps = np.zeros((count, 48, 64), np.int32)
        store.write(name, KeyFrames(np.arange(count) * 3, np.zeros(count, np.int32), maps), frames=16)
    source = TargetSource(open_source(cfg.data), "red")
    (data / "video4/00002.png").unlink()
    return open_key_frames(cfg, tmp_path, source, store, [])


def test_key_frames_stand_for_videos_with_the_tag(workspace: KeyFrameWorkspace) -> None:
    assert workspace.clip("video5").indices.tolist() == [0, 3, 6, 9]
    assert len(workspace.clip("video0").indices) == 3 and not workspace.clip("video0").tags


def test_frames_are_held_back_over_all_videos_with_the_tag(workspace: KeyFrameWorkspace) -> None:
    held = {name: workspace.positions(record, validation=True) for name, record in workspace.by_name.items()}
    taught = {name: workspace.positions(record, validation=False) for name, record in workspace.by_name.items()}
    assert {name: found for name, found in held.items() if found} == {"video3": [0], "video5": [1]}
    assert taught["video1"] == [0] and taught["video5"] == [0, 2, 3] and len(taught["video0"]) == 3
