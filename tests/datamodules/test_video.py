from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from datamodules.video import VideoReader, VideoWriter, is_video
from pseudolabel.types import DataError
from tests.datamodules.fakes import frame_numbers, grey_frames, write_clip, write_frames


@pytest.fixture(params=["mp4", "folder"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    frames = grey_frames(8, (32, 48))
    if request.param == "mp4":
        return write_clip(tmp_path / "dog.mp4", frames, fps=12.5)
    return write_frames(tmp_path / "dog", frames)


def noise(count: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def test_attributes(video: Path) -> None:
    reader = VideoReader(str(video))
    assert (reader.name, reader.path, reader.size, len(reader)) == ("dog", video, (32, 48), 8)
    assert reader.fps == (12.5 if video.suffix else 25.0)
    assert reader.stems == [f"{index:05d}" for index in range(8)]


def test_iterates_in_order_and_twice(video: Path) -> None:
    reader = VideoReader(video)
    for _ in range(2):
        frames = np.stack(list(reader))
        assert frames.shape == (8, 32, 48, 3) and frames.dtype == np.uint8
        assert frame_numbers(frames) == list(range(8))


def test_read_keeps_order_and_repeats(video: Path) -> None:
    frames = VideoReader(video).read([6, 0, 6, 3])
    assert frame_numbers(frames) == [6, 0, 6, 3]
    assert VideoReader(video).read(np.array([], int)).shape == (0, 32, 48, 3)


@pytest.mark.parametrize("index", [8, -1])
def test_read_outside_is_an_error(video: Path, index: int) -> None:
    with pytest.raises(DataError, match=r"8 frames|numbered from 0"):
        VideoReader(video).read([0, index])


def test_chunks_end_with_the_rest(video: Path) -> None:
    chunks = list(VideoReader(video).chunks(3))
    assert [(start, frame_numbers(frames)) for start, frames in chunks] == [(0, [0, 1, 2]), (3, [3, 4, 5]), (6, [6, 7])]
    with pytest.raises(ValueError, match="at least 1"):
        next(VideoReader(video).chunks(0))


def test_a_reader_can_be_sent_to_workers(video: Path) -> None:
    assert frame_numbers(pickle.loads(pickle.dumps(VideoReader(video))).read([2])) == [2]


def test_is_video(video: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    assert is_video(video)
    assert not any(is_video(tmp_path / name) for name in ("empty", "notes.txt", "absent.mp4"))


def test_colours_survive_the_codec(tmp_path: Path) -> None:
    frame = np.zeros((1, 32, 32, 3), np.uint8)
    frame[..., 0] = 200
    got = VideoReader(write_clip(tmp_path / "red.mp4", frame)).read([0])[0].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(got, [200, 0, 0], atol=6)


def test_frames_are_sorted_naturally(tmp_path: Path) -> None:
    write_frames(tmp_path / "v", grey_frames(11), pattern="frame{}.png")
    reader = VideoReader(tmp_path / "v")
    assert frame_numbers(np.stack(list(reader))) == list(range(11))
    assert reader.stems[-1] == "frame10"


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".mov", "libx264"), (".avi", "mpeg4")])
def test_other_containers(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"v{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in grey_frames(6, (32, 48)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    reader = VideoReader(path)
    assert len(reader) == 6 and reader.fps == pytest.approx(29.97, abs=0.01)
    assert frame_numbers(reader.read([5, 1])) == [5, 1]
    reader.check()


def test_rotation_noted_in_the_file_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((4, 32, 48, 3), np.uint8)
    upright[:, :16, :24] = 255
    path = write_clip(tmp_path / "phone.mp4", upright)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    one = 1 << 16
    turned = [0, one, 0, -one, 0, 0, 0, 0, 1 << 30]  # a quarter turn clockwise, as phones write it
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    path.write_bytes(content)
    reader = VideoReader(path)
    assert reader.size == (48, 32)
    expected = np.rot90(upright[0], -1)
    assert np.abs(reader.read([0])[0].astype(int) - expected).mean() < 3


def truncated(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def test_a_file_cut_in_its_frames_gives_what_is_whole(tmp_path: Path) -> None:
    path = truncated(write_clip(tmp_path / "v.mp4", noise(20)), 0.6)
    reader = VideoReader(path)
    whole = len(reader)
    assert 0 < whole < 20
    seen: list[np.ndarray] = []
    with pytest.raises(DataError, match=rf"v\.mp4 is truncated or damaged: {whole} frames"):
        seen.extend(reader)
    assert len(seen) == whole
    assert len(reader.read([0, whole - 1])) == 2
    with pytest.raises(DataError, match="truncated"):
        reader.read([0, whole])
    with pytest.raises(DataError, match="truncated"):
        reader.check()


def test_a_file_cut_in_its_head_is_an_error(tmp_path: Path) -> None:
    path = truncated(write_clip(tmp_path / "v.mp4", noise(20)), 0.02)
    with pytest.raises(DataError, match=r"v\.mp4 holds no video stream \(0 frames"):
        VideoReader(path)


@pytest.mark.parametrize(("content", "message"), [(b"", "0 bytes"), (b"this is no video" * 50, "0 frames")])
def test_no_video_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        VideoReader(path)


def test_a_file_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="no video stream"):
        VideoReader(path)


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.mp4 does not exist"):
        VideoReader(tmp_path / "absent.mp4")
    with pytest.raises(DataError, match="holds no frame"):
        VideoReader(tmp_path)


def test_frames_of_different_sizes(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "v")
    Image.new("RGB", (20, 10)).save(folder / "00002.png")
    reader = VideoReader(folder)
    with pytest.raises(DataError, match=r"is 10x20.*32x32"):
        reader.read([2])
    with pytest.raises(DataError, match=r"00002\.png is 10x20"):
        reader.check()


def test_a_broken_frame_is_named(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "v")
    (folder / "00003.png").write_bytes(b"")
    reader = VideoReader(folder)
    assert frame_numbers(reader.read([1])) == [1]
    for use in (lambda: reader.read([3]), reader.check):
        with pytest.raises(DataError, match=r"00003\.png cannot be read"):
            use()


def test_masks_beside_frames_are_refused(tmp_path: Path) -> None:
    folder = write_frames(write_frames(tmp_path / "v"), pattern="{:05d}.jpg")
    with pytest.raises(DataError, match="one image per frame"):
        VideoReader(folder)


def test_odd_sizes_are_padded_by_the_edge(tmp_path: Path) -> None:
    frames = np.zeros((2, 31, 33, 3), np.uint8)
    frames[:, -1] = frames[:, :, -1] = 255
    reader = VideoReader(write_clip(tmp_path / "v.mp4", frames))
    assert reader.size == (32, 34)
    last = reader.read([1])[0]
    assert last[31].min() > 200 and last[:, 33].min() > 200 and last[:28, :28].max() < 60


def test_the_writer_leaves_all_or_nothing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "deep" / "v.mp4")
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), VideoWriter(path, fps=25, size=(32, 32)) as writer:
        writer.write(noise(1)[0])
        raise ZeroDivisionError
    with pytest.raises(DataError, match="no frame was written"), VideoWriter(path, fps=25, size=(32, 32)):
        pass
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["v.mp4"]


def test_the_writer_checks_frames(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "v.mp4", fps=25, size=(32, 32))
    with pytest.raises(RuntimeError, match="not open"):
        writer.write(noise(1)[0])
    with pytest.raises(DataError, match=r"uint8 \(32, 32, 3\), got float64"), writer:
        writer.write(np.zeros((32, 32, 3)))
    with pytest.raises(DataError, match="positive"):
        VideoWriter(tmp_path / "v.mp4", fps=0, size=(32, 32))


def test_the_writer_writes_h264(tmp_path: Path) -> None:
    with av.open(str(write_clip(tmp_path / "v.mp4", fps=29.97))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(29.97, abs=1e-3)
