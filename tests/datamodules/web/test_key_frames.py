from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.video import VideoReader
from datamodules.web.key_frames import key_frames, read_timed_window, read_window
from pseudolabel.types import DataError, UInt8Array
from tests.datamodules.fakes import frame_numbers, grey_frames
from tests.datamodules.web.fakes import cut, encode

FORMATS = [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")]


def textured(count: int) -> UInt8Array:
    """Frames that take bytes: a file cut in its middle ends in its middle."""
    return np.random.default_rng(0).integers(0, 256, (count, 32, 48, 3), np.uint8)


def read(path: Path) -> tuple[list[float], str]:
    """Times of the key frames, and what the file has to say at its end."""
    times: list[float] = []
    try:
        for seconds, _ in key_frames(path):
            times.append(seconds)
    except DataError as error:
        return times, str(error)
    return times, ""


@pytest.mark.parametrize(("suffix", "codec"), FORMATS)
def test_key_frames_have_their_times_and_pictures(tmp_path: Path, suffix: str, codec: str) -> None:
    path = encode(tmp_path / f"dog.{suffix}", grey_frames(10), codec=codec, gop=4)
    found = list(key_frames(str(path)))
    assert [seconds for seconds, _ in found] == pytest.approx([0.0, 0.8, 1.6])
    assert frame_numbers(np.stack([frame for _, frame in found])) == [0, 4, 8]
    assert all(frame.shape == (32, 32, 3) and frame.dtype == np.uint8 for _, frame in found)


def test_open_groups_of_pictures_keep_their_times(tmp_path: Path) -> None:
    frames = textured(30)
    path = encode(tmp_path / "dog.mkv", frames, gop=10, params="open-gop=1:bframes=3:scenecut=0")
    whole = list(VideoReader(path))
    found = list(key_frames(path))
    assert [round(5 * seconds) for seconds, _ in found] == [0, 10, 20]
    for seconds, frame in found:
        np.testing.assert_array_equal(frame, whole[round(5 * seconds)])


def test_no_other_packet_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "dog.mp4", textured(20), gop=5)
    # What lies between the key frames is overwritten: reading it would fail or show.
    with av.open(str(path)) as container:
        between = [(p.pos, p.size) for p in container.demux(video=0) if p.size and not p.is_keyframe]
    whole = [frame for _, frame in key_frames(path)]
    content = bytearray(path.read_bytes())
    for begin, size in between:
        content[begin : begin + size] = bytes(size)
    path.write_bytes(content)
    spoilt = [frame for _, frame in key_frames(path)]
    assert len(between) == 16 and len(spoilt) == 4
    np.testing.assert_array_equal(spoilt, whole)


@pytest.mark.parametrize(("suffix", "codec"), FORMATS)
def test_a_file_that_ends_mid_way_gives_what_came_before(tmp_path: Path, suffix: str, codec: str) -> None:
    path = encode(tmp_path / f"dog.{suffix}", textured(40), codec=codec, gop=5)
    whole, nothing = read(path)
    assert len(whole) == 8 and nothing == ""
    times, reason = read(cut(path, 0.6))
    assert 2 <= len(times) < 8 and times == whole[: len(times)]
    assert str(path) in reason and "ends mid-file" in reason and f"{len(times)} key frames could be read" in reason


def test_a_file_cut_between_key_frames_is_noticed(tmp_path: Path) -> None:
    path = encode(tmp_path / "dog.mp4", textured(40), gop=40)
    times, reason = read(cut(path, 0.7))
    assert times == [0.0] and "ends mid-file" in reason


def test_a_video_with_one_key_frame_only(tmp_path: Path) -> None:
    assert read(encode(tmp_path / "dog.mp4", grey_frames(10), gop=250)) == ([0.0], "")


def test_a_video_without_a_key_frame_that_decodes_is_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "dog.mp4", textured(8), gop=4)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    for begin, size in places:
        content[begin : begin + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(DataError, match="no key frame that can be decoded"):
        list(key_frames(path))


@pytest.mark.parametrize("content", [b"", b"<html>no video</html>" * 50])
def test_no_video_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dog.mp4"
    with pytest.raises(DataError, match="no file"):
        list(key_frames(path))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"dog\.mp4 is truncated or damaged"):
        list(key_frames(path))


def test_a_sound_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux([*stream.encode(frame), *stream.encode()])
    for frames in (key_frames(path), read_window(path, 0, 1)):
        with pytest.raises(DataError, match="no video stream"):
            list(frames)


@pytest.mark.parametrize(("suffix", "codec"), FORMATS)
@pytest.mark.parametrize(
    ("start", "stop", "frames"), [(0, 0.5, [0, 1, 2]), (1.2, 1.8, [6, 7, 8]), (1.55, 9, [8, 9]), (3, 4, [])]
)
def test_windows(tmp_path: Path, suffix: str, codec: str, start: float, stop: float, frames: list[int]) -> None:
    path = encode(tmp_path / f"dog.{suffix}", grey_frames(10), codec=codec, gop=4)
    found = list(read_timed_window(path, start, stop))
    assert [seconds for seconds, _ in found] == pytest.approx([number / 5 for number in frames])
    assert [round((float(frame.mean()) - 20) / 20) for _, frame in found] == frames
    assert len(list(read_window(path, start, stop))) == len(frames)


def test_a_window_is_decoded_from_the_key_frame_before_it(tmp_path: Path) -> None:
    frames = textured(60)
    path = encode(tmp_path / "dog.mp4", frames, gop=20, params="bframes=3:scenecut=0")
    whole = list(VideoReader(path))
    for first in (0, 7, 19, 20, 21, 39, 40, 55):  # around key frames the time of decoding is not that of showing
        found = list(read_window(path, first / 5, first / 5 + 0.5))
        np.testing.assert_array_equal(found, whole[first : first + 3])
    # Without the first group of pictures the windows of the others stay whole.
    with av.open(str(path)) as container:
        head = [(p.pos, p.size) for p in container.demux(video=0) if p.size][:20]
    content = bytearray(path.read_bytes())
    for begin, size in head:
        content[begin : begin + size] = bytes(size)
    path.write_bytes(content)
    np.testing.assert_array_equal(list(read_window(path, 5.0, 5.5)), whole[25:28])


def test_a_window_behind_the_tear_gives_what_is_there(tmp_path: Path) -> None:
    path = cut(encode(tmp_path / "dog.mp4", textured(40), gop=5), 0.6)
    last = read(path)[0][-1]
    seen: list[float] = []
    with pytest.raises(DataError, match="is torn between"):
        for seconds, _ in read_timed_window(path, last, 8.0):
            seen.append(seconds)
    assert seen and seen[0] == pytest.approx(last)


def test_a_window_has_a_length(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must end after it starts"):
        list(read_window(tmp_path / "dog.mp4", 2, 2))
