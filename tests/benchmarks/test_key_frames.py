from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.key_frames import lengthen, main, measure, moving_picture, ten_minutes
from datamodules.video import VideoReader
from tests.datamodules.fakes import grey_frames, write_clip


def test_a_video_is_repeated_to_its_length(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "part.mp4", grey_frames(5, (32, 48)), fps=5)
    lengthen(source, tmp_path / "long.mp4", seconds=2.5)
    once, frames = list(VideoReader(source)), list(VideoReader(tmp_path / "long.mp4"))
    np.testing.assert_array_equal(frames, once * 3)
    VideoReader(tmp_path / "long.mp4").check()


def test_the_pictures_move() -> None:
    frames = np.stack(list(moving_picture(3, (32, 48))))
    assert frames.shape == (3, 32, 48, 3) and frames.dtype == np.uint8
    assert np.abs(np.diff(frames.astype(int), axis=0)).mean() > 1 and frames.std() > 20


def test_a_row_tells_what_was_read(tmp_path: Path) -> None:
    path = ten_minutes(tmp_path, size=(32, 48), seconds=3.0, part=1.0)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    row = measure(path, repeats=1)
    assert (row.frames, row.keys, row.seconds) == (75, 3, pytest.approx(3.0))
    assert min(row.decode, row.read, row.scan) > 0
    before = path.stat().st_mtime_ns
    assert ten_minutes(tmp_path, size=(32, 48), seconds=3.0, part=1.0) == path and path.stat().st_mtime_ns == before


def test_the_table_and_its_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_clip(tmp_path / "mine.mp4")
    options = ["--seconds", "1", "--part", "1", "--repeats", "1"]
    assert main([str(tmp_path / "made"), str(clip), *options]) == 0
    printed = capsys.readouterr().out
    assert "mine" in printed and "426x240" in printed and "RGB ratio" in printed
    assert main([str(tmp_path / "made"), str(tmp_path / "absent.mp4"), *options]) == 1
    assert "absent.mp4" in capsys.readouterr().err
