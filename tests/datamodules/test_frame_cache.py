from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules import frame_cache
from datamodules.frame_cache import FrameCache
from datamodules.records import VideoRecord
from datamodules.video import VideoReader
from pseudolabel.superpixels import segment_superpixels
from pseudolabel.types import DataError, Tag
from tests.datamodules.fakes import frame_numbers, grey_frames, write_clip, write_frames

TAGS = (Tag("cat"),)


def record(path: Path, *annotated: int) -> VideoRecord:
    return VideoRecord(path.stem, path, TAGS, "train", annotated)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The videos that have been opened."""
    seen: list[Path] = []

    class Spy(VideoReader):
        def __init__(self, path: str | Path) -> None:
            seen.append(Path(path))
            super().__init__(path)

    monkeypatch.setattr(frame_cache, "VideoReader", Spy)
    return seen


def test_a_video_is_decoded_once(tmp_path: Path, opened: list[Path]) -> None:
    video = record(write_frames(tmp_path / "cat", grey_frames(10)))
    cache = FrameCache(tmp_path / "cache", frames_per_video=5)
    assert cache.prepare([video]) == []
    assert frame_numbers(cache.frames(video)) == [1, 3, 5, 7, 9]
    assert cache.indices(video).tolist() == [1, 3, 5, 7, 9]
    assert (cache.length(video), cache.fps(video)) == (10, 25.0)
    assert cache.prepare([video]) == []
    again = FrameCache(tmp_path / "cache", frames_per_video=5)
    assert frame_numbers(again.frames(video)) == [1, 3, 5, 7, 9]
    assert len(opened) == 1


def test_other_settings_read_no_stale_frames(tmp_path: Path) -> None:
    video = record(write_frames(tmp_path / "cat", grey_frames(10, (32, 64))))
    assert len(FrameCache(tmp_path / "cache", frames_per_video=5).frames(video)) == 5
    assert len(FrameCache(tmp_path / "cache", frames_per_video=2).frames(video)) == 2
    assert len(FrameCache(tmp_path / "cache", frames_per_video=None).frames(video)) == 10
    small = FrameCache(tmp_path / "cache", frames_per_video=5, max_side=32)
    assert small.frames(video).shape == (5, 16, 32, 3)


def test_videos_of_one_name_in_two_places_do_not_mix(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", frames_per_video=None)
    one = record(write_frames(tmp_path / "a" / "cat", grey_frames(2)))
    two = record(write_frames(tmp_path / "b" / "cat", grey_frames(3)))
    assert (len(cache.frames(one)), len(cache.frames(two))) == (2, 3)


def test_sparsely_annotated_frames_are_always_sampled(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "cat", grey_frames(10))
    assert FrameCache(tmp_path / "a", frames_per_video=2).indices(record(path, 0, 9)).tolist() == [0, 2, 7, 9]
    assert FrameCache(tmp_path / "b", frames_per_video=2).indices(record(path, *range(10))).tolist() == [2, 7]


def test_broken_videos_are_named_and_the_others_kept(tmp_path: Path) -> None:
    good, bad = record(write_clip(tmp_path / "good.mp4")), record(write_clip(tmp_path / "bad.mp4"))
    bad.path.write_bytes(bad.path.read_bytes()[:300])
    cache = FrameCache(tmp_path / "cache", frames_per_video=None)
    failed = cache.prepare([good, bad], workers=2)
    assert [name for name, _ in failed] == ["bad"]
    assert "bad.mp4" in failed[0][1]
    assert frame_numbers(cache.frames(good)) == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"bad\.mp4"):
        cache.frames(bad)


def test_read_decodes_only_what_the_cache_lacks(tmp_path: Path, opened: list[Path]) -> None:
    video = record(write_frames(tmp_path / "cat", grey_frames(10, (32, 64))))
    cache = FrameCache(tmp_path / "cache", frames_per_video=5, max_side=32)
    assert frame_numbers(cache.read(video, [9, 1, 1])) == [9, 1, 1]
    assert len(opened) == 1
    every = cache.read(video, np.arange(10))
    assert frame_numbers(every) == list(range(10))
    assert every.shape == (10, 16, 32, 3)
    assert len(opened) == 2


def test_superpixels_are_computed_once_for_each_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(frame: np.ndarray, **options: float) -> np.ndarray:
        calls.append(int(options["n"]))
        return segment_superpixels(frame, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(frame_cache, "segment_superpixels", counted)
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    video = record(write_frames(tmp_path / "cat", frames))
    cache = FrameCache(tmp_path / "cache", frames_per_video=None)
    found = cache.superpixels(video, n=16, compactness=10.0)
    assert found.dtype == np.int32 and found.shape == (2, 32, 32)
    assert np.array_equal(found[1], segment_superpixels(frames[1], n=16, compactness=10.0))
    assert np.array_equal(cache.superpixels(video, n=16, compactness=10.0), found)
    cache.superpixels(video, n=4, compactness=10.0)
    assert calls == [16, 16, 4, 4]


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    video = record(write_frames(tmp_path / "cat"))
    cache = FrameCache(tmp_path / "cache", frames_per_video=None)
    cache.prepare([video])
    cache.superpixels(video, n=16, compactness=10.0)
    assert not [path for path in cache.folder.rglob(".*") if path.is_file()]
    next(cache.folder.glob("*.npy")).unlink()  # a job killed between the two files leaves the note alone
    assert cache.prepare([video]) == []
    assert len(cache.frames(video)) == 4


def test_a_video_may_be_cut_anywhere(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4").read_bytes()
    records = []
    for length in range(0, len(whole), 53):
        path = tmp_path / f"cut{length}.mp4"
        path.write_bytes(whole[:length])
        records.append(record(path))
    failed = FrameCache(tmp_path / "cache", frames_per_video=None).prepare(records)
    assert {name for name, _ in failed} == {one.name for one in records}
