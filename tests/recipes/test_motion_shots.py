from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.motion_masks import MotionMasks
from datamodules.records import VideoRecord
from datamodules.shot_store import ShotStore
from pseudolabel.motion import stream_motion
from pseudolabel.motion_settings import motion_settings
from pseudolabel.types import DataError, Tag
from recipes.motion_shots import check_settings, find_motion_shots
from tests.datamodules.fakes import write_frames
from tests.recipes.moving import draw_shot

OPTIONS = {"least_frames": 6, "least_share": 0.025, "most_share": 0.5, "count": 4, "longest": 1000}
MOTION: dict[str, Any] = {"preset": "robust", "num_superpixels": 120}


def find(records: list[VideoRecord], folder: Path, **changes: Any) -> dict[str, Any]:
    options = {**OPTIONS, **changes}
    return find_motion_shots(records, folder, max_side=None, options=options, motion=MOTION, workers=1)


@pytest.fixture
def video(tmp_path: Path) -> tuple[VideoRecord, np.ndarray]:
    parts = [draw_shot("red", frames=8, seed=seed) for seed in (1, 2)]
    path = write_frames(tmp_path / "rex", np.concatenate([part[0] for part in parts]))
    return VideoRecord("rex", path, (Tag("red"),), "train"), np.concatenate([part[1] for part in parts])


def test_shots_are_cut_segmented_pruned_and_sampled(tmp_path: Path, video: tuple[VideoRecord, np.ndarray]) -> None:
    record, truth = video
    found = find([record], tmp_path)
    assert {key: found[key] for key in ("frames", "shots", "kept")} == {"frames": 16, "shots": 2, "kept": 2}
    masks = MotionMasks(tmp_path / "masks").read("rex")
    assert (masks & (truth > 0)).sum() / (masks | (truth > 0)).sum() > 0.6
    shots = ShotStore(tmp_path / "shots")
    assert [shot.name for shot in shots.records()] == ["rex-shot000", "rex-shot001"]
    for shot in shots.records():
        frames, indices, motion = shots.read(shot.name)
        assert len(frames) == OPTIONS["count"] and shot.stop - shot.start >= OPTIONS["least_frames"]
        assert (indices >= shot.start).all() and (indices < shot.stop).all() and (np.diff(indices) > 0).all()
        assert np.array_equal(motion > 0.5, masks[indices])


def test_long_shots_are_taken_in_parts(tmp_path: Path, video: tuple[VideoRecord, np.ndarray]) -> None:
    assert find([video[0]], tmp_path, longest=4, least_frames=3)["shots"] == 4


def test_a_finished_video_is_not_done_again(tmp_path: Path, video: tuple[VideoRecord, np.ndarray]) -> None:
    first = find([video[0]], tmp_path)
    video[0].path.rename(tmp_path / "gone")
    assert find([video[0]], tmp_path) == first


@pytest.mark.parametrize(
    ("change", "named"), [({"count": 5}, "shots.count: 4 there, 5 now"), ({"longest": 9}, "shots.longest: 1000 there")]
)
def test_other_settings_are_refused(
    tmp_path: Path, video: tuple[VideoRecord, np.ndarray], change: dict[str, int], named: str
) -> None:
    find([video[0]], tmp_path)
    with pytest.raises(DataError, match=named):
        find([video[0]], tmp_path, **change)
    with pytest.raises(DataError, match=r"max_side: None there, 32 now; motion\.num_superpixels: 120 there, 90 now"):
        check_settings(tmp_path, max_side=32, options=OPTIONS, motion={**MOTION, "num_superpixels": 90})


def test_still_shots_are_counted_in_silence(
    tmp_path: Path, video: tuple[VideoRecord, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    still, _ = draw_shot("red", frames=1, seed=3)
    path = write_frames(tmp_path / "still", np.concatenate([draw_shot("red", frames=8, seed=1)[0], *[still] * 8]))
    found = find([VideoRecord("still", path, (Tag("red"),), "train")], tmp_path)
    assert (found["shots"], found["kept"], found["still"]) == (2, 1, 1)
    assert not caplog.records
    list(stream_motion([still[0]] * 8, settings=motion_settings(**MOTION)))
    assert "no motion" in caplog.text  # elsewhere it is said


def test_what_cannot_be_read_is_listed(tmp_path: Path, video: tuple[VideoRecord, np.ndarray]) -> None:
    missing = VideoRecord("gone", tmp_path / "gone.mp4", (Tag("red"),), "train")
    found = find([missing, video[0]], tmp_path)
    assert found["kept"] == 2 and [name for name, _ in found["skipped"]] == ["gone"]


def test_no_motion_at_all_ends_with_the_cure(tmp_path: Path, video: tuple[VideoRecord, np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"No shot with usable motion: 2 shots of 1 videos.*least_frames"):
        find([video[0]], tmp_path, least_frames=20)
