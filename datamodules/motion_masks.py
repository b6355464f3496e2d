"""Binary masks of all frames of a video in one small file (packed bits)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pseudolabel.types import BoolArray, DataError


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

    def write(self, video: str, masks: BoolArray) -> None:
        """Write bool (T, H, W) beside its final name and rename it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self._file(video)
        partial = final.with_name(f".{final.name}.{os.getpid()}")
        with partial.open("wb") as file:
            np.savez_compressed(file, bits=np.packbits(masks), shape=np.array(masks.shape))
        partial.replace(final)

    def read(self, video: str) -> BoolArray:
        """Return bool (T, H, W).

        Raises:
            DataError: the video has no masks, or the file is damaged.
        """
        try:
            with np.load(self._file(video)) as stored:
                shape = tuple(int(side) for side in stored["shape"])
                return np.unpackbits(stored["bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{self._file(video)} holds no motion masks ({error}). Delete it and run the motion stage again."
            ) from error
