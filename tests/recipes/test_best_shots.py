from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from datamodules.shot_store import ShotRecord, ShotStore
from modules.segmenter import Segmenter
from pseudolabel.decision import Decision
from pseudolabel.types import LabelSpace, Tag
from recipes.best_shots import best_shots, frame_overlaps, shot_overlaps

SPACE = LabelSpace((Tag("green"), Tag("red")))


class Everywhere:
    """A network that says "green" in the left half and "red" in the right one."""

    decision: Decision = "likeliest"

    def predict_scores(self, frames: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(frames), 3, *frames.shape[1:3]), np.float32)
        half = frames.shape[2] // 2
        scores[:, 1, :, :half], scores[:, 2, :, half:] = 1, 1
        return scores


@pytest.fixture
def store(tmp_path: Path) -> ShotStore:
    """Motion in 1, 2 or 3 of 4 left columns of green shots; of a red shot, in the left half, where red never is."""
    store = ShotStore(tmp_path / "shots")
    for video, tag, columns in (("a", "green", (1, 3, 2)), ("b", "red", (4,))):
        for number, count in enumerate(columns):
            motion = np.zeros((2, 4, 8), np.float32)
            motion[..., :count] = 1
            shot = ShotRecord(video, number, 10 * number, 10 * number + 2, (Tag(tag),))
            store.write(shot, np.zeros((2, 4, 8, 3), np.uint8), np.arange(2), motion)
        store.mark_done(video)
    return store


def overlaps_of(store: ShotStore, folder: Path, network: Any = None) -> dict[str, float]:
    folder.mkdir(exist_ok=True)
    return shot_overlaps(folder, cast(Segmenter, network or Everywhere()), store, store.records(), SPACE)


def test_the_best_shot_of_each_video_is_chosen(store: ShotStore, tmp_path: Path) -> None:
    overlaps = overlaps_of(store, tmp_path / "stage_b")
    assert overlaps == {"a-shot000": 0.25, "a-shot001": 0.75, "a-shot002": 0.5, "b-shot000": 0.0}
    assert [shot.name for shot in best_shots(store.records(), overlaps, least=0.2)] == ["a-shot001"]
    assert [shot.name for shot in best_shots(store.records(), overlaps, least=0.0)] == ["a-shot001", "b-shot000"]
    assert best_shots(store.records(), overlaps, least=0.76) == []


def test_the_choice_is_kept_on_disk(store: ShotStore, tmp_path: Path) -> None:
    first = overlaps_of(store, tmp_path / "stage_b")
    assert json.loads((tmp_path / "stage_b/shots.json").read_text()) == first
    assert overlaps_of(store, tmp_path / "stage_b", network="never asked") == first


def test_ranks_share_the_work_and_agree(store: ShotStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = overlaps_of(store, tmp_path / "whole")
    others = dict(list(whole.items())[1::2])
    asked = []

    class Counting(Everywhere):
        def predict_scores(self, frames: np.ndarray) -> np.ndarray:
            asked.append(len(frames))
            return super().predict_scores(frames)

    monkeypatch.setattr("recipes.best_shots.own_share", lambda items: list(items[0::2]))
    monkeypatch.setattr("recipes.best_shots.gather_lists", lambda items: [*items, *others.items()])
    assert overlaps_of(store, tmp_path / "shared", Counting()) == whole
    assert len(asked) == len(whole) - len(others)
    monkeypatch.setattr("recipes.best_shots.from_rank_zero", lambda value: {"a-shot000": 1.0})
    assert overlaps_of(store, tmp_path / "told") == {"a-shot000": 1.0}


def test_overlap_of_frames_by_hand() -> None:
    first = np.zeros((3, 2, 2), bool)
    second = first.copy()
    first[0, 0], second[0, :, 0] = True, True  # 1 of 3 pixels
    first[1], second[1] = True, True
    assert frame_overlaps(first, second) == pytest.approx([1 / 3, 1, 0])
