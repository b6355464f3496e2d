"""What a retrieval has found, in numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.web.manifest import Decision


@dataclass(frozen=True)
class RetrievalSummary:
    """What a retrieval has found.

    Attributes:
        folder: of the clips, ``tags.csv`` and ``manifest.csv``.
        videos: class -> videos that gave a clip.
        clips: class -> clips.
        seconds: class -> seconds of these clips.
        counts: step -> (kept, looked at), over all classes.
        without_hit: classes whose search word found nothing.
        skipped: what the source could not use, and what could not be read, as (id or file, reason).
        thumbnails: class -> how many were scored, and the best score (0 if none was).
    """

    folder: Path
    videos: dict[str, int]
    clips: dict[str, int]
    seconds: dict[str, float]
    counts: dict[str, tuple[int, int]]
    without_hit: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    thumbnails: dict[str, tuple[int, float]]


class Tally:
    """Counts decisions while they pass."""

    def __init__(self) -> None:
        self.kept: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.clips: Counter[str] = Counter()
        self.seconds: dict[str, float] = defaultdict(float)
        self.videos: dict[str, set[str]] = defaultdict(set)
        self.broken: dict[tuple[str, str], None] = {}  # in the order in which they are met, each once
        self.scored: dict[str, list[float]] = defaultdict(list)

    def add(self, decisions: Sequence[Decision]) -> None:
        """Count some."""
        for row in decisions:
            self.seen[row.step] += 1
            self.kept[row.step] += row.kept
            if row.broken:
                self.broken[row.id, row.reason] = None
            if row.step == "thumbnail" and row.score is not None:
                self.scored[row.name].append(row.score)
            if row.step == "window" and row.kept:
                self.clips[row.name] += 1
                self.seconds[row.name] += (row.stop or 0.0) - (row.start or 0.0)
                self.videos[row.name].add(row.id)

    def summary(
        self,
        folder: Path,
        classes: Sequence[str],
        *,
        without_hit: tuple[str, ...],
        skipped: tuple[tuple[str, str], ...],
    ) -> RetrievalSummary:
        """Return the counts."""
        return RetrievalSummary(
            folder,
            {name: len(self.videos[name]) for name in classes},
            {name: self.clips[name] for name in classes},
            {name: round(self.seconds[name], 3) for name in classes},
            {step: (self.kept[step], seen) for step, seen in self.seen.items()},
            without_hit,
            (*skipped, *self.broken),
            {name: (len(self.scored[name]), round(max(self.scored[name], default=0.0), 4)) for name in classes},
        )
