"""Every video is decoded once: its sampled frames and their superpixels lie as memory-mapped arrays in one folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from datamodules.progress import follow
from datamodules.records import VideoRecord
from datamodules.transforms import fit_longest_side, resize
from datamodules.video import VideoReader
from pseudolabel.sampling import sample_uniformly
from pseudolabel.superpixels import segment_superpixels
from pseudolabel.types import DataError, Int32Array, UInt8Array


class FrameCache:
    """Sampled frames (and, on demand, superpixels) of videos, decoded once, read by any process.

    Args:
        folder: where the arrays go; one sub-folder for each setting, so that changed settings never read stale arrays.
        frames_per_video: frames sampled uniformly from each video; None = all.
        max_side: longer side of the stored frames in pixels; None = as decoded.
        chosen: the frames to store of some videos by name, ascending, in place of uniform samples.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        frames_per_video: int | None,
        max_side: int | None = None,
        chosen: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.frames_per_video = frames_per_video
        self.max_side = max_side
        self.chosen = {name: [int(index) for index in frames] for name, frames in (chosen or {}).items()}
        settings = f"{frames_per_video}-{max_side}"
        if self.chosen:
            settings += f"-{hashlib.sha1(json.dumps(self.chosen, sort_keys=True).encode()).hexdigest()[:8]}"
        self.folder = Path(folder) / settings

    def _key(self, record: VideoRecord) -> str:
        return f"{record.name}-{hashlib.sha1(str(record.path.resolve()).encode()).hexdigest()[:8]}"

    def _decode(self, record: VideoRecord) -> None:
        target = self.folder / f"{self._key(record)}.npy"
        if target.exists() and target.with_suffix(".json").exists():
            return
        reader = VideoReader(record.path)
        reader.check()
        indices = self._sampled(record, len(reader))
        size = fit_longest_side(reader.size, self.max_side)
        frames = np.stack([resize(frame, size) for frame in reader.read(indices)])
        target.parent.mkdir(parents=True, exist_ok=True)
        note = {"indices": [int(i) for i in indices], "fps": float(reader.fps), "num_frames": len(reader)}
        _write_whole(target.with_suffix(".json"), json.dumps(note).encode())
        _save_array(target, frames)

    def _sampled(self, record: VideoRecord, num_frames: int) -> npt.NDArray[np.int64]:
        if record.name in self.chosen:
            return np.asarray(self.chosen[record.name], np.int64)
        sparse = len(record.annotated) <= (self.frames_per_video or 0)  # dense masks are met by uniform frames anyway
        return sample_uniformly(num_frames, self.frames_per_video, record.annotated if sparse else ())

    def prepare(self, records: Sequence[VideoRecord], *, workers: int = 1) -> list[tuple[str, str]]:
        """Decode what is not yet there.

        Returns:
            (video, reason) of every video that could not be decoded.
        """
        missing = [r for r in records if not (self.folder / f"{self._key(r)}.npy").exists()]
        if not missing:
            return []

        def attempt(record: VideoRecord) -> tuple[str, str] | None:
            try:
                self._decode(record)
            except (DataError, OSError) as error:
                return record.name, str(error)
            return None

        results = Parallel(n_jobs=workers, prefer="threads", return_as="generator_unordered")(
            delayed(attempt)(record) for record in missing
        )
        bar = follow(results, "decoding videos", total=len(missing), least=8)
        return sorted(failure for failure in bar if failure is not None)

    def frames(self, record: VideoRecord) -> UInt8Array:
        """Return the sampled frames, uint8 (T, H, W, 3), memory-mapped."""
        path = self.folder / f"{self._key(record)}.npy"
        if not path.exists():
            self._decode(record)
        return np.load(path, mmap_mode="r")

    def _note(self, record: VideoRecord) -> dict[str, list[int] | float | int]:
        path = self.folder / f"{self._key(record)}.json"
        if not path.exists():
            self._decode(record)
        return json.loads(path.read_text())

    def indices(self, record: VideoRecord) -> npt.NDArray[np.int64]:
        """Return the source frame numbers of :meth:`frames`, int64 (T,)."""
        return np.asarray(self._note(record)["indices"], np.int64)

    def fps(self, record: VideoRecord) -> float:
        """Return the frames per second of the source video."""
        return float(self._note(record)["fps"])  # type: ignore[arg-type]

    def length(self, record: VideoRecord) -> int:
        """Return the number of frames of the source video."""
        return int(self._note(record)["num_frames"])  # type: ignore[arg-type]

    def read(self, record: VideoRecord, indices: Sequence[int] | npt.NDArray[np.int64]) -> UInt8Array:
        """Return any frames (N, H, W, 3) by source number: from the cache if all are there, else decoded anew."""
        known = {int(index): position for position, index in enumerate(self.indices(record))}
        if all(int(index) in known for index in indices):
            return np.asarray(self.frames(record)[[known[int(index)] for index in indices]])
        reader = VideoReader(record.path)
        size = fit_longest_side(reader.size, self.max_side)
        return np.stack([resize(frame, size) for frame in reader.read(list(map(int, indices)))])

    def superpixels(self, record: VideoRecord, *, n: int, compactness: float) -> Int32Array:
        """Return the SLIC superpixels of :meth:`frames`, int32 (T, H, W), computed once for each setting."""
        path = self.folder / f"slic-{n}-{compactness:g}" / f"{self._key(record)}.npy"
        if not path.exists():
            frames = self.frames(record)
            labels = np.stack([segment_superpixels(np.asarray(f), n=n, compactness=compactness) for f in frames])
            path.parent.mkdir(parents=True, exist_ok=True)
            _save_array(path, labels.astype(np.uint16))
        return np.load(path, mmap_mode="r").astype(np.int32)


def _save_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
