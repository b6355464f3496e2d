"""Read the key frames of a video, or a few seconds of it, without decoding the rest.

"We utilize reference frames used to compress the video as key-frames for computational efficiency. This enables
selection and extraction of informative video intervals without decompressing a whole video" (Hong et al. 2017, note 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from datamodules.video_frames import PacketTally, upright
from pseudolabel.types import DataError, UInt8Array

END_SLACK = 1.0
"""A file whose last packet lies more seconds than this, or than this share of its length, before its declared end is
cut short: sound may outlast pictures a little."""

END_SHARE = 0.02

SEEK_STEP = 2.0
"""Seconds to go further back, and then twice as many, where seeking has ended after the time wanted."""


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video on one thread; what FFmpeg says of it becomes a :class:`DataError`."""
    if not path.is_file():
        raise DataError(f"Video not found: {path} is no file. Check the path.")
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            streams = container.streams.video
            if not streams or streams[0].codec_context is None:
                raise DataError(f"{path} holds no video stream. Expected a video: copy or download it again.")
            streams[0].codec_context.thread_count = 1
            yield container, streams[0]
    except FFmpegError as error:
        raise DataError(f"{path} is truncated or damaged ({error}). Copy or download it again.") from error


def key_frames(path: Path | str) -> Iterator[tuple[float, UInt8Array]]:
    """Yield the key frames of a video file (mp4, mov, mkv, webm, avi); no other frame is decoded.

    Every key frame is decoded by itself, so its time is right in streams with open groups of pictures too, and memory
    does not grow with the video.

    Args:
        path: the file.

    Yields:
        (seconds from the video's beginning, uint8 (H, W, 3) RGB, upright), in the order of the file.

    Raises:
        DataError: it is missing, no video or damaged, or holds no key frame that can be decoded; or, **after** all key
            frames there are, it ends before its declared end. What came before can be used.
    """
    path = Path(path)
    count, broken, last, tally = 0, 0, 0.0, PacketTally()
    with _opened(path) as (container, stream):
        start, decoder = _start(stream), stream.codec_context
        decoder.skip_frame = "NONKEY"
        tally.declared = stream.frames if "mp4" in container.format.name else 0
        for packet in container.demux(stream):
            if not tally.add(packet) or not packet.size:
                continue
            seconds = _packet_seconds(packet, start)
            last = max(last, seconds)
            if not packet.is_keyframe:
                continue
            try:
                # Some decoders hold frames back, and libvpx does not know skip_frame: one packet in, one frame out.
                frames = [*packet.decode(), *decoder.decode(None)]
            except FFmpegError:
                frames = []
            decoder.flush_buffers()
            broken += not frames
            for frame in frames[:1]:
                count += 1
                yield max(0.0, seconds), upright(frame)
        if not count:
            raise DataError(
                f"{path} has no key frame that can be decoded ({broken} are damaged). Expected at least one: copy or "
                "download it again, or encode it anew with `ffmpeg -i`."
            )
        declared = _declared(container, stream)
        if tally.cut_short or last < declared - max(END_SLACK, END_SHARE * declared):
            raise DataError(
                f"{path} ends mid-file: what is there ends at {last:.1f} s, {count} key frames could be read. Copy or "
                "download it again for the rest."
            )


def read_window(path: Path | str, start: float, stop: float) -> Iterator[UInt8Array]:
    """Yield the frames of a video file in [start, stop) seconds; see :func:`read_timed_window`."""
    for _, frame in read_timed_window(path, start, stop):
        yield frame


def read_timed_window(path: Path | str, start: float, stop: float) -> Iterator[tuple[float, UInt8Array]]:
    """Yield the frames of a video file in [start, stop) seconds, decoded only from the key frame before ``start`` on.

    Args:
        path: the file.
        start: seconds from the video's beginning.
        stop: seconds, > ``start``.

    Yields:
        (seconds, uint8 (H, W, 3) RGB, upright); nothing where the video has ended before.

    Raises:
        DataError: it is missing, no video or damaged; or, **after** the frames there are, it is torn inside the window.
        ValueError: ``stop`` is not after ``start``.
    """
    path = Path(path)
    if not start < stop:
        raise ValueError(f"a window must end after it starts, got {start} to {stop}")
    with _opened(path) as (container, stream):
        back = 0.0
        while not _seek(container, stream, start - back) and back < start:
            back = 2 * back or SEEK_STEP
        origin = _start(stream)
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise DataError(f"{path} is torn between {start:.1f} and {stop:.1f} s. Copy or download it again.")
            for frame in packet.decode():
                ticks = frame.pts if frame.pts is not None else frame.dts
                seconds = float((ticks or 0) * _tick(stream)) - origin
                if seconds >= stop:
                    return
                if seconds >= start and not frame.is_corrupt:
                    yield seconds, upright(frame)


def _seek(container: InputContainer, stream: VideoStream, seconds: float) -> bool:
    """Go to the key frame before a time; tell whether its picture is shown at that time or before.

    Containers look up the time of decoding, which comes before that of showing.
    """
    origin = _start(stream)
    ticks = round((max(0.0, seconds) + origin) / _tick(stream))
    container.seek(ticks, stream=stream, backward=True)
    shown = next((_packet_seconds(packet, origin) for packet in container.demux(stream) if packet.size), None)
    container.seek(ticks, stream=stream, backward=True)
    return shown is not None and shown <= seconds


def _tick(stream: VideoStream) -> Fraction:
    """Return the unit of a stream's times, in seconds."""
    return stream.time_base or Fraction(1, av.time_base)


def _start(stream: VideoStream) -> float:
    """Return the time of a stream's first frame in seconds."""
    return float((stream.start_time or 0) * _tick(stream))


def _packet_seconds(packet: av.Packet, start: float) -> float:
    """Return when a packet's frame is shown; AVI knows only when it is decoded."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if ticks is None else float(ticks * packet.time_base) - start


def _declared(container: InputContainer, stream: VideoStream) -> float:
    """Return the length that the container declares, in seconds; 0 = it does not tell."""
    if stream.duration:
        return float(stream.duration * _tick(stream))
    return (container.duration or 0) / av.time_base
