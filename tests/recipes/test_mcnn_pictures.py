from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datamodules.records import VideoRecord
from datamodules.shot_store import ShotRecord, ShotStore
from pseudolabel.types import LabelSpace, Tag
from recipes.mcnn_pictures import ShotPictures, ShotVersions, motion_labels

SPACE = LabelSpace((Tag("cat"), Tag("dog")))
DOG = (Tag("dog"),)


def shot(number: int, start: int) -> ShotRecord:
    return ShotRecord("rex", number, start, start + 10, DOG)


@pytest.fixture
def store(tmp_path: Path) -> ShotStore:
    """Two shots, of frames 0, 2, 4, 6 and of 10, 12, 14, 16, whose brightness is their number."""
    store = ShotStore(tmp_path / "shots")
    for number in range(2):
        indices = 10 * number + np.arange(0, 8, 2)
        frames = np.broadcast_to(indices[:, None, None, None], (4, 6, 8, 3)).astype(np.uint8)
        store.write(shot(number, 10 * number), frames, indices, np.full((4, 6, 8), 0.6, np.float32))
    store.mark_done("rex")
    return store


def workspace(*annotated: int) -> Any:
    record = VideoRecord("rex", Path("rex.mp4"), DOG, "train", annotated)
    return SimpleNamespace(
        by_name={"rex": record}, cache=SimpleNamespace(fps=lambda record: 25.0), truth=lambda *_: None
    )


@pytest.mark.parametrize(
    ("annotated", "chosen"),
    [((), 4), ((1, 3), 4), ((0,), 0), ((10, 16), 16), ((0, 12), 12), ((6, 14), 14)],
)
def test_a_frame_with_a_true_mask_is_shown(store: ShotStore, annotated: tuple[int, ...], chosen: int) -> None:
    """The nearest to the middle of its shot, of positions 0 to 3 position 2; without any, the first shot's middle."""
    clip = ShotPictures(workspace(*annotated), store, {"rex": store.records()}).clip("rex")
    assert clip.indices.tolist() == [chosen] and clip.frames.shape == (1, 6, 8, 3)
    assert (clip.frames == chosen).all()


def test_a_version_holds_all_shots_and_is_written_once(store: ShotStore, tmp_path: Path) -> None:
    versions = ShotVersions(tmp_path, workspace(), store, {"rex": store.records()})
    seen: list[str] = []

    def label(record: ShotRecord, frames: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(record.name)
        return np.full(frames.shape[:3], 1 + record.number, np.uint8), np.full(len(frames), 0.5, np.float32)

    versions.write(0, label)
    versions.write(0, label)
    assert seen == ["rex-shot000", "rex-shot001"]
    assert [(row.frame, row.quality) for row in versions.versions.index(0)] == [
        (frame, 0.5) for frame in (0, 2, 4, 6, 10, 12, 14, 16)
    ]
    assert (versions.versions.read(0, "rex", 6) == 1).all() and (versions.versions.read(0, "rex", 10) == 2).all()
    assert (tmp_path / "pictures/v0.png").exists()


def test_motion_segments_as_labels_by_hand() -> None:
    motion = np.zeros((2, 2, 2), np.float32)
    motion[0, 0] = 0.8, 0.6
    motion[0, 1] = 0.4, 0.5  # 0.5 is not above
    labels, quality = motion_labels(SPACE)(shot(0, 0), np.zeros((2, 2, 2, 3), np.uint8), motion)
    assert labels.tolist() == [[[2, 2], [0, 0]], [[0, 0], [0, 0]]]
    assert quality == pytest.approx([0.7, 0.0])
