"""Boxes from a table: the detections of another program, or of a person."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pseudolabel.detect_boxes import MARGIN_THRESHOLD, MOST_BOXES, Boxes, check_frames, clean_video_boxes
from pseudolabel.types import DataError, FloatArray, UInt8Array, nearest_name

_log = logging.getLogger(__name__)

SHOWN_FRAMES = 12
"""Frame numbers in a warning."""

COLUMNS = ("video", "frame", "x0", "y0", "x1", "y1", "score")
EXAMPLE = "video,frame,x0,y0,x1,y1,score\nrex-runs,0,12,30.5,80,121,0.93\nrex-runs,1,14,31,82,120,0.9"


class CsvDetector:
    """Boxes from a table that any detector or person has written: ``video,frame,x0,y0,x1,y1,score``.

    Frames count from 0 as in the source video. A row with a video's name alone says that nothing was found in it. Other
    columns are ignored.

    Args:
        path: of the table.
        threshold: boxes of a higher score are kept; 0.27 for probabilities.
        missing: a video without a row is an ``"error"``, or ``"empty"``: nothing was found in it.
        most: boxes kept per frame, >= 1.

    Raises:
        DataError: the file is missing or no table; a column is missing; a number cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        threshold: float = MARGIN_THRESHOLD,
        *,
        missing: Literal["error", "empty"] = "error",
        most: int = MOST_BOXES,
    ) -> None:
        if missing not in ("error", "empty"):
            raise DataError(f"Boxes of '{path}': missing must be 'error' or 'empty', got {missing!r}.")
        self.path, self.threshold, self.missing, self.most = Path(path), threshold, missing, most
        self._videos = _read_boxes(self.path)

    @property
    def videos(self) -> list[str]:
        """The videos that the table names."""
        return list(self._videos)

    @property
    def scores(self) -> FloatArray:
        """Finite scores above the threshold, float32 (N,)."""
        given = np.concatenate([np.zeros(0, np.float32), *(boxes.scores for _, boxes in self._videos.values())])
        return given[np.isfinite(given) & (given > self.threshold)]

    def __call__(self, frames: UInt8Array, *, video: str, indices: npt.NDArray[np.int64]) -> list[Boxes]:
        """See :class:`pseudolabel.detect.Detector`.

        Raises:
            DataError: the video is not in the table (with ``missing="error"``).
        """
        size = check_frames(frames, indices, video)
        if video not in self._videos and self.missing == "error":
            hint = nearest_name(video, self._videos) or "."
            raise DataError(
                f"{self.path} has no row of video '{video}'{hint} It names {len(self._videos)} videos. If nothing was "
                f"found in it, add the row '{video},,,,,,', or set missing='empty'."
            )
        numbers, boxes = self._videos.get(video, (np.zeros(0, np.int64), Boxes.none()))
        found = [boxes.take(numbers == index) for index in indices]
        if not len(boxes):
            return found
        if not any(map(len, found)):
            shown = ", ".join(map(str, indices[:SHOWN_FRAMES])) + (", …" if len(indices) > SHOWN_FRAMES else "")
            _log.warning(
                "%s: the %d boxes of video '%s' are in none of the frames that are looked at (%s)",
                self.path,
                len(boxes),
                video,
                shown,
            )
            return found
        return clean_video_boxes(found, size, video=video, threshold=self.threshold, most=self.most)


def _read_boxes(path: Path) -> dict[str, tuple[npt.NDArray[np.int64], Boxes]]:
    """Return per video the frame number (N,) of each box, and the boxes."""
    shape = (
        f"Expected a comma-separated table such as\n{EXAMPLE}\n"
        "with the upper left and the lower right corner in pixels of the video"
    )
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream))
    except OSError as error:
        raise DataError(f"Boxes cannot be read from {path} ({error.strerror}). {shape}. Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a text table in UTF-8 ({error}). {shape}. Save it as CSV in UTF-8.") from error
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    for column in COLUMNS:
        if column not in header:
            hint = nearest_name(column, header) or "."
            raise DataError(
                f"{path} has no column '{column}'{hint} Got the header '{','.join(lines[0]) if lines else ''}'. {shape}"
                ". Give it this header."
            )
    places = [header.index(column) for column in COLUMNS]
    rows: dict[str, list[tuple[float, ...]]] = {}
    for number, row in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        cells = [row[place].strip() if place < len(row) else "" for place in places]
        boxes = rows.setdefault(cells[0], [])
        if any(cells[1:]):
            boxes.append(_numbers(cells, f"{path}, line {number} ('{','.join(row)}')"))
    videos = {}
    for video, boxes in rows.items():
        table = np.array(boxes, np.float64).reshape(-1, len(COLUMNS) - 1)
        videos[video] = (
            table[:, 0].astype(np.int64),
            Boxes(table[:, 1:5].astype(np.float32), table[:, 5].astype(np.float32)),
        )
    return videos


def _numbers(cells: list[str], where: str) -> tuple[float, ...]:
    """Return frame, corners and score of a row; NaN is a number here, it is dropped and told with the video."""
    numbers = []
    for column, cell in zip(COLUMNS[1:], cells[1:], strict=True):
        try:
            numbers.append(float(int(cell)) if column == "frame" else float(cell))
        except ValueError:
            kind = "a whole number from 0" if column == "frame" else "a number"
            raise DataError(f"{where}: {column} is '{cell}', expected {kind}. Correct or delete the row.") from None
    if numbers[0] < 0:
        raise DataError(f"{where}: frame is {cells[1]}, expected a whole number from 0. Correct or delete the row.")
    return tuple(numbers)
