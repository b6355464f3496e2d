"""Read and write videos one frame at a time: mp4 and its relatives through PyAV, or a folder of frames."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer

from datamodules.video_frames import FRAME_SUFFIXES, VIDEO_SUFFIXES, FileFrames, FolderFrames, Frames, frame_files
from pseudolabel.types import DataError, UInt8Array

__all__ = ["FRAME_SUFFIXES", "VIDEO_SUFFIXES", "VideoReader", "VideoWriter", "is_video"]


def is_video(path: Path | str) -> bool:
    """Return whether ``path`` is a video file by its suffix, or a folder that holds frames."""
    path = Path(path)
    if path.is_dir():
        return bool(frame_files(path))
    return path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES


class VideoReader:
    """The frames of a video file (mp4, mov, mkv, webm, avi) or of a folder (jpg, png, webp, bmp; natural order).

    Nothing is held open between calls, so a reader can be sent to workers. Files are decoded on one thread: workers
    give the parallelism. Rotation noted in the file is applied.

    Args:
        path: a video file or a folder of frames.

    Attributes:
        path: the file or folder.
        name: its name without suffix.
        fps: frames per second; 25.0 for folders.
        size: (H, W) of the frames.

    Raises:
        DataError: the path is missing, empty, no video, or not even its first frame can be decoded.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise DataError(f"Video not found: {self.path} does not exist. Check the path.")
        self._backend: Frames = FolderFrames(self.path) if self.path.is_dir() else FileFrames(self.path)
        self.name = self.path.name if self.path.is_dir() else self.path.stem
        self.fps = self._backend.fps
        self.size = self._backend.size
        self._length: int | None = None

    def __len__(self) -> int:
        """Return the number of decodable frames; the packets of a file are counted once, without decoding."""
        if self._length is None:
            self._length = self._backend.count()
        return self._length

    def __iter__(self) -> Iterator[UInt8Array]:
        """Yield uint8 (H, W, 3) RGB frames one by one.

        Raises:
            DataError: a frame is broken or of another size, or the file is cut short (after its last whole frame).
        """
        for _, frame in self._frames(None):
            yield frame

    def _frames(self, wanted: set[int] | None) -> Generator[tuple[int, UInt8Array], None, None]:
        for number, frame in self._backend.frames(wanted):
            if frame.shape[:2] != self.size:
                got, first = ("x".join(map(str, size)) for size in (frame.shape[:2], self.size))
                raise DataError(
                    f"Frames of different sizes: frame {number} of {self.path} is {got} (height x width), the first "
                    f"is {first}. Resize the frames to one size, or split the video where the size changes."
                )
            yield number, frame

    @property
    def stems(self) -> list[str]:
        """Names of the frames: file stems of a folder, 5-digit numbers from 00000 of a video file."""
        if isinstance(self._backend, FolderFrames):
            return [file.stem for file in self._backend.files]
        return [f"{index:05d}" for index in range(len(self))]

    def read(self, indices: Sequence[int] | np.ndarray) -> UInt8Array:
        """Decode the frames of ``indices``, in any order and with repeats.

        The video is decoded forward once, up to the last frame asked for; only frames asked for are kept.

        Args:
            indices: 0-based frame numbers.

        Returns:
            uint8 (N, H, W, 3), RGB.

        Raises:
            DataError: not all of them can be decoded; names the file and how many frames it has.
        """
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            places.setdefault(int(index), []).append(place)
        frames = np.empty((len(indices), *self.size, 3), np.uint8)
        if not places:
            return frames
        if min(places) < 0:
            raise DataError(f"{self.path}: frame {min(places)} was asked for; frames are numbered from 0.")
        left = set(places)
        with closing(self._frames(left)) as decoded:
            for index, frame in decoded:
                frames[places[index]] = frame
                left.discard(index)
                if not left:
                    break
        if left:
            raise DataError(f"{self.path}: frame {max(left)} was asked for, but there are {len(self)} frames.")
        return frames

    def chunks(self, size: int) -> Iterator[tuple[int, UInt8Array]]:
        """Yield (number of the first frame, uint8 (n, H, W, 3) frames) with n = ``size``, the last maybe less."""
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        block: list[UInt8Array] = []
        start = 0
        for frame in self:
            block.append(frame)
            if len(block) == size:
                yield start, np.stack(block)
                start, block = start + size, []
        if block:
            yield start, np.stack(block)

    def check(self) -> None:
        """Check cheaply that the video is whole, without decoding it.

        Raises:
            DataError: a file is cut short or a frame of a folder is unreadable or of another size.
        """
        self._backend.check()


class VideoWriter:
    """Write an H.264 mp4 (yuv420p, crf 20), to be used in a ``with``.

    The video is written beside its final name and renamed when it is closed whole: an error inside the ``with`` leaves
    neither a half-written file nor changes an older one. An odd height or width is padded by its last row or column,
    because yuv420p stores colour at half size.

    Args:
        path: the final name.
        fps: frames per second, > 0.
        size: (H, W) of the frames.

    Raises:
        DataError: the size or fps is not positive.
    """

    def __init__(self, path: Path | str, *, fps: float, size: tuple[int, int]) -> None:
        self.path = Path(path)
        self.size = (int(size[0]), int(size[1]))
        if not fps > 0 or min(self.size) < 1:
            raise DataError(f"Cannot write {self.path}: fps and size must be positive, got {fps} and {self.size}.")
        self._rate = Fraction(fps).limit_denominator(10_000)
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._container: OutputContainer | None = None
        self._frames = 0

    def __enter__(self) -> VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        stream = container.add_stream("libx264", rate=self._rate, options={"crf": "20", "x264-params": "mbtree=0"})
        stream.height, stream.width = (side + side % 2 for side in self.size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        self._container, self._stream, self._frames = container, stream, 0
        return self

    def write(self, frame: UInt8Array) -> None:
        """Append one uint8 (H, W, 3) RGB frame.

        Raises:
            DataError: its shape or type is another.
            RuntimeError: the writer is not open.
        """
        if self._container is None:
            raise RuntimeError(f"VideoWriter for {self.path} is not open: write inside `with VideoWriter(...)`.")
        if frame.dtype != np.uint8 or frame.shape != (*self.size, 3):
            raise DataError(
                f"{self.path}: frames must be uint8 {(*self.size, 3)}, got {frame.dtype} {tuple(frame.shape)}."
            )
        height, width = self.size
        padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        self._frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            if kind is None and self._frames:
                container.mux(self._stream.encode())
            container.close()
            if kind is None and self._frames:
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)
        if kind is None and not self._frames:
            raise DataError(f"{self.path}: no frame was written, so there is no video. Write at least one frame.")
