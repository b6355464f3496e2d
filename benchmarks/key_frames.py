"""How much faster key frames are read than a whole video: ``python -m benchmarks.key_frames <folder> [clip ...]``.

A video of 10 minutes is made in the folder, unless it is there, and each given clip is measured too. All times are CPU
seconds of one thread in one run, the best of some repeats: the ratios hold on a busy machine as well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from datamodules.video import VideoReader, VideoWriter
from datamodules.web.key_frames import key_frames
from pseudolabel.types import DataError, UInt8Array
from recipes.tables import show

_OCTAVES = (4, 8, 16, 32, 64)
"""Sides of the noise that makes the picture's texture, in cells per picture height."""

_OBJECTS = 5
_GRAIN = 2.0
_FPS = 25.0


@dataclass(frozen=True)
class Row:
    """CPU seconds of one video, all on one thread.

    Attributes:
        name: of the video.
        seconds: its length.
        frames: in it.
        keys: key frames in it.
        decode: to decode it, and do no more.
        read: to decode it into RGB frames (:class:`~datamodules.video.VideoReader`).
        scan: to read its key frames into RGB.
    """

    name: str
    seconds: float
    frames: int
    keys: int
    decode: float
    read: float
    scan: float


def moving_picture(count: int, size: tuple[int, int], *, seed: int = 0) -> Iterator[UInt8Array]:
    """Yield frames, uint8 (H, W, 3), of textured discs on a textured ground, with a moving camera and grain."""
    rng, (height, width) = np.random.default_rng(seed), size
    ground = _texture(rng, (2 * height, 2 * width))
    discs = [(_texture(rng, size), rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.08, 0.2)) for _ in range(_OBJECTS)]
    rows, columns = np.mgrid[:height, :width]
    for number in range(count):
        angle = 2 * np.pi * number / 500
        top, left = int(height * (0.5 + 0.4 * np.sin(angle))), int(width * (0.5 + 0.4 * np.cos(1.3 * angle)))
        frame = ground[top : top + height, left : left + width].astype(np.float32)
        for texture, phase, radius in discs:
            y, x = (
                height * (0.5 + 0.4 * np.sin(3 * angle + phase[0])),
                width * (0.5 + 0.4 * np.cos(2 * angle + phase[1])),
            )
            inside = (rows - y) ** 2 + (columns - x) ** 2 < (radius * height) ** 2
            frame[inside] = np.roll(texture, (int(y), int(x)), (0, 1))[inside]
        frame += rng.normal(0, _GRAIN, (height, width, 1))
        yield frame.clip(0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> UInt8Array:
    """Return noise of many sizes, the coarse ones stronger, as natural pictures have it."""
    height, width = size
    total = np.zeros((height, width, 3), np.float32)
    for cells in _OCTAVES:
        noise = rng.normal(0, 1 / cells, (cells, max(1, cells * width // height), 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (128 + 60 * total / total.std()).clip(0, 255).astype(np.uint8)


def lengthen(source: Path, target: Path, *, seconds: float) -> None:
    """Repeat a video until it lasts ``seconds``; packets are copied, nothing is encoded again."""
    partial = target.with_name(f".{target.name}")
    copy, begun = None, Fraction(0)
    with av.open(str(partial), "w", format="mp4") as out:
        while begun < seconds:
            with av.open(str(source)) as container:
                stream = container.streams.video[0]
                copy = copy or out.add_stream_from_template(stream)
                tick = stream.time_base or Fraction(1, av.time_base)
                shift = round(begun / tick)
                for packet in container.demux(stream):
                    if packet.size and packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                        out.mux(packet)
                begun += (stream.duration or 1) * tick
    partial.replace(target)


def ten_minutes(
    folder: Path, *, size: tuple[int, int] = (240, 426), seconds: float = 600.0, part: float = 60.0
) -> Path:
    """Return a video of ``seconds`` in a folder, H.264 with x264's own choice of key frames (at least each 250th).

    ``part`` seconds are drawn and encoded, and repeated.
    """
    path = folder / f"key-frames-{size[1]}x{size[0]}-{seconds:g}s.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        once = folder / f"part-{path.name}"
        with VideoWriter(once, fps=_FPS, size=size) as writer:
            for frame in moving_picture(round(part * _FPS), size):
                writer.write(frame)
        lengthen(once, path, seconds=seconds)
        once.unlink()
    return path


def measure(path: Path, *, repeats: int = 3) -> Row:
    """Time one video.

    Raises:
        DataError: it cannot be read to its end.
    """
    fps = VideoReader(path).fps
    decode, frames = _cpu(lambda: _decode(path), repeats)
    read, _ = _cpu(lambda: sum(1 for _ in VideoReader(path)), repeats)
    scan, keys = _cpu(lambda: sum(1 for _ in key_frames(path)), repeats)
    return Row(path.stem, frames / fps, frames, keys, decode, read, scan)


def _decode(path: Path) -> int:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video=0))


def _cpu(work: Callable[[], int], repeats: int) -> tuple[float, int]:
    """Return the least CPU seconds of some repeats, and the result."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def report(rows: Sequence[Row]) -> None:
    """Print a table."""
    header = ("video", "length s", "frames", "key frames", "decode s", "to RGB s", "key frames s", "ratio", "RGB ratio")
    cells = [
        (
            *(row.name, f"{row.seconds:.1f}", str(row.frames), str(row.keys)),
            *(f"{row.decode:.2f}", f"{row.read:.2f}", f"{row.scan:.3f}"),
            *(f"{row.decode / row.scan:.1f}", f"{row.read / row.scan:.1f}"),
        )
        for row in rows
    ]
    show("Decoding a video over reading its key frames, CPU seconds of one thread", header, cells)


def main(arguments: Sequence[str]) -> int:
    """Measure the generated video and the given clips."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the generated video is, or is made")
    parser.add_argument("clips", type=Path, nargs="*", help="videos to measure as well")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the generated video")
    parser.add_argument("--part", type=float, default=60.0, help="of these, how many are drawn; the rest repeats them")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    try:
        video = ten_minutes(options.folder, seconds=options.seconds, part=options.part)
        report([measure(path, repeats=options.repeats) for path in (video, *options.clips)])
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
