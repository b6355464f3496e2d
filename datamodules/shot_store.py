"""Shots that are worth training on, on disk: a few frames of each and the evidence of where the object is."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pseudolabel.types import DataError, FloatArray, Tag, UInt8Array

_DONE = "done.json"
_FULL = 255


@dataclass(frozen=True, order=True)
class ShotRecord:
    """A shot of a video.

    Attributes:
        video: name of the video.
        number: of the shot within the video, >= 0.
        start: first frame, in the source video.
        stop: one past the last frame.
        tags: the video's tags.
    """

    video: str
    number: int
    start: int
    stop: int
    tags: tuple[Tag, ...]

    @property
    def name(self) -> str:
        """The shot's name, unique within a data set."""
        return f"{self.video}-shot{self.number:03d}"


class ShotStore:
    """``<folder>/<video>/shot000.npz``: frames, their numbers and evidence of an object; ``done.json`` lists a video.

    Every file is written beside its final name and renamed, and a video counts only once its ``done.json`` is there: a
    killed job redoes no video and never reads half of one. Several processes may write, each its own videos. What the
    shots depend on (size, settings) is not part of the names: other settings need another folder.

    Args:
        folder: where the files go; made on the first write.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def write(
        self, record: ShotRecord, frames: UInt8Array, indices: npt.NDArray[np.integer[Any]], evidence: FloatArray
    ) -> None:
        """Write a shot's sampled frames.

        Args:
            record: the shot.
            frames: uint8 (T, H, W, 3), RGB.
            indices: (T,) numbers of the frames in the source video.
            evidence: float (T, H, W) in [0, 1], such as how sure each pixel belongs to what moves; kept in steps of
                1/255.

        Raises:
            DataError: the shapes do not belong together, or the evidence is outside [0, 1].
        """
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
            raise DataError(
                f"Shot '{record.name}': frames must be uint8 (T, H, W, 3), T > 0, got {frames.dtype} {frames.shape}."
            )
        if evidence.shape != frames.shape[:3] or np.shape(indices) != frames.shape[:1]:
            raise DataError(
                f"Shot '{record.name}': frames {frames.shape} need evidence (T, H, W) and indices (T,), "
                f"got {evidence.shape} and {np.shape(indices)}."
            )
        if not (float(evidence.min()) >= 0 and float(evidence.max()) <= 1):  # so written, NaN is refused too
            raise DataError(
                f"Shot '{record.name}': evidence must lie in [0, 1], got {evidence.min():.3g} to {evidence.max():.3g}."
            )
        path = self._file(record.video, record.number)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _beside(path)
        with partial.open("wb") as file:
            np.savez(
                file,
                frames=frames,
                indices=np.asarray(indices, np.int64),
                evidence=np.round(evidence * _FULL).astype(np.uint8),
                record=np.array(json.dumps(_to_plain(record))),
            )
        partial.replace(path)

    def read(self, name: str) -> tuple[UInt8Array, npt.NDArray[np.int64], FloatArray]:
        """Return a shot by its name: frames uint8 (T, H, W, 3), indices int64 (T,), evidence float32 (T, H, W).

        Raises:
            DataError: no such shot, or its file is damaged.
        """
        video, _, number = name.rpartition("-shot")
        if not number.isdigit():
            raise DataError(f"'{name}' is no shot's name. Expected <video>-shot<number>, as ShotRecord.name gives it.")
        path = self._file(video, int(number))
        try:
            with np.load(path) as stored:
                return stored["frames"], stored["indices"], stored["evidence"].astype(np.float32) / np.float32(_FULL)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"Shot '{name}' cannot be read from {path} ({error}). Delete the folder {path.parent} and make it "
                "again."
            ) from error

    def records(self) -> list[ShotRecord]:
        """Return the shots of all videos that are done, sorted by video and number."""
        return sorted(
            _from_plain(state) for done in self.folder.glob(f"**/{_DONE}") for state in _read_json(done)["shots"]
        )

    def is_written(self, video: str) -> bool:
        """Whether all shots of a video are there, be they none."""
        return self._done(video).exists()

    def mark_done(self, video: str, **counts: int) -> None:
        """State that all shots of a video have been written.

        Args:
            video: name of the video.
            counts: what :meth:`summary` is to tell of it, e.g. ``shots=7, kept=5``.
        """
        done = self._done(video)
        done.parent.mkdir(parents=True, exist_ok=True)
        shots = []
        for path in sorted(done.parent.glob("shot*.npz")):
            with np.load(path) as stored:
                shots.append(json.loads(str(stored["record"])))
        partial = _beside(done)
        partial.write_text(json.dumps({"video": video, "counts": counts, "shots": shots}, indent=1))
        partial.replace(done)

    def summary(self, video: str) -> dict[str, int]:
        """Return the counts given to :meth:`mark_done`.

        Raises:
            DataError: the video is not done.
        """
        if not self.is_written(video):
            raise DataError(f"The shots of '{video}' are not in {self.folder}. Make them first.")
        return dict(_read_json(self._done(video))["counts"])

    def _file(self, video: str, number: int) -> Path:
        return self.folder / video / f"shot{number:03d}.npz"

    def _done(self, video: str) -> Path:
        return self.folder / video / _DONE


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}). Delete it and make it again.") from error


def _to_plain(record: ShotRecord) -> dict[str, Any]:
    tags = [[tag.actor, tag.action] for tag in record.tags]
    return {
        "video": record.video,
        "number": record.number,
        "start": record.start,
        "stop": record.stop,
        "tags": tags,
    }


def _from_plain(state: Mapping[str, Any]) -> ShotRecord:
    tags = tuple(Tag(actor, action) for actor, action in state["tags"])
    return ShotRecord(state["video"], int(state["number"]), int(state["start"]), int(state["stop"]), tags)
