from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.motion import scene
from benchmarks.video_graph import load_frames, main, peak_memory, redness, stage_times
from pseudolabel.video_graph_settings import VideoGraphSettings

SETTINGS = VideoGraphSettings(num_superpixels=60, window=3, overlap=1)


def test_every_stage_takes_time_and_the_whole_is_about_their_sum() -> None:
    frames = list(scene(6, height=96, width=128))
    stages, whole = stage_times(frames, list(redness(frames)), SETTINGS)
    assert len(stages) == 7 and whole > 0 and stages["flow"] > 0
    assert 0.3 < sum(stages.values()) / whole < 3


def test_the_stand_in_for_attention_lies_on_the_object() -> None:
    frame = np.full((60, 80, 3), 100, np.uint8)
    frame[20:40, 30:50, 0] = 200
    (attention,) = redness([frame])
    assert attention.shape == (60, 80) and attention.min() >= 0
    assert np.unravel_index(attention.argmax(), attention.shape) in {(y, x) for y in (29, 30) for x in (39, 40)}


def test_peak_memory_is_that_of_a_process() -> None:
    assert 10 < peak_memory(3, SETTINGS) < 1e5


def test_frames_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, frame in enumerate(scene(3, height=96, width=512)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame)
    frames = load_frames(tmp_path, most=2)
    assert len(frames) == 2 and frames[0].shape == (80, 427, 3)
    assert main(["--frames", str(tmp_path), "--lengths"]) == 0
    printed = capsys.readouterr().out
    assert "3 frames of 427x80" in printed and "cut" in printed
    (tmp_path / "1.png").write_bytes(b"no picture")
    assert main(["--frames", str(tmp_path), "--lengths"]) == 1
    assert "1.png' cannot be read" in capsys.readouterr().err
    assert main(["--frames", str(tmp_path / "none"), "--lengths"]) == 1
    assert "expected the frames of a video" in capsys.readouterr().err
