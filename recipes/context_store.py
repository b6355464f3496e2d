"""Contexts of videos on disk, and what the detector found (recipe human)."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import numpy as np

from pseudolabel.detect_boxes import Boxes
from pseudolabel.detect_csv import COLUMNS
from pseudolabel.palette import write_atomically
from pseudolabel.types import DataError, FloatArray
from pseudolabel.video_context import VideoContext

BOXES = "boxes.csv"
"""Every detection, in the form that `detector.name=csv` reads."""


class ContextStore:
    """``<folder>/<video>.npz``: contexts of the videos that carry the tag, and the boxes of all in ``boxes.csv``.

    Args:
        folder: of the stage.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, video: str) -> Path:
        """Return a context's file."""
        return self.folder / f"{video}.npz"

    def load(self, video: str) -> VideoContext:
        """Read a context.

        Raises:
            DataError: it is missing or damaged.
        """
        return VideoContext.load(self.path(video))

    def detections(self, video: str) -> dict[int, Boxes]:
        """Return the boxes of every frame that was looked at; the file is written last of a video's.

        Raises:
            DataError: the file is missing or damaged.
        """
        path = self.folder / f"{video}.json"
        try:
            rows = json.loads(path.read_text())
            return {
                int(frame): Boxes(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32))
                for frame, boxes, scores in rows
            }
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} cannot be read ({error}). Delete it and run again.") from error

    def is_written(self, video: str) -> bool:
        """Return whether a video is finished."""
        return (self.folder / f"{video}.json").is_file()

    def forget(self, video: str) -> None:
        """Let a video be looked at again."""
        (self.folder / f"{video}.json").unlink(missing_ok=True)

    def write_detections(self, video: str, frames: Sequence[int], boxes: Sequence[Boxes]) -> None:
        """Write the boxes of a video's frames."""
        rows = [[int(f), b.boxes.tolist(), b.scores.tolist()] for f, b in zip(frames, boxes, strict=True)]
        write_atomically(self.folder / f"{video}.json", json.dumps(rows).encode())

    def write_table(self, videos: Mapping[str, FloatArray]) -> None:
        """Write ``boxes.csv``; a video in which nothing was found has a row with its name alone.

        Args:
            videos: name -> factors (4,) from the boxes to pixels of the video.
        """
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for video, scale in videos.items():
            found = self.detections(video)
            if not any(len(boxes) for boxes in found.values()):
                writer.writerow([video, *[""] * (len(COLUMNS) - 1)])
            for frame, boxes in sorted(found.items()):
                for corners, score in zip((boxes.boxes * scale).tolist(), boxes.scores.tolist(), strict=True):
                    writer.writerow([video, frame, *(round(value, 2) for value in corners), round(score, 4)])
        write_atomically(self.folder / BOXES, text.getvalue().encode())
