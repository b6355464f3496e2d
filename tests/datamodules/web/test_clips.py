from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.video import VideoReader
from datamodules.web.clips import choose, cut_clips, windows
from datamodules.web.manifest import Decision
from datamodules.web.settings import RetrieveSettings
from datamodules.web.sources import VideoHit
from pseudolabel.types import FloatArray, UInt8Array
from tests.datamodules.web.fakes import FPS, GREY, RED, cut, encode, frames_of, score

HIT = VideoHit("a1", "Rex", "dog", "a1.jpg")


def dog(images: list[UInt8Array]) -> FloatArray:
    return score(images)[:, 0]


def clips_of(path: Path, folder: Path, **changes: object) -> list[Decision]:
    settings = RetrieveSettings(**{"margin": 0.5, **changes})  # type: ignore[arg-type]
    return cut_clips("dog", HIT, path, dog, folder, settings)  # type: ignore[arg-type]


def test_windows_are_clipped_and_merged() -> None:
    assert windows([1.0, 9.0, 4.9, 13.5], 2.0) == [(0.0, 6.9), (7.0, 11.0), (11.5, 15.5)]
    assert windows([1.0, 5.0], 2.0) == [(0.0, 7.0)]  # they touch
    assert windows([], 2.0) == []


def test_the_best_key_frames_are_chosen() -> None:
    settings = RetrieveSettings(key_frames_per_video=2)
    kept, reasons = choose([0.9, 0.8, 0.95, 0.9, 0.1], [0.0, 1.0, 2.0, 3.0, 4.0], settings)
    assert kept == {0, 2}  # of the equal ones, the earlier; 0.8 is not above 0.8
    assert [reason.split()[0:2] for reason in reasons] == [
        ["among", "the"], ["score", "not"], ["among", "the"], ["not", "among"], ["score", "not"]
    ]  # fmt: skip


def test_clips_show_what_passed(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", frames_of("grggrrgp"))
    rows = clips_of(path, tmp_path)
    keys = [row for row in rows if row.step == "key_frame"]
    assert [(row.seconds, row.kept) for row in keys] == [(float(t), t in (1, 4, 5)) for t in range(8)]
    shots = [row for row in rows if row.step == "window"]
    assert [(row.start, row.stop, row.kept) for row in shots] == [
        (pytest.approx(0.6), pytest.approx(1.6), True),
        (pytest.approx(3.6), pytest.approx(5.6), True),
    ]
    assert [row.reason for row in shots] == ["around 1 key frame", "around 2 key frames"]
    assert (shots[0].seconds, shots[0].score) == (1.0, keys[1].score)
    assert shots[1].score == max(keys[4].score or 0, keys[5].score or 0)
    clip = VideoReader(tmp_path / shots[1].file)
    assert clip.fps == FPS and len(clip) == 10
    first, last = clip.read([0, 9])
    np.testing.assert_allclose(first.reshape(-1, 3).mean(0), GREY, atol=8)
    np.testing.assert_allclose(last.reshape(-1, 3).mean(0), RED, atol=8)


def test_windows_end_at_cuts_if_wanted(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", frames_of("grggbrrgp"))
    rows = clips_of(path, tmp_path, trim_at_cuts=True, margin=1.5)
    shots = [row for row in rows if row.step == "window"]
    # Around 1, 5 and 6 s lie 0 to 2.5 and 3.5 to 7.5 s; the red of the key frames lasts from 1 to 2 and from 5 to 7.
    assert [(row.start, row.stop, row.seconds) for row in shots] == [
        (pytest.approx(1.0), pytest.approx(2.0), 1.0),
        (pytest.approx(5.0), pytest.approx(7.0), row_of_best(rows, {5.0, 6.0})),
    ]
    assert [row.reason for row in shots] == ["around 1 key frame", "around 2 key frames"]
    assert [len(VideoReader(tmp_path / row.file)) for row in shots] == [5, 10]


def test_a_window_without_cuts_stays_as_it_is(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", frames_of("rrrr"))
    whole, trimmed = (clips_of(path, tmp_path, trim_at_cuts=trim) for trim in (False, True))
    assert whole == trimmed


def row_of_best(rows: list[Decision], times: set[float]) -> float | None:
    among = [row for row in rows if row.step == "key_frame" and row.seconds in times]
    return max(among, key=lambda row: (row.score, -(row.seconds or 0.0))).seconds


def test_the_cap_of_key_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", frames_of("rrrrgg"))
    rows = clips_of(path, tmp_path, key_frames_per_video=2)
    assert sum(row.kept for row in rows if row.step == "key_frame") == 2


def test_what_was_left_by_a_start_that_was_stopped_is_removed(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", frames_of("rg"))
    stale = [tmp_path / "dog.a1.00009000.mp4", tmp_path / "dog.a12.00009000.mp4", tmp_path / "cat.a1.00009000.mp4"]
    for file in stale:
        file.write_bytes(b"")
    clips_of(path, tmp_path)
    assert [file.exists() for file in stale] == [False, True, True]


def test_a_video_that_ends_mid_file_gives_what_is_there(tmp_path: Path) -> None:
    frames = frames_of("rrrrrrrr")
    frames[:, ::2] = np.random.default_rng(0).integers(0, 40, frames[:, ::2].shape) + np.array([180, 0, 0], np.uint8)
    path = cut(encode(tmp_path / "v.mp4", frames.astype(np.uint8)), 0.6)
    rows = clips_of(path, tmp_path)
    seen = [row for row in rows if row.step == "key_frame"]
    assert not seen[-1].kept and "ends mid-file" in seen[-1].reason and seen[-1].seconds is None
    (window,) = [row for row in rows if row.step == "window"]
    assert window.kept and "is torn between" in window.reason
    VideoReader(tmp_path / window.file).check()
    assert window.stop is not None and 2 < window.stop < 6


def test_one_key_frame_is_told(tmp_path: Path) -> None:
    rows = clips_of(encode(tmp_path / "v.mp4", frames_of("rrr"), gop=250), tmp_path)
    assert "no other key frame" in rows[0].reason and rows[1].stop == pytest.approx(0.6)


def test_no_video_is_told(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"<html>")
    (row,) = clips_of(path, tmp_path)
    assert not row.kept and row.step == "key_frame" and "truncated or damaged" in row.reason


def test_frames_that_change_their_size_end_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "v.mp4", frames_of("rrr"))
    sizes = iter([(32, 32), (32, 32), (16, 32)])
    monkeypatch.setattr(
        "datamodules.web.clips.read_timed_window",
        lambda *_: ((number / FPS, np.zeros((*size, 3), np.uint8)) for number, size in enumerate(sizes)),
    )
    (window,) = [row for row in clips_of(path, tmp_path) if row.step == "window"]
    assert window.kept and "frames must be uint8 (32, 32, 3)" in window.reason
    assert len(VideoReader(tmp_path / window.file)) == 2


def test_images_are_scored_in_batches_and_not_kept(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", frames_of("rgrgrgr"))
    batches: list[int] = []

    def count(images: list[UInt8Array]) -> FloatArray:
        batches.append(len(images))
        return dog(images)

    cut_clips("dog", HIT, path, count, tmp_path, RetrieveSettings(batch=3, margin=0.2))  # type: ignore[arg-type]
    assert batches == [3, 3, 1]
