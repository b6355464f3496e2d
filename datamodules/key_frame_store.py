"""The key frames of videos on disk: their numbers, their shots and their supervoxels (Liang et al. 2017, Sec. 3.2)."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pseudolabel.palette import write_atomically
from pseudolabel.types import DataError, Int32Array


@dataclass(frozen=True)
class KeyFrames:
    """The candidate key frames of one video.

    Attributes:
        indices: int64 (K,), frame numbers in the video, ascending.
        shots: int32 (K,), number of the shot of each.
        supervoxels: int32 (K, H, W), ids over the video.
    """

    indices: npt.NDArray[np.int64]
    shots: Int32Array
    supervoxels: Int32Array

    def __post_init__(self) -> None:
        count = len(self.indices)
        if self.shots.shape != (count,) or self.supervoxels.ndim != 3 or len(self.supervoxels) != count:
            raise ValueError(
                f"{count} key frames need shots ({count},) and supervoxels ({count}, H, W), got {self.shots.shape} and "
                f"{self.supervoxels.shape}"
            )


class KeyFrameStore:
    """``<folder>/<video>.npz``, and ``<video>.json`` with counts, which is written last: its presence says "finished".

    Args:
        folder: made when the first video is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def is_written(self, video: str) -> bool:
        """Return whether a video is finished."""
        return (self.folder / f"{video}.json").is_file()

    def write(self, video: str, found: KeyFrames, **counts: int) -> None:
        """Write the key frames of a video and what was counted in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{video}.{os.getpid()}.npz"
        np.savez_compressed(
            partial,
            indices=found.indices,
            shots=found.shots,
            supervoxels=found.supervoxels,
        )
        partial.replace(self.folder / f"{video}.npz")
        note = {**counts, "indices": found.indices.tolist(), "shots": found.shots.tolist()}
        write_atomically(self.folder / f"{video}.json", json.dumps(note).encode())

    def read(self, video: str) -> KeyFrames:
        """Read the key frames of a video.

        Raises:
            DataError: the file is missing or damaged.
        """
        path = self.folder / f"{video}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return KeyFrames(arrays["indices"], arrays["shots"], arrays["supervoxels"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} cannot be read ({error}), expected the key frames of '{video}'. Delete "
                f"{path.with_suffix('')}.* and run again."
            ) from error

    def note(self, video: str) -> dict[str, Any]:
        """Return the counts of a video, its ``indices`` and ``shots``, without reading its supervoxels.

        Raises:
            DataError: the file is missing or damaged.
        """
        path = self.folder / f"{video}.json"
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{path} cannot be read ({error}), expected the counts of '{video}'. Delete {path.with_suffix('')}.* "
                "and run again."
            ) from error


class MapSpool:
    """Label maps of a video, compressed in a temporary file: any of them can be read back, and none is in memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._ends = [0]
        self._shape: tuple[int, ...] = ()

    def keep(self, labels: Int32Array) -> int:
        """Keep a map int32 (H, W); all have one size. Return how many are kept."""
        self._shape = labels.shape
        self._ends.append(self._ends[-1] + self._file.write(zlib.compress(labels.astype(np.int32).tobytes(), 1)))
        return len(self._ends) - 1

    def read(self, position: int) -> Int32Array:
        """Return the map of this position, counted from 0."""
        begin, end = self._ends[position : position + 2]
        self._file.seek(begin)
        return np.frombuffer(zlib.decompress(self._file.read(end - begin)), np.int32).reshape(self._shape)

    def __enter__(self) -> MapSpool:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def thin_out(positions: Sequence[int], most: int | None) -> list[int]:
    """Return at most ``most`` of some positions, evenly spread and with the first; None = all."""
    if most is None or len(positions) <= most:
        return list(positions)
    return [positions[index] for index in np.linspace(0, len(positions), most, endpoint=False).astype(int)]
