"""Binary masks of all frames of a video in one small file (packed bits)."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pseudolabel.types import BoolArray, DataError, UInt8Array


@dataclass(frozen=True)
class PackedMasks:
    """The masks of a video, unpacked one frame at a time: an eighth of a byte per pixel is in memory.

    Attributes:
        bits: uint8 (T, ceil(H * W / 8)), the pixels of each frame in order, most significant bit first.
        size: (H, W).
    """

    bits: UInt8Array
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, frame: int) -> BoolArray:
        """Return a frame's mask, bool (H, W)."""
        height, width = self.size
        return np.unpackbits(self.bits[frame], count=height * width).reshape(self.size).astype(bool)

    def __iter__(self) -> Iterator[BoolArray]:
        return (self[frame] for frame in range(len(self)))


class MotionMasks:
    """``<folder>/<video>.npz``: the motion segments of every frame, one bit per pixel.

    Args:
        folder: where the files go; made on the first write.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def _file(self, video: str) -> Path:
        return self.folder / f"{video}.npz"

    def is_written(self, video: str) -> bool:
        """Whether a video's masks are there, whole."""
        return self._file(video).exists()

    def write(self, video: str, masks: Iterable[BoolArray]) -> None:
        """Write a video's masks beside their final name and rename the file.

        Args:
            video: name of the video.
            masks: bool (H, W) of every frame, in order; iterated over once, and packed as they come.

        Raises:
            DataError: there is no frame.
        """
        packed: list[UInt8Array] = []
        size = (0, 0)
        for mask in masks:
            size = (mask.shape[0], mask.shape[1])
            packed.append(np.packbits(mask))
        if not packed:
            raise DataError(f"Video '{video}' has no frame to keep motion segments of. Remove it, or copy it again.")
        final = self._file(video)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}.{os.getpid()}")
        with partial.open("wb") as file:
            np.savez_compressed(file, bits=np.stack(packed), shape=np.array([len(packed), *size]))
        partial.replace(final)

    def open(self, video: str) -> PackedMasks:
        """Return the masks of a video, still packed.

        Raises:
            DataError: the video has no masks, or the file is damaged.
        """
        try:
            with np.load(self._file(video)) as stored:
                frames, height, width = (int(side) for side in stored["shape"])
                bits = stored["bits"].reshape(frames, -(-height * width // 8))
                return PackedMasks(bits, (height, width))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{self._file(video)} holds no motion masks ({error}). Delete it and run the motion stage again."
            ) from error

    def read(self, video: str) -> BoolArray:
        """Return all masks at once, bool (T, H, W).

        Raises:
            DataError: as :meth:`open`.
        """
        return np.stack(list(self.open(video)))
