"""How good a retrieval is, over seconds of video. For scoring only: the truth is no input of any other step."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from datamodules.web.intervals import Interval, merge, overlap, total
from datamodules.web.manifest import read_manifest
from datamodules.web.tables import read_seconds, read_table
from pseudolabel.types import DataError

INTERVALS_COLUMNS = ("id", "start", "stop", "class")
INTERVALS_EXAMPLE = "id,start,stop,class\na1,2.000,7.500,dog"

_Spans = dict[str, list[Interval]]


@dataclass(frozen=True)
class Quality:
    """Seconds of one class, or summed over all.

    Attributes:
        right: seconds kept in which the class is seen.
        kept: seconds kept.
        true: seconds in which the class is seen, in all videos of the truth.
    """

    right: float
    kept: float
    true: float

    @property
    def precision(self) -> float:
        """Share of the kept seconds that are right, in [0, 1]; NaN = nothing was kept."""
        return self.right / self.kept if self.kept else float("nan")

    @property
    def recall(self) -> float:
        """Share of the true seconds that were kept, in [0, 1]; NaN = the class is never seen."""
        return self.right / self.true if self.true else float("nan")


@dataclass(frozen=True)
class RetrievalQuality:
    """Quality per class that was searched, and over all seconds of these classes."""

    classes: dict[str, Quality]
    overall: Quality


def retrieval_quality(manifest: Path | str, intervals: Path | str) -> RetrievalQuality:
    """Compare the windows that were kept with the times in which each class is really seen.

    A second of a video counts once for each class, in however many rows it stands.

    Args:
        manifest: ``manifest.csv`` of a retrieval.
        intervals: a table id,start,stop,class in seconds; a video without a row never shows a class.

    Raises:
        DataError: a table is missing or malformed, or an interval ends before it starts.
    """
    kept: dict[str, _Spans] = {}
    for row in read_manifest(manifest):
        if row.name:
            spans = kept.setdefault(row.name, defaultdict(list))
            if row.step == "window" and row.kept:
                spans[row.id].append((row.start or 0.0, row.stop or 0.0))
    true = _read_intervals(Path(intervals))
    classes = {name: _compare(spans, true.get(name, {})) for name, spans in kept.items()}
    parts = classes.values()
    return RetrievalQuality(
        classes, Quality(sum(q.right for q in parts), sum(q.kept for q in parts), sum(q.true for q in parts))
    )


def key_frame_quality(manifest: Path | str, intervals: Path | str) -> Quality:
    """Compare the key frames that were kept with those, among all looked at, that really show the searched class.

    This is the classifier's own part: windows reach over the cuts of short shots, whatever they are centred on.

    Args:
        manifest: as in :func:`retrieval_quality`.
        intervals: as in :func:`retrieval_quality`.

    Returns:
        ``right``, ``kept`` and ``true`` as numbers of key frames.
    """
    true = _read_intervals(Path(intervals))
    right, kept, shown = 0, 0, 0
    for row in read_manifest(manifest):
        if row.step == "key_frame" and row.seconds is not None:
            spans = true.get(row.name, {}).get(row.id, [])
            seen = any(start <= row.seconds < stop for start, stop in spans)
            right, kept, shown = right + (row.kept and seen), kept + row.kept, shown + seen
    return Quality(float(right), float(kept), float(shown))


def _read_intervals(path: Path) -> dict[str, _Spans]:
    """Return the true intervals by class and video."""
    true: dict[str, _Spans] = defaultdict(lambda: defaultdict(list))
    for line, row in read_table(path, INTERVALS_COLUMNS, example=INTERVALS_EXAMPLE):
        start, stop = (read_seconds(path, line, row, column) for column in ("start", "stop"))
        if stop < start:
            raise DataError(f"{path}, line {line}: {start:g} to {stop:g} s ends before it starts. Correct the row.")
        true[row["class"]][row["id"]].append((start, stop))
    return true


def _compare(kept: _Spans, true: _Spans) -> Quality:
    found, seen = ({video: merge(spans) for video, spans in all_.items()} for all_ in (kept, true))
    right = sum(overlap(spans, seen.get(video, [])) for video, spans in found.items())
    return Quality(right, sum(map(total, found.values())), sum(map(total, seen.values())))
