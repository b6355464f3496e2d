"""What a :class:`~datamodules.video.VideoReader` reads from: a video file, or a folder of frames."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from pseudolabel.types import DataError, UInt8Array

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

FOLDER_FPS = 25.0
"""Frames per second of a folder of frames, which does not tell."""


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``frame2`` before ``frame10``."""
    parts = re.findall(r"\d+|\D+", path.name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


def frame_files(folder: Path) -> list[Path]:
    """Return the frames of a folder in natural order; hidden files are none."""
    files = (item for item in folder.iterdir() if item.suffix.lower() in FRAME_SUFFIXES and item.name[0] != ".")
    return sorted((item for item in files if item.is_file()), key=natural_key)


class Frames(ABC):
    """What the two kinds of video have in common."""

    fps: float
    size: tuple[int, int]

    @abstractmethod
    def count(self) -> int:
        """Return the number of decodable frames."""

    @abstractmethod
    def frames(self, wanted: set[int] | None) -> Generator[tuple[int, UInt8Array], None, None]:
        """Yield (number, frame) forward for the wanted ones (None = all)."""

    @abstractmethod
    def check(self) -> None:
        """Raise when the video is visibly broken."""


@dataclass
class PacketTally:
    """Packets of a video stream: seen, decodable, declared by the container."""

    packets: int = 0
    decodable: int = 0
    declared: int = 0
    corrupt: bool = False

    def add(self, packet: av.Packet) -> bool:
        """Count a packet; False when it is torn, as the last one of a file that was cut short."""
        if packet.is_corrupt:
            self.corrupt = True
        elif packet.size:
            self.packets += 1
            self.decodable += not packet.is_discard
        return not packet.is_corrupt

    @property
    def cut_short(self) -> bool:
        """Whether packets are missing."""
        return self.corrupt or self.packets < self.declared


class FileFrames(Frames):
    """A video file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes), expected a video. Copy or download it again.")
        try:
            with av.open(str(path), metadata_errors="ignore") as container:
                streams = container.streams.video
                if not streams or streams[0].codec_context is None:
                    raise DataError(
                        f"{path} holds no video stream (0 frames could be decoded). Expected a video, whole from its "
                        "first byte: copy or download it again."
                    )
                stream = streams[0]
                self.fps = float(stream.average_rate or stream.guessed_rate or FOLDER_FPS)
        except FFmpegError as error:
            raise self._broken(0, error) from error
        with closing(self.frames(None)) as frames:
            _, first = next(frames, (0, None))
        if first is None:
            raise DataError(f"{path} holds no frame (0 decodable). Copy, download or encode it again.")
        self.size = (first.shape[0], first.shape[1])

    def _broken(self, decodable: int, error: Exception | None = None) -> DataError:
        reason = f" ({error})" if error else ""
        return DataError(
            f"{self.path} is truncated or damaged: {decodable} frames could be decoded{reason}. Copy or download it "
            f"again, or keep what is whole with `ffmpeg -i {self.path.name} repaired.mp4`."
        )

    def _demux(self, tally: PacketTally) -> Iterator[av.Packet]:
        with av.open(str(self.path), metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            # Only mp4 and mov list every sample; the counts of other containers include dropped frames.
            tally.declared = stream.frames if "mp4" in container.format.name else 0
            for packet in container.demux(stream):
                if tally.add(packet):
                    yield packet

    def count(self) -> int:
        """Count the packets that give a frame, without decoding."""
        return self._tally().decodable

    def check(self) -> None:
        """Raise when packets are missing or torn."""
        tally = self._tally()
        if tally.cut_short:
            raise self._broken(tally.decodable)

    def _tally(self) -> PacketTally:
        tally = PacketTally()
        try:
            for _ in self._demux(tally):
                pass
        except FFmpegError as error:
            raise self._broken(tally.decodable, error) from error
        return tally

    def frames(self, wanted: set[int] | None) -> Generator[tuple[int, UInt8Array], None, None]:
        """Decode forward; raise after the last whole frame of a file that is cut short."""
        tally, number = PacketTally(), 0
        try:
            for packet in self._demux(tally):
                for frame in packet.decode():
                    if wanted is None or number in wanted:
                        yield number, upright(frame)
                    number += 1
        except FFmpegError as error:
            raise self._broken(number, error) from error
        if tally.cut_short:
            raise self._broken(number)


def upright(frame: av.VideoFrame) -> UInt8Array:
    """Return uint8 (H, W, 3) RGB, turned as the container notes (degrees counter-clockwise)."""
    # One thread: the default of one per core costs a pool for every frame, thirty times the conversion itself.
    pixels = frame.reformat(format="rgb24", threads=1).to_ndarray().astype(np.uint8, copy=False)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


class FolderFrames(Frames):
    """A folder of frames."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fps = FOLDER_FPS
        self.files = frame_files(path)
        if not self.files:
            raise DataError(f"{path} holds no frame, expected files {', '.join(FRAME_SUFFIXES)}. Put the frames there.")
        stems: dict[str, Path] = {}
        for file in self.files:
            if (twin := stems.setdefault(file.stem, file)) != file:
                raise DataError(
                    f"{path} holds {twin.name} and {file.name}: expected one image per frame. "
                    "Move masks and copies away."
                )
        self.size = self._header(self.files[0])

    def count(self) -> int:
        """Count the files."""
        return len(self.files)

    def frames(self, wanted: set[int] | None) -> Generator[tuple[int, UInt8Array], None, None]:
        """Load the wanted files only."""
        # `wanted` shrinks while it is read from, so it is sorted once, before.
        for number in range(len(self.files)) if wanted is None else sorted(wanted):
            if number < len(self.files):
                yield number, self._load(self.files[number])

    def check(self) -> None:
        """Raise when the header of a frame is unreadable or tells another size."""
        for file in self.files:
            if (size := self._header(file)) != self.size:
                got, first = ("x".join(map(str, pair)) for pair in (size, self.size))
                raise DataError(
                    f"Frames of different sizes: {file} is {got} (height x width), {self.files[0].name} is {first}. "
                    "Resize the frames to one size."
                )

    def _header(self, file: Path) -> tuple[int, int]:
        """Return (H, W) without decoding."""
        try:
            with Image.open(file) as image:
                return image.height, image.width
        except (OSError, UnidentifiedImageError) as error:
            raise self._broken(file, error) from error

    def _load(self, file: Path) -> UInt8Array:
        try:
            with Image.open(file) as image:
                return np.array(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise self._broken(file, error) from error

    def _broken(self, file: Path, error: Exception) -> DataError:
        return DataError(f"{file} cannot be read as an image ({error}). Copy it again or remove it from the folder.")
